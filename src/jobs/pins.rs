//! Which backups must stay because something is being made of them.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::{BootstrapRestore, EtcdBackup, EtcdCluster, EtcdRestore, RestoreSource};

use super::{backup::folder, restore};

/// Whether a backup may still be needed for the cluster to begin with.
pub(crate) fn may_begin(cluster: &EtcdCluster) -> bool {
    begins(cluster).is_some()
}

/// What a cluster begins with that has not formed yet.
fn begins(cluster: &EtcdCluster) -> Option<&BootstrapRestore> {
    let formed = cluster
        .status
        .as_ref()
        .and_then(|it| it.cluster_id.as_ref());
    let bootstrap = cluster.spec.bootstrap.as_ref()?;
    bootstrap.restore.as_ref().filter(|_| formed.is_none())
}

/// What restores `backup` now, or is about to, in words.
pub(crate) fn of(
    backup: &EtcdBackup,
    restores: &[Arc<EtcdRestore>],
    clusters: &[Arc<EtcdCluster>],
) -> Option<String> {
    let named = |source: &RestoreSource| {
        let name = source.backup_ref.as_ref().map(|named| named.name.as_str());
        name == Some(backup.name_any().as_str())
            || source.folder.as_deref() == Some(folder(backup).as_str())
    };
    let restoring = restores.iter().find(|it| {
        let status = it.status.as_ref();
        let stored = status.and_then(|status| status.stored.as_ref());
        let found = stored.and_then(|stored| stored.folder.as_deref());
        !restore::is_over(it)
            && it.namespace() == backup.namespace()
            && (named(&it.spec.source) || found == Some(folder(backup).as_str()))
    });
    if let Some(restore) = restoring {
        return Some(format!("the EtcdRestore {}", restore.name_any()));
    }
    let beginning = clusters.iter().find(|cluster| {
        cluster.namespace() == backup.namespace()
            && begins(cluster).is_some_and(|begins| named(&begins.from))
    });
    beginning.map(|cluster| {
        format!(
            "the EtcdCluster {}, which begins with it",
            cluster.name_any()
        )
    })
}

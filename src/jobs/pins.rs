//! Which backups must stay because something is being made of them.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::{EtcdBackup, EtcdCluster, EtcdRestore, RestoreSource};

use super::{backup::folder, restore};

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
    let begins = clusters.iter().find(|cluster| {
        let begins = cluster
            .spec
            .bootstrap
            .as_ref()
            .and_then(|it| it.restore.as_ref());
        let formed = cluster
            .status
            .as_ref()
            .is_some_and(|it| it.cluster_id.is_some());
        !formed
            && cluster.namespace() == backup.namespace()
            && begins.is_some_and(|begins| named(&begins.from))
    });
    begins.map(|cluster| {
        format!(
            "the EtcdCluster {}, which begins with it",
            cluster.name_any()
        )
    })
}

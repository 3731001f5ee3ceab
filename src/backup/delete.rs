//! `etcd-operator delete`: backups, and the increments that nothing is left to be continued
//! by.
//!
//! The manifest goes first: from then on the folder is no backup, and whatever happens to
//! the rest, nothing half deleted can be taken for one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracing::warn;

use super::{
    context::Context,
    increment::{self, listed},
    layout::{self, INCREMENTS},
    leftovers,
    manifest::{Manifest, ids},
    marker::Marker,
    run::{ClusterRef, DeleteReport, DeleteRun, Failure, Stage},
    source,
    store::{self, Store},
};

/// Removes them.
///
/// # Errors
/// [`super::run::Reason::ForeignDestination`] and
/// [`super::run::Reason::WrongCluster`]; of the store.
pub(crate) async fn run(run: &DeleteRun, context: &Context) -> Result<DeleteReport, Failure> {
    for folder in &run.folders {
        layout::check_folder(folder)?;
    }
    let store = store::open(&run.destination, context).await?;
    Marker::check(&*store, &run.cluster, Timestamp::now()).await?;
    context.tracker.stage(Stage::Deleting, None);
    let mut report = DeleteReport::default();
    for folder in &run.folders {
        remove(&*store, folder, &run.cluster, &mut report).await?;
    }
    if run.prune_increments {
        report.increments = prune(&*store, &run.cluster).await?;
    }
    Ok(report)
}

async fn remove(
    store: &dyn Store,
    folder: &str,
    cluster: &ClusterRef,
    report: &mut DeleteReport,
) -> Result<(), Failure> {
    let mut objects = 0;
    match Manifest::load(store, folder).await {
        Ok(Some(found)) => {
            found.check_cluster(&ids(cluster), &store.uri(folder))?;
            store.delete(&[layout::manifest(folder)]).await?;
            objects += 1;
        }
        Ok(None) => {}
        // One that cannot be read is no backup, and goes like the rest. The marker has
        // said whose the destination is.
        Err(failure) if failure.reason == super::run::Reason::Corrupt => {
            store.delete(&[layout::manifest(folder)]).await?;
            objects += 1;
        }
        Err(failure) => return Err(failure),
    }
    let (removed, uploads) = leftovers::remove(store, folder).await?;
    objects += removed;
    report.objects += objects;
    report.uploads += uploads;
    report.folders += u64::from(objects + uploads > 0);
    Ok(())
}

/// Removes increments whose last change every full backup that is left has. Of a cluster
/// that has none left, all go, but for the present one: its next backup may be under way,
/// and go on from them.
async fn prune(store: &dyn Store, cluster: &ClusterRef) -> Result<u64, Failure> {
    let mut oldest: BTreeMap<String, i64> = BTreeMap::new();
    let found = source::backups(store).await?;
    if !found.unreadable.is_empty() {
        // Which increments they need is not known.
        warn!("no increments are removed while there are backups that cannot be read");
        return Ok(0);
    }
    for (_, manifest) in found.good {
        let revision = oldest
            .entry(manifest.cluster_id)
            .or_insert(manifest.revision);
        *revision = manifest.revision.min(*revision);
    }
    let mut removed = 0;
    for id in store.folders(INCREMENTS).await? {
        if !ids(cluster).contains(&id) {
            continue;
        }
        let keep_after = match oldest.get(&id) {
            Some(revision) => *revision,
            None if id == cluster.cluster_id => continue,
            None => i64::MAX,
        };
        let found = listed(store.list(&increment::folder(&id)).await?);
        let dead = dead(
            &found.iter().map(|f| f.after_revision).collect::<Vec<_>>(),
            keep_after,
        );
        let keys: Vec<String> = found.into_iter().take(dead).map(|f| f.key).collect();
        store.delete(&keys).await?;
        removed += keys.len() as u64;
    }
    Ok(removed)
}

/// How many of the increments that begin after these revisions, in order, end at or before
/// `revision`. Of the last one nobody knows, unless nothing is to be kept.
fn dead(after: &[i64], revision: i64) -> usize {
    if revision == i64::MAX {
        return after.len();
    }
    // One ends where the next begins, or earlier.
    after
        .iter()
        .skip(1)
        .take_while(|next| **next <= revision)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_that_the_oldest_backup_has_are_dead() {
        let after = [10, 20, 30, 40];
        for (revision, expected) in [(5, 0), (10, 0), (19, 0), (20, 1), (35, 2), (40, 3), (99, 3)] {
            assert_eq!(dead(&after, revision), expected, "{revision}");
        }
        assert_eq!(dead(&after, i64::MAX), 4);
        assert_eq!(dead(&[], 7), 0);
    }
}

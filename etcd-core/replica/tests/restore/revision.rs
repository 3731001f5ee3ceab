//! To a revision: a snapshot and what came after it.

use std::path::Path;
use std::sync::Arc;

use etcd_replica::{Change, RestoreError, Restored, SnapshotFile, restore, restore_with};
use etcd_storage::disk::Disk;
use etcd_storage::simdisk::SimDisk;
use proptest::prelude::*;

use crate::history::{History, SNAPSHOT, Step, open_at, restore_all, step};

const TO: &str = "/restored/member";

pub(crate) fn restored(
    disk: &SimDisk,
    changes: &[Change],
    wanted: &etcd_replica::Restore,
) -> Result<Restored, RestoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut changes = changes.iter().cloned().map(Ok);
    let (to, wal) = (Path::new(TO), Path::new(TO).join("wal"));
    restore_with(&disk, Path::new(SNAPSHOT), &mut changes, to, &wal, wanted)
}

pub(crate) fn database(disk: &SimDisk) -> SnapshotFile {
    SnapshotFile::open_file(disk, &Path::new(TO).join("snap/db")).expect("opened")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The restored store hashes as the original did when it was at that revision, in
    /// the file and in a server that has taken it over.
    #[test]
    fn o23_any_revision_comes_back_hash_for_hash(
        before in prop::collection::vec(step(), 0..30),
        after in prop::collection::vec(step(), 0..40),
        fragments in 1usize..4,
    ) {
        let mut history = History::of(&before);
        history.snapshot();
        let moment = history.moments.len() - 1;
        let first = history.revision();
        for step in &after {
            history.apply(step);
        }
        // From before the snapshot on, and in pieces, as a watch may give them.
        let mut changes = Vec::new();
        for change in history.since(moment.saturating_sub(5)) {
            match change {
                Change::Events { revision, events } => changes.extend(
                    events.chunks(fragments).map(|e| Change::Events { revision, events: e.to_vec() }),
                ),
                other => changes.push(other),
            }
        }
        for (at, now) in history.moments.iter().enumerate().skip(moment) {
            // What was compacted later while at the same revision is known then.
            let last_of_revision = history.moments.get(at + 1)
                .is_none_or(|next| next.revision > now.revision);
            if !last_of_revision {
                continue;
            }
            let disk = history.disk.fork(7);
            let wanted = etcd_replica::Restore { revision: Some(now.revision), ..restore_all() };
            let done = restored(&disk, &changes, &wanted).expect("restored");
            prop_assert_eq!(done.snapshot_revision, first);
            prop_assert_eq!(done.revision, now.revision);
            let file = database(&disk);
            file.check().expect("sound");
            prop_assert_eq!(file.hash_kv(0).expect("hashed"), *now);
            let member = open_at(&disk, Path::new(TO)).expect("opened");
            prop_assert_eq!(member.cluster_id, done.cluster_id);
            let view = member.applier.view();
            prop_assert_eq!(view.kv.hash_kv(0).expect("hashed"), *now);
            let names: Vec<&str> = view.membership.iter().map(|m| m.name.as_str()).collect();
            prop_assert_eq!(names, ["restored"]);
        }
    }
}

fn some_steps() -> Vec<Step> {
    (0..20)
        .map(|n| match n % 5 {
            4 => Step::Delete(n % 3, n % 3 + 2),
            _ => Step::Put(n % 6, n + 1, None),
        })
        .collect()
}

#[test]
fn o23_a_raised_revision_is_where_the_store_goes_on() {
    for bump in [1, 1000, i64::MAX as u64 / 2] {
        let mut history = History::of(&some_steps());
        history.snapshot();
        let before = history.revision();
        let wanted = etcd_replica::Restore {
            bump_revision: bump,
            ..restore_all()
        };
        let done = restored(&history.disk, &[], &wanted).expect("restored");
        let raised = before + bump as i64;
        assert_eq!((done.content_revision, done.revision), (before, raised));
        assert_eq!(done.compact_revision, raised);
        let member = open_at(&history.disk, Path::new(TO)).expect("opened");
        let view = member.applier.view();
        assert_eq!(view.kv.revision(), raised);
        assert_eq!(view.kv.compact_revision(), raised);
        assert!(view.kv.get(b"key/05", before).is_err(), "compacted");
        assert!(view.kv.get(b"key/05", 0).expect("read").is_some());
        let summary = database_aside(&history.disk).summary().expect("read");
        assert_eq!(
            (summary.revision, summary.compact_revision),
            (raised, raised)
        );
    }
}

/// The store that our server has taken over and put aside.
fn database_aside(disk: &SimDisk) -> SnapshotFile {
    let snap = Path::new(TO).join("snap");
    let names = disk.list(&snap).expect("listed");
    let aside = names
        .iter()
        .find(|e| e.name.to_string_lossy().starts_with("db."));
    SnapshotFile::open_file(disk, &snap.join(&aside.expect("kept").name)).expect("opened")
}

#[test]
fn a_log_of_its_own_directory_is_made_too() {
    let mut history = History::of(&some_steps());
    history.snapshot();
    let disk: Arc<dyn Disk> = Arc::new(history.disk.clone());
    let (to, wal) = (Path::new("/data/member"), Path::new("/logs/of/it"));
    restore(&disk, Path::new(SNAPSHOT), to, wal, &restore_all()).expect("restored");
    let names = |dir: &Path| -> Vec<String> {
        let listed = disk.list(dir).expect("listed");
        let name = |e: &etcd_storage::disk::DirEntry| e.name.to_string_lossy().into_owned();
        listed.iter().map(name).collect()
    };
    assert_eq!(names(to), ["snap"]);
    assert_eq!(names(wal), ["0000000000000000-0000000000000000.wal"]);
    assert_eq!(names(Path::new("/logs/of")), ["it"]);
    assert_eq!(
        names(&to.join("snap")),
        ["0000000000000001-0000000000000001.snap", "db"]
    );
}

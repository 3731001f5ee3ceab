//! What cannot be restored is said, and leaves nothing.

use std::path::Path;

use bytes::Bytes;
use etcd_proto::mvccpb::KeyValue;
use etcd_replica::{Change, ChangeEvent, Restore, RestoreError};
use etcd_storage::disk::{Disk, OpenMode};
use etcd_storage::simdisk::SimDisk;
use proptest::prelude::*;

use crate::history::{History, SNAPSHOT, Step, restore_all};
use crate::revision::restored;

fn history() -> (History, Vec<Change>) {
    let mut history = History::of(&[Step::Put(0, 1, None), Step::Put(1, 2, None)]);
    history.snapshot();
    let moment = history.moments.len();
    for number in 0..6 {
        history.apply(&Step::Put(number, number, None));
    }
    let changes = history.since(moment);
    (history, changes)
}

/// The refusal; nothing is left behind it.
fn refusal(disk: &SimDisk, changes: &[Change], wanted: &Restore) -> RestoreError {
    let error = restored(disk, changes, wanted).expect_err("refused");
    let left = |path: &str| disk.exists(Path::new(path)).expect("looked");
    assert!(!left("/restored/member") && !left("/restored/member.restoring"));
    error
}

#[test]
fn missing_changes_are_a_gap() {
    let (history, changes) = history();
    for missing in 0..changes.len() - 1 {
        let mut some = changes.clone();
        some.remove(missing);
        let error = refusal(&history.disk, &some, &restore_all());
        let missing = 4 + missing as i64;
        assert_eq!(
            error.to_string(),
            format!(
                "the changes of revision {missing} are missing: those of {} come next",
                missing + 1
            )
        );
    }
    let mut again = changes.clone();
    again.swap(2, 3);
    let error = refusal(&history.disk, &again, &restore_all());
    assert!(
        matches!(
            error,
            RestoreError::Gap {
                missing: 6,
                found: 7
            }
        ),
        "{error}"
    );
}

#[test]
fn a_revision_that_is_not_there_is_named_with_those_that_are() {
    let (history, changes) = history();
    for target in [2, 10, i64::MAX - 1] {
        let wanted = Restore {
            revision: Some(target),
            ..restore_all()
        };
        let error = refusal(&history.disk, &changes, &wanted);
        let text = format!("revision {target} is not to be had: there are 3 (the snapshot's) to ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    let wanted = Restore {
        bump_revision: u64::MAX,
        ..restore_all()
    };
    let error = refusal(&history.disk, &changes, &wanted);
    assert!(matches!(error, RestoreError::Bump { .. }), "{error}");
}

#[test]
fn changes_that_no_cluster_makes_are_refused() {
    let (history, _) = history();
    let pair = KeyValue {
        key: "k".into(),
        create_revision: 4,
        mod_revision: 4,
        version: 1,
        ..KeyValue::default()
    };
    let nameless = KeyValue {
        key: Bytes::new(),
        ..pair.clone()
    };
    let of_another = KeyValue {
        mod_revision: 5,
        ..pair.clone()
    };
    let unversioned = KeyValue { version: 0, ..pair };
    for events in [
        vec![],
        vec![ChangeEvent::Put(nameless)],
        vec![ChangeEvent::Put(of_another)],
        vec![ChangeEvent::Put(unversioned)],
        vec![ChangeEvent::Delete { key: Bytes::new() }],
    ] {
        let change = Change::Events {
            revision: 4,
            events,
        };
        let error = refusal(&history.disk, &[change], &restore_all());
        assert!(
            matches!(error, RestoreError::Change { revision: 4, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_directory_that_is_not_empty_stays_as_it_is() {
    let (history, changes) = history();
    restored(&history.disk, &changes, &restore_all()).expect("restored");
    let error = restored(&history.disk, &changes, &restore_all()).expect_err("refused");
    assert_eq!(error.to_string(), "/restored/member is not empty");
}

#[test]
fn a_full_disk_is_told_as_such() {
    let (history, changes) = history();
    let used = history.disk.used();
    for more in [0, 5_000, 200_000] {
        history.disk.set_capacity(Some(used + more));
        let error = refusal(&history.disk, &changes, &restore_all());
        assert!(error.is_no_space(), "{error:?}");
    }
    history.disk.set_capacity(None);
    restored(&history.disk, &changes, &restore_all()).expect("restored");
}

fn overwrite(disk: &SimDisk, change: impl FnOnce(&mut Vec<u8>)) {
    let path = Path::new(SNAPSHOT);
    let file = disk.open(path, OpenMode::Write).expect("opened");
    let mut bytes = file.map().expect("read").to_vec();
    change(&mut bytes);
    file.truncate(0).expect("cut");
    file.write_at(0, &bytes).expect("written");
}

#[test]
fn s12_o24_a_snapshot_that_was_altered_is_refused() {
    let (history, _) = history();
    let len = {
        let file = history.disk.open(Path::new(SNAPSHOT), OpenMode::Read);
        file.expect("opened").len().expect("known") as usize
    };
    for at in (0..len).step_by(97) {
        let disk = history.disk.fork(0);
        overwrite(&disk, |bytes| bytes[at] ^= 0x10);
        let error = refusal(&disk, &[], &restore_all());
        assert!(matches!(error, RestoreError::Trailer(_)), "{error}");
    }
    for cut in [0, 1, 31, 32, 512, 4096 + 32, len - 512, len - 1] {
        let disk = history.disk.fork(0);
        overwrite(&disk, |bytes| bytes.truncate(cut));
        let error = refusal(&disk, &[], &restore_all());
        assert!(matches!(error, RestoreError::Trailer(_)), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Without its digest damage may go unseen, but what comes out is a store or an
    /// error, never a panic, and a store that comes out can be started or is refused.
    #[test]
    fn x13_hostile_snapshots_are_restored_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        headers in prop::collection::vec((any::<prop::sample::Index>(), 0usize..64, any::<u8>()), 0..6),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let steps: Vec<Step> = (0..60u8).map(|n| match n % 6 {
            0 => Step::Grant(n % 5),
            5 => Step::Delete(n % 7, n % 5),
            _ => Step::Put(n % 9, n, (n % 4 == 0).then_some(n % 5)),
        }).collect();
        let mut history = History::of(&steps);
        history.snapshot();
        overwrite(&history.disk, |bytes| {
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            let pages = bytes.len() / 4096;
            for (page, at, byte) in &headers {
                bytes[page.index(pages) * 4096 + at] = *byte;
            }
            if let Some(keep) = keep {
                bytes.truncate(keep.index(bytes.len()));
            }
        });
        let wanted = Restore { skip_hash_check: true, bump_revision: 10, ..restore_all() };
        if restored(&history.disk, &[], &wanted).is_ok() {
            let to = Path::new("/restored/member");
            drop(crate::history::open_at(&history.disk, to));
        }
    }
}

//! The power goes out at any operation of a restore.

use std::path::Path;

use etcd_storage::disk::Disk;
use etcd_storage::wal::Wal;

use crate::history::{History, Step, open_at, restore_all};
use crate::revision::restored;

#[test]
fn o02_a_restore_that_is_cut_off_anywhere_is_whole_or_not_there_and_can_be_repeated() {
    let steps: Vec<Step> = (0..30).map(|n| Step::Put(n % 7, n, None)).collect();
    let mut history = History::of(&steps);
    history.snapshot();
    let moment = history.moments.len();
    for number in 0..5 {
        history.apply(&Step::Put(number, 200, None));
    }
    let changes = history.since(moment);
    let hash = *history.moments.last().expect("one");
    let to = Path::new("/restored/member");
    let whole = history.disk.fork(0);
    let begun = whole.ops();
    restored(&whole, &changes, &restore_all()).expect("restored");
    let mut outcomes = [0, 0];
    for op in begun..=whole.ops() {
        for seed in 0..3 {
            let disk = history.disk.fork(seed);
            disk.crash_at(op);
            drop(restored(&disk, &changes, &restore_all()));
            disk.crash();
            let there = disk.exists(to).expect("looked");
            outcomes[usize::from(there)] += 1;
            if !there {
                assert!(!Wal::exists(&disk, &to.join("wal")).expect("looked"));
                restored(&disk, &changes, &restore_all()).expect("restored");
                disk.crash();
            }
            let member = open_at(&disk, to).expect("opened");
            let view = member.applier.view();
            assert_eq!(view.kv.hash_kv(0).expect("hashed"), hash, "op {op}");
            assert!(view.membership.iter().all(|m| m.name == "restored"));
            let left = Path::new("/restored/member.restoring");
            assert!(!disk.exists(left).expect("looked"), "op {op}");
        }
    }
    assert!(outcomes[0] > 30 && outcomes[1] > 0, "{outcomes:?}");
}

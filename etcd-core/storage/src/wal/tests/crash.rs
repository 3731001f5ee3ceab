use proptest::prelude::*;

use super::*;
use crate::simdisk::Fault;

/// Crashes a disk in several ways, and checks after each that the log of `model` opens
/// with all that was acknowledged, goes on, and keeps what is appended then.
fn crash_and_check(disk: &SimDisk, model: &Model, outcomes: u64) {
    for outcome in 0..outcomes {
        let disk = disk.fork(outcome);
        disk.crash();
        let mut writer = Writer::reopen(&disk, model.clone());
        writer.append(&[30, 900]).unwrap();
        writer.sync().unwrap();
        writer.append(&[2500]).unwrap();
        let model = writer.model;
        disk.crash();
        let mut writer = Writer::reopen(&disk, model);
        writer.append(&[7]).unwrap();
        writer.sync().unwrap();
        let Writer { wal, model, .. } = writer;
        drop(wal);
        Writer::reopen(&disk, model);
    }
}

fn ops_of_a_life() -> u64 {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    life(&mut writer).unwrap();
    disk.ops()
}

#[test]
fn s01_s02_s03_a_crash_at_any_operation_loses_nothing_acknowledged() {
    for op in 0..ops_of_a_life() {
        for seed in 0..3 {
            let disk = SimDisk::new(seed);
            disk.crash_at(op);
            match Writer::create(&disk) {
                Err(_) => crash_in_creation(&disk),
                Ok(mut writer) => {
                    life(&mut writer).unwrap_err();
                    crash_and_check(&disk, &writer.model, 6);
                }
            }
        }
    }
}

/// There is no log, or an empty one; there is one at the second attempt.
fn crash_in_creation(disk: &SimDisk) {
    for outcome in 0..10 {
        let disk = disk.fork(outcome);
        disk.crash();
        let writer = if Wal::exists(&disk, dir()).unwrap() {
            Writer::reopen(&disk, Model::new())
        } else {
            Writer::create(&disk).unwrap()
        };
        drop(writer.wal);
        Writer::reopen(&disk, writer.model);
    }
}

#[test]
fn s04_a_crash_at_any_operation_of_the_creation_leaves_a_log_or_none() {
    let disk = SimDisk::new(0);
    drop(Writer::create(&disk).unwrap());
    for op in 0..disk.ops() {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            disk.crash_at(op);
            assert!(Writer::create(&disk).is_err());
            crash_in_creation(&disk);
        }
    }
}

#[test]
fn s02_a_second_crash_during_the_repair_changes_nothing() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut writer = Writer::create(&disk).unwrap();
        writer.append(&[100]).unwrap();
        writer.sync().unwrap();
        writer.append(&[1000, 1000]).unwrap();
        let model = writer.model;
        disk.crash();
        for op in 0..8 {
            let disk = disk.fork(seed + op);
            disk.crash_at(disk.ops() + op);
            let from = Snapshot::default();
            if Wal::open_with(Arc::new(disk.clone()), dir(), &from, OPTIONS).is_ok() {
                break;
            }
            crash_and_check(&disk, &model, 4);
        }
    }
}

#[test]
fn s13_a_full_disk_stops_the_log_and_space_lets_it_go_on() {
    // The creation fits, what is to follow does not.
    let mut poisoned = 0;
    for capacity in (4096..12_288).step_by(1024) {
        let disk = SimDisk::new(capacity);
        disk.set_capacity(Some(capacity));
        let mut writer = Writer::create(&disk).unwrap();
        let error = life(&mut writer).unwrap_err();
        assert!(error.is_no_space(), "{error}");
        if writer.wal.poisoned {
            assert!(matches!(writer.append(&[1]), Err(WalError::Poisoned)));
            poisoned += 1;
        } else {
            // It was making a file ahead of time: the current one still has space.
            writer.append(&[1]).unwrap();
            writer.sync().unwrap();
        }
        disk.set_capacity(None);
        let Writer { wal, model, .. } = writer;
        drop(wal);
        let mut writer = Writer::reopen(&disk, model);
        writer.append(&[5000]).unwrap();
        writer.sync().unwrap();
        crash_and_check(&disk, &writer.model, 2);
    }
    assert!(poisoned > 2);
}

#[test]
fn s13_a_failed_preparation_can_be_repeated() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    disk.set_capacity(Some(5000));
    assert!(writer.wal.prepare().unwrap_err().is_no_space());
    writer.append(&[10]).unwrap();
    writer.sync().unwrap();
    disk.set_capacity(None);
    assert!(writer.wal.prepare().unwrap());
    assert!(!writer.wal.prepare().unwrap());
}

#[test]
fn s14_any_failed_operation_poisons_the_log() {
    for op in 0..ops_of_a_life() {
        let disk = SimDisk::new(op);
        disk.fail_op(op, Fault::Io);
        let Ok(mut writer) = Writer::create(&disk) else {
            crash_in_creation(&disk);
            continue;
        };
        // Of a release, what fails is cleaning up; the log itself is whole.
        if life(&mut writer).is_err() && writer.wal.poisoned {
            assert!(matches!(writer.wal.sync(), Err(WalError::Poisoned)));
            assert!(matches!(
                writer.wal.append(None, &[]),
                Err(WalError::Poisoned)
            ));
            assert!(matches!(
                writer.wal.save_snapshot(&snapshot(1, 1)),
                Err(WalError::Poisoned)
            ));
            assert!(matches!(writer.wal.release(1, 1), Err(WalError::Poisoned)));
        }
        crash_and_check(&disk, &writer.model, 6);
    }
}

#[test]
fn s14_after_a_failed_sync_nothing_is_acknowledged() {
    let disk = SimDisk::new(3);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[100]).unwrap();
    writer.sync().unwrap();
    writer.append(&[1000]).unwrap();
    disk.fail_syncs(true);
    assert!(matches!(writer.sync(), Err(WalError::Disk(_))));
    disk.fail_syncs(false);
    assert!(matches!(writer.sync(), Err(WalError::Poisoned)));
    crash_and_check(&disk, &writer.model, 20);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Sync,
    Replace,
    Checkpoint,
    Prepare,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0usize..40, 400usize..600, 0usize..3000];
    prop_oneof![
        4 => prop::collection::vec(size, 0..6).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => Just(Step::Replace),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Prepare),
    ]
}

fn take(writer: &mut Writer, step: &Step) -> Result<(), WalError> {
    match step {
        Step::Append(sizes) => writer.append(sizes),
        Step::Sync => writer.sync(),
        Step::Replace => {
            writer.term += 1;
            let (first, commit) = (writer.commit + 1, writer.commit);
            writer.batch(first, &[50, 700], commit)
        }
        Step::Checkpoint if writer.commit > writer.model.checkpoint.index => writer.checkpoint(),
        Step::Checkpoint => Ok(()),
        Step::Prepare => writer.wal.prepare().map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn s01_any_life_and_any_crash_keep_what_was_acknowledged(
        steps in prop::collection::vec(step(), 1..40),
        crash_after in 0u64..120,
        seed: u64,
    ) {
        let disk = SimDisk::new(seed);
        let mut writer = Writer::create(&disk).unwrap();
        disk.crash_at(disk.ops() + crash_after);
        for step in &steps {
            if take(&mut writer, step).is_err() {
                break;
            }
        }
        crash_and_check(&disk, &writer.model, 3);
    }
}

/// A hard state whose last byte alone reaches into the next sector, and is a single bit.
#[test]
fn s02_a_lost_sector_that_held_one_bit_is_a_torn_tail() {
    for size in (0..512).map(|size| size + 100) {
        let disk = SimDisk::new(size as u64);
        let mut wal = Wal::create(Arc::new(disk.clone()), dir(), &metadata()).unwrap();
        let state = |commit| HardState {
            term: 1,
            vote: 1,
            commit,
        };
        let data = vec![7; size];
        wal.append(Some(&state(0)), &[entry(1, 1, data)]).unwrap();
        wal.sync().unwrap();
        // The commit's varint ends in a byte of one bit.
        wal.append(Some(&state(256)), &[]).unwrap();
        for outcome in 0..8 {
            let disk = disk.fork(outcome);
            disk.crash();
            let (_, replay) =
                Wal::open(Arc::new(disk.clone()), dir(), &Snapshot::default()).unwrap();
            assert_eq!(replay.entries.len(), 1, "size {size}");
        }
    }
}

/// A failed sync leaves pages that count as clean: a process that starts later reads
/// them from memory, and must not take them for durable.
#[test]
fn s14_what_a_failed_sync_left_in_memory_is_written_again() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut wal = Wal::create(Arc::new(disk.clone()), dir(), &metadata()).unwrap();
        let first = entry(1, 1, vec![1; 700]);
        wal.append(None, &[first]).unwrap();
        wal.sync().unwrap();
        wal.append(None, &[entry(1, 2, vec![2; 700])]).unwrap();
        disk.fail_op(disk.ops(), Fault::Io);
        wal.sync().unwrap_err();
        assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
        drop(wal);
        let start = Snapshot::default();
        let (mut wal, replay) = Wal::open(Arc::new(disk.clone()), dir(), &start).unwrap();
        assert_eq!(replay.entries.len(), 2, "the process sees what it wrote");
        wal.append(None, &[entry(1, 3, vec![3; 700])]).unwrap();
        wal.sync().unwrap();
        drop(wal);
        disk.crash();
        let (_, replay) = Wal::open(Arc::new(disk.clone()), dir(), &start).unwrap();
        assert_eq!(replay.entries.len(), 3, "seed {seed}");
    }
}

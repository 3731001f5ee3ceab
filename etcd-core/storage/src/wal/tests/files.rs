use super::*;
use crate::disk::RealDisk;

#[test]
fn a_log_is_created_once_and_opened_by_one() {
    let disk = SimDisk::new(0);
    assert!(!Wal::exists(&disk, dir()).unwrap());
    let writer = Writer::create(&disk).unwrap();
    assert!(Wal::exists(&disk, dir()).unwrap());
    assert!(matches!(
        Writer::create(&disk),
        Err(WalError::Exists { .. })
    ));
    let open = || Wal::open_with(Arc::new(disk.clone()), dir(), &Snapshot::default(), OPTIONS);
    assert!(matches!(open(), Err(WalError::Locked { .. })));
    drop(writer);
    open().unwrap();
}

#[test]
fn files_are_named_preallocated_and_cut_as_etcd_does() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[1000, 1000, 1000]).unwrap();
    assert_eq!(
        content(&disk, "0000000000000000-0000000000000000.wal").len(),
        4096
    );
    writer.wal.prepare().unwrap();
    assert_eq!(
        files(&disk),
        ["0.tmp", "0000000000000000-0000000000000000.wal"]
    );
    writer.append(&[1500]).unwrap();
    assert_eq!(
        files(&disk),
        [
            "0000000000000000-0000000000000000.wal",
            "0000000000000001-0000000000000004.wal"
        ]
    );
    let first = content(&disk, "0000000000000000-0000000000000000.wal");
    assert!(first.len() < 4096);
    assert_eq!(
        content(&disk, "0000000000000001-0000000000000004.wal").len(),
        4096
    );
    writer.wal.prepare().unwrap();
    assert_eq!(files(&disk)[2], "1.tmp");
    // What is half made is removed at the next start.
    drop(writer.wal);
    Writer::reopen(&disk, writer.model);
    assert_eq!(files(&disk).len(), 2);
}

#[test]
fn the_head_of_a_log_is_byte_for_byte_that_of_etcd() {
    // What etcd 3.7.3 wrote when it created a log for this member and cluster.
    let expected: [u8; 80] = [
        0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x84, 0x08, 0x04, 0x10, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x82, 0x08, 0x01, 0x10, 0x9b, 0xc3, 0xf5,
        0xf7, 0x0f, 0x1a, 0x14, 0x08, 0xe7, 0x9d, 0xaf, 0xbc, 0xae, 0xa1, 0xaa, 0xbb, 0x5c, 0x10,
        0xac, 0xeb, 0x81, 0xf9, 0x8e, 0xb1, 0xc0, 0xb7, 0x53, 0x00, 0x00, 0x0e, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x82, 0x08, 0x05, 0x10, 0xf1, 0xcd, 0xd1, 0xb4, 0x0f, 0x1a, 0x04, 0x08,
        0x00, 0x10, 0x00, 0x00, 0x00,
    ];
    let metadata = Metadata {
        node_id: 6662698563040693991,
        cluster_id: 6012025715201963436,
    };
    let disk = SimDisk::new(0);
    drop(Wal::create_with(Arc::new(disk.clone()), dir(), &metadata, OPTIONS).unwrap());
    let bytes = content(&disk, "0000000000000000-0000000000000000.wal");
    assert_eq!(bytes[..80], expected);
    assert!(bytes[80..].iter().all(|&b| b == 0));
}

#[test]
fn a_log_of_etcd_is_read_and_gone_on_with() {
    // A single member of etcd 3.7.3 that elected itself and took 60 puts; the zeros at
    // the end are cut off.
    let stock = include_bytes!("stock-3.7.3.wal");
    let disk = SimDisk::new(0);
    crate::dir::create_durable(&disk, dir()).unwrap();
    let name = "0000000000000000-0000000000000000.wal";
    disk.create(&dir().join(name))
        .unwrap()
        .write_at(0, stock)
        .unwrap();
    let member = 6662698563040693991;
    let open = || Wal::open_with(Arc::new(disk.clone()), dir(), &Snapshot::default(), OPTIONS);
    let (mut wal, replay) = open().unwrap();
    assert_eq!(replay.metadata.node_id, member);
    assert_eq!(
        replay.hard_state,
        HardState {
            term: 2,
            vote: member,
            commit: 64
        }
    );
    assert_eq!(replay.entries.len(), 64);
    assert_eq!(replay.entries[0].r#type, 1);
    let put = b"\x0a\x03k60\x12\x07value60";
    assert!(
        replay.entries[63]
            .data
            .windows(put.len())
            .any(|part| part == put)
    );
    wal.append(None, &[entry(2, 65, vec![])]).unwrap();
    drop(wal);
    assert_eq!(open().unwrap().1.entries.len(), 65);
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.term = 2;
    writer.append(&[1, 1]).unwrap();
    let conf_change = Entry {
        r#type: 1,
        ..entry(2, 3, vec![])
    };
    for entry in [entry(2, 0, vec![]), entry(0, 3, vec![]), conf_change] {
        let refused = writer.wal.append(None, &[entry]);
        assert!(
            matches!(refused, Err(WalError::Refused { .. })),
            "{refused:?}"
        );
    }
    for entries in [
        [entry(2, 3, vec![]), entry(2, 5, vec![])],
        [entry(3, 3, vec![]), entry(2, 4, vec![])],
    ] {
        assert!(matches!(
            writer.wal.append(None, &entries),
            Err(WalError::Refused { .. })
        ));
    }
    let state = HardState {
        term: 1,
        vote: 0,
        commit: 9,
    };
    assert!(matches!(
        writer.wal.append(Some(&state), &[]),
        Err(WalError::Refused { .. })
    ));
    writer.append(&[1]).unwrap();
    writer
        .wal
        .save_received_snapshot(&snapshot(2, 2), &HardState::default())
        .unwrap();
    assert_eq!(
        Wal::read(&disk, dir(), &Snapshot::default())
            .unwrap()
            .entries
            .len(),
        3
    );
}

#[test]
fn a_log_is_read_from_a_snapshot_it_has() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[1, 1, 1]).unwrap();
    writer.append(&[1, 1]).unwrap();
    writer.wal.save_snapshot(&snapshot(2, 1)).unwrap();
    writer.append(&[1]).unwrap();
    writer.sync().unwrap();
    let read = |from: &Snapshot| Wal::read(&disk, dir(), from);
    let indexes = |replay: Replay| replay.entries.iter().map(|e| e.index).collect::<Vec<_>>();
    assert_eq!(indexes(read(&snapshot(2, 1)).unwrap()), [3, 4, 5, 6]);
    assert_eq!(indexes(read(&snapshot(0, 0)).unwrap()), [1, 2, 3, 4, 5, 6]);
    assert!(matches!(
        read(&snapshot(3, 1)),
        Err(WalError::SnapshotNotFound { .. })
    ));
    assert!(matches!(
        read(&snapshot(2, 2)),
        Err(WalError::SnapshotMismatch { .. })
    ));
    let valid = Wal::valid_snapshots(&disk, dir()).unwrap();
    assert_eq!(valid, [snapshot(0, 0), snapshot(2, 1)]);
}

#[test]
fn snapshots_beyond_the_commit_do_not_count() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.wal.save_snapshot(&snapshot(7, 1)).unwrap();
    assert_eq!(
        Wal::valid_snapshots(&disk, dir()).unwrap(),
        [snapshot(0, 0)]
    );
    writer
        .wal
        .append(
            Some(&HardState {
                term: 1,
                vote: 0,
                commit: 7,
            }),
            &[],
        )
        .unwrap();
    assert_eq!(
        Wal::valid_snapshots(&disk, dir()).unwrap(),
        [snapshot(0, 0), snapshot(7, 1)]
    );
    let members = Snapshot {
        index: 8,
        term: 1,
        conf_state: None,
    };
    let refused = writer.wal.save_snapshot(&members);
    assert!(matches!(
        refused,
        Err(WalError::SnapshotWithoutMembers { index: 8 })
    ));
}

#[test]
fn s06_a_received_snapshot_replaces_a_log_that_differs() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[1, 1, 1, 1, 1, 1]).unwrap();
    let state = HardState {
        term: 5,
        vote: 0,
        commit: 4,
    };
    writer
        .wal
        .save_received_snapshot(&snapshot(4, 5), &state)
        .unwrap();
    let replay = Wal::read(&disk, dir(), &snapshot(4, 5)).unwrap();
    assert_eq!(replay.entries, []);
    assert_eq!(replay.hard_state, state);
    // Another record of the same snapshot, from a checkpoint, takes nothing back.
    writer.wal.append(None, &[entry(5, 5, vec![1])]).unwrap();
    writer.wal.save_snapshot(&snapshot(4, 5)).unwrap();
    let replay = Wal::read(&disk, dir(), &snapshot(4, 5)).unwrap();
    assert_eq!(replay.entries.len(), 1);
}

#[test]
fn entries_of_a_torn_batch_bring_their_term() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    writer.append(&[1]).unwrap();
    writer.wal.append(None, &[entry(3, 2, vec![])]).unwrap();
    let replay = Wal::read(&disk, dir(), &Snapshot::default()).unwrap();
    assert_eq!(
        replay.hard_state,
        HardState {
            term: 3,
            vote: 0,
            commit: 0
        }
    );
}

#[test]
fn covered_files_are_removed_down_to_the_bound() {
    let disk = SimDisk::new(0);
    let mut writer = Writer::create(&disk).unwrap();
    for _ in 0..8 {
        writer.append(&[3500]).unwrap();
        writer.sync().unwrap();
    }
    assert_eq!(files(&disk).len(), 8);
    writer.wal.release(5, 0).unwrap();
    assert_eq!(files(&disk).len(), 8, "0 keeps all");
    writer.wal.release(5, 6).unwrap();
    assert_eq!(files(&disk).len(), 6);
    // A tool reads the oldest: it stays, and so do those after it.
    let oldest = dir().join(&files(&disk)[0]);
    let lock = disk.lock(&oldest, crate::disk::LockKind::Record).unwrap();
    writer.wal.release(5, 1).unwrap();
    assert_eq!(files(&disk).len(), 6);
    drop(lock);
    writer.wal.release(5, 1).unwrap();
    assert_eq!(files(&disk)[0], "0000000000000004-0000000000000005.wal");
    assert_eq!(files(&disk).len(), 4);
    writer.wal.release(100, 1).unwrap();
    assert_eq!(files(&disk), ["0000000000000007-0000000000000008.wal"]);
}

#[test]
fn a_real_disk_keeps_a_log_too() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("member/wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let open = || Wal::open_with(disk.clone(), &dir, &Snapshot::default(), OPTIONS);
    let mut wal = Wal::create_with(disk.clone(), &dir, &metadata(), OPTIONS).unwrap();
    assert!(matches!(open(), Err(WalError::Locked { .. })));
    let entries: Vec<_> = (1..=20).map(|i| entry(1, i, vec![i as u8; 500])).collect();
    for entry in &entries {
        wal.append(None, std::slice::from_ref(entry)).unwrap();
        wal.sync().unwrap();
    }
    drop(wal);
    let (mut wal, replay) = open().unwrap();
    assert_eq!(replay.entries, entries);
    wal.append(None, &[entry(1, 21, vec![])]).unwrap();
    wal.release(20, 1).unwrap();
    drop(wal);
    let names = disk.list(&dir).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(&names[0].name)), 0o600);
}

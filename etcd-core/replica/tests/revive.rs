//! A new cluster from what one member has left, on a simulated disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_mvcc::KvHash;
use etcd_proto::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
};
use etcd_proto::raftpb::{Entry, HardState};
use etcd_proto::walpb::Snapshot;
use etcd_replica::{
    ApplierConfig, ApplyFault, Boot, ImageSource, Layout, LeaseConfig, Member, OpenError,
    RaftSettings, Recovered, Restore, ReviveError, checkpoint, cluster_id, image_path, inspect,
    member_id, open_with, revive, store_directory,
};
use etcd_storage::disk::{Disk, LockKind, OpenMode};
use etcd_storage::simdisk::SimDisk;
use etcd_storage::wal::{Options, Wal, WalError};
use prost::Message as _;

const FROM: &str = "/old/member";
const TO: &str = "/new/member";
/// Last entry of the log, the last that is known to be committed, and the last in the
/// store.
const LAST: u64 = 40;
const COMMIT: u64 = 34;
const STORED: u64 = 20;

fn wal(directory: &str) -> PathBuf {
    Path::new(directory).join("wal")
}

fn open_member(disk: &SimDisk, directory: &str) -> Result<Recovered, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let members = (1..=3)
        .map(|id| Member {
            id,
            peer_urls: vec![format!("http://member-{id}:2380")],
            ..Member::default()
        })
        .collect();
    let boot = Boot::New {
        member_id: 2,
        members,
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 1,
        force_new_cluster: false,
    };
    let (directory, wal) = (Path::new(directory), wal(directory));
    let config = |member_id| ApplierConfig {
        member_id,
        max_learners: 1,
        quota_bytes: None,
        lease: LeaseConfig::default(),
    };
    let options = Options {
        segment_bytes: 16 << 10,
    };
    open_with(&disk, directory, &wal, &boot, &settings, options, config)
}

/// Puts, a lease, a compaction in the store and one in the log beyond it.
fn entry(index: u64) -> Entry {
    let mut request = InternalRaftRequest::default();
    match index {
        5 => request.lease_grant = Some(LeaseGrantRequest { id: 77, ttl: 600 }),
        12 | 30 => {
            request.compaction = Some(CompactionRequest {
                revision: index as i64 - 8,
                physical: false,
            })
        }
        _ => {
            request.put = Some(PutRequest {
                key: format!("key{}", index % 7).into(),
                value: index.to_string().into(),
                lease: if index % 7 == 3 { 77 } else { 0 },
                ..PutRequest::default()
            })
        }
    }
    Entry {
        term: if index > 25 { 3 } else { 1 },
        index,
        data: request.encode_to_vec().into(),
        ..Entry::default()
    }
}

fn apply(member: &mut Recovered, entries: &[Entry]) {
    member.applier.apply(entries).expect("applied");
    while member.applier.is_compacting() {
        member.applier.compact_step(10).expect("compacted");
    }
}

/// A member with all entries in its log and those up to `stored` in its store; and what
/// the whole log comes to.
fn survivor(stored: u64) -> (SimDisk, KvHash) {
    let disk = SimDisk::new(1);
    let mut member = open_member(&disk, FROM).expect("opened");
    let founding = Wal::read(&disk, &wal(FROM), &Snapshot::default()).expect("read");
    apply(&mut member, &founding.entries);
    let first = founding.entries.len() as u64 + 1;
    let entries: Vec<Entry> = (first..=LAST).map(entry).collect();
    let state = HardState {
        term: 4,
        vote: 3,
        commit: COMMIT,
    };
    member.wal.append(Some(&state), &entries).expect("written");
    member.wal.sync().expect("synced");
    let (in_store, beyond) = entries.split_at((stored + 1).saturating_sub(first) as usize);
    if stored > 0 {
        apply(&mut member, in_store);
        let capture = member.applier.capture(false);
        let written = checkpoint(&disk, Path::new(FROM), &capture).expect("written");
        let record = Snapshot {
            index: written.index,
            term: written.term,
            conf_state: Some(written.conf_state.clone()),
        };
        member.wal.save_snapshot(&record).expect("written");
        apply(&mut member, beyond);
    } else {
        apply(&mut member, &entries);
    }
    let hash = member.applier.view().kv.hash_kv(0).expect("hashed");
    (disk, hash)
}

/// The same as stock etcd would have left it, or our server before it took over a
/// snapshot: the store is a bbolt file of this name.
fn with_image(path: &Path) -> (SimDisk, KvHash) {
    let (disk, hash) = survivor(STORED);
    let mut member = open_member(&disk, FROM).expect("opened");
    let image = ImageSource::plan(&member.applier.capture(false)).expect("planned");
    let mut bytes = Vec::new();
    image.write_to(&mut bytes).expect("written");
    drop(member);
    let file = disk.create(path).expect("created");
    file.write_at(0, &bytes).expect("written");
    file.sync_data().expect("synced");
    disk.remove_dir_all(&store_directory(Path::new(FROM)))
        .expect("removed");
    for directory in [Path::new(FROM), &Path::new(FROM).join("snap")] {
        disk.sync_dir(directory).expect("synced");
    }
    (disk, hash)
}

fn stock() -> (SimDisk, KvHash) {
    with_image(&Path::new(FROM).join("snap/db"))
}

fn wanted() -> Restore {
    let peer_urls = vec!["http://revived:2380".to_owned()];
    let member = Member {
        id: member_id(&peer_urls, "revived", None),
        peer_urls,
        name: "revived".into(),
        ..Member::default()
    };
    Restore {
        member_id: member.id,
        members: vec![member],
        revision: None,
        bump_revision: 0,
        skip_hash_check: false,
    }
}

fn revived(disk: &SimDisk, wanted: &Restore) -> Result<etcd_replica::Revived, ReviveError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (from, to) = (Path::new(FROM), Path::new(TO));
    revive(&disk, from, &wal(FROM), to, &wal(TO), wanted)
}

/// Every file below a directory, its length and checksum.
fn content(disk: &SimDisk, directory: &Path) -> BTreeMap<PathBuf, (usize, u32)> {
    let mut all = BTreeMap::new();
    for entry in disk.list(directory).expect("listed") {
        let path = directory.join(&entry.name);
        if entry.is_dir {
            all.extend(content(disk, &path));
        } else {
            let file = disk.open(&path, OpenMode::Read).expect("opened");
            let bytes = file.map().expect("read");
            all.insert(path, (bytes.len(), crc32c::crc32c(&bytes)));
        }
    }
    all
}

#[test]
fn o09_the_whole_log_of_a_survivor_is_a_new_cluster() {
    for (name, (disk, hash), layout, stored) in [
        ("ours", survivor(STORED), Layout::Ours, STORED),
        ("stock's", stock(), Layout::Stock, STORED),
        ("no store yet", survivor(0), Layout::LogOnly, 0),
    ] {
        let before = content(&disk, Path::new("/old"));
        let ops = disk.ops();
        let found = inspect(&disk, Path::new(FROM), &wal(FROM)).expect("read");
        assert_eq!(disk.ops(), ops, "{name}: inspecting changed something");
        assert_eq!(found.layout, layout);
        assert_eq!(
            (found.member_id, found.cluster_id),
            (2, cluster_id(&[1, 2, 3]))
        );
        assert_eq!((found.term, found.vote), (4, 3), "{name}");
        assert_eq!((found.last_term, found.last_index), (3, LAST), "{name}");
        assert_eq!(
            (found.commit, found.applied_index),
            (COMMIT, stored),
            "{name}"
        );
        assert_eq!(found.members.len(), if stored > 0 { 3 } else { 0 });

        let done = revived(&disk, &wanted()).expect("revived");
        assert_eq!(done.found, found);
        assert_eq!(done.uncommitted, LAST - COMMIT);
        assert_eq!(done.restored.revision, hash.revision);
        assert_eq!(content(&disk, Path::new("/old")), before, "{name}");
        disk.crash();
        let member = open_member(&disk, TO).expect("opened");
        assert_eq!(member.member_id, wanted().member_id);
        assert_eq!(member.cluster_id, done.restored.cluster_id);
        assert_ne!(member.cluster_id, found.cluster_id);
        let view = member.applier.view();
        assert_eq!(view.kv.hash_kv(0).expect("hashed"), hash, "{name}");
        assert_eq!(view.membership.iter().count(), 1);
        assert!(member.applier.lessor().lock().contains(77), "{name}");
        assert_eq!(content(&disk, Path::new("/old")), before, "{name}");
    }
}

#[test]
fn o23_a_revived_store_is_raised_as_a_restored_one() {
    let (disk, hash) = survivor(STORED);
    let wanted = Restore {
        bump_revision: 1000,
        ..wanted()
    };
    let done = revived(&disk, &wanted).expect("revived").restored;
    assert_eq!(done.content_revision, hash.revision);
    let raised = hash.revision + 1000;
    assert_eq!((done.revision, done.compact_revision), (raised, raised));
    let member = open_member(&disk, TO).expect("opened");
    assert_eq!(member.applier.view().kv.revision(), raised);
}

#[test]
fn s06_a_snapshot_that_was_received_and_not_installed_is_what_is_revived() {
    let path = image_path(Path::new(FROM), STORED);
    let (disk, hash) = with_image(&path);
    let found = inspect(&disk, Path::new(FROM), &wal(FROM)).expect("read");
    assert_eq!(
        (found.layout, found.applied_index),
        (Layout::LogOnly, STORED)
    );
    revived(&disk, &wanted()).expect("revived");
    let member = open_member(&disk, TO).expect("opened");
    assert_eq!(member.applier.view().kv.hash_kv(0).expect("hashed"), hash);

    let (disk, _) = with_image(&path);
    disk.unlink(&path).expect("removed");
    let refused = revived(&disk, &wanted()).expect_err("refused");
    assert!(
        matches!(
            refused,
            ReviveError::Survivor(OpenError::SnapshotMissing { index: STORED, .. })
        ),
        "{refused}"
    );
}

#[test]
fn o02_a_revival_that_is_cut_off_anywhere_leaves_the_survivor_and_can_be_repeated() {
    for (old, hash) in [survivor(STORED), stock()] {
        let before = content(&old, Path::new("/old"));
        let whole = old.fork(0);
        let begun = whole.ops();
        revived(&whole, &wanted()).expect("revived");
        let mut whole_ones = 0;
        for op in begun..=whole.ops() {
            for seed in 0..3 {
                let disk = old.fork(seed);
                disk.crash_at(op);
                drop(revived(&disk, &wanted()));
                disk.crash();
                assert_eq!(content(&disk, Path::new("/old")), before, "op {op}");
                if disk.exists(Path::new(TO)).expect("looked") {
                    whole_ones += 1;
                } else {
                    revived(&disk, &wanted()).expect("revived");
                    disk.crash();
                }
                let member = open_member(&disk, TO).expect("opened");
                let view = member.applier.view();
                assert_eq!(view.kv.hash_kv(0).expect("hashed"), hash, "op {op}");
                let left = Path::new("/new/member.restoring");
                assert!(!disk.exists(left).expect("looked"), "op {op}");
            }
        }
        assert!(whole_ones > 0);
    }
}

#[test]
fn o21_a_member_that_runs_is_not_revived() {
    for (disk, path) in [
        (
            survivor(STORED).0,
            wal(FROM).join("0000000000000000-0000000000000000.wal"),
        ),
        (stock().0, Path::new(FROM).join("snap/db")),
    ] {
        let lock = disk.lock(&path, LockKind::Record).expect("locked");
        let refused = revived(&disk, &wanted()).expect_err("refused");
        let ReviveError::Survivor(OpenError::Disk(error)) = &refused else {
            panic!("{refused}");
        };
        assert!(error.is_locked(), "{refused}");
        drop(lock);
        revived(&disk, &wanted()).expect("revived");
    }
}

#[test]
fn what_cannot_be_revived_is_said() {
    let empty = SimDisk::new(0);
    empty.create_dir_all(Path::new(FROM)).expect("made");
    let refused = revived(&empty, &wanted()).expect_err("refused");
    assert!(matches!(refused, ReviveError::Empty(_)), "{refused}");
    let refused = inspect(&empty, Path::new(FROM), &wal(FROM)).expect_err("refused");
    assert!(matches!(refused, ReviveError::Empty(_)), "{refused}");

    let (disk, _) = survivor(STORED);
    let log = wal(FROM).join("0000000000000000-0000000000000000.wal");
    disk.flip_bit(&log, 400, 3).expect("flipped");
    let refused = revived(&disk, &wanted()).expect_err("refused");
    assert!(
        matches!(
            refused,
            ReviveError::Survivor(OpenError::Wal(WalError::Corrupt { .. }))
        ),
        "{refused}"
    );

    // Users are not known here: going on without them would let everybody in.
    let (disk, _) = survivor(STORED);
    let mut member = open_member(&disk, FROM).expect("opened");
    let request = InternalRaftRequest {
        auth_enable: Some(Default::default()),
        ..InternalRaftRequest::default()
    };
    let entry = Entry {
        term: 4,
        index: LAST + 1,
        data: request.encode_to_vec().into(),
        ..Entry::default()
    };
    member.wal.append(None, &[entry]).expect("written");
    member.wal.sync().expect("synced");
    drop(member);
    let refused = revived(&disk, &wanted()).expect_err("refused");
    assert!(
        matches!(
            refused,
            ReviveError::Apply(ApplyFault::Unknown { kind: "auth", .. })
        ),
        "{refused}"
    );
    assert!(
        !disk
            .exists(Path::new("/new/member.restoring"))
            .expect("looked")
    );
}

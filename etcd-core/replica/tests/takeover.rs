//! A directory as stock etcd leaves it, on a simulated disk: the log, and a store that
//! lags behind it.

use std::path::Path;
use std::sync::Arc;

use etcd_proto::etcdserverpb::{AuthUserAddRequest, InternalRaftRequest, PutRequest};
use etcd_proto::raftpb::{ConfState, Entry, HardState};
use etcd_proto::walpb::Snapshot;
use etcd_replica::{
    ApplierConfig, Boot, ImageSource, LeaseConfig, Member, OpenError, RaftSettings, Recovered,
    open, store_directory,
};
use etcd_storage::bolt::{FileWriter, Image};
use etcd_storage::disk::{Disk, OpenMode};
use etcd_storage::simdisk::SimDisk;
use etcd_storage::wal::Wal;
use prost::Message as _;

const DIRECTORY: &str = "/data/member";
const WAL_DIRECTORY: &str = "/data/member/wal";
/// Last entry of the log, and of the store.
const LOG: u64 = 30;
const STORE: u64 = 20;

fn open_member(disk: &SimDisk) -> Result<Recovered, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let boot = Boot::New {
        member_id: 1,
        members: vec![Member {
            id: 1,
            peer_urls: vec!["http://localhost:2380".into()],
            ..Member::default()
        }],
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 1,
        force_new_cluster: false,
    };
    let (directory, wal) = (Path::new(DIRECTORY), Path::new(WAL_DIRECTORY));
    open(&disk, directory, wal, &boot, &settings, |member_id| {
        ApplierConfig {
            member_id,
            max_learners: 1,
            quota_bytes: None,
            lease: LeaseConfig::default(),
        }
    })
}

fn entry(index: u64) -> Entry {
    let put = PutRequest {
        key: format!("key{}", index % 7).into(),
        value: index.to_string().into(),
        ..PutRequest::default()
    };
    let request = InternalRaftRequest {
        put: Some(put),
        ..InternalRaftRequest::default()
    };
    Entry {
        term: 1,
        index,
        data: request.encode_to_vec().into(),
        ..Entry::default()
    }
}

/// The disk, and the hash of the store on it.
fn stock_directory(log_from: u64) -> (SimDisk, u32) {
    let disk = SimDisk::new(1);
    let mut member = open_member(&disk).expect("opened");
    let wal = Path::new(WAL_DIRECTORY);
    let first = Wal::read(&disk, wal, &Snapshot::default()).expect("read");
    member.applier.apply(&first.entries).expect("applied");
    let entries: Vec<Entry> = (2..=LOG).map(entry).collect();
    let state = HardState {
        term: 1,
        vote: 1,
        commit: LOG,
    };
    let later: Vec<Entry> = entries
        .iter()
        .filter(|e| e.index >= log_from)
        .cloned()
        .collect();
    if log_from > 2 {
        let record = Snapshot {
            index: log_from - 1,
            term: 1,
            conf_state: Some(member.applier.conf_state()),
        };
        member.wal.save_snapshot(&record).expect("written");
    }
    member.wal.append(Some(&state), &later).expect("written");
    member.wal.sync().expect("synced");
    let stored: Vec<Entry> = entries.into_iter().filter(|e| e.index <= STORE).collect();
    member.applier.apply(&stored).expect("applied");
    let hash = member.applier.view().kv.hash_kv(0).expect("hashed").hash;
    write_image(&disk, &mut member, "snap/db");
    disk.remove_dir_all(&store_directory(Path::new(DIRECTORY)))
        .expect("removed");
    disk.sync_dir(Path::new(DIRECTORY)).expect("synced");
    (disk, hash)
}

fn write_image(disk: &SimDisk, member: &mut Recovered, name: &str) {
    let image = ImageSource::plan(&member.applier.capture(false)).expect("planned");
    let mut bytes = Vec::new();
    image.write_to(&mut bytes).expect("written");
    let file = disk
        .create(&Path::new(DIRECTORY).join(name))
        .expect("created");
    file.write_at(0, &bytes).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir(&Path::new(DIRECTORY).join("snap"))
        .expect("synced");
}

fn names(disk: &SimDisk) -> Vec<String> {
    let listed = disk
        .list(&Path::new(DIRECTORY).join("snap"))
        .expect("listed");
    listed
        .iter()
        .map(|entry| entry.name.to_string_lossy().into_owned())
        .collect()
}

/// Ends the log with an entry that no member of ours can apply.
fn add_user(disk: &SimDisk, from: &Snapshot) {
    let request = InternalRaftRequest {
        auth_user_add: Some(AuthUserAddRequest::default()),
        ..InternalRaftRequest::default()
    };
    let users = Entry {
        data: request.encode_to_vec().into(),
        ..entry(LOG + 1)
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut wal, _) = Wal::open(shared, Path::new(WAL_DIRECTORY), from).expect("opened");
    wal.append(None, &[users]).expect("written");
    wal.sync().expect("synced");
    drop(wal);
}

#[test]
fn a_takeover_that_lost_power_at_any_operation_is_completed() {
    let (stock, hash) = stock_directory(2);
    let whole = stock.fork(0);
    let begun = whole.ops();
    open_member(&whole).expect("opened");
    for op in begun..whole.ops() + 1 {
        for seed in 0..4 {
            let disk = stock.fork(seed);
            disk.crash_at(op);
            drop(open_member(&disk));
            disk.crash();
            let member = open_member(&disk).expect("opened");
            let status = member.consensus.status();
            assert_eq!(member.checkpointed_index, STORE, "op {op}");
            assert_eq!((status.commit, status.last_index), (LOG, LOG), "op {op}");
            let now = member.applier.view().kv.hash_kv(0).expect("hashed");
            assert_eq!(now.hash, hash, "op {op}");
            drop(member);
            disk.crash();
            let aside = format!("db.stock-{STORE:016x}");
            assert_eq!(names(&disk), [aside], "op {op}");
            assert!(open_member(&disk).expect("opened").taken_over.is_none());
        }
    }
}

#[test]
fn a_log_that_changes_users_is_refused_and_the_store_left_to_stock_etcd() {
    let (disk, _) = stock_directory(2);
    add_user(&disk, &Snapshot::default());
    let refused = open_member(&disk).err().expect("refused");
    assert!(
        matches!(refused, OpenError::AuthInLog { index } if index == LOG + 1),
        "{refused}"
    );
    assert_eq!(names(&disk), ["db"]);
}

#[test]
fn a_store_that_the_log_does_not_reach_is_refused_and_left_alone() {
    // The log begins where a snapshot was, which is not there.
    let (disk, _) = stock_directory(STORE + 5);
    let refused = open_member(&disk).err().expect("refused");
    assert!(
        matches!(refused, OpenError::SnapshotMissing { index, .. } if index == STORE + 4),
        "{refused}"
    );
    assert_eq!(names(&disk), ["db"]);
    let store = store_directory(Path::new(DIRECTORY));
    assert!(disk.list(&store).expect("listed").is_empty());
}

#[test]
fn a_received_snapshot_that_stock_etcd_did_not_switch_to_is_the_store() {
    let (disk, _) = stock_directory(STORE + 5);
    let (other, _) = stock_directory(2);
    let mut ahead = open_member(&other).expect("opened");
    let more: Vec<Entry> = (STORE + 1..STORE + 5).map(entry).collect();
    ahead.applier.apply(&more).expect("applied");
    let name = format!("{:016x}.snap.db", STORE + 4);
    write_image(&other, &mut ahead, &format!("snap/{name}"));
    let snap = Path::new(DIRECTORY).join("snap");
    let sent = other
        .open(&snap.join(&name), OpenMode::Read)
        .expect("opened");
    let file = disk.create(&snap.join(&name)).expect("created");
    let bytes = sent.map().expect("read");
    file.write_at(0, &bytes).expect("written");
    // A start that fails leaves stock etcd all that it needs.
    let failing = disk.fork(1);
    let record = Snapshot {
        index: STORE + 4,
        term: 1,
        ..Snapshot::default()
    };
    add_user(&failing, &record);
    assert!(open_member(&failing).is_err());
    assert_eq!(names(&failing), [name.as_str(), "db"]);
    let member = open_member(&disk).expect("opened");
    assert_eq!(member.checkpointed_index, STORE + 4);
    assert_eq!(member.consensus.status().last_index, LOG);
    assert_eq!(names(&disk), [format!("db.stock-{STORE:016x}")]);
}

#[test]
fn a_store_that_went_on_under_stock_etcd_is_taken_over_again() {
    let (disk, hash) = stock_directory(2);
    drop(open_member(&disk).expect("opened"));
    let snap = Path::new(DIRECTORY).join("snap");
    let aside = snap.join(format!("db.stock-{STORE:016x}"));
    // Older than what we have: it is only put aside again.
    disk.rename(&aside, &snap.join("db")).expect("renamed");
    let member = open_member(&disk).expect("opened");
    assert_eq!(member.taken_over, Some(aside));
    assert_eq!(
        member.applier.view().kv.hash_kv(0).expect("hashed").hash,
        hash
    );
}

/// Writes the store anew with another row of `meta` that says whom raft counts with.
fn with_conf_state(disk: &SimDisk, row: &str) {
    let path = Path::new(DIRECTORY).join("snap/db");
    let file = disk.open(&path, OpenMode::Read).expect("opened");
    let image = Image::open(file.map().expect("read")).expect("sound");
    let making = path.with_extension("making");
    let mut writer = FileWriter::create(disk, &making).expect("created");
    for bucket in image.buckets() {
        let (name, bucket) = bucket.expect("read");
        writer.bucket(&name).expect("begun");
        for found in bucket.rows() {
            let found = found.expect("read");
            let value = match found.key.as_ref() {
                b"confState" => row.as_bytes(),
                _ => &found.value,
            };
            writer.row(&found.key, value).expect("written");
        }
    }
    writer.finish().expect("written");
    disk.rename(&making, &path).expect("renamed");
}

/// Stock etcdutl leaves the old cluster's members in that row when it restores.
#[test]
fn a_directory_that_stock_etcdutl_has_restored_is_taken_over() {
    let old = r#"{"voters":[4711],"auto_leave":false}"#;
    let (disk, hash) = stock_directory(2);
    let wal = Path::new(WAL_DIRECTORY);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut log, _) = Wal::open(shared, wal, &Snapshot::default()).expect("opened");
    let record = |voters| Snapshot {
        index: 1,
        term: 1,
        conf_state: Some(ConfState {
            voters,
            ..ConfState::default()
        }),
    };
    log.save_snapshot(&record(vec![1])).expect("written");
    drop(log);
    with_conf_state(&disk, old);
    let member = open_member(&disk).expect("opened");
    assert_eq!(member.checkpointed_index, STORE);
    let view = member.applier.view();
    assert_eq!(view.kv.hash_kv(0).expect("hashed").hash, hash);
    assert_eq!(member.applier.conf_state().voters, [1]);

    // Without a record that says so, they are not known to be those of this log.
    let (disk, _) = stock_directory(2);
    with_conf_state(&disk, old);
    let refused = open_member(&disk).err().expect("refused");
    assert!(
        refused.to_string().contains("not those of its raft"),
        "{refused}"
    );
    assert_eq!(names(&disk), ["db"]);
}

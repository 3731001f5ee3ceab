//! Checkpoints of one member's state on a simulated disk, and what a start makes of them.

use std::path::Path;
use std::sync::Arc;

use etcd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest,
};
use etcd_proto::raftpb::Entry;
use etcd_replica::{
    ApplierConfig, Boot, LeaseConfig, Member, RaftSettings, Recovered, checkpoint, open,
};
use etcd_storage::disk::Disk;
use etcd_storage::simdisk::SimDisk;
use etcd_storage::wal::Wal;
use prost::Message as _;

const DIRECTORY: &str = "/data/member";
const WAL_DIRECTORY: &str = "/data/member/wal";

fn open_member(disk: &SimDisk, members: u64) -> Result<Recovered, etcd_replica::OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let members = (1..=members)
        .map(|id| Member {
            id,
            peer_urls: vec![format!(
                "http://a-name-that-is-long-enough-{id}.example:2380"
            )],
            ..Member::default()
        })
        .collect();
    let boot = Boot::New {
        member_id: 1,
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
    let directory = Path::new(DIRECTORY);
    let wal = Path::new(WAL_DIRECTORY);
    open(&disk, directory, wal, &boot, &settings, |member_id| {
        ApplierConfig {
            member_id,
            max_learners: 1,
            quota_bytes: None,
            lease: LeaseConfig::default(),
        }
    })
}

/// A member that applies requests and checkpoints its state.
struct Runner {
    disk: SimDisk,
    member: Recovered,
    index: u64,
}

impl Runner {
    fn apply(&mut self, request: InternalRaftRequest) {
        self.index += 1;
        let entry = Entry {
            term: 1,
            index: self.index,
            data: request.encode_to_vec().into(),
            ..Entry::default()
        };
        let applied = self.member.applier.apply(&[entry]).expect("applied");
        assert!(applied.outcomes[0].result.is_ok());
    }

    fn put(&mut self, key: &'static str) {
        self.apply(InternalRaftRequest {
            put: Some(PutRequest {
                key: key.into(),
                value: vec![b'v'; 100].into(),
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        });
    }

    fn delete(&mut self, key: &'static str) {
        self.apply(InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            }),
            ..InternalRaftRequest::default()
        });
    }

    fn compact(&mut self) {
        let revision = self.member.applier.view().kv.revision();
        self.apply(InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: true,
            }),
            ..InternalRaftRequest::default()
        });
        while self.member.applier.is_compacting() {
            self.member.applier.compact_step(10).expect("compacted");
        }
    }

    fn checkpoint(&mut self, defragment: bool) {
        let capture = self.member.applier.capture(defragment);
        let dead = self.member.applier.dead_bytes();
        let written = checkpoint(&self.disk, Path::new(DIRECTORY), &capture).expect("written");
        self.member.applier.checkpointed(&written, dead);
        for path in &written.dead_files {
            self.disk.unlink(path).expect("removed, and once");
        }
        assert_eq!(self.segments(), written.archive.names(), "no other is left");
    }

    /// Names of the segments' files.
    fn segments(&self) -> Vec<String> {
        let listed = self.disk.list(&Path::new(DIRECTORY).join("store"));
        let names = listed.expect("listed").into_iter();
        let mut names: Vec<String> = names
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".seg"))
            .collect();
        names.sort();
        names
    }

    /// The hash of the keys, here and after a start from the last checkpoint.
    fn hashes(self) -> [u32; 2] {
        let before = self.member.applier.view().kv.hash_kv(0).expect("hashed");
        drop(self.member);
        let again = open_member(&self.disk, 1).expect("opened");
        let after = again.applier.view().kv.hash_kv(0).expect("hashed");
        [before.hash, after.hash]
    }
}

fn runner() -> Runner {
    let disk = SimDisk::new(1);
    let member = open_member(&disk, 1).expect("opened");
    Runner {
        disk,
        member,
        index: 0,
    }
}

/// Also of those that were written and joined by one checkpoint, which nothing ever named.
#[test]
fn segments_that_were_joined_leave_no_files() {
    let mut runner = runner();
    for round in 0..20 {
        for key in ["a", "b", "c", "d"] {
            runner.put(key);
        }
        if round % 7 == 6 {
            runner.compact();
        }
        runner.checkpoint(round % 5 == 4);
    }
    assert!(runner.segments().len() < 10, "{:?}", runner.segments());
}

#[test]
fn s08_a_compacted_deletion_does_not_come_undone_at_a_start() {
    for defragment in [false, true] {
        let mut runner = runner();
        runner.put("deleted");
        runner.put("kept");
        runner.checkpoint(false);
        // The put is in a segment; put and deletion after it are not yet.
        runner.put("deleted");
        runner.delete("deleted");
        runner.put("kept");
        runner.compact();
        runner.checkpoint(defragment);
        let view = runner.member.applier.view();
        assert_eq!(view.kv.get(b"deleted", 0), Ok(None));
        let [before, after] = runner.hashes();
        assert_eq!(before, after, "defragment {defragment}");
    }
}

#[test]
fn s08_nor_when_the_segment_of_the_deletion_is_joined_with_others() {
    let mut runner = runner();
    // A large segment that is not joined with what follows.
    runner.put("deleted");
    for _ in 0..200 {
        runner.put("filler");
    }
    runner.checkpoint(false);
    runner.delete("deleted");
    runner.put("kept");
    runner.checkpoint(false);
    runner.put("kept");
    runner.compact();
    for _ in 0..6 {
        runner.put("kept");
        runner.checkpoint(false);
    }
    let [before, after] = runner.hashes();
    assert_eq!(before, after);
}

#[test]
fn s04_a_first_start_that_lost_power_at_any_operation_is_completed() {
    let whole = SimDisk::new(0);
    open_member(&whole, 5).expect("opened");
    for op in 0..whole.ops() + 1 {
        for seed in 0..4 {
            let disk = SimDisk::new(seed);
            disk.crash_at(op);
            let first = open_member(&disk, 5);
            if op < whole.ops() {
                assert!(first.is_err());
            }
            drop(first);
            disk.crash();
            let member = open_member(&disk, 5).expect("opened");
            let status = member.consensus.status();
            assert_eq!((status.commit, status.last_index), (5, 5), "op {op}");
            drop(member);
            // Nothing of it is lost any more, nor the directories it is in.
            disk.crash();
            assert!(Wal::exists(&disk, Path::new(WAL_DIRECTORY)).expect("looked"));
            let member = open_member(&disk, 5).expect("opened");
            assert!(!member.is_new);
            assert_eq!(member.consensus.status().last_index, 5);
        }
    }
}

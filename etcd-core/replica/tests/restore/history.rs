//! A member whose history is known: every change, and the hash after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use etcd_mvcc::{KvHash, Record};
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
};
use etcd_proto::mvccpb::KeyValue;
use etcd_proto::raftpb::Entry;
use etcd_replica::{
    ApplierConfig, Boot, Change, ChangeEvent, ImageSource, LeaseConfig, Member, OpenError,
    RaftSettings, Recovered, Restore, member_id, open,
};
use etcd_storage::bolt::Sha256Trailer;
use etcd_storage::disk::Disk;
use etcd_storage::simdisk::SimDisk;
use proptest::prelude::*;
use prost::Message as _;

/// What a client does. Keys and leases are few, so that they meet.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(u8, u8, Option<u8>),
    Delete(u8, u8),
    Txn(Vec<(u8, bool)>),
    Grant(u8),
    Revoke(u8),
    /// Compacts to so many revisions behind.
    Compact(u8),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..12, any::<u8>(), prop::option::weighted(0.3, 1u8..5))
            .prop_map(|(key, value, lease)| Step::Put(key, value, lease)),
        2 => (0u8..12, 0u8..12).prop_map(|(from, to)| Step::Delete(from, to)),
        2 => prop::collection::btree_map(0u8..12, any::<bool>(), 1..6)
            .prop_map(|ops| Step::Txn(ops.into_iter().collect())),
        2 => (1u8..5).prop_map(Step::Grant),
        1 => (1u8..5).prop_map(Step::Revoke),
        1 => (0u8..6).prop_map(Step::Compact),
    ]
}

fn key(number: u8) -> Bytes {
    format!("key/{number:02}").into()
}

fn delete(from: u8, to: u8) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key(from),
        range_end: if from == to { Bytes::new() } else { key(to) },
        prev_kv: false,
    }
}

impl Step {
    fn request(&self, revision: i64) -> InternalRaftRequest {
        let mut request = InternalRaftRequest::default();
        match self {
            Step::Put(number, value, lease) => {
                request.put = Some(PutRequest {
                    key: key(*number),
                    value: vec![*value; usize::from(*value)].into(),
                    lease: lease.map_or(0, i64::from),
                    ..PutRequest::default()
                });
            }
            Step::Delete(from, to) => request.delete_range = Some(delete(*from, *to)),
            Step::Txn(ops) => {
                let op = |(number, put): &(u8, bool)| {
                    let request = match put {
                        true => Request::RequestPut(PutRequest {
                            key: key(*number),
                            value: "of a transaction".into(),
                            ..PutRequest::default()
                        }),
                        false => Request::RequestDeleteRange(delete(*number, *number)),
                    };
                    RequestOp {
                        request: Some(request),
                    }
                };
                request.txn = Some(TxnRequest {
                    success: ops.iter().map(op).collect(),
                    ..TxnRequest::default()
                });
            }
            Step::Grant(id) => {
                request.lease_grant = Some(LeaseGrantRequest {
                    id: i64::from(*id),
                    ttl: 1000 + i64::from(*id),
                });
            }
            Step::Revoke(id) => {
                request.lease_revoke = Some(LeaseRevokeRequest { id: i64::from(*id) });
            }
            Step::Compact(behind) => {
                request.compaction = Some(CompactionRequest {
                    revision: (revision - i64::from(*behind)).max(1),
                    physical: false,
                });
            }
        }
        request
    }
}

/// The member, and all that happened.
pub(crate) struct History {
    pub(crate) disk: SimDisk,
    member: Recovered,
    index: u64,
    /// The hash after every step, the first one before any.
    pub(crate) moments: Vec<KvHash>,
    /// After which moment each change came, as a follower would tell it.
    pub(crate) changes: Vec<(usize, Change)>,
}

pub(crate) const SNAPSHOT: &str = "/snapshot.db";

pub(crate) fn founder(peer_url: &str) -> Member {
    let peer_urls = vec![peer_url.to_owned()];
    Member {
        id: member_id(&peer_urls, "restored", None),
        peer_urls,
        name: "restored".into(),
        ..Member::default()
    }
}

/// A restore of one member, of everything.
pub(crate) fn restore_all() -> Restore {
    let member = founder("http://restored:2380");
    Restore {
        member_id: member.id,
        members: vec![member],
        revision: None,
        bump_revision: 0,
        skip_hash_check: false,
    }
}

pub(crate) fn open_at(disk: &SimDisk, directory: &Path) -> Result<Recovered, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let member = founder("http://original:2380");
    let boot = Boot::New {
        member_id: member.id,
        members: vec![member],
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 1,
        force_new_cluster: false,
    };
    let wal = directory.join("wal");
    open(&disk, directory, &wal, &boot, &settings, |member_id| {
        ApplierConfig {
            member_id,
            max_learners: 1,
            quota_bytes: None,
            lease: LeaseConfig::default(),
        }
    })
}

pub(crate) fn event(record: &Record) -> ChangeEvent {
    match record.tombstone {
        true => ChangeEvent::Delete {
            key: record.key.clone(),
        },
        false => ChangeEvent::Put(KeyValue::decode(record.value.clone()).expect("a pair")),
    }
}

impl History {
    pub(crate) fn new() -> History {
        let disk = SimDisk::new(1);
        let mut member = open_at(&disk, Path::new("/original/member")).expect("opened");
        let replayed = member.consensus.status().last_index;
        assert_eq!(replayed, 1);
        let founding = etcd_storage::wal::Wal::read(
            &disk,
            Path::new("/original/member/wal"),
            &Default::default(),
        );
        let entries = founding.expect("read").entries;
        member.applier.apply(&entries).expect("applied");
        let mut history = History {
            disk,
            member,
            index: 1,
            moments: Vec::new(),
            changes: Vec::new(),
        };
        history.remember();
        history
    }

    pub(crate) fn of(steps: &[Step]) -> History {
        let mut history = History::new();
        for step in steps {
            history.apply(step);
        }
        history
    }

    pub(crate) fn revision(&self) -> i64 {
        self.member.applier.view().kv.revision()
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        self.index += 1;
        let before = self.member.applier.view().kv.compact_revision();
        let entry = Entry {
            term: 1,
            index: self.index,
            data: step.request(self.revision()).encode_to_vec().into(),
            ..Entry::default()
        };
        let applied = self.member.applier.apply(&[entry]).expect("applied");
        while self.member.applier.is_compacting() {
            self.member.applier.compact_step(100).expect("compacted");
        }
        let moment = self.moments.len();
        if let Some(first) = applied.records.first() {
            let change = Change::Events {
                revision: first.rev.main,
                events: applied.records.iter().map(event).collect(),
            };
            self.changes.push((moment, change));
        }
        let compact_revision = self.member.applier.view().kv.compact_revision();
        if compact_revision > before {
            let change = Change::Compacted {
                revision: self.revision(),
                compact_revision,
            };
            self.changes.push((moment, change));
        }
        self.remember();
    }

    fn remember(&mut self) {
        let hash = self.member.applier.view().kv.hash_kv(0).expect("hashed");
        self.moments.push(hash);
    }

    /// Writes a snapshot of now.
    pub(crate) fn snapshot(&mut self) -> PathBuf {
        let image = ImageSource::plan(&self.member.applier.capture(false)).expect("planned");
        let mut bytes = Sha256Trailer::new(Vec::new());
        image.write_to(&mut bytes).expect("written");
        let (bytes, _) = bytes.finish().expect("finished");
        let path = PathBuf::from(SNAPSHOT);
        let file = self.disk.create(&path).expect("created");
        file.write_at(0, &bytes).expect("written");
        file.sync_data().expect("synced");
        self.disk.sync_dir(Path::new("/")).expect("synced");
        path
    }

    /// What a follower would tell that began after `moment`.
    pub(crate) fn since(&self, moment: usize) -> Vec<Change> {
        let later = self.changes.iter().filter(|(at, _)| *at >= moment);
        later.map(|(_, change)| change.clone()).collect()
    }
}

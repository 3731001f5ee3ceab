//! A client that reads and writes a few keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_proto::etcdserverpb::request_op::Request as TxnOp;
use etcd_proto::etcdserverpb::response_op::Response as TxnAnswer;
use etcd_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, TxnResponse,
};
use etcd_proto::mvccpb::KeyValue;
use etcd_replica::{ApplyError, Response};

use super::{Map, Sender};
use crate::checkers::linearizable::{Op, Swapped};
use crate::env::Env;
use crate::event::{MS, SECOND};
use crate::request::{Reply, Request};

/// Keys in use at a time.
const KEYS: u64 = 4;
/// After this time other keys are used, so that a key's history stays short.
const EPOCH_US: u64 = 8 * SECOND;

/// See the module.
pub(crate) struct Kv {
    sender: Sender,
    pending: Option<Pending>,
    /// What each key was last seen to hold.
    seen: BTreeMap<Vec<u8>, Option<u64>>,
    values: u64,
}

struct Pending {
    number: u64,
    key: Vec<u8>,
    op: Doing,
    called: u64,
    floor: i64,
}

#[derive(Clone, Debug)]
enum Doing {
    Put(u64, Bytes),
    Delete,
    Get {
        serializable: bool,
    },
    Swap {
        expected: Option<u64>,
        new: u64,
        value: Bytes,
    },
    Compact,
    Purge,
}

impl Kv {
    pub(crate) fn new(client: usize) -> Kv {
        Kv {
            sender: Sender::new(client),
            pending: None,
            seen: BTreeMap::new(),
            values: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    pub(super) fn wake(&mut self, env: &mut Env, map: &Map) {
        if map.ending || self.pending.is_some() {
            return;
        }
        let epoch = env.now / EPOCH_US;
        let key = format!("k{epoch}/{}", env.random.below(KEYS)).into_bytes();
        let compact = env.random.permille(env.settings.compactions);
        let op = match env.random.below(100) {
            _ if compact => Doing::Compact,
            0..=34 => {
                let (new, value) = self.value(env);
                Doing::Put(new, value)
            }
            35..=69 => Doing::Get {
                serializable: false,
            },
            70..=75 => Doing::Get { serializable: true },
            76..=81 => Doing::Delete,
            82..=98 => {
                let (new, value) = self.value(env);
                Doing::Swap {
                    expected: self.seen.get(&key).copied().flatten(),
                    new,
                    value,
                }
            }
            _ => Doing::Purge,
        };
        let member = map.somebody(env);
        let request = self.request(&key, &op, env);
        let (called, floor) = (env.now, env.check.floor());
        env.note(format_args!(
            "client {} asks {member:x}: {op:?} {:?}",
            self.sender.client,
            String::from_utf8_lossy(&key)
        ));
        let number = self.sender.send(member, request, env);
        self.pending = Some(Pending {
            number,
            key,
            op,
            called,
            floor,
        });
    }

    /// A number that no other write has, and the bytes that say it.
    fn value(&mut self, env: &mut Env) -> (u64, Bytes) {
        self.values += 1;
        let value = (self.sender.client as u64 + 1) * 100_000 + self.values;
        let mut text = format!("{value:<8}");
        let padding = match env.random.below(20) {
            0 => 3000,
            1..=5 => 300,
            _ => 0,
        };
        text.extend(std::iter::repeat_n(' ', padding));
        (value, text.into())
    }

    fn request(&self, key: &[u8], op: &Doing, env: &mut Env) -> Request {
        let key = Bytes::copy_from_slice(key);
        let mut request = InternalRaftRequest::default();
        match op {
            Doing::Get { serializable } => {
                return Request::Get {
                    key: key.to_vec(),
                    serializable: *serializable,
                };
            }
            Doing::Put(_, value) => request.put = Some(put(key, value.clone())),
            Doing::Delete => {
                request.delete_range = Some(DeleteRangeRequest {
                    key,
                    ..DeleteRangeRequest::default()
                });
            }
            Doing::Swap {
                expected, value, ..
            } => request.txn = Some(swap(&key, *expected, value)),
            Doing::Compact => {
                let revision = env.check.floor() - env.random.below(60) as i64;
                request.compaction = Some(CompactionRequest {
                    revision: revision.max(1),
                    physical: false,
                });
            }
            Doing::Purge => {
                request.delete_range = Some(DeleteRangeRequest {
                    key: "t".into(),
                    range_end: "u".into(),
                    ..DeleteRangeRequest::default()
                });
            }
        }
        Request::Write(Box::new(request))
    }

    pub(super) fn reply(&mut self, number: u64, reply: Reply, env: &mut Env) {
        let Some(pending) = self.pending.take_if(|p| p.number == number) else {
            return;
        };
        self.sender.sleep(2 * MS, 120 * MS, env);
        env.note(format_args!(
            "client {} is told: {reply:?}",
            self.sender.client
        ));
        match reply {
            Reply::Refused(_) => {}
            Reply::Read { revision, kv } => self.read(&pending, revision, kv, env),
            Reply::Applied {
                revision,
                result: Ok(response),
            } => {
                env.check.told(pending.floor, revision);
                self.written(&pending, revision, &response, env);
            }
            Reply::Applied { result, .. } => {
                // A write beyond the quota is kept and reported as refused.
                let expected =
                    matches!(result, Err(ApplyError::NoSpace | ApplyError::Compaction(_)));
                if !expected {
                    env.check.report(format!("{:?}: {result:?}", pending.op));
                }
                unknown(&pending, env);
            }
            Reply::Unknown(_) => unknown(&pending, env),
            Reply::KeptAlive(_) | Reply::LeaseNotFound => {
                env.check.report(format!("{:?}: {reply:?}", pending.op));
            }
        }
    }

    fn read(&mut self, pending: &Pending, revision: i64, kv: Option<KeyValue>, env: &mut Env) {
        let held = env.check.state.at(&pending.key, revision);
        if held.and_then(crate::checkers::state::decode) != kv {
            env.check.report(format!(
                "read: at revision {revision} {:?} held {held:?}, not {kv:?}",
                String::from_utf8_lossy(&pending.key)
            ));
        }
        let seen = kv.and_then(|kv| number(&kv.value));
        self.seen.insert(pending.key.clone(), seen);
        if let Doing::Get {
            serializable: false,
        } = pending.op
        {
            env.check.told(pending.floor, revision);
            note(pending, Op::Get(seen), true, env);
        }
    }

    fn written(&mut self, pending: &Pending, revision: i64, response: &Response, env: &mut Env) {
        let key = &pending.key;
        let state = &env.check.state;
        match (&pending.op, response) {
            (Doing::Put(new, value), Response::Put(_)) => {
                let result = state.acknowledged(revision, key, Some(value));
                env.check.take(result);
                self.seen.insert(key.clone(), Some(*new));
                note(pending, Op::Put(*new), true, env);
            }
            (Doing::Delete, Response::DeleteRange(deletion)) => {
                let deleted = deletion.deleted > 0;
                if deleted {
                    let result = state.acknowledged(revision, key, None);
                    env.check.take(result);
                }
                self.seen.insert(key.clone(), None);
                note(pending, Op::Delete(Some(deleted)), true, env);
            }
            (
                Doing::Swap {
                    expected,
                    new,
                    value,
                },
                Response::Txn(txn),
            ) => {
                let outcome = if txn.succeeded {
                    let result = state.acknowledged(revision, key, Some(value));
                    env.check.take(result);
                    self.seen.insert(key.clone(), Some(*new));
                    Swapped::Yes
                } else {
                    let held = found(txn);
                    self.seen.insert(key.clone(), held);
                    Swapped::No(held)
                };
                let op = Op::Swap {
                    expected: *expected,
                    new: *new,
                    outcome,
                };
                note(pending, op, true, env);
            }
            (Doing::Compact, Response::Compaction) | (Doing::Purge, Response::DeleteRange(_)) => {}
            (op, response) => env
                .check
                .report(format!("{op:?} answered with {response:?}")),
        }
    }
}

fn note(pending: &Pending, op: Op, returned: bool, env: &mut Env) {
    let returned = returned.then_some(env.now);
    env.check
        .history
        .note(&pending.key, op, pending.called, returned);
}

/// It may have happened, or still happen.
fn unknown(pending: &Pending, env: &mut Env) {
    let op = match pending.op {
        Doing::Put(new, _) => Op::Put(new),
        Doing::Delete => Op::Delete(None),
        Doing::Swap { expected, new, .. } => Op::Swap {
            expected,
            new,
            outcome: Swapped::Unknown,
        },
        Doing::Get { .. } | Doing::Compact | Doing::Purge => return,
    };
    note(pending, op, false, env);
}

fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}

/// Puts two keys if the first holds what is expected, else reads it.
fn swap(key: &Bytes, expected: Option<u64>, value: &Bytes) -> TxnRequest {
    let compare = |result: CompareResult, target: CompareTarget, union| Compare {
        result: result as i32,
        target: target as i32,
        key: key.clone(),
        target_union: Some(union),
        ..Compare::default()
    };
    let compare = match expected {
        None => vec![compare(
            CompareResult::Equal,
            CompareTarget::Create,
            TargetUnion::CreateRevision(0),
        )],
        // Values are padded with spaces: whatever begins with the number and one.
        Some(number) => vec![
            compare(
                CompareResult::Greater,
                CompareTarget::Value,
                TargetUnion::Value(format!("{number:<7}").into()),
            ),
            compare(
                CompareResult::Less,
                CompareTarget::Value,
                TargetUnion::Value(format!("{number:<7}!").into()),
            ),
        ],
    };
    let other = [b"t", &key[..]].concat();
    let op = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare,
        success: vec![
            op(TxnOp::RequestPut(put(key.clone(), value.clone()))),
            op(TxnOp::RequestPut(put(other.into(), value.slice(..8)))),
        ],
        failure: vec![op(TxnOp::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        }))],
    }
}

/// What the read of a failed swap found.
fn found(txn: &TxnResponse) -> Option<u64> {
    match txn.responses.first()?.response.as_ref()? {
        TxnAnswer::ResponseRange(range) => number(&range.kvs.first()?.value),
        _ => None,
    }
}

/// The number that a value says.
fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim_end().parse().ok()
}

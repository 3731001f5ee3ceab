//! A reference: every version of every key in a list, answers by looking at all
//! of them.

use std::collections::{BTreeMap, BTreeSet};

use etcd_proto::etcdserverpb::compare::TargetUnion;
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::response_op::Response;
use etcd_proto::etcdserverpb::*;
use etcd_proto::mvccpb::KeyValue;
use prost::Message;

use crate::{ApplyError, ReadError, Revision};

/// A change: what the key became, or `None` if it was deleted.
type Change = (Revision, Vec<u8>, Option<KeyValue>);

#[derive(Clone)]
pub(super) struct Model {
    pub(super) log: Vec<Change>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            log: Vec::new(),
            revision: 1,
            compacted: -1,
        }
    }

    /// The pairs that exist at a revision, by key.
    pub(super) fn state(&self, at: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut state = BTreeMap::new();
        for (rev, key, kv) in &self.log {
            if rev.main <= at {
                match kv {
                    Some(kv) => state.insert(key.clone(), kv.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    pub(super) fn range(&self, r: &RangeRequest) -> Result<RangeResponse, ReadError> {
        self.range_at(r, self.revision)
    }

    fn range_at(&self, r: &RangeRequest, current: i64) -> Result<RangeResponse, ReadError> {
        let at = if r.revision <= 0 { current } else { r.revision };
        if at > current {
            return Err(ReadError::Future);
        }
        if at < self.compacted {
            return Err(ReadError::Compacted);
        }
        let mut kvs: Vec<KeyValue> = self
            .state(at)
            .into_values()
            .filter(|kv| within(&kv.key, &r.key, &r.range_end))
            .collect();
        let mut response = RangeResponse {
            header: header(current),
            count: kvs.len() as i64,
            ..Default::default()
        };
        if r.count_only {
            return Ok(response);
        }
        let filtered = r.min_mod_revision != 0
            || r.max_mod_revision != 0
            || r.min_create_revision != 0
            || r.max_create_revision != 0;
        let limit = if r.limit > 0 {
            r.limit as usize
        } else {
            usize::MAX
        };
        if !filtered && (r.sort_order == 0 || (r.sort_target == 0 && r.sort_order == 1)) {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| {
            (r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision)
                && (r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision)
                && (r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision)
                && (r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision)
        });
        let by = |a: &KeyValue, b: &KeyValue| match r.sort_target {
            0 => a.key.cmp(&b.key),
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            _ => a.value.cmp(&b.value),
        };
        if r.sort_order == 2 {
            kvs.sort_by(|a, b| by(b, a));
        } else {
            kvs.sort_by(by);
        }
        response.more = kvs.len() > limit;
        kvs.truncate(limit);
        if r.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        response.kvs = kvs;
        Ok(response)
    }

    fn next(&self, begin: i64) -> Revision {
        let sub = self
            .log
            .iter()
            .filter(|(rev, ..)| rev.main == begin + 1)
            .count();
        Revision::new(begin + 1, sub as i64)
    }

    /// The revision inside a transaction that began at `begin`.
    fn current(&self, begin: i64) -> i64 {
        self.log
            .last()
            .map_or(begin, |(rev, ..)| rev.main.max(begin))
    }

    pub(super) fn put(
        &mut self,
        r: &PutRequest,
        leases: &dyn Fn(i64) -> bool,
    ) -> Result<PutResponse, ApplyError> {
        if r.lease != 0 && !leases(r.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        if (r.ignore_value || r.ignore_lease) && !self.state(self.revision).contains_key(&*r.key) {
            return Err(ApplyError::KeyNotFound);
        }
        let begin = self.revision;
        let response = self.do_put(r, begin);
        self.revision = self.current(begin);
        Ok(response)
    }

    fn do_put(&mut self, r: &PutRequest, begin: i64) -> PutResponse {
        let old = self.state(begin + 1).remove(&*r.key);
        let rev = self.next(begin);
        let kv = KeyValue {
            key: r.key.clone(),
            create_revision: old.as_ref().map_or(rev.main, |kv| kv.create_revision),
            mod_revision: rev.main,
            version: old.as_ref().map_or(1, |kv| kv.version + 1),
            value: old
                .clone()
                .filter(|_| r.ignore_value)
                .map_or(r.value.clone(), |kv| kv.value),
            lease: old
                .clone()
                .filter(|_| r.ignore_lease)
                .map_or(r.lease, |kv| kv.lease),
        };
        self.log.push((rev, r.key.to_vec(), Some(kv)));
        PutResponse {
            header: header(rev.main),
            prev_kv: old.filter(|_| r.prev_kv),
        }
    }

    pub(super) fn delete(&mut self, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        let begin = self.revision;
        let response = self.do_delete(r, begin);
        self.revision = self.current(begin);
        response
    }

    fn do_delete(&mut self, r: &DeleteRangeRequest, begin: i64) -> DeleteRangeResponse {
        let kvs: Vec<KeyValue> = self
            .state(begin + 1)
            .into_values()
            .filter(|kv| within(&kv.key, &r.key, &r.range_end))
            .collect();
        for kv in &kvs {
            self.log.push((self.next(begin), kv.key.to_vec(), None));
        }
        DeleteRangeResponse {
            header: header(self.current(begin)),
            deleted: kvs.len() as i64,
            prev_kvs: if r.prev_kv { kvs } else { Vec::new() },
        }
    }

    pub(super) fn txn(
        &mut self,
        r: &TxnRequest,
        leases: &dyn Fn(i64) -> bool,
    ) -> Result<TxnResponse, ApplyError> {
        let before = self.clone();
        before.check(r, leases)?;
        let begin = self.revision;
        let mut response = self.run(&before, r, begin);
        self.revision = self.current(begin);
        response.header = header(self.revision);
        Ok(response)
    }

    fn branch<'a>(&self, r: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let state = self.state(self.revision);
        let holds = r.compare.iter().all(|c| {
            let mut kvs: Vec<KeyValue> = state
                .values()
                .filter(|kv| within(&kv.key, &c.key, &c.range_end))
                .cloned()
                .collect();
            if kvs.is_empty() {
                if c.target == 3 {
                    return false;
                }
                kvs.push(KeyValue::default());
            }
            kvs.iter().all(|kv| {
                let union = c.target_union.as_ref();
                let order = match c.target {
                    0 => kv
                        .version
                        .cmp(&if let Some(TargetUnion::Version(n)) = union {
                            *n
                        } else {
                            0
                        }),
                    1 => {
                        kv.create_revision
                            .cmp(&if let Some(TargetUnion::CreateRevision(n)) = union {
                                *n
                            } else {
                                0
                            })
                    }
                    2 => kv
                        .mod_revision
                        .cmp(&if let Some(TargetUnion::ModRevision(n)) = union {
                            *n
                        } else {
                            0
                        }),
                    3 => kv.value.cmp(&if let Some(TargetUnion::Value(v)) = union {
                        v.clone()
                    } else {
                        "".into()
                    }),
                    _ => kv.lease.cmp(&if let Some(TargetUnion::Lease(n)) = union {
                        *n
                    } else {
                        0
                    }),
                };
                match c.result {
                    0 => order.is_eq(),
                    1 => order.is_gt(),
                    2 => order.is_lt(),
                    _ => order.is_ne(),
                }
            })
        });
        (holds, if holds { &r.success } else { &r.failure })
    }

    fn check(&self, r: &TxnRequest, leases: &dyn Fn(i64) -> bool) -> Result<(), ApplyError> {
        let state = self.state(self.revision);
        for op in self.branch(r).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(r) if r.revision > self.revision => {
                    return Err(ApplyError::Future);
                }
                Request::RequestRange(r) if r.revision != 0 && r.revision < self.compacted => {
                    return Err(ApplyError::Compacted);
                }
                Request::RequestPut(r)
                    if (r.ignore_value || r.ignore_lease) && !state.contains_key(&*r.key) =>
                {
                    return Err(ApplyError::KeyNotFound);
                }
                Request::RequestPut(r) if r.lease != 0 && !leases(r.lease) => {
                    return Err(ApplyError::LeaseNotFound);
                }
                Request::RequestTxn(r) => self.check(r, leases)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, before: &Model, r: &TxnRequest, begin: i64) -> TxnResponse {
        let (succeeded, ops) = before.branch(r);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(r) => {
                    Response::ResponseRange(self.range_at(r, self.current(begin)).unwrap())
                }
                Request::RequestPut(r) => Response::ResponsePut(self.do_put(r, begin)),
                Request::RequestDeleteRange(r) => {
                    Response::ResponseDeleteRange(self.do_delete(r, begin))
                }
                Request::RequestTxn(r) => Response::ResponseTxn(self.run(before, r, begin)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: header(0),
            succeeded,
            responses,
        }
    }

    /// The newest change of each key up to a main revision.
    fn newest(&self, at: i64) -> BTreeMap<&[u8], &Change> {
        let changes = self.log.iter().filter(|(rev, ..)| rev.main <= at);
        changes
            .map(|change| (change.1.as_slice(), change))
            .collect()
    }

    /// Revisions from the compact revision down that a compaction has left.
    pub(super) fn retained(&self) -> BTreeSet<Revision> {
        let newest = self.newest(self.compacted);
        let live = newest.values().filter(|(_, _, kv)| kv.is_some());
        let mut kept: BTreeSet<Revision> = live.map(|(rev, ..)| *rev).collect();
        // Of its own revision a compaction leaves every tombstone.
        let others = self.log.iter().filter(|(rev, _, kv)| {
            rev.main > self.compacted || (rev.main == self.compacted && kv.is_none())
        });
        kept.extend(others.map(|(rev, ..)| *rev));
        kept
    }

    /// HashKV as etcd computes it over its bucket at a revision.
    pub(super) fn hash(&self, at: i64) -> u32 {
        let retained = self.retained();
        let state = self.newest(at);
        let keep: BTreeSet<Revision> = state
            .values()
            .filter(|(_, _, kv)| kv.is_some())
            .map(|(rev, ..)| *rev)
            .collect();
        let mut bytes = b"key".to_vec();
        for (rev, key, kv) in &self.log {
            let below = rev.main <= self.compacted;
            if rev.main > at
                || !retained.contains(rev)
                || (below && !keep.is_empty() && !keep.contains(rev))
                || (rev.main == self.compacted && kv.is_none())
            {
                continue;
            }
            bytes.extend_from_slice(&rev.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&rev.sub.to_be_bytes());
            if kv.is_none() {
                bytes.push(b't');
            }
            let tombstone = KeyValue {
                key: key.clone().into(),
                ..Default::default()
            };
            bytes.extend(kv.as_ref().unwrap_or(&tombstone).encode_to_vec());
        }
        crc32c::crc32c(&bytes)
    }
}

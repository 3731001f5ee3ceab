//! Random histories, compared with the model step by step.

use std::ops::ControlFlow;

use etcd_proto::etcdserverpb::compare::TargetUnion;
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::*;
use proptest::prelude::*;
use prost::Message;

use super::archive::Memory;
use super::model::Model;
use super::{leases, store};
use crate::{ApplyError, CompactError, CompactionJob, ReadError, Store, View};

#[derive(Clone, Debug)]
enum Op {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest),
    /// Compacts so many revisions below the current one.
    Compact(i64),
    /// A step of the oldest unfinished compaction.
    Step(usize),
    /// Archives all but so many revisions.
    Archive(i64),
    /// Keeps a view until the end.
    Keep,
    Restart,
}

fn key() -> impl Strategy<Value = bytes::Bytes> {
    "[ab]{1,2}|k/[0-9]".prop_map(Into::into)
}

fn span() -> impl Strategy<Value = (bytes::Bytes, bytes::Bytes)> {
    prop_oneof![
        3 => key().prop_map(|k| (k, "".into())),
        2 => (key(), key()),
        1 => key().prop_map(|k| (k, "\0".into())),
        1 => Just(("\0".into(), "\0".into())),
        1 => Just(("k/".into(), "k0".into())),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), "[x-z]{0,2}", 0i64..11, any::<bool>(), 0..8u8, 0..8u8).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| {
            let (ignore_value, ignore_lease) = (ignore_value == 0, ignore_lease == 0);
            PutRequest {
                key,
                value: if ignore_value {
                    "".into()
                } else {
                    value.into()
                },
                lease: if ignore_lease || lease > 10 { 0 } else { lease },
                prev_kv,
                ignore_value,
                ignore_lease,
            }
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (span(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

/// Revisions are drawn up to 60 and taken modulo the present one later.
fn range() -> impl Strategy<Value = RangeRequest> {
    let filter = || prop_oneof![4 => Just(0i64), 1 => 1i64..40];
    (
        span(),
        prop_oneof![2 => Just(0i64), 1 => 1i64..6, 1 => -1i64..0],
        prop_oneof![1 => Just(0i64), 2 => -2i64..60],
        (0i32..3, 0i32..5, any::<bool>(), 0..5u8),
        (filter(), filter(), filter(), filter()),
    )
        .prop_map(
            |((key, range_end), limit, revision, (order, target, keys_only, count), filters)| {
                RangeRequest {
                    key,
                    range_end,
                    limit,
                    revision,
                    sort_order: order,
                    sort_target: target,
                    keys_only,
                    count_only: count == 0,
                    min_mod_revision: filters.0,
                    max_mod_revision: filters.1,
                    min_create_revision: filters.2,
                    max_create_revision: filters.3,
                    ..Default::default()
                }
            },
        )
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0i64..4).prop_map(TargetUnion::Version),
        (0i64..30).prop_map(TargetUnion::CreateRevision),
        (0i64..30).prop_map(TargetUnion::ModRevision),
        "[x-z]{0,1}".prop_map(|v| TargetUnion::Value(v.into())),
        (0i64..4).prop_map(TargetUnion::Lease),
    ];
    (
        span(),
        0i32..4,
        0i32..5,
        proptest::option::of(union),
        any::<bool>(),
    )
        .prop_map(
            |((key, range_end), result, target, union, matching)| Compare {
                key,
                range_end,
                result,
                // Mostly the union's own target.
                target: match &union {
                    Some(TargetUnion::Version(_)) if matching => 0,
                    Some(TargetUnion::CreateRevision(_)) if matching => 1,
                    Some(TargetUnion::ModRevision(_)) if matching => 2,
                    Some(TargetUnion::Value(_)) if matching => 3,
                    Some(TargetUnion::Lease(_)) if matching => 4,
                    _ => target,
                },
                target_union: union,
            },
        )
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        3 => put().prop_map(Request::RequestPut),
        2 => delete().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ];
    let request = leaf.prop_recursive(2, 8, 3, |inner| {
        let ops = || {
            let op = inner.clone().prop_map(|request| RequestOp {
                request: Some(request),
            });
            proptest::collection::vec(op, 0..3)
        };
        (proptest::collection::vec(compare(), 0..2), ops(), ops()).prop_map(
            |(compare, success, failure)| {
                Request::RequestTxn(TxnRequest {
                    compare,
                    success,
                    failure,
                })
            },
        )
    });
    let ops = || {
        let op = request.clone().prop_map(|request| RequestOp {
            request: Some(request),
        });
        proptest::collection::vec(op, 0..4)
    };
    (proptest::collection::vec(compare(), 0..3), ops(), ops()).prop_map(
        |(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => put().prop_map(Op::Put),
        5 => delete().prop_map(Op::Delete),
        5 => txn().prop_map(Op::Txn),
        5 => range().prop_map(Op::Range),
        2 => (-1i64..12).prop_map(Op::Compact),
        3 => (1usize..5).prop_map(Op::Step),
        2 => (0i64..6).prop_map(Op::Archive),
        2 => Just(Op::Keep),
        1 => Just(Op::Restart),
    ]
}

/// The store beside its model.
struct World {
    store: Store,
    archive: Memory,
    model: Model,
    jobs: Vec<CompactionJob>,
    kept: Vec<(View, Model)>,
    /// Lease of each key, by the changes reported.
    leases: std::collections::BTreeMap<Vec<u8>, i64>,
}

impl World {
    fn new() -> World {
        let (store, archive) = store();
        World {
            store,
            archive,
            model: Model::new(),
            jobs: Vec::new(),
            kept: Vec::new(),
            leases: Default::default(),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put(request) => {
                let expected = self.model.put(&request, &leases);
                let applied = self.store.put(&request, &leases);
                let applied = applied.map(|applied| self.absorb(applied));
                assert_eq!(applied, expected);
            }
            Op::Delete(request) => {
                let expected = self.model.delete(&request);
                let applied = self.store.delete_range(&request).unwrap();
                assert_eq!(self.absorb(applied), expected);
            }
            Op::Txn(mut request) => {
                self.fit_txn(&mut request);
                let expected = self.model.txn(&request, &leases);
                let applied = self.store.txn(&request, &leases);
                let applied = applied.map(|applied| self.absorb(applied));
                assert_eq!(applied, expected, "{request:#?}");
                if crate::is_read_only(&request) {
                    assert_eq!(self.store.view().txn(&request), expected);
                }
            }
            Op::Range(mut request) => {
                self.fit(&mut request);
                check_range(&self.store.view(), &self.model, &request);
            }
            Op::Compact(below) => {
                let revision = self.model.revision - below;
                let compaction = self.store.compact(revision);
                let expected = match revision {
                    r if r <= self.model.compacted => Err(CompactError::Compacted),
                    r if r > self.model.revision => Err(CompactError::Future),
                    _ => Ok(()),
                };
                assert_eq!(compaction.as_ref().map(|_| ()).map_err(|e| *e), expected);
                if let Ok(compaction) = compaction {
                    self.model.compacted = revision;
                    self.jobs.push(compaction.job);
                }
            }
            Op::Step(budget) => {
                if let Some(job) = self.jobs.first_mut()
                    && self.archive.step(&mut self.store, job, budget)
                {
                    self.jobs.remove(0);
                }
            }
            Op::Archive(below) => {
                let upto = (self.model.revision - below).max(self.store.archived_revision());
                self.archive.take(&mut self.store, upto);
            }
            Op::Keep => self.kept.push((self.store.view(), self.model.clone())),
            Op::Restart => {
                self.archive.take(&mut self.store, self.model.revision);
                self.store = self
                    .archive
                    .restore(self.model.revision, self.model.compacted);
                self.jobs.clear();
                let retained: Vec<_> = self.model.retained().into_iter().collect();
                assert_eq!(self.archive.revisions(), retained);
            }
        }
        assert_eq!(self.store.revision(), self.model.revision);
        assert_eq!(self.store.compact_revision(), self.model.compacted);
    }

    /// Brings drawn revisions near the present one, beyond it at times.
    fn fit(&self, request: &mut RangeRequest) {
        if request.revision > 0 {
            request.revision = request.revision % (self.model.revision + 2) + 1;
        }
    }

    fn fit_txn(&self, request: &mut TxnRequest) {
        for op in request.success.iter_mut().chain(&mut request.failure) {
            match op.request.as_mut().unwrap() {
                Request::RequestRange(range) => self.fit(range),
                Request::RequestTxn(txn) => self.fit_txn(txn),
                _ => {}
            }
        }
    }

    fn absorb<R>(&mut self, applied: crate::Applied<R>) -> R {
        let expected: Vec<_> = self
            .model
            .log
            .iter()
            .filter(|(rev, ..)| {
                rev.main > self.store.revision() - i64::from(!applied.records.is_empty())
            })
            .collect();
        assert_eq!(applied.records.len(), expected.len());
        for (record, (rev, key, kv)) in applied.records.iter().zip(expected) {
            assert_eq!(
                (record.rev, &record.key[..], record.tombstone),
                (*rev, &key[..], kv.is_none())
            );
            if let Some(kv) = kv {
                assert_eq!(record.value, kv.encode_to_vec());
                let life = (record.create_revision, record.version, record.lease);
                assert_eq!(life, (kv.create_revision, kv.version, kv.lease));
            }
        }
        for change in &applied.leases {
            assert_ne!(change.old, change.new);
            let old = self.leases.insert(change.key.to_vec(), change.new);
            assert_eq!(old.unwrap_or(0), change.old);
        }
        applied.response
    }

    /// Compares everything that can be asked.
    fn check_all(&mut self) {
        let view = self.store.view();
        for revision in 0..=self.model.revision + 1 {
            for (key, end) in [("\0", "\0"), ("a", "b"), ("k/", "k0"), ("k/3", "")] {
                let mut request = super::range_request(key, end);
                request.revision = revision;
                check_range(&view, &self.model, &request);
                request.count_only = true;
                check_range(&view, &self.model, &request);
                request.count_only = false;
                request.limit = 2;
                check_range(&view, &self.model, &request);
            }
            if revision >= self.model.compacted && (1..=self.model.revision).contains(&revision) {
                assert_eq!(
                    view.hash_kv(revision).unwrap().hash,
                    self.model.hash(revision),
                    "hash at {revision}"
                );
            }
        }
        let retained: Vec<_> = self.model.retained().into_iter().collect();
        let mut seen = Vec::new();
        view.history(0, i64::MAX, &mut |record| {
            seen.push(record.rev);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, retained);
        for (key, kv) in self.model.state(self.model.revision) {
            assert_eq!(self.leases.get(&key).copied().unwrap_or(0), kv.lease);
        }
        // A view answers as on its first day, or says that it has grown too old.
        for (view, model) in &self.kept {
            for revision in 0..=model.revision {
                let mut request = super::range_request("a", "l");
                request.revision = revision;
                let answer = view.range(&request);
                if answer != Err(ReadError::Compacted) || (1..model.compacted).contains(&revision) {
                    assert_eq!(answer, model.range(&request));
                } else {
                    assert!(self.model.compacted > model.compacted);
                }
            }
        }
    }
}

fn check_range(view: &View, model: &Model, request: &RangeRequest) {
    let expected = model.range(request);
    assert_eq!(view.range(request), expected, "{request:?}");
    let mut bytes = bytes::BytesMut::new();
    if let (Ok(summary), Ok(expected)) = (view.range_encoded(request, &mut bytes), expected) {
        assert_eq!(
            (summary.count, summary.more, summary.kvs),
            (expected.count, expected.more, expected.kvs.len())
        );
        let spliced = RangeResponse::decode(bytes.freeze()).unwrap();
        assert_eq!(spliced.kvs, expected.kvs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn a_random_history_is_as_the_model_has_it(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.check_all();
        while !world.jobs.is_empty() {
            world.run(Op::Step(4));
        }
        world.check_all();
        world.run(Op::Archive(0));
        let retained: Vec<_> = world.model.retained().into_iter().collect();
        assert_eq!(world.archive.revisions(), retained);
        world.check_all();
    }
}

#[test]
fn a_failed_transaction_error_names_its_reason() {
    assert_eq!(ApplyError::from(ReadError::Future), ApplyError::Future);
    assert_eq!(
        ApplyError::from(ReadError::Compacted),
        ApplyError::Compacted
    );
}

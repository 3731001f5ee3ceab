//! Keys under one name, each with a lease, in the order in which they were created: the
//! first of them holds the lock, or leads. What the services Lock and Election share; the
//! rules are those of etcd's package `client/v3/concurrency`, whose users stand in the
//! same lines.

mod changes;
mod withdrawal;

use bytes::Bytes;
use etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, TxnResponse, request_op, response_op,
};
use etcd_proto::mvccpb::KeyValue;
use etcd_replica::View;
use tonic::Status;

use super::kv::{unexpected, write};
use super::status::{read_status, status};
use crate::driver::Node;

pub(super) use changes::Changes;
pub(super) use withdrawal::Withdrawal;

/// TTL of the lease of one who comes without, in seconds; as etcd's sessions have it.
const SESSION_TTL: i64 = 60;

/// The line of those who want to be first under a name.
#[derive(Clone)]
pub(super) struct Contest {
    node: Node,
    /// The name and a slash: `foo` and `foo1` are two lines.
    prefix: Vec<u8>,
}

/// A place in the line.
#[derive(Clone)]
pub(super) struct Place {
    /// The prefix and the lease.
    pub(super) key: Bytes,
    /// The revision that created the key, and orders the line.
    pub(super) rev: i64,
    /// The store's revision when the place was taken.
    pub(super) revision: i64,
    /// What stood there already, put by an earlier call with the same lease.
    pub(super) before: Option<KeyValue>,
}

impl Contest {
    pub(super) fn new(node: &Node, name: &[u8]) -> Self {
        Contest {
            node: node.clone(),
            prefix: [name, b"/"].concat(),
        }
    }

    /// Takes a place at the end of the line, or finds the one that the lease has.
    pub(super) async fn enter(&self, lease: i64, value: &Bytes) -> Result<Place, Status> {
        let key = Bytes::from([&self.prefix, format!("{lease:x}").as_bytes()].concat());
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, value, lease)],
            failure: vec![op(request_op::Request::RequestRange(get))],
        };
        let (response, revision) = txn(&self.node, request).await?;
        if response.succeeded {
            return Ok(Place {
                key,
                rev: revision,
                revision,
                before: None,
            });
        }
        let found = response.responses.into_iter().find_map(|op| {
            let Some(response_op::Response::ResponseRange(range)) = op.response else {
                return None;
            };
            range.kvs.into_iter().next()
        });
        let before = found.ok_or_else(|| Status::unknown("etcdserver: a key came and went"))?;
        Ok(Place {
            key,
            rev: before.create_revision,
            revision,
            before: Some(before),
        })
    }

    /// Returns once nobody is before that place.
    pub(super) async fn turn(&self, place: &Place) -> Result<(), Status> {
        loop {
            let view = self.view().await?;
            let before = RangeRequest {
                max_create_revision: place.rev - 1,
                sort_order: SortOrder::Descend.into(),
                ..self.line()
            };
            let Some(before) = one(&view, &before)? else {
                return Ok(());
            };
            // Whether it is gone, or the history it was in, the line is looked at anew.
            let from = view.kv.revision() + 1;
            let mut changes = Changes::deletions(&self.node, before.key, from);
            changes.next().await;
        }
    }

    /// The first of the line.
    pub(super) fn first(&self, view: &View) -> Result<Option<KeyValue>, Status> {
        let first = RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            ..self.line()
        };
        one(view, &first)
    }

    /// Whether the place is still there.
    pub(super) fn has(&self, view: &View, place: &Place) -> Result<bool, Status> {
        let found = view.kv.get(&place.key, 0).map_err(|e| read_status(&e))?;
        Ok(found.is_some_and(|kv| kv.create_revision == place.rev))
    }

    /// Who joins the line from `from` on.
    pub(super) fn arrivals(&self, from: i64) -> Changes {
        let (prefix, end) = self.span();
        Changes::puts(&self.node, prefix, end, from)
    }

    /// A linearizable view.
    pub(super) async fn view(&self) -> Result<std::sync::Arc<View>, Status> {
        self.node.read_view(false).await.map_err(|e| status(&e))
    }

    /// One key of the line, by creation.
    fn line(&self) -> RangeRequest {
        let (key, range_end) = self.span();
        RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        }
    }

    fn span(&self) -> (Bytes, Bytes) {
        let mut end = self.prefix.clone();
        // The prefix ends with a slash, whose successor is a zero.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (self.prefix.clone().into(), end.into())
    }
}

/// What went wrong inside a call, as etcd tells it there: the text with the code Unknown.
/// Its services Lock and Election are clients of the others, whose codes they lose.
pub(super) fn without_code(status: Status) -> Status {
    Status::unknown(status.message())
}

/// The lease that was given, or a new one.
pub(super) async fn session(node: &Node, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest {
        ttl: SESSION_TTL,
        id: 0,
    };
    let (id, _, _) = super::lease::grant(node, request).await?;
    Ok(id)
}

/// Puts a value at a place; `None` if it is gone. Else the store's revision.
pub(super) async fn put_at(
    node: &Node,
    (key, rev): (&Bytes, i64),
    value: &Bytes,
    lease: i64,
) -> Result<Option<i64>, Status> {
    let request = TxnRequest {
        compare: vec![created_at(key, rev)],
        success: vec![put(key, value, lease)],
        failure: Vec::new(),
    };
    let (response, revision) = txn(node, request).await?;
    Ok(response.succeeded.then_some(revision))
}

/// Gives a place up, if it is still there; the store's revision.
pub(super) async fn leave(node: &Node, (key, rev): (&Bytes, i64)) -> Result<i64, Status> {
    let delete = DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    };
    let request = TxnRequest {
        compare: vec![created_at(key, rev)],
        success: vec![op(request_op::Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    Ok(txn(node, request).await?.1)
}

async fn txn(node: &Node, request: TxnRequest) -> Result<(TxnResponse, i64), Status> {
    let cost = etcd_mvcc::txn_cost(&request);
    let request = InternalRaftRequest {
        txn: Some(request),
        ..InternalRaftRequest::default()
    };
    let reply = write(node, cost, request).await?;
    match reply.result.map_err(|e| status(&e.into()))? {
        etcd_replica::Response::Txn(response) => Ok((response, reply.revision)),
        other => Err(unexpected(&other)),
    }
}

fn one(view: &View, request: &RangeRequest) -> Result<Option<KeyValue>, Status> {
    let found = view.kv.range(request).map_err(|e| read_status(&e))?;
    Ok(found.kvs.into_iter().next())
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn put(key: &Bytes, value: &Bytes, lease: i64) -> RequestOp {
    op(request_op::Request::RequestPut(PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..PutRequest::default()
    }))
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

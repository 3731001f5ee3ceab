//! Transactions: which branches are taken, whether they may run, and running
//! them.

use std::cmp::Ordering;

use etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::response_op::Response;
use etcd_proto::etcdserverpb::{
    Compare, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

use crate::error::{ApplyError, ReadError};
use crate::index::Entry;
use crate::span::Span;
use crate::store::{Changes, Store};
use crate::view::{View, decode};

/// Whether a transaction's comparisons hold, and the same for each transaction
/// nested in the branch that is taken, in the order of its operations.
pub(crate) struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn branch<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded {
            &request.success
        } else {
            &request.failure
        }
    }
}

/// Evaluates the comparisons of a transaction and of those nested in it.
pub(crate) fn path(view: &View, request: &TxnRequest) -> Result<Path, ReadError> {
    let mut path = Path {
        succeeded: holds(view, &request.compare)?,
        nested: Vec::new(),
    };
    for op in path.branch(request) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.nested.push(self::path(view, nested)?);
        }
    }
    Ok(path)
}

/// Whether all comparisons hold in a view.
fn holds(view: &View, compares: &[Compare]) -> Result<bool, ReadError> {
    for compare in compares {
        if !hold(view, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn hold(view: &View, compare: &Compare) -> Result<bool, ReadError> {
    let span = Span::new(&compare.key, &compare.range_end);
    let target = CompareTarget::try_from(compare.target);
    let mut exists = false;
    let mut check = |entry: &Entry| {
        exists = true;
        entry_holds(view, compare, target, entry)
    };
    if let Span::Key(key) = span {
        if let Some(entry) = view.index.get(key).filter(|entry| entry.live()) {
            return check(entry);
        }
    } else {
        for (_, entry) in view.index.walk(span).filter(|(_, entry)| entry.live()) {
            if !check(entry)? {
                return Ok(false);
            }
        }
    }
    if exists {
        return Ok(true);
    }
    // Without a key a value can be neither equal nor different; the numbers
    // count as zero.
    Ok(match target {
        Ok(CompareTarget::Value) => false,
        Ok(target) => result(compare, 0.cmp(&number(compare, target))),
        Err(_) => result(compare, Ordering::Equal),
    })
}

fn entry_holds(
    view: &View,
    compare: &Compare,
    target: Result<CompareTarget, prost::UnknownEnumValue>,
    entry: &Entry,
) -> Result<bool, ReadError> {
    let newest = entry.newest();
    let actual = match target {
        Ok(CompareTarget::Version) => newest.version,
        Ok(CompareTarget::Create) => newest.create_revision,
        Ok(CompareTarget::Mod) => newest.rev.main,
        Ok(CompareTarget::Lease) => newest.lease,
        Ok(CompareTarget::Value) => {
            let expected: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            let kv = decode(view.read(newest.rev)?)?;
            return Ok(result(compare, (*kv.value).cmp(expected)));
        }
        Err(_) => return Ok(result(compare, Ordering::Equal)),
    };
    let expected = target.map_or(0, |target| number(compare, target));
    Ok(result(compare, actual.cmp(&expected)))
}

/// The number to compare with; 0 where the union holds that of another target.
fn number(compare: &Compare, target: CompareTarget) -> i64 {
    match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    }
}

fn result(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Refuses what cannot run on the branches that are taken.
pub(crate) fn check(
    view: &View,
    request: &TxnRequest,
    path: &Path,
    lease_exists: &dyn Fn(i64) -> bool,
) -> Result<(), ApplyError> {
    let mut nested = path.nested.iter();
    for op in path.branch(request) {
        match &op.request {
            Some(Request::RequestRange(range)) => match range.revision {
                0 => {}
                r if r > view.revision() => return Err(ApplyError::Future),
                r if r < view.compact_revision() => return Err(ApplyError::Compacted),
                _ => {}
            },
            Some(Request::RequestPut(put)) => {
                let live = || view.index.get(&put.key).is_some_and(Entry::live);
                if (put.ignore_value || put.ignore_lease) && !live() {
                    return Err(ApplyError::KeyNotFound);
                }
                if put.lease != 0 && !lease_exists(put.lease) {
                    return Err(ApplyError::LeaseNotFound);
                }
            }
            Some(Request::RequestTxn(txn)) => {
                let path = nested
                    .next()
                    .expect("a path names every nested transaction");
                check(view, txn, path, lease_exists)?;
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Runs the operations of the branches that are taken. The header of the reply
/// is empty, as etcd leaves those of nested transactions.
pub(crate) fn execute(
    store: &mut Store,
    request: &TxnRequest,
    path: &Path,
    changes: &mut Changes,
) -> Result<TxnResponse, ApplyError> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::with_capacity(path.branch(request).len());
    for op in path.branch(request) {
        let response = match &op.request {
            None => None,
            Some(Request::RequestRange(range)) => {
                Some(Response::ResponseRange(store.apply_range(range, changes)?))
            }
            Some(Request::RequestPut(put)) => {
                Some(Response::ResponsePut(store.apply_put(put, changes)?))
            }
            Some(Request::RequestDeleteRange(delete)) => Some(Response::ResponseDeleteRange(
                store.apply_delete(delete, changes)?,
            )),
            Some(Request::RequestTxn(txn)) => {
                let path = nested
                    .next()
                    .expect("a path names every nested transaction");
                Some(Response::ResponseTxn(execute(store, txn, path, changes)?))
            }
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: path.succeeded,
        responses,
    })
}

/// Runs a transaction without writes against a view. The caller has made sure
/// of [`is_read_only`](crate::is_read_only); any other operation is refused as
/// a key that is not found.
pub(crate) fn read(view: &View, request: &TxnRequest) -> Result<TxnResponse, ApplyError> {
    let path = path(view, request)?;
    check(view, request, &path, &|_| true)?;
    let mut responses = Vec::with_capacity(path.branch(request).len());
    for op in path.branch(request) {
        let Some(Request::RequestRange(range)) = &op.request else {
            return Err(ApplyError::KeyNotFound);
        };
        let response = Some(Response::ResponseRange(view.range(range)?));
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse {
        header: Some(ResponseHeader {
            revision: view.revision(),
            ..Default::default()
        }),
        succeeded: path.succeeded,
        responses,
    })
}

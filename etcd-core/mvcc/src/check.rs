//! Validation of requests before they are proposed.

use std::collections::{BTreeMap, BTreeSet};

use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// An operation of a transaction holds no request.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` comes with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` comes with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// More operations than a transaction may hold.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// Two operations that may run together change the same key.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// Unknown sort order or target.
    #[error("invalid sort option")]
    InvalidSortOption,
}

/// Checks a range.
pub fn check_range(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
pub fn check_put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        Err(RequestError::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a transaction and all in it. `max_ops` bounds the comparisons and the
/// operations of each branch; a nested transaction gets what its parent leaves.
pub fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    check_ops(request, max_ops)?;
    // Only now, when the size is known to be bounded.
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn check_ops(request: &TxnRequest, max_ops: usize) -> Result<(), RequestError> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(ops) else {
        return Err(RequestError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(txn)) => check_ops(txn, left)?,
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a list of operations may put and delete.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Refuses puts that may meet another put or a deletion. The order in which
/// things are compared is etcd's, so that the same requests pass: a nested put
/// meets the deletions of this level and of the nested transactions before it,
/// not of those after.
fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.add(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else {
            continue;
        };
        let success = writes(&txn.success)?;
        let failure = writes(&txn.failure)?;
        // The branches exclude each other: they may put the same keys.
        let puts: BTreeSet<&[u8]> = success.puts.union(&failure.puts).copied().collect();
        for key in puts {
            all.put(key)?;
        }
        all.deletes.append(success.deletes);
        all.deletes.append(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), RequestError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// Deleted keys: single ones, and ranges that do not overlap.
#[derive(Default)]
struct Deletes<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// Start to exclusive end.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// Adds what a request deletes. A deletion from a key on (`\0`) is an empty
    /// range to etcd here, so a transaction may delete everything and put again.
    fn add(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.keys.insert(key);
        } else if key < range_end {
            self.add_range(key, range_end);
        }
    }

    fn add_range(&mut self, start: &'a [u8], end: &'a [u8]) {
        let (mut start, mut end) = (start, end);
        // Whatever begins at or before the end and ends at or after the start
        // melts into the new range.
        while let Some((&other, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ranges.remove(other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.ranges.insert(start, end);
    }

    fn append(&mut self, mut other: Deletes<'a>) {
        self.keys.append(&mut other.keys);
        for (start, end) in other.ranges {
            self.add_range(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
            || self
                .ranges
                .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
                .next_back()
                .is_some_and(|(_, end)| key < *end)
    }
}

/// Whether a transaction holds ranges only, so that it needs no log entry. A
/// nested transaction always takes the way of writes.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction holds serializable ranges only.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

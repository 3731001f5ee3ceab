//! What a request may add to the store, for the quota.

use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// Bytes that a put counts beside key and value.
const PUT_OVERHEAD: u64 = 256;
/// Bytes that granting a lease counts.
pub const LEASE_COST: u64 = 64;

/// Bytes that a put counts for.
pub fn put_cost(request: &PutRequest) -> u64 {
    PUT_OVERHEAD + request.key.len() as u64 + request.value.len() as u64
}

/// Bytes that a transaction counts for: those of the dearer branch. 0 means
/// that it puts nothing and may run even without space.
pub fn txn_cost(request: &TxnRequest) -> u64 {
    branch_cost(&request.success).max(branch_cost(&request.failure))
}

fn branch_cost(ops: &[RequestOp]) -> u64 {
    let costs = ops.iter().map(|op| match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    });
    costs.sum()
}

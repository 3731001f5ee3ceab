//! Transactions and their comparisons, briefly.

use bytes::Bytes;
use etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

pub use etcd_proto::etcdserverpb::compare::CompareResult::{Equal, Greater, Less, NotEqual};

/// A comparison of one key; `target` names what is compared and with which value.
pub fn compare(key: impl AsRef<[u8]>, target: TargetUnion, result: CompareResult) -> Compare {
    let kind = match target {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: kind.into(),
        key: Bytes::copy_from_slice(key.as_ref()),
        range_end: Bytes::new(),
        target_union: Some(target),
    }
}

/// Compares the value.
pub fn value(key: impl AsRef<[u8]>, result: CompareResult, value: impl AsRef<[u8]>) -> Compare {
    compare(
        key,
        TargetUnion::Value(Bytes::copy_from_slice(value.as_ref())),
        result,
    )
}

/// Compares the number of puts since the key was created.
pub fn version(key: impl AsRef<[u8]>, result: CompareResult, version: i64) -> Compare {
    compare(key, TargetUnion::Version(version), result)
}

/// Compares the revision of the last put.
pub fn mod_revision(key: impl AsRef<[u8]>, result: CompareResult, revision: i64) -> Compare {
    compare(key, TargetUnion::ModRevision(revision), result)
}

/// Compares the revision of the first put since the key was last deleted.
pub fn create_revision(key: impl AsRef<[u8]>, result: CompareResult, revision: i64) -> Compare {
    compare(key, TargetUnion::CreateRevision(revision), result)
}

/// Compares the lease.
pub fn lease(key: impl AsRef<[u8]>, result: CompareResult, lease: i64) -> Compare {
    compare(key, TargetUnion::Lease(lease), result)
}

/// The same comparison for every key in `[key, end)`.
pub fn over(compare: Compare, end: impl AsRef<[u8]>) -> Compare {
    Compare {
        range_end: Bytes::copy_from_slice(end.as_ref()),
        ..compare
    }
}

/// If every comparison holds `success`, else `failure`.
pub fn txn(
    compare: impl Into<Vec<Compare>>,
    success: impl Into<Vec<RequestOp>>,
    failure: impl Into<Vec<RequestOp>>,
) -> TxnRequest {
    TxnRequest {
        compare: compare.into(),
        success: success.into(),
        failure: failure.into(),
    }
}

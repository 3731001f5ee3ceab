//! Errors as etcd's codes and texts, which clients compare.

use etcd_mvcc::{
    ApplyError as KvApplyError, ArchiveError, CompactError, ReadError,
    RequestError as KvRequestError,
};
use etcd_replica::{ApplyError, MembershipError};
use tonic::{Code, Status};

use crate::driver::RequestError;

/// The status of a failed request.
pub fn status(error: &RequestError) -> Status {
    let (code, text) = code_and_text(error);
    Status::new(code, text)
}

fn code_and_text(error: &RequestError) -> (Code, String) {
    use RequestError as E;
    let (code, text) = match error {
        E::Invalid(error) => return invalid(error),
        E::Apply(error) => return apply(error),
        E::Membership(error) => return membership(*error),
        E::NoLeader => (Code::Unavailable, "no leader"),
        E::Stopped => (Code::Unavailable, "server stopped"),
        E::Timeout => (Code::Unavailable, "request timed out"),
        E::TimeoutLeaderFailed => (
            Code::Unavailable,
            "request timed out, possibly due to previous leader failure",
        ),
        E::TimeoutConnectionLost => (
            Code::Unavailable,
            "request timed out, possibly due to connection lost",
        ),
        // These two reach clients of etcd with the code Unknown.
        E::TooManyRequests => (Code::Unknown, "too many requests"),
        E::NotEnoughStarted => (
            Code::Unknown,
            "re-configuration failed due to not enough started members",
        ),
        E::TooLarge => (Code::InvalidArgument, "request is too large"),
        E::NotLeader => (Code::FailedPrecondition, "not leader"),
        E::BadTransferee => (Code::FailedPrecondition, "bad leader transferee"),
        E::Unhealthy => (Code::Unavailable, "unhealthy cluster"),
        E::LearnerNotReady => (
            Code::FailedPrecondition,
            "can only promote a learner member which is in sync with leader",
        ),
        E::BadMemberUrls => (Code::InvalidArgument, "given member URLs are invalid"),
        E::NotSupportedForLearner => (Code::FailedPrecondition, "rpc not supported for learner"),
        E::NoSpace => (Code::ResourceExhausted, "mvcc: database space exceeded"),
        E::Corrupt => (Code::DataLoss, "corrupt cluster"),
        E::Canceled => (Code::Cancelled, "request canceled"),
        E::Internal(text) => return (Code::Unknown, text.clone()),
    };
    (code, prefixed(text))
}

fn prefixed(text: &str) -> String {
    format!("etcdserver: {text}")
}

fn invalid(error: &KvRequestError) -> (Code, String) {
    let text = match error {
        KvRequestError::EmptyKey => "key is not provided",
        KvRequestError::KeyNotFound => "key not found",
        KvRequestError::ValueProvided => "value is provided",
        KvRequestError::LeaseProvided => "lease is provided",
        KvRequestError::TooManyOps => "too many operations in txn request",
        KvRequestError::DuplicateKey => "duplicate key given in txn request",
        KvRequestError::InvalidSortOption => "invalid sort option",
    };
    (Code::InvalidArgument, prefixed(text))
}

fn apply(error: &ApplyError) -> (Code, String) {
    let (code, text) = match error {
        ApplyError::Kv(KvApplyError::Compacted) => return compacted(),
        ApplyError::Kv(KvApplyError::Future) => return future(),
        ApplyError::Kv(KvApplyError::KeyNotFound) => (Code::InvalidArgument, "key not found"),
        ApplyError::Kv(KvApplyError::LeaseNotFound) | ApplyError::LeaseNotFound => {
            (Code::NotFound, "requested lease not found")
        }
        ApplyError::Kv(KvApplyError::Archive(error)) => return (Code::Unknown, error.to_string()),
        ApplyError::Compaction(CompactError::Compacted) => return compacted(),
        ApplyError::Compaction(CompactError::Future) => return future(),
        ApplyError::LeaseExists => (Code::FailedPrecondition, "lease already exists"),
        ApplyError::LeaseTtlTooLarge => (Code::OutOfRange, "too large lease TTL"),
        ApplyError::NoSpace => (Code::ResourceExhausted, "mvcc: database space exceeded"),
        ApplyError::Corrupt => (Code::DataLoss, "corrupt cluster"),
        ApplyError::Membership(error) => return membership(*error),
    };
    (code, prefixed(text))
}

fn membership(error: MembershipError) -> (Code, String) {
    let (code, text) = match error {
        MembershipError::IdRemoved | MembershipError::IdNotFound => {
            (Code::NotFound, "member not found")
        }
        MembershipError::IdExists => (Code::FailedPrecondition, "member ID already exist"),
        MembershipError::PeerUrlExists => (Code::FailedPrecondition, "Peer URLs already exists"),
        MembershipError::NotLearner => (
            Code::FailedPrecondition,
            "can only promote a learner member",
        ),
        MembershipError::TooManyLearners => (
            Code::FailedPrecondition,
            "too many learner members in cluster",
        ),
        MembershipError::BadContext => (Code::InvalidArgument, "given member URLs are invalid"),
    };
    (code, prefixed(text))
}

fn compacted() -> (Code, String) {
    (
        Code::OutOfRange,
        prefixed("mvcc: required revision has been compacted"),
    )
}

fn future() -> (Code, String) {
    (
        Code::OutOfRange,
        prefixed("mvcc: required revision is a future revision"),
    )
}

/// The status of a read of what this member has damaged. Another member has it whole, so
/// etcd's clients ask one.
pub(super) fn archive_status(error: &ArchiveError) -> Status {
    match error {
        ArchiveError::Read(_) => Status::unavailable(prefixed(&error.to_string())),
        ArchiveError::NotFound(_) | ArchiveError::Compacted => Status::unknown(error.to_string()),
    }
}

/// The status of a failed read.
pub fn read_status(error: &ReadError) -> Status {
    let (code, text) = match error {
        ReadError::Compacted => compacted(),
        ReadError::Future => future(),
        ReadError::Archive(error) => return archive_status(error),
    };
    Status::new(code, text)
}

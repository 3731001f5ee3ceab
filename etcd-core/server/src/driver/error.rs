//! Why a request failed, as far as the caller can tell it apart.

use etcd_mvcc::RequestError as KvRequestError;
use etcd_replica::{ApplyError, MembershipError};

/// Failure of a request to this member. `grpc::status` maps it to etcd's code and text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request makes no sense; the same request will fail again.
    #[error(transparent)]
    Invalid(#[from] KvRequestError),
    /// It was agreed on and refused when applied, by every member alike.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A conf change was refused when applied.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// This member is stopping.
    #[error("server stopped")]
    Stopped,
    /// Not agreed on in time; it may still be.
    #[error("request timed out")]
    Timeout,
    /// As `Timeout`, and the leader was lost meanwhile.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// As `Timeout`, and the connection to the leader or to a quorum was lost.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// Too much is waiting; try again later.
    #[error("too many requests")]
    TooManyRequests,
    /// The encoded request exceeds `--max-request-bytes`.
    #[error("request is too large")]
    TooLarge,
    /// Only the leader does this.
    #[error("not leader")]
    NotLeader,
    /// The member to lead is unknown or a learner.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The change would endanger the quorum.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// The change would leave too few started members.
    #[error("not enough started members")]
    NotEnoughStarted,
    /// The learner is behind the leader.
    #[error("learner is not in sync")]
    LearnerNotReady,
    /// The peer URLs are not URLs.
    #[error("bad member URLs")]
    BadMemberUrls,
    /// A learner does not serve this.
    #[error("not supported for learner")]
    NotSupportedForLearner,
    /// The store has reached its quota.
    #[error("database space exceeded")]
    NoSpace,
    /// A member is corrupt.
    #[error("corrupt cluster")]
    Corrupt,
    /// The caller has gone.
    #[error("request canceled")]
    Canceled,
    /// The store could not be read.
    #[error("{0}")]
    Internal(String),
}

//! Why an input was refused.

/// Why a proposal was not accepted. It has had no effect and may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The leader holds as many unapplied bytes as it may.
    #[error("the proposal would exceed the limit of {limit} uncommitted bytes")]
    TooLarge {
        /// `max_uncommitted_bytes`.
        limit: u64,
    },
    /// Leadership is being handed to another member.
    #[error("leadership is being transferred to {to:x}")]
    Transferring {
        /// The member that is to lead.
        to: u64,
    },
    /// This member is not, or no longer, part of the cluster.
    #[error("not a member of the cluster")]
    NotMember,
}

/// Why a message was not accepted.
///
/// All but those that are [fatal](StepError::is_fatal) are a peer's fault or a
/// transient state, and a caller logs and continues.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The type is unknown.
    #[error("unknown message type {0}")]
    UnknownType(i32),
    /// The type never travels between members.
    #[error("{0} is not a message between members")]
    LocalType(&'static str),
    /// The message is for another member.
    #[error("message is for member {to:x}")]
    NotForUs {
        /// Whom it is for.
        to: u64,
    },
    /// The message names nobody, or us, as its sender.
    #[error("message has the impossible sender {from:x}")]
    BadSender {
        /// Who it says it is from.
        from: u64,
    },
    /// The message contradicts itself.
    #[error("malformed {kind} from {from:x}: {reason}")]
    Malformed {
        /// Its type.
        kind: &'static str,
        /// Its sender.
        from: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A forwarded proposal was not accepted.
    #[error("forwarded proposal dropped: {0}")]
    Dropped(#[from] ProposeError),
    /// Another member claims to lead the term we lead.
    #[error("{from:x} leads term {term} too")]
    TwoLeaders {
        /// The other.
        from: u64,
        /// The term.
        term: u64,
    },
    /// The leader's log differs from ours where ours is committed.
    #[error("entry {index} of the leader {from:x} conflicts with a committed entry")]
    Diverged {
        /// The leader.
        from: u64,
        /// The first entry that differs.
        index: u64,
    },
    /// The leader knows us to have acknowledged more than our log holds.
    #[error(
        "commit index {commit} of the leader {from:x} is beyond the end of our log at {last}: the log was truncated or lost"
    )]
    LogLost {
        /// The leader.
        from: u64,
        /// The commit index.
        commit: u64,
        /// Our last index.
        last: u64,
    },
}

impl StepError {
    /// Whether the safety of the cluster is in doubt and this member must stop.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            StepError::TwoLeaders { .. } | StepError::Diverged { .. } | StepError::LogLost { .. }
        )
    }
}

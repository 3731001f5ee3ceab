//! Bugs on purpose: a checker that does not find them is broken.

/// A bug of the simulated driver or its settings. Never in the product's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// What is written counts as durable before it is synced.
    AckBeforeFsync,
    /// Messages that wait for the disk are sent at once.
    AnswerBeforePersist,
    /// A member serves a linearizable read from what it has applied.
    ReadWithoutIndex,
    /// The vote is not kept on disk.
    ForgetVote,
    /// A leader without a quorum goes on leading, and serves reads alone.
    SkipCheckQuorum,
    /// The applied index of a checkpoint lags behind its state.
    ApplyTwice,
    /// A watch that resumes in the past misses the first revision.
    DropOnResume,
    /// A leader without a quorum goes on leading, and renews leases alone.
    RenewAlone,
    /// An expiry is proposed by whoever thinks it leads, in any term.
    RevokeWithoutTerm,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 9] = [
        Planted::AckBeforeFsync,
        Planted::AnswerBeforePersist,
        Planted::ReadWithoutIndex,
        Planted::ForgetVote,
        Planted::SkipCheckQuorum,
        Planted::ApplyTwice,
        Planted::DropOnResume,
        Planted::RenewAlone,
        Planted::RevokeWithoutTerm,
    ];
}

//! What a member currently is in its term.

/// The member ID that means "nobody": no leader, no vote, no transferee.
pub const NONE: u64 = 0;

/// The part a member plays in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win an election, without raising the term.
    PreCandidate,
    /// Asks for votes in a term of its own.
    Candidate,
    /// Leads its term.
    Leader,
}

impl Role {
    /// etcd's name of the role, as logs and metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Follower => "StateFollower",
            Role::PreCandidate => "StatePreCandidate",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        }
    }
}

/// Volatile state that a caller wants to hear about but never persists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SoftState {
    /// The leader of the current term as far as it is known, or [`NONE`].
    pub leader: u64,
    /// The own role.
    pub role: Role,
}

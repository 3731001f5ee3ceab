//! What a member is started with: its settings, and what it found on disk.

use etcd_proto::raftpb::{ConfState, Entry, HardState};

/// The settings of one member. Times are counted in ticks, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The own member ID; never 0.
    pub id: u64,
    /// Ticks without a leader after which an election starts. Each election waits
    /// between this and twice this. Must exceed `heartbeat_tick`.
    pub election_tick: u32,
    /// Ticks between two heartbeats of a leader; at least 1.
    pub heartbeat_tick: u32,
    /// Encoded entries that one MsgApp, and one [`crate::Ready::committed`], carries at
    /// most; a single larger entry still passes.
    pub max_size_per_message: u64,
    /// MsgApps in flight to one follower; at least 1.
    pub max_inflight_messages: usize,
    /// Payload in flight to one follower; 0 is no limit, else at least
    /// `max_size_per_message`.
    pub max_inflight_bytes: u64,
    /// Payload a leader accepts beyond what it has applied, and with which a follower's
    /// state machine may be behind before it takes no more entries; 0 is no limit. One
    /// proposal is accepted whatever its size while nothing else is outstanding.
    pub max_uncommitted_bytes: u64,
    /// Whether a leader steps down when it has not heard from a quorum for an election
    /// timeout, and members ignore votes while they hear from a leader.
    pub check_quorum: bool,
    /// Whether an election is preceded by a round that does not raise the term.
    pub pre_vote: bool,
    /// Randomises the election timeouts together with `id`: the only randomness.
    pub seed: u64,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.id == 0 {
            return Err(ConfigError::NoId);
        }
        if self.heartbeat_tick == 0 || self.election_tick <= self.heartbeat_tick {
            return Err(ConfigError::Ticks {
                election: self.election_tick,
                heartbeat: self.heartbeat_tick,
            });
        }
        if self.max_inflight_messages == 0 {
            return Err(ConfigError::NoInflight);
        }
        if self.max_inflight_bytes != 0 && self.max_inflight_bytes < self.max_size_per_message {
            return Err(ConfigError::InflightBytes {
                inflight: self.max_inflight_bytes,
                message: self.max_size_per_message,
            });
        }
        Ok(())
    }
}

/// What a start found on disk. Everything in it is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// The last term, vote and commit index of the WAL; zeros for a new member.
    pub hard_state: HardState,
    /// The membership as of `applied`.
    pub conf_state: ConfState,
    /// The log begins after this index; 0 for a log that begins at 1.
    pub snapshot_index: u64,
    /// The term of the entry at `snapshot_index`.
    pub snapshot_term: u64,
    /// The entries after `snapshot_index`, without a gap.
    pub entries: Vec<Entry>,
    /// The last index the state machine has applied: nothing at or below it is handed
    /// out again. At least `snapshot_index`.
    pub applied: u64,
}

/// Why a member cannot start from its settings and its disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The member ID is 0.
    #[error("a member ID must not be 0")]
    NoId,
    /// The two timeouts contradict each other.
    #[error(
        "election timeout of {election} ticks must exceed the heartbeat of {heartbeat} ticks, which must not be 0"
    )]
    Ticks {
        /// `election_tick`.
        election: u32,
        /// `heartbeat_tick`.
        heartbeat: u32,
    },
    /// No message may be in flight.
    #[error("max_inflight_messages must not be 0")]
    NoInflight,
    /// The window is smaller than one message.
    #[error("max_inflight_bytes {inflight} is smaller than max_size_per_message {message}")]
    InflightBytes {
        /// `max_inflight_bytes`.
        inflight: u64,
        /// `max_size_per_message`.
        message: u64,
    },
    /// The entries are not consecutive, or their terms fall.
    #[error("log entry {index} of term {term} does not follow entry {after} of term {after_term}")]
    LogGap {
        /// Index of the entry that does not fit.
        index: u64,
        /// Its term.
        term: u64,
        /// Index of the entry before it.
        after: u64,
        /// The term of that.
        after_term: u64,
    },
    /// The log ends before what is known to be committed: part of it is lost.
    #[error("commit index {commit} is beyond the end of the log at {last}")]
    CommitBeyondLog {
        /// The hard state's commit index.
        commit: u64,
        /// The last index of the log.
        last: u64,
    },
    /// The state machine is outside of the log.
    #[error("applied index {applied} is outside of the log from {first} to {last}")]
    AppliedOutsideLog {
        /// The state machine's index.
        applied: u64,
        /// The index the log begins after.
        first: u64,
        /// The last index of the log.
        last: u64,
    },
    /// The membership is in a joint configuration, which etcd never enters.
    #[error("the membership is in a joint configuration, which is not supported")]
    JointConfig,
    /// The membership lists an ID as 0, twice, or as voter and learner.
    #[error("member {id:x} appears in the membership more than once, or is 0")]
    AmbiguousMember {
        /// The member.
        id: u64,
    },
}

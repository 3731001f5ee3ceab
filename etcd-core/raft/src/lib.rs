//! The Raft consensus algorithm as a pure state machine, speaking etcd's messages.
//!
//! ```text
//!  tick, propose, read_index ─┐                        ┌─> messages          (send now)
//!  step(message of a peer) ───┤        ┌─> log ────────┤   hard_state,entries (persist)
//!  persisted, applied ────────┼─> Raft ┼─> progress ───┼─> messages_after_persist
//!  apply_conf_change ─────────┤        ├─> read_index ─┤   committed          (apply)
//!  report_*, compact ─────────┘        └─> membership ─┘   reads, soft_state
//!        inputs                          state             one Ready per turn
//! ```
//!
//! Nothing here does I/O, reads a clock or draws randomness: time is [`Raft::tick`],
//! the disk is [`Ready`] and [`Raft::persisted`], and the jitter of election timeouts
//! comes from [`Config::seed`]. The same inputs always give the same outputs.
//!
//! The behaviour is that of etcd's raft v3.7 and its messages interoperate with it.
//! Where this crate is stricter it says so: votes are asked for only once the own vote
//! is durable, reads of a single voter wait for its first commit, and bytes of a peer
//! that make no sense are an error instead of a panic.
//!
//! The order a caller owes to a [`Ready`] is part of the contract; see there.

mod config;
mod election;
mod errors;
mod follower;
mod inflights;
mod log;
mod membership;
mod message;
mod progress;
mod proposal;
mod quorum;
mod raft;
mod read_index;
mod ready;
mod replication;
mod role;
mod snapshot;
mod status;
mod timer;
mod transfer;

pub use config::{Config, ConfigError, Restored};
pub use errors::{ProposeError, StepError};
pub use progress::{Progress, ProgressState};
pub use raft::Raft;
pub use ready::{Persisted, ReadState, Ready};
pub use role::{NONE, Role, SoftState};
pub use status::Status;

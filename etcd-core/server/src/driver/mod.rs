//! One running member: threads and clocks around the pure machines.
//!
//! ```text
//! Node (async callers) -> inbox -> consensus thread -> disk thread -> (persisted) -> inbox
//!                                        |     \-> peers
//!                                        v
//!                                  apply thread -> view, watches, replies -> callers
//!                                        \-> checkpoint thread -> disk thread
//! ```

mod apply;
mod checkpoint;
mod consensus;
mod corruption;
mod counts;
mod disk;
mod error;
mod hash;
mod inbox;
mod leases;
mod members;
mod node;
mod observation;
mod parked;
mod peers;
mod publish;
mod request;
mod role;
mod shared;
mod snapshot;
mod start;
mod waits;
mod watches;

pub use corruption::{
    AskedHash, CorruptionChecks, CorruptionError, PeerHash, PeerHashError, PeerHashes,
    check_before_start,
};
pub use counts::{Count, Counts};
pub use error::RequestError;
pub use hash::HashError;
pub use leases::KeepAlive;
pub use node::Node;
pub use observation::{Observation, Observer, RequestKind};
pub use peers::{NoPeers, Peers, SnapshotSource};
pub use publish::PeerVersions;
pub use request::Reply;
pub use role::Leadership;
pub use shared::Die;
pub use start::{NodeConfig, StartError};
pub use watches::{StreamHandle, Watches};

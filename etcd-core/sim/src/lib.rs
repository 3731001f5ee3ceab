//! Replicas in a deterministic world: virtual time, one seed, simulated disks and
//! network, crashes, clients, and checkers that know what must hold.
//!
//! ```text
//!  seed ─► World ── events in order of time ──► members: etcd_replica's machines on SimDisk
//!            │                              ├─► clients: keys, watches, leases, membership
//!            │                              └─► chaos: power, disks, links
//!            └─► Checkers (every step) ──► Report: violation, hash of the trace
//! ```
//!
//! Everything that happens follows from the seed: a run that is repeated yields the same
//! trace. [`Planted`] bugs show that the checkers see what they are for.

mod checkers;
mod client;
mod env;
mod event;
mod member;
mod planted;
mod profile;
mod random;
mod request;
mod run;
#[cfg(test)]
mod scenarios;
mod trace;
mod world;

pub use planted::Planted;
pub use profile::Profile;
pub use run::{Report, Run};

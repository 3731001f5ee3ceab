//! Leases: what is agreed on, and, on the leader alone, when they run out.
//!
//! ```text
//!  entries ── grant, revoke, checkpoint, keys attached ──► Lessor     equal on all members
//!                                                            │
//!  clock (ms) ── promote, renew, expired, demote ────────► Primary    the leader's only
//!                                                            │
//!                               revocations to propose ◄─────┘
//! ```
//!
//! No clock ends a lease: [`Lessor::expired`] names leases whose time is up, the
//! leader proposes their revocation, and only the applied revocation removes them.
//! Time is a number of milliseconds that the caller's monotonic clock gives; it
//! means nothing outside one process.

mod lessor;
mod primary;
mod row;

#[cfg(test)]
mod tests;

pub use lessor::{LeaseConfig, LeaseError, Lessor, MAX_TTL_SECONDS, TimeToLive, min_ttl_seconds};
pub use primary::Renewal;
pub use row::LeaseRowError;

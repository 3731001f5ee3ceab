//! What changed between two full backups.
//!
//! An increment is a file of frames: a header that says what it goes on from, events,
//! tables of leases, compactions, marks of time, and a trailer that says how far it goes;
//! behind them the SHA-256 of all of it. The header carries the SHA-256 of the increment
//! before it, or of the full backup it begins at: of a chain none can be left out, changed
//! or swapped.

mod chain;
mod frame;
mod load;
mod read;
mod write;

use chain::begins_after;
pub(crate) use chain::{Found, key, listed};
pub(crate) use frame::{FORMAT, Header, Link, Mark, Trailer};
pub(crate) use load::{Loaded, collect};
pub(crate) use read::{ChangeFiles, check};
pub(crate) use write::{Frames, finish};

use super::layout::INCREMENTS;

/// The folder of a cluster's increments.
pub(crate) fn folder(cluster_id: &str) -> String {
    format!("{INCREMENTS}/{cluster_id}")
}

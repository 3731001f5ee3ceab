//! Load that keeps a ledger, so that afterwards nothing acknowledged may be missing.
//!
//! ```text
//! Writer x n ── unique keys and values ──> members ──> Observer x m
//!    │ acknowledged (key, revision)                       │ every revision once, in order
//!    └───────────────────> Ledger::verify <───────────────┘
//! ```

mod ledger;
mod observer;
mod writer;

pub use ledger::{Acked, Ledger};
pub use observer::{Observer, Seen};
pub use writer::Writers;

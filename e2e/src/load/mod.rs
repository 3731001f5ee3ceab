//! Load that keeps a ledger, so that afterwards nothing acknowledged may be missing.
//!
//! ```text
//! Writer x n ── unique keys and values ──> members ──> Observer x m
//!    │ acknowledged (key, revision)                       │ every revision once, in order
//!    └───────────────────> Ledger::verify <───────────────┘
//! ```
//!
//! [`Traffic`] is the steadier kind, made as programs make it, through a Service or after the
//! member list: it counts what its clients notice while the cluster is changed.

mod figures;
mod ledger;
mod observer;
mod reach;
mod session;
mod traffic;
mod writer;

pub use figures::Figures;
pub use ledger::{Acked, Ledger};
pub use observer::{Observer, Seen};
pub use reach::{Bundle, Names, Reach};
pub use traffic::Traffic;
pub use writer::Writers;

//! Watches: who wants an event, in what order, and how much of it may wait.
//!
//! ```text
//!  records of a revision
//!        │ publish                           laggards, nearest cursors together
//!        ▼                                   ┌──────────────────────────────┐
//!  RangeIndex ─ ranges that hold the key     │ plan ─► Slice::read ─► feed  │
//!        │                                   │ (History, outside any lock)  │
//!        ▼  one frame per event, shared      └──────────────┬───────────────┘
//!  Stream's queue (bounded bytes) ◄─────────────────────────┘
//!        │ poll(credit)
//!        ▼
//!  Response ─ spliced into WatchResponse bytes by the caller
//! ```
//!
//! A *synced* watcher has no position of its own: it is at the hub's head, and
//! its events wait in its stream's queue. When that queue is full the watcher gets
//! a cursor and *lags*: it costs a few words until its stream has room again, and
//! is then served from the history. So what waits for a slow client is bounded, a
//! put never waits for one, and only a compaction past its cursor ends a watch.
//!
//! Everything is synchronous and deterministic; locks, tasks and wake-ups are the
//! caller's.

mod catch_up;
mod deliver;
mod event;
mod history;
mod hub;
mod progress;
mod ranges;
mod response;
mod slab;
mod standing;
mod stream;
mod watcher;

#[cfg(test)]
mod tests;

pub use catch_up::{Plan, Slice, SliceBudget};
pub use history::History;
pub use hub::{Config, Stats, WatchHub};
pub use response::Response;
pub use stream::StreamId;
pub use watcher::{Filters, KeyRange, Outcome, RangeEnd, Rejection, WatchCreate};

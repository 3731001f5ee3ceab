//! The multi-version key-value store: revisions, index, transactions,
//! compaction, watch. Pure: it reads records it no longer holds through
//! [`Archive`], and knows neither disk, clock, thread nor randomness.
//!
//! ```text
//!  request -> check -> (log) -> Store --put, delete_range, txn--> index: key -> newest -> history
//!                                 |  \                            ring:  records not yet archived
//!                                 |   `--> Applied: reply, records, lease changes -> watch
//!                                 |
//!                               view() -> View: range, count, history, hash_kv, read
//!                                                |
//!                            values from the ring, or from the Archive (segments)
//! ```
//!
//! The writer is alone; views are immutable, cost O(1) to make and are read on
//! any thread. What both share, behind locks held for microseconds, is the
//! `tail`: the ring and the archive's present form.

mod archive;
mod check;
mod compaction;
mod error;
mod hash;
mod index;
mod quota;
mod range;
mod record;
mod ring;
mod span;
mod store;
mod tail;
mod txn;
mod view;
pub mod watch;

#[cfg(test)]
mod tests;

pub use archive::{Archive, ArchiveError, EmptyArchive};
pub use check::{
    RequestError, check_delete, check_put, check_range, check_txn, is_read_only, is_serializable,
};
pub use compaction::{Compaction, CompactionJob, CompactionStep};
pub use error::{ApplyError, CompactError, ReadError};
pub use hash::{CompactionHash, KvHash};
pub use quota::{LEASE_COST, put_cost, txn_cost};
pub use range::{Item, RangeSummary};
pub use record::{
    RAW_KEY_LEN, RAW_TOMBSTONE_KEY_LEN, RawKey, Record, Revision, encode, encode_kv,
    encode_tombstone,
};
pub use span::Span;
pub use store::{Applied, LeaseChange, RestoredRecord, Store};
pub use view::View;

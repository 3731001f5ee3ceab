//! The multi-version key-value store: revisions, index, transactions, compaction
//! and watch. Pure: it reads records it no longer holds through [`Archive`], and
//! knows neither disk, clock, thread nor randomness.

mod archive;
mod record;
pub mod watch;

pub use archive::{Archive, ArchiveError, EmptyArchive};
pub use record::{
    RAW_KEY_LEN, RAW_TOMBSTONE_KEY_LEN, RawKey, Record, Revision, encode, encode_kv,
    encode_tombstone,
};

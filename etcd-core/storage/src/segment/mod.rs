//! Immutable files of revisions.
//!
//! Records arrive in revision order, so a file sorted by revision arises by appending.
//! The values come first and are never read to open a segment: everything else about
//! the records is in a footer of fixed-size entries, which is what recovery, search and
//! compaction read. See [`layout`] for the bytes.

mod error;
mod layout;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::SegmentError;
pub use reader::{Records, Scan, Segment};
pub use writer::{SegmentInfo, SegmentWriter};

/// What is known of a stored change without its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta {
    /// Main part of the revision.
    pub main: i64,
    /// Sub part of the revision: the change's number in its transaction.
    pub sub: i64,
    /// Whether the change deletes the key.
    pub tombstone: bool,
    /// Main revision at which the key's generation began.
    pub create_revision: i64,
    /// Number of the change in its generation, from 1; 0 for a tombstone.
    pub version: i64,
    /// The lease the key is attached to, 0 for none.
    pub lease: i64,
    /// The revision of the key that this one replaces.
    pub replaces: Option<(i64, i64)>,
}

impl RecordMeta {
    /// The revision, ordered as segments are.
    pub fn revision(&self) -> (i64, i64) {
        (self.main, self.sub)
    }
}

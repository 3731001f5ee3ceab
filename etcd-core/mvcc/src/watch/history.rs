//! What a watch may read of the past.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{ArchiveError, Record, Revision};

/// The history of the store at one moment, immutable while it is borrowed.
///
/// After a compaction at C the hub asks only for revisions from C on; of these
/// every record must still be there, a tombstone at C itself included, because a
/// watch that resumes exactly at C is owed the deletion.
pub trait History {
    /// The newest main revision.
    fn revision(&self) -> i64;

    /// The main revision of the last compaction; -1 or 0 if there was none.
    fn compact_revision(&self) -> i64;

    /// Visits all records with `from_main <= main <= to_main` in revision order,
    /// until the visitor breaks.
    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError>;

    /// The raw bucket value at a revision.
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError>;
}

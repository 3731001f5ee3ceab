//! Where records live that the ring no longer holds.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::record::{Record, Revision};

/// Why a record could not be read from the archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The index names a revision that the archive does not hold.
    #[error("revision {}_{} is not in the archive", .0.main, .0.sub)]
    NotFound(Revision),
    /// A compaction has dropped what a reader asked for since it began: it should
    /// begin anew with a fresh view.
    #[error("compacted while it was read")]
    Compacted,
    /// The medium could not be read or its content is damaged.
    #[error("archive: {0}")]
    Read(String),
}

/// Records that are no longer in the ring: in segments on a disk. `replica`
/// implements it over `storage`; it is immutable, a new one takes its place when
/// segments are added or rewritten.
pub trait Archive: Send + Sync {
    /// The raw bucket value at a revision.
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError>;

    /// Visits the records with `from_main <= main <= to_main` in revision order,
    /// until the visitor breaks. Records that a compaction has dropped may be
    /// missing, and may also still be there.
    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError>;
}

/// An archive that holds nothing: of a store whose records are all in the ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyArchive;

impl Archive for EmptyArchive {
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        Err(ArchiveError::NotFound(rev))
    }

    fn scan(
        &self,
        _from_main: i64,
        _to_main: i64,
        _visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        Ok(())
    }
}

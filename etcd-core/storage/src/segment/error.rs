use std::path::{Path, PathBuf};

use crate::disk::DiskError;

/// Why a segment could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file is not a whole segment, or has changed since it was written.
    #[error("segment: {} is corrupt: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// What does not check out.
        reason: String,
    },
    /// The file is of a format that this version does not know.
    #[error("segment: {} has format version {version}, which is not known", file.display())]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: u32,
    },
    /// The segment has no record of that revision.
    #[error("segment: {} has no revision {main}.{sub}", file.display())]
    NotFound {
        /// The file.
        file: PathBuf,
        /// Main part of the revision.
        main: i64,
        /// Sub part of the revision.
        sub: i64,
    },
    /// A record that does not follow the one before it.
    #[error("segment: revision {main}.{sub} does not follow {after_main}.{after_sub}")]
    OutOfOrder {
        /// Main part of the record's revision.
        main: i64,
        /// Sub part of the record's revision.
        sub: i64,
        /// Main part of the revision before it.
        after_main: i64,
        /// Sub part of the revision before it.
        after_sub: i64,
    },
    /// A record with a number or a size that the format has no room for.
    #[error("segment: revision {main}.{sub} does not fit: {what}")]
    DoesNotFit {
        /// Main part of the record's revision.
        main: i64,
        /// Sub part of the record's revision.
        sub: i64,
        /// What is out of range.
        what: &'static str,
    },
    /// A segment without records.
    #[error("segment: {} would be empty", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The disk failed.
    #[error("segment: {0}")]
    Disk(#[from] DiskError),
}

impl SegmentError {
    pub(super) fn corrupt(file: &Path, reason: impl Into<String>) -> SegmentError {
        SegmentError::Corrupt {
            file: file.to_path_buf(),
            reason: reason.into(),
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, SegmentError::Disk(e) if e.is_no_space())
    }
}

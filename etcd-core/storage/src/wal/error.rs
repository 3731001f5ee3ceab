use std::path::{Path, PathBuf};

use crate::disk::DiskError;

/// Why the log could not be created, read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were synced have changed, or a file of the log is missing. Nothing
    /// was altered; the member must be replaced under a new ID.
    #[error("wal: {} is corrupt at offset {offset}: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the record that does not check out starts, in bytes.
        offset: u64,
        /// What does not check out.
        reason: String,
    },
    /// Files of the log belong to different members or clusters.
    #[error("wal: conflicting metadata found in {}", file.display())]
    MetadataConflict {
        /// The file whose metadata differs from that of the files before it.
        file: PathBuf,
    },
    /// The log has no record of the snapshot it was to be read from.
    #[error("wal: snapshot not found (index {index}, term {term})")]
    SnapshotNotFound {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The log has a snapshot of that index, and of another term.
    #[error("wal: snapshot mismatch at index {index}: expected term {expected}, found {found}")]
    SnapshotMismatch {
        /// Its index.
        index: u64,
        /// The term asked for.
        expected: u64,
        /// The term in the log.
        found: u64,
    },
    /// No file of the log reaches back to the index asked for.
    #[error("wal: file not found: {} has no file for index {index}", dir.display())]
    FileNotFound {
        /// The log's directory.
        dir: PathBuf,
        /// The index asked for.
        index: u64,
    },
    /// There is a log already where one was to be created.
    #[error("wal: {} exists already", dir.display())]
    Exists {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Another process has the log open.
    #[error("wal: {} is locked by another process", file.display())]
    Locked {
        /// The locked file.
        file: PathBuf,
    },
    /// A snapshot record that readers would refuse.
    #[error("wal: a snapshot record of index {index} needs the members of that index")]
    SnapshotWithoutMembers {
        /// Its index.
        index: u64,
    },
    /// Entries or a hard state that no raft produces, and that a replay would take for
    /// damage. Nothing was written.
    #[error("wal: refused to write {what}")]
    Refused {
        /// What is wrong with it.
        what: &'static str,
    },
    /// An earlier write or sync failed. What the disk holds is unknown until the log is
    /// opened anew, so nothing more is written.
    #[error("wal: closed by an earlier failure")]
    Poisoned,
    /// The disk failed.
    #[error("wal: {0}")]
    Disk(#[from] DiskError),
}

impl WalError {
    pub(super) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> WalError {
        WalError::Corrupt {
            file: file.to_path_buf(),
            offset,
            reason: reason.into(),
        }
    }

    /// Whether the disk is full: the log opens again once there is space.
    pub fn is_no_space(&self) -> bool {
        matches!(self, WalError::Disk(e) if e.is_no_space())
    }
}

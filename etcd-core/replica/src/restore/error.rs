//! Why nothing was restored.

use std::io;
use std::path::PathBuf;

use etcd_storage::bolt::{BoltError, LayoutError, TrailerError};
use etcd_storage::disk::DiskError;
use etcd_storage::wal::WalError;

use super::change::ChangesError;
use crate::snapshot_file::SnapshotFileError;

/// Why nothing was restored. What a failed attempt had written is removed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is not what was saved.
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    /// The file is damaged, or no snapshot of etcd.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFileError),
    /// Something is there already.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// The changes could not be had.
    #[error("changes after the snapshot: {0}")]
    Changes(ChangesError),
    /// Changes are missing.
    #[error("the changes of revision {missing} are missing: those of {found} come next")]
    Gap {
        /// The revision that should have come.
        missing: i64,
        /// The one that came.
        found: i64,
    },
    /// A change that no cluster makes.
    #[error("changes of revision {revision}: {reason}")]
    Change {
        /// Its revision.
        revision: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The revision that was asked for is not to be had.
    #[error("revision {target} is not to be had: there are {first} (the snapshot's) to {last}")]
    Target {
        /// The revision that was asked for.
        target: i64,
        /// The snapshot's revision: the first one.
        first: i64,
        /// The last one that there is.
        last: i64,
    },
    /// The revision would not fit.
    #[error("revision {revision} cannot be raised by {bump}")]
    Bump {
        /// The revision.
        revision: i64,
        /// How much it was to be raised.
        bump: u64,
    },
    /// Of the new store.
    #[error("the new store: {0}")]
    Store(#[from] LayoutError),
    /// Of the new log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<BoltError> for RestoreError {
    fn from(error: BoltError) -> RestoreError {
        RestoreError::Snapshot(error.into())
    }
}

impl RestoreError {
    /// Whether the disk is full: more space, and the same restore works.
    pub fn is_no_space(&self) -> bool {
        match self {
            RestoreError::Store(LayoutError::Write(error)) => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            RestoreError::Wal(WalError::Disk(error)) | RestoreError::Disk(error) => {
                error.is_no_space()
            }
            _ => false,
        }
    }
}

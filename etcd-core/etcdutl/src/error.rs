//! What can go wrong, with etcd's exit codes.

use std::path::PathBuf;

use etcd_replica::{RestoreError, SnapshotFileError};
use etcd_storage::bolt::TrailerError;
use etcd_storage::disk::DiskError;

/// Printed as `Error: ...`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{command} requires exactly one argument")]
    OneFile { command: &'static str },
    #[error("--mark-compacted required if --revision-bump > 0")]
    MarkCompacted,
    #[error("unsupported output format")]
    UnknownFormat,
    #[error("{0} not supported as output format")]
    Format(&'static str),
    #[error("stat {0}: no such file or directory")]
    NoFile(PathBuf),
    #[error("data-dir {0:?} not empty or could not be read")]
    DataDir(String),
    #[error("wal-dir {0:?} not empty or could not be read")]
    WalDir(String),
    #[error("{0}")]
    Cluster(String),
    #[error("snapshot missing hash but --skip-hash-check=false")]
    MissingHash,
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: SnapshotFileError,
    },
    #[error(transparent)]
    Restore(RestoreError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Error {
    /// 128 for wrong arguments, 4 for a format, 1 else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::OneFile { .. } | Error::MarkCompacted => 128,
            Error::UnknownFormat | Error::Format(_) => 4,
            Error::NoFile(_)
            | Error::DataDir(_)
            | Error::WalDir(_)
            | Error::Cluster(_)
            | Error::MissingHash
            | Error::File { .. }
            | Error::Restore(_)
            | Error::Disk(_) => 1,
        }
    }
}

impl From<RestoreError> for Error {
    fn from(error: RestoreError) -> Error {
        match error {
            RestoreError::Trailer(TrailerError::Missing { .. }) => Error::MissingHash,
            other => Error::Restore(other),
        }
    }
}

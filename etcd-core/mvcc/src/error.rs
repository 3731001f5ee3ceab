//! Why a read, a write or a compaction is refused. The texts that clients see
//! are made from these in `server`.

use crate::archive::ArchiveError;

/// Why a read at a revision fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision is below the compact revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision is above the current one.
    #[error("required revision is a future revision")]
    Future,
    /// A record could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Why a write is refused when it is applied. It has then changed nothing, but
/// for [`ApplyError::Archive`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A range in a transaction names a compacted revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// A range in a transaction names a future revision.
    #[error("required revision is a future revision")]
    Future,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The lease to attach does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A record could not be read. The store may hold half of a transaction and
    /// must not be used any more: the process has to end.
    #[error(transparent)]
    Archive(ArchiveError),
}

impl From<ReadError> for ApplyError {
    fn from(error: ReadError) -> ApplyError {
        match error {
            ReadError::Compacted => ApplyError::Compacted,
            ReadError::Future => ApplyError::Future,
            ReadError::Archive(error) => ApplyError::Archive(error),
        }
    }
}

/// Why a compaction is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The revision is not above the compact revision.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision is above the current one.
    #[error("required revision is a future revision")]
    Future,
}

//! Why a member's directory does not yield a state.

use std::path::PathBuf;

use etcd_mvcc::ArchiveError;
use etcd_storage::bolt::BoltError;
use etcd_storage::disk::DiskError;
use etcd_storage::manifest::ManifestError;
use etcd_storage::rows::RowsError;
use etcd_storage::segment::SegmentError;
use etcd_storage::wal::WalError;

use crate::schema::RowError;

/// A failure of the store: segments, rows, manifest or an image.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Of a segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Of the manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Of the file of rows.
    #[error(transparent)]
    RowsFile(#[from] RowsError),
    /// Of a row.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Of an image.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// Of a record.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Of a row of the bucket `lease`.
    #[error(transparent)]
    LeaseRow(#[from] crate::lease::LeaseRowError),
    /// A key is attached to a lease that does not exist.
    #[error("a key is attached to lease {0:x}, which does not exist")]
    Lease(i64),
    /// Authentication is on, and this version would serve everybody.
    #[error(
        "authentication is enabled in this data, and this version has none: it would serve everybody. Run it with etcd, or disable authentication there first"
    )]
    AuthEnabled,
    /// An image is no store of etcd's.
    #[error("{path}: {reason}")]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a member cannot be opened. Nothing was altered, but for a torn tail of the
/// log that was cut off.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Of the log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log does not continue the store.
    #[error(
        "the log begins at index {log} and the store ends at index {store}: entries between are missing"
    )]
    Gap {
        /// First index of the log.
        log: u64,
        /// Index of the last checkpoint.
        store: u64,
    },
    /// The log names a snapshot that is not there.
    #[error("the log names a snapshot at index {index}, but {path} is missing")]
    SnapshotMissing {
        /// Index of the snapshot.
        index: u64,
        /// Where its image should be.
        path: PathBuf,
    },
    /// The member was stopped for a damaged segment, and it still is damaged.
    #[error(
        "{0}. The member was stopped for it, and the others are a quorum: remove it from the cluster, and add a new member with a directory of its own"
    )]
    Quarantined(SegmentError),
    /// The store is of another member or cluster than the log.
    #[error(
        "the store belongs to member {store_member:x} of cluster {store_cluster:x}, the log to member {log_member:x} of cluster {log_cluster:x}"
    )]
    Foreign {
        /// By the store.
        store_member: u64,
        /// By the store.
        store_cluster: u64,
        /// By the log.
        log_member: u64,
        /// By the log.
        log_cluster: u64,
    },
    /// There is a store but no log.
    #[error("{0} holds a store, but there is no log: refusing to start over beside it")]
    LogMissing(PathBuf),
    /// The log of stock etcd goes on with a change of users, roles or authentication,
    /// which this version would not know how to apply.
    #[error(
        "the log changes users, roles or authentication at index {index}, and this version has none. Let etcd run until its store is written, and disable authentication there first"
    )]
    AuthInLog {
        /// Index of the entry.
        index: u64,
    },
    /// The restored state makes no sense to raft.
    #[error(transparent)]
    Raft(#[from] etcd_raft::ConfigError),
}

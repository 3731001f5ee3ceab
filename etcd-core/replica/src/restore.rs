//! A new member's directory from a snapshot file, as `etcdutl snapshot restore` makes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::HardState;
use etcd_proto::walpb;
use etcd_storage::bolt::{TrailerError, verify_trailer};
use etcd_storage::dir::create_durable;
use etcd_storage::disk::{Disk, DiskError, OpenMode};
use etcd_storage::wal::{Wal, WalError};

use crate::checkpoint::store_directory;
use crate::error::StoreError;
use crate::identity::cluster_id;
use crate::import::import_as;
use crate::member::Member;
use crate::membership::Membership;
use crate::open::founding_entries;

/// What the restored member is.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The restored member.
    pub member_id: u64,
    /// All members of the new cluster, that one included. They replace those in the
    /// snapshot.
    pub members: Vec<Member>,
    /// How much the revision is raised; all revisions before are marked as compacted,
    /// so that no watch of the old cluster goes on as if nothing had happened. 0
    /// leaves both as they are.
    pub bump_revision: u64,
    /// Take a file without a digest, such as one copied from a data directory.
    pub skip_hash_check: bool,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster's ID.
    pub cluster_id: u64,
    /// The store's revision.
    pub revision: i64,
    /// Revision up to which it is compacted; 0 if it is not.
    pub compact_revision: i64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is not what was saved.
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    /// Something is there already.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// Of the file's content, or the new store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of the new log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It failed, and what it had written could not be removed.
    #[error("{source}; what was written is still there: {left}")]
    Left {
        /// Why it failed.
        source: Box<RestoreError>,
        /// Why it is still there.
        left: DiskError,
    },
    /// The revision would not fit.
    #[error("the revision cannot be raised by {0}")]
    Bump(u64),
}

/// Makes a member's directory and log from the snapshot at `file`. The file is
/// verified before anything is written; the log, without which no server starts on
/// the directory, comes last.
///
/// # Errors
/// [`RestoreError`]; but for [`RestoreError::Left`], both directories are gone then.
pub fn restore(
    disk: &Arc<dyn Disk>,
    file: &Path,
    directory: &Path,
    wal_directory: &Path,
    restore: &Restore,
) -> Result<Restored, RestoreError> {
    for place in [directory, wal_directory] {
        if disk.exists(place)? && !disk.list(place)?.is_empty() {
            return Err(RestoreError::NotEmpty(place.to_owned()));
        }
    }
    let bump = i64::try_from(restore.bump_revision)
        .map_err(|_| RestoreError::Bump(restore.bump_revision))?;
    let bytes = disk.open(file, OpenMode::Read)?.map()?;
    if !restore.skip_hash_check {
        verify_trailer(&bytes)?;
    }
    let done = write(disk, file, directory, wal_directory, restore, bump);
    let Err(error) = done else {
        return done;
    };
    for place in [wal_directory, directory] {
        if let Err(left) = disk.remove_dir_all(place) {
            let source = Box::new(error);
            return Err(RestoreError::Left { source, left });
        }
    }
    Err(error)
}

fn write(
    disk: &Arc<dyn Disk>,
    file: &Path,
    directory: &Path,
    wal_directory: &Path,
    restore: &Restore,
    bump: i64,
) -> Result<Restored, RestoreError> {
    let store = store_directory(directory);
    create_durable(&**disk, &directory.join("snap"))?;
    create_durable(&**disk, &store)?;
    let entries = founding_entries(&restore.members);
    let last = entries.len() as u64;
    let manifest = import_as(&**disk, &store, file, bump, |rows| {
        rows.membership = Membership::restore(restore.members.clone(), Default::default());
        rows.conf_state = rows.membership.conf_state();
        rows.consistent_index = last;
        rows.term = 1;
    })?;
    let ids: Vec<u64> = restore.members.iter().map(|m| m.id).collect();
    let metadata = Metadata {
        node_id: restore.member_id,
        cluster_id: cluster_id(&ids),
    };
    if let Some(above) = wal_directory.parent() {
        create_durable(&**disk, above)?;
    }
    let mut wal = Wal::create(disk.clone(), wal_directory, &metadata)?;
    let state = HardState {
        term: 1,
        vote: ids.iter().copied().min().unwrap_or_default(),
        commit: last,
    };
    wal.append(Some(&state), &entries)?;
    wal.sync()?;
    wal.save_snapshot(&walpb::Snapshot {
        index: last,
        term: 1,
        conf_state: Some(manifest.conf_state.clone()),
    })?;
    Ok(Restored {
        cluster_id: metadata.cluster_id,
        revision: manifest.revision,
        compact_revision: manifest.compact_revision,
    })
}

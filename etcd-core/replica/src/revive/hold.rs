//! Keeping a survivor's directory from being started meanwhile.

use std::io::ErrorKind;
use std::path::Path;

use etcd_storage::disk::{Disk, DiskError, Lock, LockKind};
use etcd_storage::wal::Wal;

use super::ReviveError;
use crate::error::OpenError;

/// Takes the locks that a server would: those of the log's files, and stock etcd's of its
/// store. Nothing is altered.
///
/// # Errors
/// [`ReviveError::Survivor`] if a server runs on it, [`ReviveError::Empty`].
pub(super) fn hold(
    disk: &dyn Disk,
    directory: &Path,
    wal_directory: &Path,
) -> Result<Vec<Box<dyn Lock>>, ReviveError> {
    if !Wal::exists(disk, wal_directory).map_err(OpenError::from)? {
        return Err(ReviveError::Empty(wal_directory.to_owned()));
    }
    let mut locks = Vec::new();
    for entry in disk.list(wal_directory).map_err(OpenError::from)? {
        if entry.name.to_string_lossy().ends_with(".wal") {
            let path = wal_directory.join(&entry.name);
            locks.extend(lock(disk, &path, LockKind::Record)?);
        }
    }
    let stock = directory.join("snap").join("db");
    if disk.exists(&stock).map_err(OpenError::from)? {
        locks.extend(lock(disk, &stock, LockKind::Flock)?);
    }
    Ok(locks)
}

fn lock(
    disk: &dyn Disk,
    path: &Path,
    kind: LockKind,
) -> Result<Option<Box<dyn Lock>>, ReviveError> {
    match disk.lock(path, kind) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if is_read_only(&error) => Ok(None),
        Err(error) => Err(OpenError::from(error).into()),
    }
}

fn is_read_only(error: &DiskError) -> bool {
    error.source.kind() == ErrorKind::ReadOnlyFilesystem
}

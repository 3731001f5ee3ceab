//! A new member's directory from a snapshot file, as `etcdutl snapshot restore` makes it,
//! and with changes that came after the snapshot.
//!
//! ```text
//! file -> verify_trailer -> check -> database: rows of the file, then of the changes ─┐
//!                                    founding: log of a new cluster ──────────────────┴─> rename
//! ```

mod change;
mod database;
mod error;
mod founding;
mod leases;
mod origin;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_storage::bolt::verify_trailer;
use etcd_storage::dir::create_durable;
use etcd_storage::disk::{Disk, OpenMode};

use crate::member::Member;
use crate::membership::Membership;
use crate::snapshot_file::SnapshotFile;

pub use change::{Change, ChangeEvent, ChangedLease, ChangesError};
pub use error::RestoreError;
pub use leases::UNKNOWN_LEASE_TTL_S;

pub(crate) use database::Database;
pub(crate) use founding::Founding;
pub(crate) use origin::Origin;

/// What the restored member is, and what of the snapshot and the changes is taken.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The restored member.
    pub member_id: u64,
    /// All members of the new cluster, that one included. They replace those in the
    /// snapshot.
    pub members: Vec<Member>,
    /// Main revision at which the store is to be; `None`: all that there is. It must lie
    /// between the snapshot's and that of the last change.
    pub revision: Option<i64>,
    /// How much the revision is raised then; all revisions before are marked as
    /// compacted, so that no watch of the old cluster goes on as if nothing had
    /// happened. 0 leaves both as they are.
    pub bump_revision: u64,
    /// Take a file without a digest, such as one copied from a data directory.
    pub skip_hash_check: bool,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster's ID.
    pub cluster_id: u64,
    /// Main revision at which the snapshot was taken.
    pub snapshot_revision: i64,
    /// The store's revision before it was raised: what it holds.
    pub content_revision: i64,
    /// The store's revision.
    pub revision: i64,
    /// Revision up to which it is compacted; 0 if it is not.
    pub compact_revision: i64,
    /// Leases that keys are attached to and of which no table told the time to live;
    /// they got [`UNKNOWN_LEASE_TTL_S`].
    pub unknown_leases: u64,
    /// Whether authentication is on: our server refuses such a directory.
    pub auth_enabled: bool,
}

/// Makes a member's directory and log from the snapshot at `file`: of the layout of
/// stock etcd (`snap/db`, a log, and for etcd before 3.7 a `.snap` file), on which stock
/// etcd 3.5 to 3.7 starts and our server too, which then makes its own store of it.
///
/// The file, also one of a stock etcd, is read three times from front to back: its
/// digest is verified, then all its pages (as bbolt's own check does) before anything is
/// written. Memory does not depend on its size, whatever its bytes say.
///
/// `directory` (`<data-dir>/member`) appears whole and durably, or not at all: it is made
/// beside its place, with `.restoring` behind its name, and renamed. What an attempt left
/// that was cut off is removed by the next one. A log outside of `directory` is renamed
/// first; without the directory no server starts on it.
///
/// # What the caller checks
/// That the file is of the right cluster: nothing in it tells reliably. That nobody uses
/// the directories. Whether what was restored is what was saved:
/// [`SnapshotFile::hash_kv`] of `snap/db` equals HashKV of the original at
/// [`Restored::content_revision`] if both are compacted to the same revision and
/// `bump_revision` is 0. Whether a server that is to run on it can:
/// [`Restored::auth_enabled`].
///
/// # Errors
/// [`RestoreError`]; both directories are then as they were: empty or not there.
pub fn restore(
    disk: &Arc<dyn Disk>,
    file: &Path,
    directory: &Path,
    wal_directory: &Path,
    restore: &Restore,
) -> Result<Restored, RestoreError> {
    let mut none = std::iter::empty();
    restore_with(disk, file, &mut none, directory, wal_directory, restore)
}

/// As [`restore`], with the changes that were made after the snapshot, up to
/// [`Restore::revision`]: a restore to a point in time.
///
/// `changes` are those of one cluster without gaps, in ascending order of revisions, from
/// the one after the snapshot's (earlier ones are passed over) to at least the one that
/// is asked for. They are consumed to their end, and only one item is held at a time.
/// See [`Change`] for what each says. They are written behind the snapshot's rows as they
/// come, so that the result's HashKV at its revision is the original's.
///
/// # What the caller checks
/// Besides what [`restore`] says: that the changes are of the cluster of the snapshot,
/// none of them altered or left out at the end: a missing end is only noticed if
/// [`Restore::revision`] says how far they go.
///
/// # Errors
/// As [`restore`]; [`RestoreError::Gap`] if changes are missing in between,
/// [`RestoreError::Target`] if the revision is not to be had, [`RestoreError::Changes`]
/// for what the iterator fails with.
pub fn restore_with(
    disk: &Arc<dyn Disk>,
    file: &Path,
    changes: &mut dyn Iterator<Item = Result<Change, ChangesError>>,
    directory: &Path,
    wal_directory: &Path,
    restore: &Restore,
) -> Result<Restored, RestoreError> {
    let places = Places::new(directory, wal_directory);
    places.check(&**disk)?;
    if !restore.skip_hash_check {
        verify_trailer(&*disk.open(file, OpenMode::Read)?)?;
    }
    let snapshot = SnapshotFile::open_file(&**disk, file)?;
    snapshot.check()?;
    places.clear(&**disk)?;
    let done = write(disk, &snapshot, changes, &places, restore);
    if done.is_err() {
        // What failed is the error to tell; what is left is removed the next time.
        let _ = places.clear(&**disk);
    }
    done
}

pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    origin: &dyn Origin,
    changes: &mut dyn Iterator<Item = Result<Change, ChangesError>>,
    places: &Places<'_>,
    restore: &Restore,
) -> Result<Restored, RestoreError> {
    let membership = Membership::restore(restore.members.clone(), Default::default());
    let snap = places.making.join("snap");
    create_durable(&**disk, &snap)?;
    let database = Database {
        membership: &membership,
        index: restore.members.len() as u64,
        until: restore.revision,
        bump: restore.bump_revision,
    };
    let written = database.write(&**disk, &snap.join("db"), origin, changes)?;
    let founding = Founding {
        member_id: restore.member_id,
        members: &restore.members,
        membership: &membership,
        cluster_version: written.cluster_version.as_deref(),
    };
    let cluster_id = founding.write(disk, &places.making_wal, &snap)?;
    disk.sync_dir(&snap)?;
    disk.sync_dir(&places.making)?;
    places.take(&**disk)?;
    Ok(Restored {
        cluster_id,
        ..written.restored
    })
}

/// Where things are made, and where they go.
pub(crate) struct Places<'a> {
    directory: &'a Path,
    /// Where the directory is made.
    pub(crate) making: PathBuf,
    /// The log's, if it is not in the directory.
    wal: Option<&'a Path>,
    making_wal: PathBuf,
}

impl<'a> Places<'a> {
    pub(crate) fn new(directory: &'a Path, wal: &'a Path) -> Places<'a> {
        let making = restoring(directory);
        match wal.strip_prefix(directory) {
            Ok(below) if below != Path::new("") => Places {
                directory,
                making_wal: making.join(below),
                making,
                wal: None,
            },
            _ => Places {
                directory,
                making,
                wal: Some(wal),
                making_wal: restoring(wal),
            },
        }
    }

    /// Whether nothing is in the way.
    pub(crate) fn check(&self, disk: &dyn Disk) -> Result<(), RestoreError> {
        for place in [Some(self.directory), self.wal].into_iter().flatten() {
            if disk.exists(place)? && !disk.list(place)?.is_empty() {
                return Err(RestoreError::NotEmpty(place.to_owned()));
            }
        }
        Ok(())
    }

    /// Removes what an attempt has left.
    pub(crate) fn clear(&self, disk: &dyn Disk) -> Result<(), RestoreError> {
        disk.remove_dir_all(&self.making)?;
        disk.remove_dir_all(&self.making_wal)?;
        Ok(())
    }

    /// Renames what was made. The directory comes last: a log without it starts nothing.
    fn take(&self, disk: &dyn Disk) -> Result<(), RestoreError> {
        let renames = [
            self.wal.map(|wal| (&self.making_wal, wal)),
            Some((&self.making, self.directory)),
        ];
        for (from, to) in renames.into_iter().flatten() {
            // Found empty before; not every file system renames onto a directory.
            disk.remove_dir_all(to)?;
            disk.rename(from, to)?;
            if let Some(parent) = to.parent() {
                disk.sync_dir(parent)?;
            }
        }
        Ok(())
    }
}

fn restoring(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".restoring");
    name.into()
}

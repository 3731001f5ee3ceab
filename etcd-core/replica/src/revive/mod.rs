//! A new cluster of one from what a member of a lost one has left: for when too many
//! others are gone for ever.
//!
//! ```text
//! inspect: log + store, read only -> Found            (who has the most? who led last?)
//! revive:  log + store, read only -> all of the log applied -> restore's writer -> rename
//! ```

mod found;
mod hold;
mod origin;

use std::path::Path;
use std::sync::Arc;

use etcd_storage::dir::create_durable;
use etcd_storage::disk::{Disk, DiskError};

use crate::applier::{Applier, ApplierConfig, ApplyFault};
use crate::checkpoint::store_directory;
use crate::error::OpenError;
use crate::import::import;
use crate::lease::LeaseConfig;
use crate::open::{fresh, load};
use crate::restore::{self, Places, Restore, RestoreError, Restored};

pub use found::{Found, Layout, inspect};

use found::{Base, Survivor};
use hold::hold;
use origin::CaptureOrigin;

/// Entries that are applied at once.
const BATCH: usize = 1000;

/// What became of a survivor.
#[derive(Clone, Debug, PartialEq)]
pub struct Revived {
    /// What it was.
    pub found: Found,
    /// The new cluster. [`Restored::content_revision`] is the store's revision with the
    /// whole log applied.
    pub restored: Restored,
    /// Entries at the end of the log that the survivor did not know to be committed.
    /// Some of them may have been acknowledged to a client all the same, so they are
    /// applied too; others were not, and their clients were told nothing.
    pub uncommitted: u64,
}

/// Why no new cluster was made. The survivor's directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReviveError {
    /// The survivor cannot be read, or is in use.
    #[error(transparent)]
    Survivor(#[from] OpenError),
    /// There is no log: it is no member, or an empty volume.
    #[error("{0} holds no log: there is nothing to revive")]
    Empty(std::path::PathBuf),
    /// The log holds an entry that cannot be applied here, such as one about users.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
    /// The new directory could not be made.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It failed, and what it had written beside the place could not be removed.
    #[error("{source}; what was written is still there: {left}")]
    Left {
        /// Why it failed.
        source: Box<ReviveError>,
        /// Why it is still there.
        left: DiskError,
    },
}

/// Makes a new cluster, of the members in `wanted`, from the log and the store of one
/// member of an old one, ours or stock etcd's, that does not run. All of its log is
/// applied, the end that it did not know to be committed too: a member that is asked
/// for its vote promises what is in its log, not what it knows to be committed.
///
/// `from` and `from_wal` are read and locked, and not altered; a file system that can
/// only be read is taken for one that nobody writes to. The new directory has the layout
/// of [`restore`](crate::restore()) and appears as one of it does. The store's index is
/// held in memory, as by a running server; a store of stock etcd is first made one of
/// ours in the new directory, for as long as it takes.
///
/// # What the caller checks
/// That this is the survivor with the most: the highest [`Found::last_term`], then the
/// highest [`Found::last_index`], of all that can still be reached. That those who are
/// given up will never start again with their old data, as the old cluster could still
/// go on without this member: nothing here keeps two clusters apart but their IDs.
///
/// # Errors
/// [`ReviveError`]; the new directories are then as they were.
pub fn revive(
    disk: &Arc<dyn Disk>,
    from: &Path,
    from_wal: &Path,
    to: &Path,
    to_wal: &Path,
    wanted: &Restore,
) -> Result<Revived, ReviveError> {
    let places = Places::new(to, to_wal);
    places.check(&**disk)?;
    let _locks = hold(&**disk, from, from_wal)?;
    let survivor = Survivor::read(&**disk, from, from_wal)?;
    places.clear(&**disk).map_err(RestoreError::from)?;
    write(disk, from, &places, survivor, wanted).map_err(|error| match places.clear(&**disk) {
        Ok(()) => error,
        Err(left) => ReviveError::Left {
            source: Box::new(error),
            left,
        },
    })
}

fn write(
    disk: &Arc<dyn Disk>,
    from: &Path,
    places: &Places<'_>,
    survivor: Survivor,
    wanted: &Restore,
) -> Result<Revived, ReviveError> {
    let Survivor {
        found,
        base,
        entries,
    } = survivor;
    let config = ApplierConfig {
        member_id: found.member_id,
        max_learners: usize::MAX,
        quota_bytes: None,
        lease: LeaseConfig::default(),
    };
    let imported = places.making.join("store");
    let mut applier = match &base {
        Base::Fresh => fresh(config),
        Base::Ours(manifest) => {
            load(disk, &store_directory(from), manifest, config).map_err(OpenError::from)?
        }
        Base::Image { path } => {
            create_durable(&**disk, &imported).map_err(OpenError::from)?;
            let manifest = import(&**disk, &imported, path).map_err(OpenError::from)?;
            load(disk, &imported, &manifest, config).map_err(OpenError::from)?
        }
    };
    for batch in entries.chunks(BATCH) {
        applier.apply(batch)?;
        compact(&mut applier)?;
    }
    drop(entries);
    let uncommitted = found.last_index.saturating_sub(found.commit);
    let origin = CaptureOrigin::new(applier.capture(false));
    let made = restore::write(
        disk,
        &origin,
        &mut std::iter::empty(),
        places,
        wanted,
        &mut |disk| Ok(disk.remove_dir_all(&imported)?),
    )?;
    Ok(Revived {
        found,
        restored: made,
        uncommitted,
    })
}

/// Carries out the compactions that were applied.
fn compact(applier: &mut Applier) -> Result<(), ReviveError> {
    while applier.is_compacting() {
        applier
            .compact_step(BATCH)
            .map_err(|error| ApplyFault::Store {
                index: applier.index(),
                reason: error.to_string(),
            })?;
    }
    Ok(())
}

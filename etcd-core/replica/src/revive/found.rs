//! What a member's directory holds, told without altering anything.

use std::path::{Path, PathBuf};

use etcd_proto::raftpb::Entry;
use etcd_storage::disk::Disk;
use etcd_storage::manifest::Manifest;
use etcd_storage::wal::{Replay, Wal};

use super::ReviveError;
use crate::checkpoint::store_directory;
use crate::error::{OpenError, StoreError};
use crate::member::Member;
use crate::open::{image_path, newest_snapshot};
use crate::rows_file;
use crate::snapshot_file::{SnapshotFile, SnapshotFileError};

/// Whose store a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Ours, `store`.
    Ours,
    /// Stock etcd's, `snap/db`; also if ours is there too, and older.
    Stock,
    /// None yet: the log is all there is.
    LogOnly,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The member whose directory it is.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Whose store it is.
    pub layout: Layout,
    /// The highest term that the member has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: u64,
    /// Term of the last entry of the log. Of two members of a cluster the one with the
    /// higher one has more of what was agreed on, and of two with an equal one the one
    /// with the higher [`Found::last_index`].
    pub last_term: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// The highest index that it knew to be committed.
    pub commit: u64,
    /// Index of the last entry that is in the store.
    pub applied_index: u64,
    /// The store's revision at that index; those of entries after it come on top.
    pub revision: i64,
    /// Revision up to which the store is compacted; 0 if it is not.
    pub compact_revision: i64,
    /// Members of the cluster at that index.
    pub members: Vec<Member>,
    /// Whether authentication is on in the store: it cannot be revived here.
    pub auth_enabled: bool,
}

/// What a member's directory holds. Neither it nor the log is altered or locked: a server
/// that runs on it may make it look damaged.
///
/// # Errors
/// [`ReviveError::Empty`] if there is no log, [`ReviveError::Survivor`] if log or store
/// cannot be read.
pub fn inspect(
    disk: &dyn Disk,
    directory: &Path,
    wal_directory: &Path,
) -> Result<Found, ReviveError> {
    if !Wal::exists(disk, wal_directory).map_err(OpenError::from)? {
        return Err(ReviveError::Empty(wal_directory.to_owned()));
    }
    Ok(Survivor::read(disk, directory, wal_directory)?.found)
}

/// Where the state is that the log goes on from.
pub(super) enum Base {
    /// Nowhere.
    Fresh,
    /// In our store.
    Ours(Manifest),
    /// In a bbolt file: stock etcd's store, or a snapshot that a leader sent and that is
    /// not the store yet.
    Image { path: PathBuf },
}

/// A member's directory, read.
pub(super) struct Survivor {
    pub(super) found: Found,
    pub(super) base: Base,
    /// The entries that are not in the store.
    pub(super) entries: Vec<Entry>,
}

/// What a store says of itself.
struct Stored {
    index: u64,
    term: u64,
    revision: i64,
    compact_revision: i64,
    members: Vec<Member>,
    auth_enabled: bool,
}

impl Survivor {
    /// Reads log and store.
    pub(super) fn read(
        disk: &dyn Disk,
        directory: &Path,
        wal_directory: &Path,
    ) -> Result<Survivor, OpenError> {
        let (base, layout) = base(disk, directory, wal_directory)?;
        let stored = match &base {
            Base::Fresh => Stored {
                index: 0,
                term: 0,
                revision: 1,
                compact_revision: 0,
                members: Vec::new(),
                auth_enabled: false,
            },
            Base::Ours(manifest) => ours(disk, &store_directory(directory), manifest)?,
            Base::Image { path } => image(disk, path)?,
        };
        let from = newest_snapshot(disk, wal_directory, stored.index)?;
        let replay = Wal::read(disk, wal_directory, &from)?;
        let Replay {
            metadata,
            hard_state,
            mut entries,
            ..
        } = replay;
        entries.retain(|entry| entry.index > stored.index);
        if let Some(first) = entries.first()
            && first.index != stored.index + 1
        {
            return Err(OpenError::Gap {
                log: first.index,
                store: stored.index,
            });
        }
        let last = entries.last();
        let found = Found {
            member_id: metadata.node_id,
            cluster_id: metadata.cluster_id,
            layout,
            term: hard_state.term.max(stored.term),
            vote: hard_state.vote,
            last_term: last.map_or(stored.term, |entry| entry.term),
            last_index: last.map_or(stored.index, |entry| entry.index),
            commit: hard_state.commit.max(stored.index),
            applied_index: stored.index,
            revision: stored.revision,
            compact_revision: stored.compact_revision,
            members: stored.members,
            auth_enabled: stored.auth_enabled,
        };
        Ok(Survivor {
            found,
            base,
            entries,
        })
    }
}

/// The same choice as a start makes (`open_with`), which carries it out.
fn base(
    disk: &dyn Disk,
    directory: &Path,
    wal_directory: &Path,
) -> Result<(Base, Layout), OpenError> {
    let manifest = Manifest::load(disk, &store_directory(directory)).map_err(StoreError::from)?;
    let ours = manifest.as_ref().map_or(0, |m| m.index);
    let path = directory.join("snap").join("db");
    let stock = match disk.exists(&path)? {
        true => image(disk, &path)?.index,
        false => 0,
    };
    let received = newest_snapshot(disk, wal_directory, u64::MAX)?.index;
    let layout = match (manifest.is_some(), stock > ours) {
        (_, true) => Layout::Stock,
        (true, false) => Layout::Ours,
        (false, false) => Layout::LogOnly,
    };
    if received > ours.max(stock) {
        let path = image_path(directory, received);
        if !disk.exists(&path)? {
            let index = received;
            return Err(OpenError::SnapshotMissing { index, path });
        }
        return Ok((Base::Image { path }, layout));
    }
    Ok(match manifest {
        _ if stock > ours => (Base::Image { path }, layout),
        Some(manifest) => (Base::Ours(manifest), layout),
        None => (Base::Fresh, layout),
    })
}

fn ours(disk: &dyn Disk, store: &Path, manifest: &Manifest) -> Result<Stored, OpenError> {
    let rows = rows_file::read(disk, store, &manifest.rows)?;
    Ok(Stored {
        index: manifest.index,
        term: manifest.term,
        revision: manifest.revision,
        compact_revision: manifest.compact_revision,
        members: rows.membership.iter().cloned().collect(),
        auth_enabled: rows.auth_enabled(),
    })
}

fn image(disk: &dyn Disk, path: &Path) -> Result<Stored, OpenError> {
    let read = || -> Result<_, SnapshotFileError> {
        let file = SnapshotFile::open_file(disk, path)?;
        Ok((file.summary()?, file.standing()?))
    };
    let fault = |reason: String| {
        OpenError::Store(StoreError::Image {
            path: path.to_owned(),
            reason,
        })
    };
    let (summary, standing) = read().map_err(|e| fault(e.to_string()))?;
    if standing.index > 0 && standing.term == 0 {
        return Err(fault(
            "it is of an etcd before 3.5: run 3.5 on it first".into(),
        ));
    }
    Ok(Stored {
        index: standing.index,
        term: standing.term,
        revision: summary.revision,
        compact_revision: summary.compact_revision,
        members: standing.members,
        auth_enabled: summary.auth_enabled,
    })
}

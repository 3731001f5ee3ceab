//! The store of stock etcd, `snap/db`, taken over where its log already is ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use etcd_proto::etcdserverpb::InternalRaftRequest;
use etcd_proto::raftpb::{ConfState, Entry, EntryType};
use etcd_storage::bolt::Image;
use etcd_storage::disk::{Disk, Lock, LockKind, OpenMode};
use etcd_storage::manifest::Manifest;
use etcd_storage::wal::Wal;
use prost::Message as _;

use crate::applier::cluster::is_auth;
use crate::checkpoint::store_directory;
use crate::error::{OpenError, StoreError};
use crate::import;
use crate::open::newest_snapshot;
use crate::schema::Rows;

/// `snap/db` of a directory that stock etcd ran on, locked against a stock etcd that
/// still does.
pub(crate) struct StockStore {
    path: PathBuf,
    rows: Rows,
    _lock: Box<dyn Lock>,
}

impl StockStore {
    /// Finds one in a member's directory.
    ///
    /// # Errors
    /// [`OpenError::Disk`] if another process holds it, [`OpenError::Store`] if it is
    /// damaged, or of an etcd before 3.5.
    pub(crate) fn find(disk: &dyn Disk, directory: &Path) -> Result<Option<StockStore>, OpenError> {
        let path = directory.join("snap").join("db");
        if !disk.exists(&path)? {
            return Ok(None);
        }
        let lock = disk.lock(&path, LockKind::Flock)?;
        let image =
            Image::open(disk.open(&path, OpenMode::Read)?.map()?).map_err(StoreError::from)?;
        let rows = import::read_rows(&image)?;
        let store = StockStore {
            path,
            rows,
            _lock: lock,
        };
        store.check()?;
        Ok(Some(store))
    }

    /// Index of the last entry in it; 0 if it holds nothing yet.
    pub(crate) fn index(&self) -> u64 {
        self.rows.consistent_index
    }

    /// The store's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> Result<(), OpenError> {
        if self.index() == 0 {
            return Ok(());
        }
        if self.rows.term == 0 {
            return Err(self.fault("it is of an etcd before 3.5: run 3.5 on it first"));
        }
        Ok(())
    }

    /// Whether its members are those that raft counts with. The row that says whom it
    /// counts with is the old cluster's where stock etcdutl has restored a snapshot and
    /// no member has come or gone since; then the log's record says it.
    fn check_members(&self, recorded: Option<&ConfState>) -> Result<(), OpenError> {
        let sorted = |c: &ConfState| (set(&c.voters), set(&c.learners));
        let stored = &self.rows.conf_state;
        let members = sorted(&self.rows.membership.conf_state());
        let agree = stored.voters.is_empty()
            || members == sorted(stored)
            || recorded.is_some_and(|recorded| members == sorted(recorded));
        if agree {
            return Ok(());
        }
        Err(self.fault("its members are not those of its raft configuration"))
    }

    fn fault(&self, reason: &str) -> OpenError {
        OpenError::Store(StoreError::Image {
            path: self.path.clone(),
            reason: reason.to_owned(),
        })
    }

    /// Makes our store from it, unless ours is as new, or nothing is in it yet. The log
    /// must reach it: an entry between the two would be lost.
    ///
    /// # Errors
    /// [`OpenError::Gap`]; [`OpenError::Store`] if its members are not those of its raft,
    /// and for what [`import::import`] says.
    pub(crate) fn import(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        wal_directory: &Path,
    ) -> Result<bool, OpenError> {
        let store = store_directory(directory);
        let ours = Manifest::load(disk, &store).map_err(StoreError::from)?;
        if self.index() <= ours.map_or(0, |m| m.index) {
            return Ok(false);
        }
        if newest_snapshot(disk, wal_directory, u64::MAX)?.index > self.index() {
            // It received a snapshot that is not its store yet: `finish_switch` does
            // that, or refuses.
            return Ok(false);
        }
        let from = newest_snapshot(disk, wal_directory, self.index())?;
        self.check_members(from.conf_state.as_ref())?;
        let entries = Wal::read(disk, wal_directory, &from)?.entries;
        let beyond = entries.iter().find(|entry| entry.index > self.index());
        if let Some(entry) = beyond
            && entry.index != self.index() + 1
        {
            return Err(OpenError::Gap {
                log: entry.index,
                store: self.index(),
            });
        }
        import::import(disk, &store, &self.path)?;
        Ok(true)
    }

    /// Renames it, once nothing needs it any more; where it is then. A stock etcd never
    /// takes the new name for its store.
    pub(crate) fn set_aside(self, disk: &dyn Disk) -> Result<PathBuf, OpenError> {
        let name = format!("db.stock-{:016x}", self.index());
        let aside = self.path.with_file_name(name);
        disk.rename(&self.path, &aside)?;
        if let Some(parent) = self.path.parent() {
            disk.sync_dir(parent)?;
        }
        Ok(aside)
    }
}

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

/// Refuses a log whose entries after `index` this version would stop at: stock etcd
/// could not start on the directory any more by then.
pub(crate) fn refuse_auth(entries: &[Entry], index: u64) -> Result<(), OpenError> {
    let auth = |entry: &&Entry| {
        // What cannot be read is told when it is applied.
        entry.index > index
            && entry.r#type() == EntryType::EntryNormal
            && InternalRaftRequest::decode(entry.data.clone()).is_ok_and(|r| is_auth(&r))
    };
    match entries.iter().find(auth) {
        Some(entry) => Err(OpenError::AuthInLog { index: entry.index }),
        None => Ok(()),
    }
}

//! An archive in memory, for tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Archive, ArchiveError, CompactionJob, Record, RestoredRecord, Revision, Store};

/// Records by revision. A change makes a new archive, as of real segments.
#[derive(Clone, Default)]
pub(super) struct Memory(BTreeMap<Revision, Record>);

impl Memory {
    pub(super) fn shared(&self) -> Arc<dyn Archive> {
        Arc::new(self.clone())
    }

    /// Moves the store's ring up to a main revision in here.
    pub(super) fn take(&mut self, store: &mut Store, upto: i64) {
        // What was dropped is dropped here at once, so no deletion has to hide a put.
        for record in store.unarchived(upto) {
            if !store.has_dropped(record.rev) {
                self.0.insert(record.rev, record);
            }
        }
        store.archived(upto, self.shared());
    }

    /// One step of a compaction; drops what it names. `true` when it is done.
    pub(super) fn step(
        &mut self,
        store: &mut Store,
        job: &mut CompactionJob,
        budget: usize,
    ) -> bool {
        let step = job.step(store, budget).unwrap();
        for dead in &step.dead {
            self.0.remove(dead);
        }
        store.archived(store.archived_revision(), self.shared());
        step.done
    }

    /// Starts a store from here; drops what loading finds dead.
    pub(super) fn restore(&mut self, revision: i64, compacted: i64) -> Store {
        let mut store = Store::new(self.shared());
        for record in self.0.values() {
            store.load(RestoredRecord {
                rev: record.rev,
                tombstone: record.tombstone,
                key: &record.key,
                create_revision: record.create_revision,
                version: record.version,
                lease: record.lease,
            });
        }
        for dead in store.finish_load(revision, compacted) {
            assert!(self.0.remove(&dead).is_some(), "{dead:?} was loaded");
        }
        store.archived(store.archived_revision(), self.shared());
        store
    }

    pub(super) fn revisions(&self) -> Vec<Revision> {
        self.0.keys().copied().collect()
    }
}

impl Archive for Memory {
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        let record = self.0.get(&rev).ok_or(ArchiveError::NotFound(rev))?;
        Ok(record.value.clone())
    }

    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        for record in self
            .0
            .range(Revision::new(from_main, 0)..)
            .map(|(_, record)| record)
        {
            if record.rev.main > to_main || visit(record.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

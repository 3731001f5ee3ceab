//! The work of a compaction, in slices.

use std::ops::ControlFlow;

use crate::error::ReadError;
use crate::hash::CompactionHash;
use crate::record::{Record, Revision};
use crate::store::Store;

/// Slots of the memory of keys that a job has just compacted.
const RECENT: u32 = 1024;

/// What an accepted compaction leaves to be done.
pub struct Compaction {
    /// Removes what can no longer be read; jobs run in the order of their
    /// compactions.
    pub job: CompactionJob,
    /// Computes the hash that members compare. Optional; it pins what it needs
    /// until it is dropped.
    pub hash: CompactionHash,
}

/// Visits the records from the previous compact revision up; each names the one
/// it replaces, so the whole index is never walked.
pub struct CompactionJob {
    previous: i64,
    revision: i64,
    cursor: Revision,
    /// Keys compacted lately, by hash: a key that changes all the time is looked
    /// up in the index once and not once per change.
    recent: Vec<Option<Box<[u8]>>>,
}

/// What one step of a [`CompactionJob`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionStep {
    /// Revisions that are dead from now on and that the archive holds or is about
    /// to: the last `Store::unarchived` reached them. Their records may be
    /// dropped. Each is named once.
    pub dead: Vec<Revision>,
    /// Records that died, those that only the ring holds included.
    pub dropped: usize,
    /// Whether the job is done.
    pub done: bool,
}

impl CompactionJob {
    pub(crate) fn new(previous: i64, revision: i64) -> CompactionJob {
        CompactionJob {
            previous,
            revision,
            cursor: Revision::new(previous.max(0), 0),
            recent: vec![None; RECENT as usize],
        }
    }

    /// The compact revision that the job works for.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Visits up to `budget` records, at least one.
    pub fn step(&mut self, store: &mut Store, budget: usize) -> Result<CompactionStep, ReadError> {
        let mut left = budget.max(1);
        let mut batch = Vec::new();
        store
            .view()
            .records(self.cursor, self.revision, &mut |record| {
                batch.push(record);
                left -= 1;
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        let mut step = CompactionStep {
            dead: Vec::new(),
            dropped: 0,
            done: left > 0,
        };
        for record in batch {
            self.cursor = Revision::new(record.rev.main, record.rev.sub + 1);
            self.visit(store, &record, &mut step.dead);
        }
        step.dropped = step.dead.len();
        store.bury(&mut step.dead);
        Ok(step)
    }

    fn visit(&mut self, store: &mut Store, record: &Record, dead: &mut Vec<Revision>) {
        if record.rev.main <= self.previous {
            // A compaction leaves the tombstones of its own revision to the next.
            if !record.tombstone {
                return;
            }
            dead.push(record.rev);
        } else {
            // A first put replaces at most a tombstone, which is visited itself.
            if record.tombstone || record.version > 1 {
                dead.extend(record.replaces);
            }
            if record.tombstone && record.rev.main < self.revision {
                dead.push(record.rev);
            }
        }
        let slot = &mut self.recent[(crc32c::crc32c(&record.key) % RECENT) as usize];
        if slot.as_deref() != Some(&*record.key) {
            store.index.compact(&record.key, self.revision);
            *slot = Some(record.key.as_ref().into());
        }
    }
}

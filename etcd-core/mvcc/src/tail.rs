//! What the writer shares with every view: the ring, the archive as it is now,
//! and the roots of revisions that someone is paging through.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::archive::{Archive, ArchiveError};
use crate::error::ReadError;
use crate::index::Index;
use crate::record::{Record, Revision};
use crate::ring::Ring;

/// Records copied out of the ring under one lock: the writer waits that long.
const BATCH: usize = 64;
/// Most roots that are remembered.
const ROOTS: usize = 16;
/// A root is forgotten after this many more records. Each of them may keep one
/// copied path of the tree alive, some KiB.
const ROOT_AGE: u64 = 16_384;

/// The part of the archive that a view has pinned.
pub(crate) struct Pinned<'a> {
    pub(crate) archive: &'a Arc<dyn Archive>,
    /// Last main revision that the archive holds.
    pub(crate) archived: i64,
    /// The view's compact revision.
    pub(crate) compacted: i64,
}

/// See the [module](self).
pub(crate) struct Tail {
    state: RwLock<State>,
    roots: Mutex<Vec<Root>>,
}

struct State {
    ring: Ring,
    archive: Arc<dyn Archive>,
    archived: i64,
    compacted: i64,
}

/// The index as it was at a revision.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) revision: i64,
    pub(crate) index: Index,
    /// The compact revision then: history up to it may be gone from the index.
    compacted: i64,
    pushed: u64,
}

impl Tail {
    pub(crate) fn new(archive: Arc<dyn Archive>) -> Tail {
        Tail {
            state: RwLock::new(State {
                ring: Ring::default(),
                archive,
                archived: 0,
                compacted: -1,
            }),
            roots: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn push(&self, record: Record) {
        self.state.write().ring.push(record);
    }

    pub(crate) fn ring_bytes(&self) -> usize {
        self.state.read().ring.bytes()
    }

    pub(crate) fn unarchived(&self, upto_main: i64) -> Vec<Record> {
        self.state
            .read()
            .ring
            .slice(Revision::default(), upto_main, usize::MAX)
    }

    pub(crate) fn set_compacted(&self, compacted: i64) {
        self.state.write().compacted = compacted;
        self.roots.lock().retain(|root| root.revision >= compacted);
    }

    /// Replaces the archive; it now holds every record up to `archived`.
    pub(crate) fn set_archive(&self, archive: Arc<dyn Archive>, archived: i64) {
        let mut state = self.state.write();
        state.archive = archive;
        state.archived = archived;
        state.ring.trim(archived);
    }

    /// Reads raw values, in order, into `out`.
    pub(crate) fn read(
        &self,
        revs: &[Revision],
        pinned: &Pinned<'_>,
        out: &mut Vec<Bytes>,
    ) -> Result<(), ReadError> {
        for batch in revs.chunks(BATCH) {
            let mut batch = batch.iter().copied().peekable();
            while let Some(&rev) = batch.peek() {
                if rev.main <= pinned.archived {
                    batch.next();
                    out.push(pinned.archive.read(rev)?);
                    continue;
                }
                let moved = {
                    let state = self.state.read();
                    while let Some(rev) = batch.next_if(|rev| rev.main > state.archived) {
                        out.push(state.ring.read(rev).ok_or(ArchiveError::NotFound(rev))?);
                    }
                    state.archive.clone()
                };
                // Archived after the view was made; and if a compaction followed,
                // perhaps dropped.
                if let Some(rev) = batch.next_if(|rev| rev.main > pinned.archived) {
                    out.push(moved.read(rev).map_err(|error| match error {
                        ArchiveError::NotFound(_) => ReadError::Compacted,
                        other => ReadError::Archive(other),
                    })?);
                }
            }
        }
        Ok(())
    }

    /// Visits the records from `from` up to main revision `to_main` in order.
    pub(crate) fn scan(
        &self,
        from: Revision,
        to_main: i64,
        pinned: &Pinned<'_>,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut cursor = from;
        if cursor.main <= pinned.archived {
            let upto = to_main.min(pinned.archived);
            if scan_archive(&**pinned.archive, &mut cursor, upto, visit)?.is_break() {
                return Ok(());
            }
        }
        while cursor.main <= to_main {
            let (archive, archived) = {
                let state = self.state.read();
                if cursor.main > state.archived {
                    let records = state.ring.slice(cursor, to_main, BATCH);
                    drop(state);
                    let Some(last) = records.last() else {
                        return Ok(());
                    };
                    cursor = Revision::new(last.rev.main, last.rev.sub + 1);
                    for record in records {
                        if visit(record).is_break() {
                            return Ok(());
                        }
                    }
                    continue;
                }
                if state.compacted > pinned.compacted && cursor.main <= state.compacted {
                    return Err(ReadError::Compacted);
                }
                (state.archive.clone(), state.archived)
            };
            if scan_archive(&*archive, &mut cursor, to_main.min(archived), visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps the index of a revision for whoever comes back for the next page.
    pub(crate) fn remember(&self, revision: i64, index: &Index, compacted: i64, pushed: u64) {
        let mut roots = self.roots.lock();
        if roots
            .iter()
            .any(|root| root.revision == revision && root.compacted <= compacted)
        {
            return;
        }
        if roots.len() == ROOTS {
            roots.remove(0);
        }
        roots.push(Root {
            revision,
            index: index.clone(),
            compacted,
            pushed,
        });
    }

    /// Forgets roots that have grown old by now.
    pub(crate) fn expire(&self, pushed: u64) {
        self.roots
            .lock()
            .retain(|root| root.pushed + ROOT_AGE >= pushed);
    }

    /// The root nearest to revision `at` that still knows all of it, from `at`
    /// up to `newest`.
    pub(crate) fn root(&self, at: i64, newest: i64) -> Option<Root> {
        let roots = self.roots.lock();
        let usable = roots
            .iter()
            .filter(|root| (at..=newest).contains(&root.revision) && root.compacted <= at);
        usable.min_by_key(|root| root.revision).cloned()
    }
}

/// Scans one archive from the cursor up to main revision `upto` and moves the
/// cursor behind what it covers.
fn scan_archive(
    archive: &dyn Archive,
    cursor: &mut Revision,
    upto: i64,
    visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ArchiveError> {
    let from = *cursor;
    let mut flow = ControlFlow::Continue(());
    archive.scan(from.main, upto, &mut |record| {
        if record.rev >= from {
            flow = visit(record);
        }
        flow
    })?;
    *cursor = Revision::new(upto.saturating_add(1), 0);
    Ok(flow)
}

//! Serving those who are behind, several with one reading of the history.

use std::ops::ControlFlow;

use super::deliver::Audience;
use super::history::History;
use super::hub::WatchHub;
use super::response::Response;
use super::stream::StreamId;
use super::watcher::Standing;
use crate::{ArchiveError, Record};

/// How much history one slice may read. It ends with the revision that exceeds
/// either bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceBudget {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Default for SliceBudget {
    fn default() -> Self {
        SliceBudget {
            records: 2048,
            bytes: 1 << 20,
        }
    }
}

/// A stretch of history that some watchers are owed, inclusive at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// First main revision.
    pub from: i64,
    /// Last main revision.
    pub upto: i64,
}

/// Whole revisions read from the history.
#[derive(Clone, Debug)]
pub struct Slice {
    from: i64,
    upto: i64,
    records: Vec<Record>,
}

impl Slice {
    /// Reads the beginning of what was planned, as much as the budget allows.
    /// Needs no hub, so that nobody waits for the reading.
    pub fn read(
        plan: Plan,
        budget: SliceBudget,
        history: &dyn History,
    ) -> Result<Slice, ArchiveError> {
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        let mut upto = plan.upto;
        history.scan(plan.from, plan.upto, &mut |record| {
            if let Some(last) = records.last()
                && last.rev.main < record.rev.main
                && (records.len() >= budget.records || bytes >= budget.bytes)
            {
                upto = record.rev.main - 1;
                return ControlFlow::Break(());
            }
            bytes += record.key.len() + record.value.len();
            records.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(Slice {
            from: plan.from,
            upto,
            records,
        })
    }
}

impl WatchHub {
    /// Whether a watcher is behind whose stream has room.
    pub fn wants_catch_up(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Ends the watches whose cursor lies below the compacted revision, then says
    /// what should be read next, `None` if nobody waits. Groups of laggards take
    /// turns. `history` is not older than what was published last.
    pub fn plan(&mut self, history: &dyn History) -> Option<Plan> {
        self.cancel_compacted(history.compact_revision());
        let upto = self.head.min(history.revision());
        let beyond = self.hand.saturating_add(1);
        let next = self.ready.range((beyond, 0)..).next();
        let &(from, _) = next.or_else(|| self.ready.first())?;
        (from <= upto).then_some(Plan { from, upto })
    }

    /// Gives a slice to all whose cursor lies in it and whose stream has room.
    /// After an error the history could not supply a previous value: the watchers
    /// that need it have kept their cursor, and will meet the error again.
    pub fn feed(
        &mut self,
        slice: &Slice,
        history: &dyn History,
    ) -> Result<Vec<StreamId>, ArchiveError> {
        let group: Vec<(i64, u32)> = self
            .ready
            .range((slice.from, 0)..=(slice.upto, u32::MAX))
            .copied()
            .collect();
        for entry in &group {
            self.ready.remove(entry);
            self.watchers[entry.1].standing = Standing::Feeding(entry.0);
        }
        let mut result = Ok(());
        for revision in slice.records.chunk_by(|a, b| a.rev.main == b.rev.main) {
            result = result.and(self.deliver(revision, Audience::Feeding, history));
        }
        for (_, index) in group {
            if !matches!(self.watchers[index].standing, Standing::Feeding(_)) {
                continue;
            }
            if slice.upto >= self.head {
                self.rejoin(index);
            } else {
                self.fall_behind(index, slice.upto + 1);
            }
        }
        self.hand = slice.upto + 1;
        result.map(|()| self.take_woken())
    }

    /// Plans, reads and feeds one slice. Returns the streams woken.
    pub fn catch_up(
        &mut self,
        budget: SliceBudget,
        history: &dyn History,
    ) -> Result<Vec<StreamId>, ArchiveError> {
        match self.plan(history) {
            Some(plan) => {
                let slice = Slice::read(plan, budget, history)?;
                self.feed(&slice, history)
            }
            None => Ok(self.take_woken()),
        }
    }

    fn cancel_compacted(&mut self, compact_revision: i64) {
        while let Some(&(next, index)) = self.ready.first()
            && next < compact_revision
        {
            let watcher = &self.watchers[index];
            let (stream, watch_id) = (watcher.stream, watcher.watch_id);
            let open = &mut self.streams[stream];
            open.watchers.remove(&watch_id);
            open.push_control(Response {
                watch_id,
                canceled: true,
                compact_revision,
                ..Response::default()
            });
            self.drop_watcher(index);
            self.wake(stream);
        }
    }
}

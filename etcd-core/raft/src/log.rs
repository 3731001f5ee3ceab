//! The log in memory: which entries exist, which are durable, committed and applied.

use std::collections::VecDeque;

use etcd_proto::raftpb::{Entry, EntryType, SnapshotMetadata};
use prost::Message as _;

use crate::config::ConfigError;

/// A place in the log: the index and the term of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// Entries that differ from ours where ours is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) index: u64,
}

/// A snapshot that was received and is not yet durable.
#[derive(Debug)]
struct Pending {
    metadata: SnapshotMetadata,
    /// Whether a Ready has carried it.
    persisting: bool,
}

/// The log after `start`. Always `start <= stable, applying` and
/// `applied <= applying <= committed <= last`.
#[derive(Debug)]
pub(crate) struct Log {
    /// The entry before the first one held; compaction and snapshots move it.
    start: EntryId,
    entries: VecDeque<Entry>,
    /// Encoded size of `entries`.
    bytes: u64,
    /// The last index known to be durable as it is here.
    stable: u64,
    /// The last index that a Ready has carried to the disk.
    persisting: u64,
    committed: u64,
    /// The last index that a Ready has carried to the state machine.
    applying: u64,
    applied: u64,
    /// Payload of the entries between the two.
    applying_bytes: u64,
    snapshot: Option<Pending>,
    /// The index of the last snapshot received, durable or not.
    snapshot_index: u64,
}

impl Log {
    /// The log that a disk held: all of it is durable.
    pub(crate) fn restore(
        start: EntryId,
        entries: Vec<Entry>,
        commit: u64,
        applied: u64,
    ) -> Result<Log, ConfigError> {
        let mut before = start;
        for entry in &entries {
            if Some(entry.index) != before.index.checked_add(1) || entry.term < before.term {
                return Err(ConfigError::LogGap {
                    index: entry.index,
                    term: entry.term,
                    after: before.index,
                    after_term: before.term,
                });
            }
            before = EntryId::of(entry);
        }
        let last = before.index;
        if applied < start.index || applied > last {
            return Err(ConfigError::AppliedOutsideLog {
                applied,
                first: start.index,
                last,
            });
        }
        if commit > last {
            return Err(ConfigError::CommitBeyondLog { commit, last });
        }
        Ok(Log {
            start,
            bytes: entries.iter().map(size).sum(),
            entries: entries.into(),
            stable: last,
            persisting: last,
            committed: commit.max(applied),
            applying: applied,
            applied,
            applying_bytes: 0,
            snapshot: None,
            snapshot_index: 0,
        })
    }

    /// The index of the first entry held, or where it would be.
    pub(crate) fn first_index(&self) -> u64 {
        self.start.index + 1
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }

    pub(crate) fn last_id(&self) -> EntryId {
        self.entries.back().map_or(self.start, EntryId::of)
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The last index known to be durable.
    pub(crate) fn stable(&self) -> u64 {
        self.stable
    }

    /// The encoded size of the entries held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn offset(&self, index: u64) -> Option<usize> {
        let offset = usize::try_from(index.checked_sub(self.start.index + 1)?).ok()?;
        (offset < self.entries.len()).then_some(offset)
    }

    /// The term of the entry at `index`; none if it is compacted or not yet there.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.offset(index).map(|offset| self.entries[offset].term)
    }

    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// Whether a log that ends at `id` holds at least what ours does.
    pub(crate) fn is_up_to_date(&self, id: EntryId) -> bool {
        let last = self.last_id();
        (id.term, id.index) >= (last.term, last.index)
    }

    /// The last entry at or before `index` whose term is at most `term`: no later one
    /// can be in a log that holds an entry of `term` at `index`. The term is 0 where it
    /// is not known any more.
    pub(crate) fn last_at_or_below(&self, index: u64, term: u64) -> EntryId {
        if index > self.last_index() || index < self.start.index {
            return EntryId { index, term: 0 };
        }
        let held = usize::try_from(index - self.start.index).expect("it is within the deque");
        let candidates = self.entries.partition_point(|entry| entry.term <= term);
        match candidates.min(held) {
            0 if self.start.term <= term => self.start,
            0 => EntryId {
                index: self.start.index.saturating_sub(1),
                term: 0,
            },
            n => EntryId::of(&self.entries[n - 1]),
        }
    }

    /// The entries from `from` on, up to `max_bytes` but at least one if there is one.
    pub(crate) fn entries_from(&self, from: u64, max_bytes: u64) -> Vec<Entry> {
        self.slice(from, self.last_index(), max_bytes)
    }

    fn slice(&self, from: u64, to: u64, max_bytes: u64) -> Vec<Entry> {
        let Some(offset) = self.offset(from) else {
            return Vec::new();
        };
        let count = usize::try_from(to.saturating_sub(from) + 1).unwrap_or(usize::MAX);
        let mut bytes = 0u64;
        self.entries
            .range(offset..)
            .take(if to < from { 0 } else { count })
            .enumerate()
            .take_while(|(n, entry)| {
                bytes = bytes.saturating_add(size(entry));
                *n == 0 || bytes <= max_bytes
            })
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// The entries in `(after, to]`.
    pub(crate) fn between(&self, after: u64, to: u64) -> impl Iterator<Item = &Entry> {
        let from = usize::try_from(after.saturating_sub(self.start.index)).unwrap_or(usize::MAX);
        let to = usize::try_from(to.saturating_sub(self.start.index)).unwrap_or(usize::MAX);
        let to = to.min(self.entries.len());
        self.entries.range(from.min(to)..to)
    }

    /// Appends what a leader proposes; the entries follow the last one.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        debug_assert!(
            entries
                .first()
                .is_none_or(|first| first.index == self.last_index() + 1)
        );
        self.bytes += entries.iter().map(size).sum::<u64>();
        self.entries.extend(entries);
    }

    /// Appends what a leader sent, after `before`, and commits up to `commit` what is
    /// then known to match. None if `before` does not match, else the last index that
    /// does, which is never before what is committed.
    pub(crate) fn try_append(
        &mut self,
        before: EntryId,
        mut entries: Vec<Entry>,
        commit: u64,
    ) -> Result<Option<u64>, Conflict> {
        // A leader holds all that is committed. If it does not, nothing it sends may be
        // taken for an agreement with it.
        let committed = std::iter::once(before)
            .chain(entries.iter().map(EntryId::of))
            .take_while(|id| id.index <= self.committed);
        for id in committed {
            if self.term(id.index).is_some_and(|term| term != id.term) {
                return Err(Conflict { index: id.index });
            }
        }
        if before.index < self.committed {
            // It does not know yet how far we have come.
            return Ok(Some(self.committed));
        }
        if !self.matches(before) {
            return Ok(None);
        }
        let last_new = before.index + entries.len() as u64;
        let known = entries
            .iter()
            .take_while(|entry| self.matches(EntryId::of(entry)))
            .count();
        if known < entries.len() {
            self.truncate(entries[known].index - 1);
            entries.drain(..known);
            self.append(entries);
        }
        self.commit_to(commit.min(last_new));
        Ok(Some(last_new))
    }

    /// Drops the entries after `index`, none of which is committed.
    fn truncate(&mut self, index: u64) {
        while self.last_index() > index {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= size(&entry);
            }
        }
        self.stable = self.stable.min(index);
        self.persisting = self.persisting.min(index);
    }

    /// Raises the commit index; the entry is held and matches the leader's.
    pub(crate) fn commit_to(&mut self, index: u64) {
        assert!(index <= self.last_index(), "only what is held is committed");
        self.committed = self.committed.max(index);
    }

    /// The entries that no Ready has carried to the disk.
    pub(crate) fn has_unpersisted(&self) -> bool {
        self.persisting < self.last_index()
    }

    /// Takes the entries that go to the disk with this Ready.
    pub(crate) fn take_unpersisted(&mut self) -> Vec<Entry> {
        let entries = self.slice(self.persisting + 1, self.last_index(), u64::MAX);
        self.persisting = self.last_index();
        entries
    }

    /// The disk holds the log up to `id`, provided that it is still our log.
    pub(crate) fn stable_to(&mut self, id: EntryId) {
        if id.index > self.stable && self.matches(id) {
            self.stable = id.index;
        }
    }

    /// The last index that may go to the state machine: committed, durable, and not
    /// beyond a snapshot that still has to be installed.
    fn appliable(&self) -> u64 {
        if self.snapshot.is_some() {
            return self.applying;
        }
        self.committed.min(self.stable)
    }

    pub(crate) fn has_appliable(&self) -> bool {
        self.applying < self.appliable()
    }

    /// Takes the entries that go to the state machine with this Ready.
    pub(crate) fn take_appliable(&mut self, max_bytes: u64) -> Vec<Entry> {
        let entries = self.slice(self.applying + 1, self.appliable(), max_bytes);
        self.applying += entries.len() as u64;
        self.applying_bytes += entries.iter().map(payload).sum::<u64>();
        entries
    }

    /// The payload that the state machine was given and has not applied.
    pub(crate) fn applying_bytes(&self) -> u64 {
        self.applying_bytes
    }

    /// The state machine has applied everything up to `index`.
    pub(crate) fn applied_to(&mut self, index: u64) {
        assert!(index <= self.committed, "only what is committed is applied");
        let done: u64 = self.between(self.applied, index).map(payload).sum();
        self.applying_bytes = self.applying_bytes.saturating_sub(done);
        self.applied = self.applied.max(index);
        self.applying = self.applying.max(self.applied);
    }

    /// Whether a membership change is committed and not yet applied.
    pub(crate) fn has_unapplied_conf_change(&self) -> bool {
        self.between(self.applied, self.committed)
            .any(|entry| entry.r#type != EntryType::EntryNormal as i32)
    }

    /// Drops the entries up to `index`, all of which are applied.
    pub(crate) fn compact(&mut self, index: u64) {
        let Some(term) = self.term(index.min(self.applied)) else {
            return;
        };
        let start = EntryId {
            index: index.min(self.applied),
            term,
        };
        for _ in self.start.index..start.index {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= size(&entry);
            }
        }
        self.start = start;
    }

    /// Starts anew after a received snapshot, which has yet to become durable.
    pub(crate) fn restore_snapshot(&mut self, metadata: SnapshotMetadata) {
        let start = EntryId {
            index: metadata.index,
            term: metadata.term,
        };
        assert!(start.index > self.committed, "a snapshot only goes forward");
        self.start = start;
        self.snapshot_index = start.index;
        self.entries.clear();
        self.bytes = 0;
        self.stable = start.index;
        self.persisting = start.index;
        self.committed = start.index;
        self.applying = start.index;
        self.applying_bytes = 0;
        self.snapshot = Some(Pending {
            metadata,
            persisting: false,
        });
    }

    /// The index of the last snapshot received, 0 if none was.
    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }

    /// Whether a received snapshot is not yet durable.
    pub(crate) fn snapshot_pending(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether a received snapshot has not been carried by a Ready.
    pub(crate) fn has_unpersisted_snapshot(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| !s.persisting)
    }

    /// Takes the received snapshot that goes to the disk with this Ready.
    pub(crate) fn take_unpersisted_snapshot(&mut self) -> Option<SnapshotMetadata> {
        let pending = self.snapshot.as_mut().filter(|s| !s.persisting)?;
        pending.persisting = true;
        Some(pending.metadata.clone())
    }

    /// A received snapshot is durable. An older one than the newest changes nothing
    /// but what is applied.
    pub(crate) fn snapshot_stable(&mut self, index: u64) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|s| s.metadata.index == index)
        {
            self.snapshot = None;
        }
        self.applied_to(index);
    }
}

impl EntryId {
    pub(crate) fn of(entry: &Entry) -> EntryId {
        EntryId {
            index: entry.index,
            term: entry.term,
        }
    }
}

/// What an entry counts for in limits: its encoded size.
pub(crate) fn size(entry: &Entry) -> u64 {
    entry.encoded_len() as u64
}

/// The payload of an entry.
pub(crate) fn payload(entry: &Entry) -> u64 {
    entry.data.len() as u64
}

#[cfg(test)]
mod tests;

//! From records back to the state they were written from.

use bytes::Bytes;
use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::{Entry, EntryType, HardState};
use etcd_proto::walpb::Snapshot;
use prost::Message;

use super::WalError;
use super::reader::{Found, Reader};
use super::record::{Kind, has_only_varints};

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The newest hard state, all zero if there is none. Its term is at least that of
    /// the last entry.
    pub hard_state: HardState,
    /// The entries that follow the snapshot the log was read from, without gaps.
    pub entries: Vec<Entry>,
    /// The snapshot records that count: those of committed state, in log order.
    pub snapshots: Vec<Snapshot>,
}

/// Where the writer goes on.
#[derive(Default)]
pub(super) struct Position {
    /// Index of the last entry or, if greater, of the last snapshot.
    pub last_index: u64,
    /// The metadata as the files have them.
    pub metadata: Vec<u8>,
    /// The newest hard state as written.
    pub hard_state: HardState,
    /// Sum of the data of all records.
    pub crc: u32,
    /// In the last file, where the next frame goes.
    pub offset: u64,
    /// Whether a record that was never synced whole starts there.
    pub torn: bool,
}

/// Collects the records of the files, one after the other.
pub(super) struct Collector<'s> {
    /// Where the entries that matter start; `None`: only snapshot records matter.
    from: Option<&'s Snapshot>,
    /// Whether the record of `from` was met.
    found: bool,
    /// Term of the entry at `from.index`, as far as the log has gone.
    term_at_start: Option<u64>,
    replay: Replay,
    position: Position,
}

impl<'s> Collector<'s> {
    /// With `None`, collects snapshot records alone.
    pub(super) fn new(from: Option<&'s Snapshot>) -> Collector<'s> {
        Collector {
            from,
            found: false,
            term_at_start: None,
            replay: Replay::default(),
            position: Position::default(),
        }
    }

    /// Reads one file to its end.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), WalError> {
        loop {
            let (offset, result) = match reader.next()? {
                Found::Record { offset, kind, data } => (offset, self.record(kind, data)),
                Found::End { offset, torn } => {
                    self.position.offset = offset;
                    self.position.torn = torn;
                    self.position.crc = reader.crc().unwrap_or_default();
                    return Ok(());
                }
            };
            result.map_err(|refusal| refusal.at(reader.path(), offset))?;
        }
    }

    pub(super) fn finish(mut self) -> Result<(Replay, Position), WalError> {
        if let Some(from) = self.from
            && !self.found
        {
            return Err(WalError::SnapshotNotFound {
                index: from.index,
                term: from.term,
            });
        }
        self.position.hard_state = self.replay.hard_state;
        let commit = self.replay.hard_state.commit;
        self.replay
            .snapshots
            .retain(|snapshot| snapshot.index <= commit);
        // Of a torn batch the entries may be there and the hard state after them not.
        let last_term = self.replay.entries.last().map_or(0, |entry| entry.term);
        if last_term > self.replay.hard_state.term {
            self.replay.hard_state.term = last_term;
            self.replay.hard_state.vote = 0;
        }
        Ok((self.replay, self.position))
    }

    fn record(&mut self, kind: Kind, data: &[u8]) -> Result<(), Refusal> {
        match kind {
            Kind::Crc => Ok(()),
            Kind::Metadata => self.metadata(data),
            Kind::State => self.hard_state(data),
            Kind::Entry => self.entry(data),
            Kind::Snapshot => self.snapshot(data),
        }
    }

    fn metadata(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if self.position.metadata.is_empty() {
            self.replay.metadata = decode(data)?;
            self.position.metadata = data.to_vec();
        } else if self.position.metadata != data {
            return Err(Refusal::MetadataConflict);
        }
        Ok(())
    }

    fn hard_state(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if !has_only_varints(data, &[0x08, 0x10, 0x18]) {
            return Err(Refusal::Corrupt("a hard state with more than its fields"));
        }
        let state: HardState = decode(data)?;
        if state.term < self.replay.hard_state.term.max(1) {
            return Err(Refusal::Corrupt("the term falls"));
        }
        self.replay.hard_state = state;
        Ok(())
    }

    fn entry(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let Some(from) = self.from else {
            return Ok(());
        };
        let mut entry: Entry = decode(data)?;
        if !is_well_formed(&entry) {
            return Err(Refusal::Corrupt("an entry that no log has"));
        }
        self.position.last_index = entry.index;
        if entry.index <= from.index {
            if entry.index == from.index {
                self.term_at_start = Some(entry.term);
            }
            // Writing an entry removes those after it.
            self.replay.entries.clear();
            return Ok(());
        }
        let place = entry.index - from.index - 1;
        let entries = &mut self.replay.entries;
        if place > entries.len() as u64 {
            return Err(Refusal::Corrupt("entries are missing before this one"));
        }
        entries.truncate(place as usize);
        if entries
            .last()
            .is_some_and(|before| before.term > entry.term)
        {
            return Err(Refusal::Corrupt("the term of entries falls"));
        }
        // The record lies in a window of the file that must not be kept alive.
        entry.data = Bytes::copy_from_slice(&entry.data);
        entries.push(entry);
        Ok(())
    }

    fn snapshot(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let snapshot: Snapshot = decode(data)?;
        self.position.last_index = self.position.last_index.max(snapshot.index);
        if let Some(from) = self.from
            && snapshot.index == from.index
        {
            if snapshot.term != from.term {
                return Err(Refusal::SnapshotMismatch {
                    index: snapshot.index,
                    expected: from.term,
                    found: snapshot.term,
                });
            }
            // A snapshot that a leader sent replaces a log that had come to differ,
            // together with what that log held beyond it.
            let differs = snapshot.index > 0 && self.term_at_start != Some(snapshot.term);
            if differs && !self.found {
                self.replay.entries.clear();
            }
            self.found = true;
        }
        self.replay.snapshots.push(snapshot);
        Ok(())
    }
}

/// Whether a raft may have produced this entry. The writer asks too, since a hard state
/// whose type has a flipped bit reads as an entry that may not.
pub(super) fn is_well_formed(entry: &Entry) -> bool {
    let is_normal = entry.r#type == EntryType::EntryNormal as i32;
    let is_known = EntryType::try_from(entry.r#type).is_ok();
    is_known && entry.term > 0 && entry.index > 0 && (is_normal || !entry.data.is_empty())
}

/// Why a record whose checksum matches is not taken.
enum Refusal {
    Corrupt(&'static str),
    MetadataConflict,
    SnapshotMismatch {
        index: u64,
        expected: u64,
        found: u64,
    },
}

impl Refusal {
    fn at(self, file: &std::path::Path, offset: u64) -> WalError {
        match self {
            Refusal::Corrupt(reason) => WalError::corrupt(file, offset, reason),
            Refusal::MetadataConflict => WalError::MetadataConflict {
                file: file.to_path_buf(),
            },
            Refusal::SnapshotMismatch {
                index,
                expected,
                found,
            } => WalError::SnapshotMismatch {
                index,
                expected,
                found,
            },
        }
    }
}

fn decode<M: Message + Default>(data: &[u8]) -> Result<M, Refusal> {
    M::decode(data).map_err(|_| Refusal::Corrupt("the record's data do not decode"))
}

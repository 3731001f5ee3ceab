//! A model of the log, and what is checked against it.

mod crash;
mod damage;
mod files;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::{ConfState, Entry, HardState};
use etcd_proto::walpb::Snapshot;

use super::{Options, Replay, Wal, WalError};
use crate::disk::{Disk, File, OpenMode};
use crate::simdisk::SimDisk;

const DIR: &str = "/data/member/wal";
const OPTIONS: Options = Options {
    segment_bytes: 4096,
};

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn metadata() -> Metadata {
    Metadata {
        node_id: 0x5c76_a90a_e78b_cee7,
        cluster_id: 0x0123_4567_89ab_cdef,
    }
}

fn entry(term: u64, index: u64, data: Vec<u8>) -> Entry {
    Entry {
        term,
        index,
        r#type: 0,
        data: Bytes::from(data),
    }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let conf_state = ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    };
    Snapshot {
        index,
        term,
        conf_state: (index > 0).then_some(conf_state),
    }
}

/// A record as the model keeps it.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    Entry(Entry),
    State(HardState),
    Snapshot(Snapshot),
}

/// All records that were written, in order, and how many of them were acknowledged.
#[derive(Clone, Debug)]
struct Model {
    records: Vec<Record>,
    acked: usize,
    /// The newest acknowledged checkpoint.
    checkpoint: Snapshot,
}

impl Model {
    fn new() -> Model {
        Model {
            records: vec![Record::Snapshot(Snapshot::default())],
            acked: 1,
            checkpoint: Snapshot::default(),
        }
    }

    /// What a replay from `from` of the first `count` records must yield.
    fn replay(&self, from: &Snapshot, count: usize) -> Replay {
        let mut replay = Replay {
            metadata: metadata(),
            ..Replay::default()
        };
        let mut log: Vec<Entry> = Vec::new();
        for record in &self.records[..count] {
            match record {
                Record::Entry(entry) => {
                    log.truncate(entry.index as usize - 1);
                    log.push(entry.clone());
                }
                Record::State(state) => replay.hard_state = *state,
                Record::Snapshot(snapshot) => replay.snapshots.push(snapshot.clone()),
            }
        }
        replay.entries = log.split_off((from.index as usize).min(log.len()));
        let last_term = replay.entries.last().map_or(0, |entry| entry.term);
        if last_term > replay.hard_state.term {
            replay.hard_state = HardState {
                term: last_term,
                vote: 0,
                ..replay.hard_state
            };
        }
        replay
    }

    /// Checks that a replay holds all that was acknowledged and nothing that was not
    /// written: that it is a prefix of the records. Forgets the others.
    fn settle(&mut self, from: &Snapshot, found: &Replay) {
        let prefix = (self.acked..=self.records.len()).rev().find(|&count| {
            let mut expected = self.replay(from, count);
            // Old files may be gone, and with them their snapshot records.
            let commit = expected.hard_state.commit;
            expected
                .snapshots
                .retain(|snapshot| snapshot.index <= commit);
            expected.snapshots.ends_with(&found.snapshots)
                && Replay {
                    snapshots: found.snapshots.clone(),
                    ..expected
                } == *found
        });
        let Some(prefix) = prefix else {
            panic!(
                "not a prefix: {} of {} records acknowledged, found {} entries up to {:?}, {:?}",
                self.acked,
                self.records.len(),
                found.entries.len(),
                found.entries.last().map(|entry| (entry.term, entry.index)),
                found.hard_state,
            );
        };
        self.records.truncate(prefix);
        self.acked = prefix;
    }
}

/// Writes to a log as a member does, and keeps the model.
struct Writer {
    wal: Wal,
    model: Model,
    term: u64,
    /// Entries and their terms, from index 1.
    terms: Vec<u64>,
    commit: u64,
}

impl Writer {
    fn create(disk: &SimDisk) -> Result<Writer, WalError> {
        let wal = Wal::create_with(Arc::new(disk.clone()), dir(), &metadata(), OPTIONS)?;
        Ok(Writer {
            wal,
            model: Model::new(),
            term: 1,
            terms: Vec::new(),
            commit: 0,
        })
    }

    /// Opens the log of a model after a crash, settles the model and goes on with it.
    fn reopen(disk: &SimDisk, mut model: Model) -> Writer {
        let from = model.checkpoint.clone();
        let (wal, replay) =
            Wal::open_with(Arc::new(disk.clone()), dir(), &from, OPTIONS).expect("opens unaided");
        model.settle(&from, &replay);
        let whole = model.replay(&Snapshot::default(), model.records.len());
        Writer {
            wal,
            model,
            term: whole.hard_state.term.max(1),
            terms: whole.entries.iter().map(|entry| entry.term).collect(),
            commit: whole.hard_state.commit,
        }
    }

    /// A batch that begins at `index`, replacing what was there, and its hard state.
    fn batch(&mut self, index: u64, sizes: &[usize], commit: u64) -> Result<(), WalError> {
        self.terms.truncate(index as usize - 1);
        let mut entries = Vec::new();
        for (i, &size) in sizes.iter().enumerate() {
            self.terms.push(self.term);
            let index = index + i as u64;
            // Every third value is zeros, which look like a sector that was lost.
            let data = match index % 3 {
                0 => vec![0; size],
                _ => (0..size)
                    .map(|k| (k as u64 * 31 + index * 7 + self.term) as u8)
                    .collect(),
            };
            entries.push(entry(self.term, index, data));
        }
        self.commit = commit;
        let state = HardState {
            term: self.term,
            vote: 2,
            commit,
        };
        self.model
            .records
            .extend(entries.iter().cloned().map(Record::Entry));
        self.model.records.push(Record::State(state));
        self.wal.append(Some(&state), &entries)
    }

    fn append(&mut self, sizes: &[usize]) -> Result<(), WalError> {
        let next = self.terms.len() as u64 + 1;
        self.batch(next, sizes, next - 1)
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.wal.sync()?;
        self.model.acked = self.model.records.len();
        Ok(())
    }

    /// A checkpoint of what is committed, and the release of what it covers.
    fn checkpoint(&mut self) -> Result<(), WalError> {
        let index = self.commit;
        let snapshot = snapshot(index, self.terms[index as usize - 1]);
        self.model.records.push(Record::Snapshot(snapshot.clone()));
        self.wal.save_snapshot(&snapshot)?;
        self.model.acked = self.model.records.len();
        self.model.checkpoint = snapshot;
        self.wal.release(index, 1)
    }
}

/// A life of a log with everything that happens to one.
fn life(writer: &mut Writer) -> Result<(), WalError> {
    let w = writer;
    w.append(&[10, 20])?;
    w.sync()?;
    w.append(&[700, 3, 1500])?;
    w.append(&[0])?;
    w.sync()?;
    // Rotates: the file has 4096 bytes.
    w.append(&[1300, 1400])?;
    w.sync()?;
    w.wal.prepare()?;
    // A new term replaces what was not committed.
    w.term += 1;
    let (next, commit) = (w.terms.len() as u64 - 1, w.commit);
    w.batch(next, &[600, 600], commit)?;
    w.sync()?;
    w.append(&[5])?;
    w.checkpoint()?;
    w.append(&[2000])?;
    w.append(&[5000])?;
    w.sync()?;
    w.append(&[100, 200, 300])?;
    w.sync()?;
    w.checkpoint()?;
    w.append(&[40])?;
    w.sync()
}

fn files(disk: &SimDisk) -> Vec<String> {
    let entries = disk.list(dir()).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name.into_string().unwrap())
        .collect()
}

fn file(disk: &SimDisk, name: &str) -> Box<dyn File> {
    disk.open(&dir().join(name), OpenMode::Write).unwrap()
}

fn content(disk: &SimDisk, name: &str) -> Bytes {
    file(disk, name).map().unwrap()
}

//! Equal state: whoever has applied the same entries has the same keys, rows and
//! answers. What the first member made of the log is the truth that all others, and
//! everything that clients are told, is compared with.

use std::collections::BTreeMap;

use etcd_mvcc::{KvHash, Record};
use etcd_replica::{Applied, Applier, Outcome, View};

use crate::event::Pid;
use crate::trace::fold;

/// The state after an index, by its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Boundary {
    revision: i64,
    compacted: i64,
    rows: u64,
}

#[derive(Default)]
pub(crate) struct State {
    /// By main revision and sub: every change there ever was.
    records: BTreeMap<(i64, i64), Record>,
    /// By key: its revisions.
    keys: BTreeMap<Vec<u8>, Vec<(i64, i64)>>,
    outcomes: BTreeMap<u64, Outcome>,
    boundaries: BTreeMap<u64, Boundary>,
    hashes: BTreeMap<u64, KvHash>,
    /// By compact revision: what members would compare.
    compactions: BTreeMap<i64, KvHash>,
    applied: BTreeMap<u64, u64>,
    compacted: i64,
}

impl State {
    /// Index that a member has applied.
    pub(super) fn applied_index(&self, member: u64) -> u64 {
        self.applied.get(&member).copied().unwrap_or(0)
    }

    /// A member goes on from this state.
    pub(super) fn started(&mut self, pid: Pid, applier: &Applier) -> Result<(), String> {
        self.applied.insert(pid.member, applier.index());
        self.boundary(pid, applier)
    }

    pub(super) fn applied(
        &mut self,
        pid: Pid,
        applied: &Applied,
        applier: &Applier,
    ) -> Result<(), String> {
        self.applied.insert(pid.member, applied.index);
        for record in &applied.records {
            self.record(pid, record)?;
        }
        // The members of a new cluster were nobody's request.
        for outcome in applied.outcomes.iter().filter(|o| o.id != 0) {
            let known = self
                .outcomes
                .entry(outcome.id)
                .or_insert_with(|| outcome.clone());
            if known != outcome {
                return Err(format!(
                    "equal state: {:x} answers request {:x} with {outcome:?}, others with {known:?}",
                    pid.member, outcome.id
                ));
            }
        }
        for compaction in &applied.compactions {
            let mine = compaction
                .compute()
                .map_err(|error| format!("{:x} cannot hash a compaction: {error}", pid.member))?;
            let known = *self.compactions.entry(mine.revision).or_insert(mine);
            if known != mine {
                return Err(format!(
                    "equal state: the compaction of {:x} hashes to {mine:?}, of others to {known:?}",
                    pid.member
                ));
            }
        }
        self.boundary(pid, applier)
    }

    fn record(&mut self, pid: Pid, record: &Record) -> Result<(), String> {
        let rev = (record.rev.main, record.rev.sub);
        if let Some(known) = self.records.get(&rev) {
            // What a record replaced may be unknown after a compaction and a start.
            let same = known.key == record.key
                && known.value == record.value
                && known.tombstone == record.tombstone;
            return if same {
                Ok(())
            } else {
                Err(format!(
                    "equal state: at revision {rev:?} {:x} has {record:?}, others have {known:?}",
                    pid.member
                ))
            };
        }
        let newest = self
            .records
            .last_key_value()
            .map_or(1, |((main, _), _)| *main);
        if rev.0 < newest {
            return Err(format!(
                "equal state: {:x} fills in revision {rev:?}, others are at {newest}",
                pid.member
            ));
        }
        self.keys.entry(record.key.to_vec()).or_default().push(rev);
        self.records.insert(rev, record.clone());
        Ok(())
    }

    fn boundary(&mut self, pid: Pid, applier: &Applier) -> Result<(), String> {
        let view = applier.view();
        let mut rows = 0xcbf2_9ce4_8422_2325;
        for row in applier.rows().encode() {
            rows = fold(
                fold(fold(rows, row.bucket.as_bytes()), &row.key),
                &row.value,
            );
        }
        let mine = Boundary {
            revision: view.kv.revision(),
            compacted: view.kv.compact_revision().max(0),
            rows,
        };
        self.compacted = self.compacted.max(mine.compacted);
        let known = *self.boundaries.entry(applier.index()).or_insert(mine);
        if known == mine {
            return Ok(());
        }
        Err(format!(
            "equal state: after index {} {:x} has {mine:?}, others have {known:?}",
            applier.index(),
            pid.member
        ))
    }

    /// Compares the hash of all keys with that of others at the same index.
    pub(crate) fn hash(&mut self, member: u64, view: &View) -> Result<(), String> {
        let mine = view
            .kv
            .hash_kv(0)
            .map_err(|error| format!("{member:x} cannot hash its keys: {error}"))?;
        let known = *self.hashes.entry(view.index).or_insert(mine);
        if known == mine {
            return Ok(());
        }
        Err(format!(
            "equal state: after index {} the keys of {member:x} hash to {mine:?}, of others to {known:?}",
            view.index
        ))
    }

    /// A client was told that its write made this revision: a value, or a deletion.
    pub(crate) fn acknowledged(
        &self,
        revision: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), String> {
        let mut made = self.records.range((revision, 0)..=(revision, i64::MAX));
        let found = made.any(|(_, record)| {
            record.key == key
                && match value {
                    Some(value) => decode(record).is_some_and(|kv| kv.value == value),
                    None => record.tombstone,
                }
        });
        if found {
            return Ok(());
        }
        Err(format!(
            "acknowledged write: {:?} at revision {revision} is not in the history",
            String::from_utf8_lossy(key)
        ))
    }

    /// What a key held at a revision.
    pub(crate) fn at(&self, key: &[u8], revision: i64) -> Option<&Record> {
        let revisions = self.keys.get(key)?;
        let place = revisions.partition_point(|rev| rev.0 <= revision);
        let rev = revisions.get(place.checked_sub(1)?)?;
        self.records.get(rev).filter(|record| !record.tombstone)
    }

    /// All changes of these revisions, both included.
    pub(crate) fn between(&self, from: i64, upto: i64) -> impl Iterator<Item = &Record> {
        let upto = upto.max(from - 1);
        self.records
            .range((from, 0)..(upto + 1, 0))
            .map(|(_, record)| record)
    }

    /// The newest revision there is.
    pub(crate) fn revision(&self) -> i64 {
        self.records
            .last_key_value()
            .map_or(1, |((main, _), _)| *main)
    }

    /// The newest compaction there is.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Number of changes, for the report.
    pub(crate) fn changes(&self) -> usize {
        self.records.len()
    }
}

/// The pair that a record holds.
pub(crate) fn decode(record: &Record) -> Option<etcd_proto::mvccpb::KeyValue> {
    prost::Message::decode(record.value.clone()).ok()
}

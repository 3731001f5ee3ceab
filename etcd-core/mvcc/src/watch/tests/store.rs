//! A store of records in memory, as the hub sees one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::watch::History;
use crate::{ArchiveError, Record, Revision, encode, encode_tombstone};

/// Keys that live now: revision, create revision, version.
type Live = BTreeMap<Bytes, (Revision, i64, i64)>;

/// All records ever made, without those that a compaction dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct TestStore {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    /// Every record ever made.
    pub(super) all: Vec<Record>,
    /// What a compaction has left.
    kept: Vec<Record>,
    live: Live,
    /// `read` fails while this is set.
    pub(super) broken: bool,
}

/// One change in a transaction.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

impl TestStore {
    pub(super) fn new() -> TestStore {
        TestStore {
            revision: 1,
            ..TestStore::default()
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> Vec<Record> {
        self.commit(&[Change::Put(
            Bytes::copy_from_slice(key.as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        )])
    }

    pub(super) fn delete(&mut self, key: &str) -> Vec<Record> {
        self.commit(&[Change::Delete(Bytes::copy_from_slice(key.as_bytes()))])
    }

    /// Makes one revision of the changes, if any of them changes anything. No key
    /// may occur twice.
    pub(super) fn commit(&mut self, changes: &[Change]) -> Vec<Record> {
        let main = self.revision + 1;
        let mut records = Vec::new();
        for change in changes {
            let rev = Revision::new(main, records.len() as i64);
            let record = match change {
                Change::Put(key, value) => {
                    let before = self.live.get(key);
                    let create = before.map_or(main, |(_, create, _)| *create);
                    let version = before.map_or(1, |(_, _, version)| version + 1);
                    let record = Record {
                        rev,
                        tombstone: false,
                        key: key.clone(),
                        value: encode(key, create, main, version, value, 0),
                        create_revision: create,
                        version,
                        lease: 0,
                        replaces: self.newest(key),
                    };
                    self.live.insert(key.clone(), (rev, create, version));
                    record
                }
                Change::Delete(key) => {
                    let Some((replaced, _, _)) = self.live.remove(key) else {
                        continue;
                    };
                    Record {
                        rev,
                        tombstone: true,
                        key: key.clone(),
                        value: encode_tombstone(key),
                        create_revision: 0,
                        version: 0,
                        lease: 0,
                        replaces: Some(replaced),
                    }
                }
            };
            records.push(record);
        }
        if !records.is_empty() {
            self.revision = main;
            self.all.extend(records.iter().cloned());
            self.kept.extend(records.iter().cloned());
        }
        records
    }

    /// Drops what nobody at or above `revision` can see.
    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = revision;
        let mut newest: BTreeMap<Bytes, Revision> = BTreeMap::new();
        for record in self.kept.iter().filter(|r| r.rev.main <= revision) {
            newest.insert(record.key.clone(), record.rev);
        }
        self.kept.retain(|record| {
            record.rev.main >= revision
                || (newest.get(&record.key) == Some(&record.rev) && !record.tombstone)
        });
    }

    fn newest(&self, key: &Bytes) -> Option<Revision> {
        self.kept.iter().rfind(|r| r.key == *key).map(|r| r.rev)
    }
}

impl History for TestStore {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn compact_revision(&self) -> i64 {
        self.compacted
    }

    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        assert!(from_main >= self.compacted, "asked for compacted history");
        let first = self.kept.partition_point(|r| r.rev.main < from_main);
        for record in &self.kept[first..] {
            if record.rev.main > to_main || visit(record.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        if self.broken {
            return Err(ArchiveError::Read("broken on purpose".into()));
        }
        let found = self.kept.binary_search_by_key(&rev, |r| r.rev);
        match found {
            Ok(at) => Ok(self.kept[at].value.clone()),
            Err(_) => Err(ArchiveError::NotFound(rev)),
        }
    }
}

//! The segments of a store, in revision order, as the archive that `mvcc` reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use etcd_mvcc::{Archive, ArchiveError, Record, Revision};
use etcd_storage::disk::Disk;
use etcd_storage::segment::{RecordMeta, Segment, SegmentError};

use crate::damage::Damage;

/// One segment and its file's name.
#[derive(Clone)]
pub struct Part {
    /// Name in the store's directory.
    pub name: String,
    /// The opened file.
    pub segment: Arc<Segment>,
}

/// An immutable list of segments.
#[derive(Clone, Default)]
pub struct SegmentArchive {
    parts: Vec<Part>,
    damage: Damage,
}

impl SegmentArchive {
    /// Opens the named segments, in revision order.
    pub fn open(disk: &dyn Disk, directory: &Path, names: &[String]) -> Result<Self, SegmentError> {
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            let segment = Arc::new(Segment::open(disk, &directory.join(name))?);
            parts.push(Part {
                name: name.clone(),
                segment,
            });
        }
        Ok(SegmentArchive::new(parts, Damage::default()))
    }

    /// From parts in revision order; what is found damaged in them is noted in `damage`.
    pub fn new(parts: Vec<Part>, damage: Damage) -> Self {
        SegmentArchive { parts, damage }
    }

    /// What was found damaged in this store so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The segments, in revision order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.segment.file_bytes()).sum()
    }

    /// Names of the files, in revision order.
    pub fn names(&self) -> Vec<String> {
        self.parts.iter().map(|p| p.name.clone()).collect()
    }

    /// Files of `self` that `next` does not name any more, each once.
    pub fn dropped_by(&self, next: &SegmentArchive, directory: &Path) -> Vec<PathBuf> {
        let next: BTreeSet<&str> = next.parts.iter().map(|p| p.name.as_str()).collect();
        let names: BTreeSet<&str> = self.parts.iter().map(|p| p.name.as_str()).collect();
        names
            .difference(&next)
            .map(|name| directory.join(name))
            .collect()
    }

    /// Bytes of a record's key and value, if a segment holds it.
    pub fn record_bytes(&self, rev: Revision) -> Option<u64> {
        let part = self.holding(rev.main, rev.sub)?;
        part.segment.record_bytes(rev.main, rev.sub)
    }

    /// What a reader is told of a record that cannot be read. Damage is noted.
    pub(crate) fn failed(&self, error: &SegmentError) -> ArchiveError {
        self.damage.note(error);
        ArchiveError::Read(error.to_string())
    }

    fn holding(&self, main: i64, sub: i64) -> Option<&Part> {
        let at = self
            .parts
            .partition_point(|p| p.segment.last() < (main, sub));
        self.parts
            .get(at)
            .filter(|p| p.segment.first() <= (main, sub))
    }
}

impl Archive for SegmentArchive {
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        let part = self
            .holding(rev.main, rev.sub)
            .ok_or(ArchiveError::NotFound(rev))?;
        part.segment.read(rev.main, rev.sub).map_err(|e| match e {
            SegmentError::NotFound { .. } => ArchiveError::NotFound(rev),
            other => self.failed(&other),
        })
    }

    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        for part in &self.parts {
            if part.segment.last().0 < from_main {
                continue;
            }
            if part.segment.first().0 > to_main {
                break;
            }
            for item in part.segment.scan(from_main, to_main) {
                let (meta, key, value) = item.map_err(|e| self.failed(&e))?;
                if visit(record_of(&meta, &key, value)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A record as `mvcc` knows it.
pub(crate) fn record_of(meta: &RecordMeta, key: &[u8], value: Bytes) -> Record {
    Record {
        rev: Revision::new(meta.main, meta.sub),
        tombstone: meta.tombstone,
        key: Bytes::copy_from_slice(key),
        value,
        create_revision: meta.create_revision,
        version: meta.version,
        lease: meta.lease,
        replaces: meta.replaces.map(|(main, sub)| Revision::new(main, sub)),
    }
}

/// The part of a record that a segment's footer keeps.
pub(crate) fn meta_of(record: &Record) -> RecordMeta {
    RecordMeta {
        main: record.rev.main,
        sub: record.rev.sub,
        tombstone: record.tombstone,
        create_revision: record.create_revision,
        version: record.version,
        lease: record.lease,
        replaces: record.replaces.map(|r| (r.main, r.sub)),
    }
}

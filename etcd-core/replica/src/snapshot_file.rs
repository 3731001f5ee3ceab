//! A snapshot file, looked at without restoring it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use etcd_mvcc::{
    Archive, ArchiveError, KvHash, RawKey, ReadError, Record, RestoredRecord, Revision, Store,
};
use etcd_proto::mvccpb::KeyValue;
use etcd_storage::bolt::{BoltError, Bucket, Image};
use prost::Message as _;

use crate::error::StoreError;
use crate::import::read_rows;

/// A bbolt image in memory or mapped. Nothing is written to it.
pub struct SnapshotFile {
    image: Image,
    keys: Bucket,
}

/// What `etcdutl snapshot status` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// CRC-32C over all buckets' names, keys and values.
    pub hash: u32,
    /// Main revision of the last change.
    pub revision: i64,
    /// Keys that are not deleted.
    pub total_key: u64,
    /// Bytes of the database, without a trailer.
    pub total_size: u64,
    /// Storage version; empty if the file names none.
    pub version: String,
}

/// A file that is no snapshot of etcd, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// Of bbolt's format.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// Of what is in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Pages that contradict each other; the first of them.
    #[error("snapshot file integrity check failed. {count} errors found.\n{first}")]
    Damaged {
        /// How many were found.
        count: usize,
        /// The first.
        first: String,
    },
    /// It is a bbolt file of something else.
    #[error("there is no bucket \"key\": not a snapshot of etcd")]
    NoKeys,
    /// A row of the bucket `key` that cannot be read.
    #[error("bucket \"key\": {0}")]
    Row(String),
    /// The revision cannot be hashed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl SnapshotFile {
    /// Opens the bytes of a file, with or without a trailer.
    ///
    /// # Errors
    /// [`SnapshotFileError::Bolt`] or [`SnapshotFileError::NoKeys`].
    pub fn open(bytes: Bytes) -> Result<SnapshotFile, SnapshotFileError> {
        let image = Image::open(bytes)?;
        let keys = image.bucket(b"key")?.ok_or(SnapshotFileError::NoKeys)?;
        Ok(SnapshotFile { image, keys })
    }

    /// Checks every page and reads everything once.
    ///
    /// # Errors
    /// [`SnapshotFileError::Damaged`] if a page is unsound, and what reading finds.
    pub fn status(&self) -> Result<SnapshotStatus, SnapshotFileError> {
        let found = self.image.check();
        if let Some(first) = found.first() {
            return Err(SnapshotFileError::Damaged {
                count: found.len(),
                first: first.to_string(),
            });
        }
        let mut hash = 0;
        for bucket in self.image.buckets() {
            let (name, bucket) = bucket?;
            hash = crc32c::crc32c_append(hash, &name);
            for row in bucket.rows() {
                let row = row?;
                hash = crc32c::crc32c_append(hash, &row.key);
                hash = crc32c::crc32c_append(hash, &row.value);
            }
        }
        let mut revision = 0;
        let mut live: HashSet<Bytes> = HashSet::new();
        self.records(&mut |rev, tombstone, kv, _| {
            revision = rev.main;
            if tombstone {
                live.remove(&kv.key);
            } else {
                live.insert(kv.key);
            }
        })?;
        let rows = read_rows(&self.image)?;
        Ok(SnapshotStatus {
            hash,
            revision,
            total_key: live.len() as u64,
            total_size: self.image.size(),
            version: rows.storage_version.unwrap_or_default(),
        })
    }

    /// HashKV of the history up to `revision`, 0 for all of it, as the members it was
    /// taken from compute it.
    ///
    /// # Errors
    /// [`SnapshotFileError::Read`] for a revision in the future or compacted.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, SnapshotFileError> {
        let rows = read_rows(&self.image)?;
        let archive = Arc::new(Records(self.keys.clone()));
        let mut store = Store::new(archive);
        let mut last = 0;
        self.records(&mut |rev, tombstone, kv, _| {
            last = rev.main;
            store.load(RestoredRecord {
                rev,
                tombstone,
                key: &kv.key,
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
            });
        })?;
        let compacted = match rows.scheduled_compact.max(rows.finished_compact) {
            0 => -1,
            compacted => compacted,
        };
        store.finish_load(last.max(1), compacted);
        Ok(store.view().hash_kv(revision)?)
    }

    fn records(
        &self,
        visit: &mut dyn FnMut(Revision, bool, KeyValue, Bytes),
    ) -> Result<(), SnapshotFileError> {
        for row in self.keys.rows() {
            let row = row?;
            let (rev, tombstone) = RawKey::decode(&row.key)
                .ok_or_else(|| SnapshotFileError::Row(format!("{:?} is no revision", row.key)))?;
            let kv = KeyValue::decode(row.value.clone())
                .map_err(|e| SnapshotFileError::Row(format!("revision {}: {e}", rev.main)))?;
            visit(rev, tombstone, kv, row.value);
        }
        Ok(())
    }
}

/// The bucket `key` as the archive of a store.
struct Records(Bucket);

fn unreadable(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Read(error.to_string())
}

impl Archive for Records {
    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        for tombstone in [false, true] {
            let key = RawKey::new(rev, tombstone);
            if let Some(value) = self.0.get(key.as_bytes()).map_err(unreadable)? {
                return Ok(value);
            }
        }
        Err(ArchiveError::NotFound(rev))
    }

    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let from = RawKey::new(Revision::new(from_main, 0), false);
        for row in self.0.rows_from(from.as_bytes()) {
            let row = row.map_err(unreadable)?;
            let (rev, tombstone) = RawKey::decode(&row.key)
                .ok_or_else(|| unreadable(format!("{:?} is no revision", row.key)))?;
            if rev.main > to_main {
                break;
            }
            let kv = KeyValue::decode(row.value.clone()).map_err(unreadable)?;
            let record = Record {
                rev,
                tombstone,
                key: kv.key,
                value: row.value,
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                replaces: None,
            };
            if visit(record).is_break() {
                break;
            }
        }
        Ok(())
    }
}

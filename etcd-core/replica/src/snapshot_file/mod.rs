//! A snapshot file, looked at without restoring it.

mod record;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use etcd_mvcc::{KvHash, ReadError, Revision};
use etcd_storage::bolt::{BoltError, Bucket, Image};
use etcd_storage::disk::{Disk, DiskError, OpenMode};

use crate::member::Member;
use crate::schema::{BUCKETS, Row, RowError, Rows};
use record::FileRecord;
use survey::Survey;

/// A bbolt image, with or without a trailer. Nothing is written to it. Of a file only
/// the pages that are looked at are in memory, and what is kept of the keys is bounded
/// too (some tens of MiB), whatever the file's size and content.
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
    /// Keys that are not deleted, the empty one included by which a restore raised the
    /// revision.
    pub total_key: u64,
    /// Keys that are not deleted and that clients see.
    pub live_keys: u64,
    /// Bytes of the database, without a trailer.
    pub total_size: u64,
    /// Storage version; empty if the file names none.
    pub version: String,
}

/// What a few rows say of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store's main revision; 1 if it is empty.
    pub revision: i64,
    /// The main revision that a compaction was last asked for; 0 if none.
    pub compact_revision: i64,
    /// Whether authentication is on.
    pub auth_enabled: bool,
    /// Version of the cluster, once it was decided.
    pub cluster_version: Option<String>,
    /// Version of the schema, if the file names it.
    pub storage_version: Option<String>,
}

/// Where in a log a store stands.
pub(crate) struct Standing {
    /// Index of the last entry that is in it; 0 if none is.
    pub(crate) index: u64,
    /// Term of that entry; 0 if an etcd before 3.5 wrote it.
    pub(crate) term: u64,
    /// The members.
    pub(crate) members: Vec<Member>,
}

/// Members that are read at most: more than any cluster has.
const MEMBERS_MAX: usize = 10_000;

/// A file that is no snapshot of etcd, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Of bbolt's format.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// Of a row of a bucket other than `key`.
    #[error(transparent)]
    Other(#[from] RowError),
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
    /// Authentication is on, and this version would serve everybody.
    #[error("{}", crate::error::StoreError::AuthEnabled)]
    AuthEnabled,
    /// A row of the bucket `key` that cannot be read.
    #[error("bucket \"key\": {0}")]
    Row(String),
    /// The revision cannot be hashed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl SnapshotFile {
    /// Opens the bytes of a file.
    ///
    /// # Errors
    /// [`SnapshotFileError::Bolt`] or [`SnapshotFileError::NoKeys`].
    pub fn open(bytes: Bytes) -> Result<SnapshotFile, SnapshotFileError> {
        SnapshotFile::of(Image::open(bytes)?)
    }

    /// Opens a file, which must not change meanwhile.
    ///
    /// # Errors
    /// [`SnapshotFileError::Disk`], and as [`SnapshotFile::open`].
    pub fn open_file(disk: &dyn Disk, path: &Path) -> Result<SnapshotFile, SnapshotFileError> {
        let file = Arc::from(disk.open(path, OpenMode::Read)?);
        SnapshotFile::of(Image::open_file(file)?)
    }

    fn of(image: Image) -> Result<SnapshotFile, SnapshotFileError> {
        let keys = image.bucket(b"key")?.ok_or(SnapshotFileError::NoKeys)?;
        Ok(SnapshotFile { image, keys })
    }

    /// Checks every page, as bbolt's own check does.
    ///
    /// # Errors
    /// [`SnapshotFileError::Damaged`].
    pub fn check(&self) -> Result<(), SnapshotFileError> {
        let found = self.image.check();
        match found.first() {
            None => Ok(()),
            Some(first) => Err(SnapshotFileError::Damaged {
                count: found.len(),
                first: first.to_string(),
            }),
        }
    }

    /// Checks every page and decodes every row, in two passes: after that a member of ours
    /// can make its store of it, unless the disk fails.
    ///
    /// # Errors
    /// [`SnapshotFileError`].
    pub fn verify(&self) -> Result<(), SnapshotFileError> {
        self.check()?;
        for name in BUCKETS.iter().filter(|name| **name != "key") {
            let Some(bucket) = self.bucket(name.as_bytes())? else {
                continue;
            };
            for row in bucket.rows() {
                let row = row?;
                Rows::decode([Row {
                    bucket: (*name).to_owned(),
                    key: row.key,
                    value: row.value,
                }])?;
            }
        }
        if self.some(&[("auth", "authEnabled")])?.auth_enabled() {
            return Err(SnapshotFileError::AuthEnabled);
        }
        let mut last = Revision::new(0, 0);
        self.records(&mut |record| {
            // Rows are in the order of their bytes, a deletion behind a change alike.
            if record.rev <= last || u32::try_from(record.rev.sub).is_err() {
                let Revision { main, sub } = record.rev;
                let text = format!("revision {main}_{sub} has no place behind the one before");
                return Err(SnapshotFileError::Row(text));
            }
            last = record.rev;
            Ok(())
        })
    }

    /// Checks every page and reads everything, in several passes.
    ///
    /// # Errors
    /// [`SnapshotFileError::Damaged`] if a page is unsound, and what reading finds.
    pub fn status(&self) -> Result<SnapshotStatus, SnapshotFileError> {
        self.check()?;
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
        let survey = Survey::of(self, i64::MAX)?;
        Ok(SnapshotStatus {
            hash,
            revision: survey.last,
            total_key: survey.live,
            live_keys: survey.written(),
            total_size: self.image.size(),
            version: self.summary()?.storage_version.unwrap_or_default(),
        })
    }

    /// What a few rows say of the whole: a few pages are read.
    ///
    /// # Errors
    /// [`SnapshotFileError`], if these rows cannot be read.
    pub fn summary(&self) -> Result<Summary, SnapshotFileError> {
        let rows = self.some(&[
            ("auth", "authEnabled"),
            ("cluster", "clusterVersion"),
            ("meta", "finishedCompactRev"),
            ("meta", "scheduledCompactRev"),
            ("meta", "storageVersion"),
        ])?;
        let last = match self.keys.last()? {
            Some(row) => FileRecord::decode(&row)?.rev.main,
            None => 0,
        };
        let compact_revision = rows.scheduled_compact.max(rows.finished_compact).max(0);
        Ok(Summary {
            revision: last.max(compact_revision).max(1),
            compact_revision,
            auth_enabled: rows.auth_enabled(),
            cluster_version: rows.cluster_version,
            storage_version: rows.storage_version,
        })
    }

    /// Where in a log the store stands, and of which members it is.
    ///
    /// # Errors
    /// [`SnapshotFileError`], if these rows cannot be read.
    pub(crate) fn standing(&self) -> Result<Standing, SnapshotFileError> {
        let rows = self.some(&[("meta", "consistent_index"), ("meta", "term")])?;
        let mut members = Vec::new();
        if let Some(bucket) = self.bucket(b"members")? {
            for row in bucket.rows().take(MEMBERS_MAX) {
                let row = row?;
                members.push(Row {
                    bucket: "members".into(),
                    key: row.key,
                    value: row.value,
                });
            }
        }
        let members = Rows::decode(members)?.membership;
        Ok(Standing {
            index: rows.consistent_index,
            term: rows.term,
            members: members.iter().cloned().collect(),
        })
    }

    /// A few rows, by bucket and key, of those that there are.
    fn some(&self, wanted: &[(&str, &str)]) -> Result<Rows, SnapshotFileError> {
        let mut found = Vec::new();
        for (name, key) in wanted {
            let row = match self.bucket(name.as_bytes())? {
                Some(bucket) => bucket.get(key.as_bytes())?,
                None => None,
            };
            found.extend(row.map(|value| Row {
                bucket: (*name).into(),
                key: Bytes::copy_from_slice(key.as_bytes()),
                value,
            }));
        }
        Ok(Rows::decode(found)?)
    }

    /// HashKV of the history up to `revision`, 0 for all of it, as the members it was
    /// taken from compute it.
    ///
    /// # Errors
    /// [`SnapshotFileError::Read`] for a revision in the future or compacted.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, SnapshotFileError> {
        self.hash_kv_compacted(revision, 0)
    }

    /// As [`SnapshotFile::hash_kv`], as a member computes it that has compacted its
    /// history to `compact_revision` since the file was taken of it. One that the file
    /// itself is compacted beyond makes no difference.
    ///
    /// # Errors
    /// As [`SnapshotFile::hash_kv`].
    pub fn hash_kv_compacted(
        &self,
        revision: i64,
        compact_revision: i64,
    ) -> Result<KvHash, SnapshotFileError> {
        let summary = self.summary()?;
        let compacted = match summary.compact_revision.max(compact_revision) {
            ..=0 => -1,
            compacted => compacted,
        };
        let at = match revision {
            r if r > summary.revision => return Err(ReadError::Future.into()),
            r if r > 0 && r < compacted => return Err(ReadError::Compacted.into()),
            r if r <= 0 => summary.revision,
            r => r,
        };
        // Nothing is left out of a history that was never compacted.
        let visible = match compacted {
            -1 => None,
            compacted => {
                let survey = Survey::of(self, at)?;
                Some(match survey.live {
                    // What the compaction has left counts if nothing else does.
                    0 => Survey::of(self, compacted)?,
                    _ => survey,
                })
            }
        };
        let mut hash = crc32c::crc32c(b"key");
        let mut number = 0;
        self.records(&mut |record| {
            let counts = record.rev.main <= at
                && (record.rev.main > compacted
                    || visible.as_ref().is_none_or(|v| v.is_visible(number)));
            number += 1;
            if counts {
                hash = crc32c::crc32c_append(hash, record.raw_key);
                hash = crc32c::crc32c_append(hash, record.value);
            }
            Ok::<(), SnapshotFileError>(())
        })?;
        Ok(KvHash {
            hash,
            compact_revision: compacted,
            revision: at,
        })
    }

    /// The bucket of that name, `None` if there is none.
    pub(crate) fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BoltError> {
        self.image.bucket(name)
    }

    /// All buckets.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = Result<(Bytes, Bucket), BoltError>> {
        self.image.buckets()
    }

    /// Visits the records of the bucket `key` in order.
    ///
    /// # Errors
    /// [`SnapshotFileError`] for one that cannot be read, and the visitor's.
    pub(crate) fn records<E: From<SnapshotFileError>>(
        &self,
        visit: &mut dyn FnMut(&FileRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in self.keys.rows() {
            let row = row.map_err(SnapshotFileError::from)?;
            visit(&FileRecord::decode(&row)?)?;
        }
        Ok(())
    }
}

//! A row of the bucket `key`.

use bytes::Bytes;
use etcd_mvcc::{RawKey, Revision};
use etcd_proto::mvccpb::KeyValue;
use etcd_storage::bolt::Row;
use prost::Message as _;

use super::SnapshotFileError;

/// A stored change.
pub(crate) struct FileRecord<'a> {
    /// Its place in the history.
    pub(crate) rev: Revision,
    /// Whether it deletes the key.
    pub(crate) tombstone: bool,
    /// The key that changed.
    pub(crate) key: Bytes,
    /// Key of the row.
    pub(crate) raw_key: &'a [u8],
    /// Value of the row: a `mvccpb.KeyValue`.
    pub(crate) value: &'a [u8],
}

impl FileRecord<'_> {
    pub(super) fn decode(row: &Row) -> Result<FileRecord<'_>, SnapshotFileError> {
        let fault = |text: String| SnapshotFileError::Row(text);
        let (rev, tombstone) = RawKey::decode(&row.key)
            .ok_or_else(|| fault(format!("{:?} is no revision", row.key)))?;
        if rev.main < 1 || rev.sub < 0 {
            return Err(fault(format!("revision {}_{} is none", rev.main, rev.sub)));
        }
        let pair = KeyValue::decode(row.value.clone())
            .map_err(|e| fault(format!("revision {}: {e}", rev.main)))?;
        Ok(FileRecord {
            rev,
            tombstone,
            key: pair.key,
            raw_key: &row.key,
            value: &row.value,
        })
    }
}

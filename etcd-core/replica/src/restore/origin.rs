//! Where a new store's rows come from.

use bytes::Bytes;
use etcd_storage::bolt::LayoutError;

use super::RestoreError;
use crate::snapshot_file::{SnapshotFile, Summary};

/// Takes a row's key and value.
pub(crate) type VisitRow<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<(), RestoreError>;

/// A store as rows of etcd's buckets. Rows ascend by key; a bucket that is not there has
/// none.
pub(crate) trait Origin {
    /// What the rows say in sum.
    fn summary(&self) -> Result<Summary, RestoreError>;

    /// Names of the buckets that there are, in any order.
    fn bucket_names(&self) -> Result<Vec<Bytes>, RestoreError>;

    /// Visits the rows of a bucket.
    fn visit(&self, bucket: &[u8], visit: VisitRow<'_>) -> Result<(), RestoreError>;

    /// Whether a bucket has a row of this key.
    fn has(&self, bucket: &[u8], key: &[u8]) -> Result<bool, RestoreError>;
}

impl Origin for SnapshotFile {
    fn summary(&self) -> Result<Summary, RestoreError> {
        Ok(SnapshotFile::summary(self)?)
    }

    fn bucket_names(&self) -> Result<Vec<Bytes>, RestoreError> {
        let names = self.buckets().map(|bucket| bucket.map(|(name, _)| name));
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Rows of the bucket `key` are also decoded, so that whatever starts on the result
    /// can read them.
    fn visit(&self, bucket: &[u8], visit: VisitRow<'_>) -> Result<(), RestoreError> {
        if bucket == b"key" {
            return self.records(&mut |record| {
                visit(record.raw_key, record.value)?;
                Ok(())
            });
        }
        let Some(bucket) = self.bucket(bucket)? else {
            return Ok(());
        };
        for row in bucket.rows() {
            let row = row?;
            visit(&row.key, &row.value)?;
        }
        Ok(())
    }

    fn has(&self, bucket: &[u8], key: &[u8]) -> Result<bool, RestoreError> {
        let found = match self.bucket(bucket)? {
            Some(bucket) => bucket.get(key)?,
            None => None,
        };
        Ok(found.is_some())
    }
}

/// Rows of an origin with others in their place or besides, written into a bucket.
pub(super) fn merge(
    origin: &dyn Origin,
    bucket: &[u8],
    others: impl IntoIterator<Item = (Vec<u8>, Bytes)>,
    write: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), LayoutError>,
) -> Result<(), RestoreError> {
    let mut others = others.into_iter().peekable();
    origin.visit(bucket, &mut |key, value| {
        while let Some((other, row)) = others.next_if(|(other, _)| **other < *key) {
            write(&other, &row)?;
        }
        match others.next_if(|(other, _)| **other == *key) {
            Some((_, row)) => write(key, &row)?,
            None => write(key, value)?,
        }
        Ok(())
    })?;
    for (other, row) in others {
        write(&other, &row)?;
    }
    Ok(())
}

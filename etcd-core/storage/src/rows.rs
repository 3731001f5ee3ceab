//! The rows of all buckets but `key`, as one file.
//!
//! ```text
//! magic 8 | version u32 | number of rows u64
//! rows: bytes of bucket u32 | bytes of key u32 | bytes of value u32 | bucket | key | value
//! CRC-32C of all before u32
//! ```

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use crate::disk::{Disk, DiskError, OpenMode};

const MAGIC: [u8; 8] = *b"etcdcrow";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = MAGIC.len() + size_of::<u32>() + size_of::<u64>();
const ROW_HEAD_BYTES: usize = 3 * size_of::<u32>();

/// One row of a bucket, in etcd's encoding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Name of the bucket.
    pub bucket: String,
    /// The row's key.
    pub key: Bytes,
    /// The row's value.
    pub value: Bytes,
}

/// Why rows could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file has changed since it was written, or is not whole.
    #[error("rows: {} is corrupt: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// What does not check out.
        reason: &'static str,
    },
    /// The file is of a format that this version does not know.
    #[error("rows: {} has format version {version}, which is not known", file.display())]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: u32,
    },
    /// A row of 4 GiB or more.
    #[error("rows: a row of bucket {bucket} is too large")]
    TooLarge {
        /// Name of its bucket.
        bucket: String,
    },
    /// The disk failed.
    #[error("rows: {0}")]
    Disk(#[from] DiskError),
}

/// Writes `rows`, in their order, to a new file and syncs it. The caller syncs the
/// directory before anything may refer to it. Returns the file's length.
pub fn write(disk: &dyn Disk, path: &Path, rows: &[Row]) -> Result<u64, RowsError> {
    let size = |row: &Row| ROW_HEAD_BYTES + row.bucket.len() + row.key.len() + row.value.len();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + rows.iter().map(size).sum::<usize>() + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    for row in rows {
        for part in [row.bucket.as_bytes(), &row.key, &row.value] {
            let len = u32::try_from(part.len()).map_err(|_| RowsError::TooLarge {
                bucket: row.bucket.clone(),
            })?;
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        bytes.extend_from_slice(row.bucket.as_bytes());
        bytes.extend_from_slice(&row.key);
        bytes.extend_from_slice(&row.value);
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let file = disk.create(path)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    Ok(bytes.len() as u64)
}

/// Reads the rows of a file, in the order they were written in.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<Row>, RowsError> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    decode(path, &bytes)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Row>, RowsError> {
    let corrupt = |reason| RowsError::Corrupt {
        file: path.to_path_buf(),
        reason,
    };
    let (content, checksum) = bytes
        .split_last_chunk()
        .ok_or_else(|| corrupt("the file is too short"))?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err(corrupt("the checksum does not match"));
    }
    let mut rest = content
        .strip_prefix(&MAGIC)
        .ok_or_else(|| corrupt("it does not start as a file of rows does"))?;
    let version = rest
        .try_get_u32_le()
        .map_err(|_| corrupt("the head is cut"))?;
    if version != VERSION {
        return Err(RowsError::UnknownVersion {
            file: path.to_path_buf(),
            version,
        });
    }
    let count = rest
        .try_get_u64_le()
        .map_err(|_| corrupt("the head is cut"))?;
    let mut rows = Vec::new();
    for _ in 0..count {
        rows.push(row(&mut rest).ok_or_else(|| corrupt("a row does not decode"))?);
    }
    if !rest.is_empty() {
        return Err(corrupt("more follows the last row"));
    }
    Ok(rows)
}

fn row(rest: &mut &[u8]) -> Option<Row> {
    let bucket_len = rest.try_get_u32_le().ok()?;
    let key_len = rest.try_get_u32_le().ok()?;
    let value_len = rest.try_get_u32_le().ok()?;
    let mut part = |len: u32| {
        let (part, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        *rest = after;
        Some(part)
    };
    let bucket = std::str::from_utf8(part(bucket_len)?).ok()?.to_owned();
    let key = Bytes::copy_from_slice(part(key_len)?);
    let value = Bytes::copy_from_slice(part(value_len)?);
    Some(Row { bucket, key, value })
}

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::layout::{self, ENTRY_BYTES, Entry, HEADER_BYTES, Trailer, checksum};
use super::{RecordMeta, SegmentError};
use crate::disk::{Disk, File};

const BUFFER_BYTES: usize = 1 << 20;

/// Writes a segment record by record. Values go to the disk as they come, the footer is
/// kept in memory (80 bytes and the key for each record) until [`SegmentWriter::finish`].
pub struct SegmentWriter {
    file: Box<dyn File>,
    path: PathBuf,
    /// Bytes that the file has.
    written: u64,
    /// Bytes that come next.
    buffer: Vec<u8>,
    entries: Vec<u8>,
    keys: Vec<u8>,
    first: Option<(i64, i64)>,
    last: (i64, i64),
}

/// A finished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Revision of the first record.
    pub first: (i64, i64),
    /// Revision of the last record.
    pub last: (i64, i64),
    /// Number of records.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
}

impl SegmentWriter {
    /// Begins a segment in a new file. Until it is finished the file is worthless; if
    /// it never is, the caller removes it.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<SegmentWriter, SegmentError> {
        let file = disk.create(path)?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.extend_from_slice(&layout::header());
        Ok(SegmentWriter {
            file,
            path: path.to_path_buf(),
            written: 0,
            buffer,
            entries: Vec::new(),
            keys: Vec::new(),
            first: None,
            last: (0, 0),
        })
    }

    /// Appends a record; its revision must be above that of the one before. `value` is
    /// stored verbatim.
    pub fn push(
        &mut self,
        meta: &RecordMeta,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), SegmentError> {
        let (main, sub) = meta.revision();
        let does_not_fit = |what| SegmentError::DoesNotFit { main, sub, what };
        if self.first.is_some() && meta.revision() <= self.last {
            let (after_main, after_sub) = self.last;
            return Err(SegmentError::OutOfOrder {
                main,
                sub,
                after_main,
                after_sub,
            });
        }
        let entry = Entry {
            meta: *meta,
            value_offset: self.written + self.buffer.len() as u64,
            value_len: u32::try_from(value.len()).map_err(|_| does_not_fit("the value"))?,
            key_offset: self.keys.len() as u64,
            key_len: u32::try_from(key.len()).map_err(|_| does_not_fit("the key"))?,
            checksum: checksum(meta, value),
        };
        let entry = entry
            .encode()
            .ok_or_else(|| does_not_fit("a sub revision"))?;
        self.append(value)?;
        self.entries.extend_from_slice(&entry);
        self.keys.extend_from_slice(key);
        self.first.get_or_insert((main, sub));
        self.last = (main, sub);
        Ok(())
    }

    /// Number of records so far.
    pub fn records(&self) -> u64 {
        (self.entries.len() / ENTRY_BYTES) as u64
    }

    /// Bytes that the file would have if it were finished now, give or take 8.
    pub fn bytes(&self) -> u64 {
        let footer = self.entries.len() + self.keys.len() + layout::TRAILER_BYTES;
        self.written + (self.buffer.len() + footer) as u64
    }

    /// Writes the footer and syncs the file. The caller syncs the directory before
    /// anything may refer to the segment.
    pub fn finish(mut self) -> Result<SegmentInfo, SegmentError> {
        let Some(first) = self.first else {
            return Err(SegmentError::Empty { file: self.path });
        };
        let end = self.written + self.buffer.len() as u64;
        let padding = (end.wrapping_neg() % 8) as usize;
        self.append(&[0; 8][..padding])?;
        let entries_offset = end + padding as u64;
        debug_assert!(entries_offset >= HEADER_BYTES as u64);
        let entries = std::mem::take(&mut self.entries);
        let keys = std::mem::take(&mut self.keys);
        let trailer = Trailer {
            entries_offset,
            count: (entries.len() / ENTRY_BYTES) as u64,
            keys_offset: entries_offset + entries.len() as u64,
            keys_len: keys.len() as u64,
            entries_checksum: crc32c::crc32c(&entries),
            keys_checksum: crc32c::crc32c(&keys),
        };
        self.append(&entries)?;
        self.append(&keys)?;
        self.append(&trailer.encode())?;
        self.flush()?;
        self.file.sync_data()?;
        Ok(SegmentInfo {
            first,
            last: self.last,
            records: trailer.count,
            bytes: self.written,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() > BUFFER_BYTES {
            self.file.write_at(self.written, bytes)?;
            self.written += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SegmentError> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

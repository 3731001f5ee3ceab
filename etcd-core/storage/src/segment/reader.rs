use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::layout::{
    ENTRY_BYTES, Entry, HEADER_BYTES, TRAILER_BYTES, Trailer, TrailerError, checksum, header,
};
use super::{RecordMeta, SegmentError};
use crate::disk::{Disk, OpenMode};

/// An open segment. Values are slices of the mapped file: they cost no copy, and keep
/// the map alive, also of a file that has been removed.
///
/// Bytes that change under it after it was opened yield errors, never a panic.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    bytes: Bytes,
    /// Where the entries are.
    entries: Range<usize>,
    /// Where the keys are.
    keys: Range<usize>,
    first: (i64, i64),
    last: (i64, i64),
}

impl Segment {
    /// Opens a segment and checks all of it but the values, which it does not read.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Segment, SegmentError> {
        let bytes = disk.open(path, OpenMode::Read)?.map()?;
        let corrupt = |reason| SegmentError::corrupt(path, reason);

        let trailer = bytes.last_chunk::<TRAILER_BYTES>();
        let trailer = trailer.ok_or_else(|| corrupt("the file is too short"))?;
        let trailer = Trailer::decode(trailer).map_err(|e| match e {
            TrailerError::Magic => corrupt("it does not end as a segment does"),
            TrailerError::Checksum => corrupt("the checksum of the trailer does not match"),
            TrailerError::Version(version) => SegmentError::UnknownVersion {
                file: path.to_path_buf(),
                version,
            },
        })?;
        if !bytes.starts_with(&header()) {
            return Err(corrupt("it does not start as a segment does"));
        }
        let (entries, keys) = places(&trailer, bytes.len())
            .ok_or_else(|| corrupt("the trailer does not describe the file"))?;
        if crc32c::crc32c(&bytes[entries.clone()]) != trailer.entries_checksum {
            return Err(corrupt("the checksum of the entries does not match"));
        }
        if crc32c::crc32c(&bytes[keys.clone()]) != trailer.keys_checksum {
            return Err(corrupt("the checksum of the keys does not match"));
        }
        let mut segment = Segment {
            path: path.to_path_buf(),
            bytes,
            entries,
            keys,
            first: (0, 0),
            last: (0, 0),
        };
        segment.check_entries()?;
        Ok(segment)
    }

    /// Checks that the entries are in order and refer to what is there.
    fn check_entries(&mut self) -> Result<(), SegmentError> {
        let corrupt = |reason| SegmentError::corrupt(&self.path, reason);
        let mut bounds = None;
        for chunk in self.entry_chunks() {
            let entry = Entry::decode(chunk);
            let revision = entry.meta.revision();
            let (first, last) = bounds.unwrap_or((revision, revision));
            if bounds.is_some() && revision <= last {
                return Err(corrupt("the entries are not in order"));
            }
            if self.value_range(&entry).is_none() || self.key_range(&entry).is_none() {
                return Err(corrupt("an entry refers beyond the file"));
            }
            bounds = Some((first, revision));
        }
        (self.first, self.last) = bounds.ok_or_else(|| corrupt("it has no records"))?;
        Ok(())
    }

    /// The value of a revision, as it was written.
    pub fn read(&self, main: i64, sub: i64) -> Result<Bytes, SegmentError> {
        let index = self.lower_bound((main, sub));
        match self.entry(index) {
            Some(entry) if entry.meta.revision() == (main, sub) => self.value(&entry),
            _ => Err(SegmentError::NotFound {
                file: self.path.clone(),
                main,
                sub,
            }),
        }
    }

    /// Reads every value and checks it.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] for the first record that has changed.
    pub fn verify(&self) -> Result<(), SegmentError> {
        self.scan(i64::MIN, i64::MAX)
            .try_for_each(|record| record.map(drop))
    }

    /// Bytes of the key and the value of a revision; `None` if it is not here.
    pub fn record_bytes(&self, main: i64, sub: i64) -> Option<u64> {
        let entry = self.entry(self.lower_bound((main, sub)))?;
        let key = self.key_range(&entry)?;
        (entry.meta.revision() == (main, sub))
            .then(|| key.len() as u64 + u64::from(entry.value_len))
    }

    /// All records in revision order, without their values: meta, key and the value's
    /// length. Reads the footer alone.
    pub fn records(&self) -> Records<'_> {
        Records {
            segment: self,
            indexes: 0..self.len(),
        }
    }

    /// The records with a main revision in `from_main..=to_main`, in revision order.
    pub fn scan(&self, from_main: i64, to_main: i64) -> Scan<'_> {
        let start = self.lower_bound((from_main, 0));
        let end = match to_main.checked_add(1) {
            Some(next) => self.lower_bound((next, 0)),
            None => self.len(),
        };
        Scan {
            segment: self,
            indexes: start..end,
        }
    }

    /// Revision of the first record.
    pub fn first(&self) -> (i64, i64) {
        self.first
    }

    /// Revision of the last record.
    pub fn last(&self) -> (i64, i64) {
        self.last
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// Always false: a segment has records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Index of the first record at or above a revision.
    fn lower_bound(&self, revision: (i64, i64)) -> usize {
        let (mut low, mut high) = (0, self.len());
        // Without gaps and with one record to a revision this is the place.
        let distance = revision.0.saturating_sub(self.first.0);
        if let Ok(guess) = usize::try_from(distance)
            && guess < high
        {
            if self.revision(guess) < Some(revision) {
                low = guess + 1;
            } else {
                high = guess;
                if guess == 0 || self.revision(guess - 1) < Some(revision) {
                    return guess;
                }
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.revision(middle) < Some(revision) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn entry_chunks(&self) -> impl Iterator<Item = &[u8; ENTRY_BYTES]> {
        self.bytes[self.entries.clone()].as_chunks().0.iter()
    }

    fn entry_bytes(&self, index: usize) -> Option<&[u8; ENTRY_BYTES]> {
        let start = index.checked_mul(ENTRY_BYTES)?;
        self.bytes[self.entries.clone()].get(start..)?.first_chunk()
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        self.entry_bytes(index).map(Entry::decode)
    }

    fn revision(&self, index: usize) -> Option<(i64, i64)> {
        self.entry_bytes(index).map(Entry::revision)
    }

    fn value_range(&self, entry: &Entry) -> Option<Range<usize>> {
        let start = usize::try_from(entry.value_offset).ok()?;
        let end = start.checked_add(usize::try_from(entry.value_len).ok()?)?;
        (start >= HEADER_BYTES && end <= self.entries.start).then_some(start..end)
    }

    fn key_range(&self, entry: &Entry) -> Option<Range<usize>> {
        let start = self
            .keys
            .start
            .checked_add(usize::try_from(entry.key_offset).ok()?)?;
        let end = start.checked_add(usize::try_from(entry.key_len).ok()?)?;
        (end <= self.keys.end).then_some(start..end)
    }

    fn value(&self, entry: &Entry) -> Result<Bytes, SegmentError> {
        let range = self.value_range(entry).ok_or_else(|| self.changed(entry))?;
        let value = self.bytes.slice(range);
        if checksum(&entry.meta, &value) != entry.checksum {
            return Err(self.changed(entry));
        }
        Ok(value)
    }

    fn changed(&self, entry: &Entry) -> SegmentError {
        let (main, sub) = entry.meta.revision();
        SegmentError::corrupt(&self.path, format!("revision {main}.{sub} has changed"))
    }
}

fn places(trailer: &Trailer, file_len: usize) -> Option<(Range<usize>, Range<usize>)> {
    let entries_start = usize::try_from(trailer.entries_offset).ok()?;
    let count = usize::try_from(trailer.count).ok()?;
    let entries_end = entries_start.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
    let keys_start = usize::try_from(trailer.keys_offset).ok()?;
    let keys_end = keys_start.checked_add(usize::try_from(trailer.keys_len).ok()?)?;
    let whole = entries_start >= HEADER_BYTES
        && entries_end == keys_start
        && keys_end.checked_add(TRAILER_BYTES)? == file_len;
    whole.then_some((entries_start..entries_end, keys_start..keys_end))
}

/// See [`Segment::records`].
pub struct Records<'a> {
    segment: &'a Segment,
    indexes: Range<usize>,
}

impl<'a> Iterator for Records<'a> {
    /// Meta, key, bytes of the value.
    type Item = Result<(RecordMeta, &'a [u8], usize), SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = self.segment;
        let entry = segment.entry(self.indexes.next()?)?;
        let Some(key) = segment.key_range(&entry) else {
            return Some(Err(segment.changed(&entry)));
        };
        Some(Ok((
            entry.meta,
            &segment.bytes[key],
            entry.value_len as usize,
        )))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indexes.size_hint()
    }
}

/// See [`Segment::scan`].
pub struct Scan<'a> {
    segment: &'a Segment,
    indexes: Range<usize>,
}

impl Iterator for Scan<'_> {
    /// Meta, key, value; key and value are slices of the map.
    type Item = Result<(RecordMeta, Bytes, Bytes), SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = self.segment;
        let entry = segment.entry(self.indexes.next()?)?;
        let Some(key) = segment.key_range(&entry) else {
            return Some(Err(segment.changed(&entry)));
        };
        let key = segment.bytes.slice(key);
        Some(segment.value(&entry).map(|value| (entry.meta, key, value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indexes.size_hint()
    }
}

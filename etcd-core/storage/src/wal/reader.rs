//! Reading one file of the log, and telling a torn tail from damage.

use std::path::{Path, PathBuf};

use super::WalError;
use super::record::{
    HEAD_BYTES_MAX, Head, HeadError, Kind, LENGTH_BYTES, SECTOR_BYTES, decode_length,
    may_lose_its_length, one_bit_explains,
};
use crate::disk::File;

const WINDOW_BYTES: usize = 1 << 20;

/// What was found at a place in the file.
pub(super) enum Found<'a> {
    /// A record that checks out.
    Record {
        /// Where its frame starts.
        offset: u64,
        kind: Kind,
        data: &'a [u8],
    },
    /// The log ends here.
    End {
        /// Where the next frame would start.
        offset: u64,
        /// Whether a record that was never synced whole starts there.
        torn: bool,
    },
}

/// Reads a file's records in order.
pub(super) struct Reader<'f> {
    file: &'f dyn File,
    path: PathBuf,
    len: u64,
    /// Whether no file follows: only then may the tail be torn.
    last: bool,
    offset: u64,
    /// Records read so far.
    records: u64,
    /// The sum of the data of all records so far; unknown before the first record of a
    /// log that is not read from its beginning.
    crc: Option<u32>,
    window: Window,
}

#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl<'f> Reader<'f> {
    pub(super) fn new(
        file: &'f dyn File,
        path: &Path,
        last: bool,
        crc: Option<u32>,
    ) -> Result<Reader<'f>, WalError> {
        let len = file.len()?;
        let path = path.to_path_buf();
        let window = Window::default();
        Ok(Reader {
            file,
            path,
            len,
            last,
            offset: 0,
            records: 0,
            crc,
            window,
        })
    }

    /// The sum of the data of all records so far.
    pub(super) fn crc(&self) -> Option<u32> {
        self.crc
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn next(&mut self) -> Result<Found<'_>, WalError> {
        let offset = self.offset;
        let Some(frame) = self.frame(offset)? else {
            return self.end(offset);
        };
        let Frame {
            record_len,
            padding,
        } = match frame {
            Err(reason) => return Err(self.corrupt(offset, reason)),
            Ok(frame) => frame,
        };
        let start = offset + LENGTH_BYTES;
        let visible = self.visible_head(start)?;
        let head = match Head::decode(self.bytes(start, visible)?, record_len) {
            Ok(head) => head,
            Err(HeadError::Incomplete) if self.last && visible < HEAD_BYTES_MAX => {
                return self.torn(offset);
            }
            Err(_) => return Err(self.corrupt(offset, "the record's head is not well-formed")),
        };
        if head.record_len() != record_len {
            return Err(self.corrupt(offset, "the two lengths of the record differ"));
        }
        let end = start.saturating_add(record_len).saturating_add(padding);
        if end > self.len {
            if self.last {
                return self.torn(offset);
            }
            return Err(self.corrupt(offset, "the file ends within the record"));
        }
        let record_bytes = (end - start) as usize;
        let data_end = head.data_start + head.data_len as usize;
        let before = self.crc;
        let bytes = self.bytes(start, record_bytes)?;
        let padding_is_zero = bytes[data_end..].iter().all(|&b| b == 0);
        let computed = match (head.kind, before) {
            (Kind::Crc, None) => head.crc,
            (Kind::Crc, Some(crc)) => crc,
            (_, Some(crc)) => crc32c::crc32c_append(crc, &bytes[head.data_start..data_end]),
            (_, None) => return Err(self.corrupt(offset, "the file does not start with a sum")),
        };
        if computed != head.crc {
            let data_len = data_end - head.data_start;
            if self.last
                && self.has_lost_sector(start, end)?
                && !one_bit_explains(computed, head.crc, data_len)
            {
                return self.torn(offset);
            }
            return Err(self.corrupt(offset, "the checksum does not match"));
        }
        if !padding_is_zero {
            return Err(self.corrupt(offset, "the padding is not zero"));
        }
        self.check_place(offset, &head)?;
        self.crc = Some(computed);
        self.offset = end;
        self.records += 1;
        let bytes = self.bytes(start, record_bytes)?;
        Ok(Found::Record {
            offset,
            kind: head.kind,
            data: &bytes[head.data_start..data_end],
        })
    }

    /// The frame at `offset`: `None` where the log may end, `Err` if nobody writes such
    /// a length.
    fn frame(&mut self, offset: u64) -> Result<Option<Result<Frame, &'static str>>, WalError> {
        let bytes = self.bytes(offset, LENGTH_BYTES as usize)?;
        let Ok(field) = <[u8; 8]>::try_from(bytes) else {
            return Ok(None);
        };
        let field = u64::from_le_bytes(field);
        if field == 0 {
            return Ok(None);
        }
        Ok(Some(match decode_length(field) {
            Some((record_len, padding)) => Ok(Frame {
                record_len,
                padding,
            }),
            None => Err("the length field is not well-formed"),
        }))
    }

    /// A sum starts a file and the metadata follow it; there are none elsewhere. So a
    /// changed type, which no checksum covers, is noticed.
    fn check_place(&self, offset: u64, head: &Head) -> Result<(), WalError> {
        let expected = match self.records {
            0 => head.kind == Kind::Crc,
            1 => head.kind == Kind::Metadata,
            _ => !matches!(head.kind, Kind::Crc | Kind::Metadata),
        };
        if !expected || (head.kind == Kind::Crc && head.data_len > 0) {
            return Err(self.corrupt(offset, "a record of this type does not belong here"));
        }
        Ok(())
    }

    /// There is no length at `offset`. Is that how a log ends?
    fn end(&mut self, offset: u64) -> Result<Found<'static>, WalError> {
        if self.records < 2 {
            return Err(self.corrupt(offset, "the head of the file is missing"));
        }
        // Writers zero what follows the last record, so the rest of its sector is zero
        // whether or not the sectors of a next record reached the disk.
        let sector_end = (offset / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let rest = (self.len.min(sector_end).saturating_sub(offset)) as usize;
        if !is_zero(self.bytes(offset, rest)?) {
            if self.last && (rest as u64) < LENGTH_BYTES {
                return self.torn(offset); // the file ends within a length
            }
            return Err(self.corrupt(offset, "a length of zero before more data"));
        }
        if sector_end - offset == LENGTH_BYTES && self.lost_length_is_one_bit(offset)? {
            return Err(self.corrupt(offset, "the length of an intact record is zero"));
        }
        if !self.last && first_nonzero(self.file, offset, self.len)?.is_some() {
            return Err(self.corrupt(offset, "a length of zero before more data"));
        }
        Ok(Found::End {
            offset,
            torn: false,
        })
    }

    /// Whether an intact record follows a length field of zero that fills its sector's
    /// last 8 bytes, and the length would have had a single bit set: more likely that
    /// bit is gone than that just this sector never reached the disk. (Our own writer
    /// writes no such length there, so this is for files of stock etcd.)
    fn lost_length_is_one_bit(&mut self, offset: u64) -> Result<bool, WalError> {
        let start = offset + LENGTH_BYTES;
        let Some(crc) = self.crc else {
            return Ok(false);
        };
        let Ok(head) = Head::decode(self.bytes(start, HEAD_BYTES_MAX)?, u64::MAX) else {
            return Ok(false);
        };
        let len = head.record_len();
        if len > self.len.saturating_sub(start) || !may_lose_its_length(len as usize) {
            return Ok(false);
        }
        let data = &self.bytes(start, len as usize)?[head.data_start..];
        Ok(crc32c::crc32c_append(crc, data) == head.crc)
    }

    fn torn(&self, offset: u64) -> Result<Found<'static>, WalError> {
        if self.records < 2 {
            // The head was synced before the file got its name.
            return Err(self.corrupt(offset, "the head of the file is damaged"));
        }
        Ok(Found::End { offset, torn: true })
    }

    /// How much there is of the head of a record at `start`: up to the end of the file
    /// or, if a torn write is possible, up to a sector that may never have reached the
    /// disk.
    fn visible_head(&mut self, start: u64) -> Result<usize, WalError> {
        let bytes = self.bytes(start, HEAD_BYTES_MAX)?.len();
        let to_sector = (start.div_ceil(SECTOR_BYTES) * SECTOR_BYTES - start) as usize;
        if self.last && to_sector < bytes && self.has_lost_sector(start, start + bytes as u64)? {
            return Ok(to_sector);
        }
        Ok(bytes)
    }

    /// Whether a sector that starts in `start..end` is all zero. The sector of the
    /// length field, which is not, is not looked at.
    fn has_lost_sector(&mut self, start: u64, end: u64) -> Result<bool, WalError> {
        let mut sector = start.div_ceil(SECTOR_BYTES) * SECTOR_BYTES;
        while sector < end {
            let bytes = self.bytes(sector, SECTOR_BYTES as usize)?;
            if is_zero(bytes) {
                return Ok(true);
            }
            sector += SECTOR_BYTES;
        }
        Ok(false)
    }

    /// Up to `len` bytes at `offset`, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], WalError> {
        let window = &mut self.window;
        let have = window.start + window.bytes.len() as u64;
        let want = offset.saturating_add(len as u64).min(self.len);
        if offset < window.start || want > have {
            let rest = self.len.saturating_sub(offset);
            let size = rest.min(len.max(WINDOW_BYTES) as u64) as usize;
            window.bytes.resize(size, 0);
            window.start = offset;
            let read = self.file.read_at(offset, &mut window.bytes)?;
            window.bytes.truncate(read);
        }
        let from = (offset - window.start) as usize;
        let from = from.min(window.bytes.len());
        let to = from.saturating_add(len).min(window.bytes.len());
        Ok(&window.bytes[from..to])
    }

    fn corrupt(&self, offset: u64, reason: &str) -> WalError {
        WalError::corrupt(&self.path, offset, reason)
    }
}

struct Frame {
    record_len: u64,
    padding: u64,
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

/// The first byte in `from..to` that is not zero.
pub(super) fn first_nonzero(file: &dyn File, from: u64, to: u64) -> Result<Option<u64>, WalError> {
    let mut buffer = vec![0; WINDOW_BYTES];
    let mut at = from;
    while at < to {
        let size = (to - at).min(WINDOW_BYTES as u64) as usize;
        let read = file.read_at(at, &mut buffer[..size])?;
        if read == 0 {
            break;
        }
        if let Some(i) = buffer[..read].iter().position(|&b| b != 0) {
            return Ok(Some(at + i as u64));
        }
        at += read as u64;
    }
    Ok(None)
}

//! One record and its frame.
//!
//! ```text
//! frame   length field: u64 LE    low 56 bits: bytes of the record
//!                                 high 8 bits: 0, or 0x80 | bytes of padding
//!         record                  protobuf: type 1 (int64), crc 2 (uint32), data 3 (bytes)
//!         padding                 zeros up to a multiple of 8
//! ```
//!
//! Frames are 8-aligned, so a length field never straddles two sectors.

use etcd_proto::raftpb::{Entry, HardState};
use etcd_proto::walpb::Snapshot;
use prost::Message;

/// A disk writes whole sectors: after a crash each is as it was before a write or as it
/// is after it.
pub(super) const SECTOR_BYTES: u64 = 512;
/// The first bytes of a frame.
pub(super) const LENGTH_BYTES: u64 = 8;
/// Most bytes there can be between the length field and the record's data.
pub(super) const HEAD_BYTES_MAX: usize = 1 + 10 + 1 + 5 + 1 + 10;

const TAG_TYPE: u8 = 0x08;
const TAG_CRC: u8 = 0x10;
const TAG_DATA: u8 = 0x1a;

/// What a record's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    fn from_type(value: u64) -> Option<Kind> {
        Some(match value {
            1 => Kind::Metadata,
            2 => Kind::Entry,
            3 => Kind::State,
            4 => Kind::Crc,
            5 => Kind::Snapshot,
            _ => return None,
        })
    }
}

/// Appends frames to a buffer, carrying the running checksum.
pub(super) struct Encoder<'a> {
    pub buffer: &'a mut Vec<u8>,
    /// Where the buffer will be in the file.
    pub offset: u64,
    pub crc: u32,
}

impl Encoder<'_> {
    /// The record that starts a file: the sum of all records before it.
    pub(super) fn crc_record(&mut self) {
        self.record(Kind::Crc, &[], &[]);
    }

    pub(super) fn metadata(&mut self, metadata: &[u8]) {
        self.record(Kind::Metadata, metadata, &[]);
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        let mut head = Fields::new();
        head.varint(TAG_TYPE, i64::from(entry.r#type) as u64);
        head.varint(TAG_CRC, entry.term);
        head.varint(0x18, entry.index);
        if !entry.data.is_empty() {
            head.varint(0x22, entry.data.len() as u64);
        }
        self.record(Kind::Entry, head.bytes(), &entry.data);
    }

    pub(super) fn hard_state(&mut self, state: &HardState) {
        let mut head = Fields::new();
        head.varint(0x08, state.term);
        head.varint(0x10, state.vote);
        head.varint(0x18, state.commit);
        self.record(Kind::State, head.bytes(), &[]);
    }

    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let mut head = Fields::new();
        head.varint(0x08, snapshot.index);
        head.varint(0x10, snapshot.term);
        let mut members = Vec::new();
        if let Some(conf_state) = &snapshot.conf_state {
            members = conf_state.encode_to_vec();
            head.varint(0x1a, members.len() as u64);
        }
        self.record(Kind::Snapshot, head.bytes(), &members);
    }

    /// A record whose data is `first` followed by `second`.
    fn record(&mut self, kind: Kind, first: &[u8], second: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, first);
        self.crc = crc32c::crc32c_append(self.crc, second);
        let data_len = first.len() + second.len();
        let mut head = record_head(&[kind as u8], self.crc, data_len);
        let mut record_len = head.bytes().len() + data_len;
        let data_at = self.offset + self.buffer.len() as u64 + LENGTH_BYTES;
        let loses_length = |len| data_at.is_multiple_of(SECTOR_BYTES) && may_lose_its_length(len);
        let one_bit = last_sector_has_one_bit(data_at + record_len as u64, data_at, first, second);
        if loses_length(record_len) || (one_bit && !loses_length(record_len + 1)) {
            head = record_head(&[kind as u8 | 0x80, 0], self.crc, data_len);
            record_len += 1;
        }
        let padding = record_len.wrapping_neg() % 8;
        let mut length = record_len as u64;
        if padding != 0 {
            length |= (0x80 | padding as u64) << 56;
        }
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(head.bytes());
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.buffer.extend_from_slice(&[0; 8][..padding]);
    }
}

/// The bytes of a record before its data; `kind` is its type as a varint.
fn record_head(kind: &[u8], crc: u32, data_len: usize) -> Fields {
    let mut head = Fields::new();
    head.push(TAG_TYPE);
    kind.iter().for_each(|&byte| head.push(byte));
    head.varint(TAG_CRC, u64::from(crc));
    if data_len > 0 {
        head.varint(TAG_DATA, data_len as u64);
    }
    head
}

/// Whether one flipped bit makes the length field of such a record zero.
///
/// A length of zero ends the log. Where the length shares its sector with any of the
/// record that is noticed, for the rest of the sector is zero at an end. Where it is
/// the last of its sector, it looks as if just that sector never reached the disk. So
/// there no such length is written: the type is spelled in two bytes, which every
/// reader takes, and the padding then sets more bits.
pub(super) fn may_lose_its_length(record_len: usize) -> bool {
    record_len.is_power_of_two() && record_len.is_multiple_of(8)
}

/// Whether a record from `start` to `end` has a single bit in its last sector, if that
/// sector starts within it: were the sector not to reach the disk, the record would look
/// as if that bit had been flipped. So such a record's type is spelled in two bytes too,
/// which moves another byte into that sector.
fn last_sector_has_one_bit(end: u64, start: u64, first: &[u8], second: &[u8]) -> bool {
    let sector = (end - 1) / SECTOR_BYTES * SECTOR_BYTES;
    let bytes = usize::try_from(end - sector).unwrap_or(usize::MAX);
    if sector < start || bytes > first.len() + second.len() {
        return false;
    }
    let of_second = bytes.min(second.len());
    let tail = first[first.len() - (bytes - of_second)..]
        .iter()
        .chain(&second[second.len() - of_second..]);
    tail.map(|byte| byte.count_ones()).sum::<u32>() == 1
}

/// At least the bytes that the frame of `entry` takes.
pub(super) fn entry_frame_bytes_max(entry: &Entry) -> u64 {
    // Length field, record head and padding, and the fields of an entry but its data.
    entry.data.len() as u64 + LENGTH_BYTES + HEAD_BYTES_MAX as u64 + 8 + 4 * 11
}

/// At least the bytes that the frame of a hard state takes.
pub(super) const STATE_FRAME_BYTES_MAX: u64 = LENGTH_BYTES + HEAD_BYTES_MAX as u64 + 8 + 3 * 11;

/// A few protobuf fields, without an allocation.
struct Fields {
    buffer: [u8; 4 * 11],
    len: usize,
}

impl Fields {
    fn new() -> Fields {
        Fields {
            buffer: [0; 4 * 11],
            len: 0,
        }
    }

    fn varint(&mut self, tag: u8, mut value: u64) {
        self.push(tag);
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn push(&mut self, byte: u8) {
        self.buffer[self.len] = byte;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// Splits a length field into bytes of record and bytes of padding. `None` if no
/// writer writes it so.
pub(super) fn decode_length(field: u64) -> Option<(u64, u64)> {
    let record = field & !(0xff << 56);
    let padding = record.wrapping_neg() % 8;
    let expected = if padding == 0 { 0 } else { 0x80 | padding };
    (record != 0 && field >> 56 == expected).then_some((record, padding))
}

/// What precedes the data in a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub crc: u32,
    /// Where the data starts, from the record's start.
    pub data_start: usize,
    /// Bytes of data.
    pub data_len: u64,
}

impl Head {
    /// Bytes of the whole record.
    pub(super) fn record_len(&self) -> u64 {
        (self.data_start as u64).saturating_add(self.data_len)
    }

    /// Reads the head of a record that claims to have `record_len` bytes, from its
    /// first bytes. Strict: fields in order, all of them, nothing else.
    pub(super) fn decode(bytes: &[u8], record_len: u64) -> Result<Head, HeadError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let kind = Kind::from_type(cursor.field(TAG_TYPE)?).ok_or(HeadError::Malformed)?;
        let crc = cursor.field(TAG_CRC)?;
        let crc = u32::try_from(crc).map_err(|_| HeadError::Malformed)?;
        let mut data_len = 0;
        if (cursor.at as u64) < record_len {
            data_len = cursor.field(TAG_DATA)?;
        }
        if cursor.at as u64 > record_len {
            return Err(HeadError::Malformed);
        }
        Ok(Head {
            kind,
            crc,
            data_start: cursor.at,
            data_len,
        })
    }
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// There are too few bytes to tell.
    Incomplete,
    /// No writer writes it so.
    Malformed,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn field(&mut self, tag: u8) -> Result<u64, HeadError> {
        if self.byte()? != tag {
            return Err(HeadError::Malformed);
        }
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(HeadError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HeadError::Malformed)
    }

    fn byte(&mut self) -> Result<u8, HeadError> {
        let byte = *self.bytes.get(self.at).ok_or(HeadError::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Whether `data` consists of varint fields with the given tags and of nothing else.
pub(super) fn has_only_varints(data: &[u8], tags: &[u8]) -> bool {
    let mut cursor = Cursor { bytes: data, at: 0 };
    while let Some(tag) = data.get(cursor.at) {
        if !tags.contains(tag) || cursor.field(*tag).is_err() {
            return false;
        }
    }
    true
}

/// Whether flipping one bit of `len` bytes of data, or of the stored checksum, turns
/// `computed` into `stored`. A torn write has next to no chance to look like that.
pub(super) fn one_bit_explains(computed: u32, stored: u32, len: usize) -> bool {
    const POLYNOMIAL: u32 = 0x82f6_3b78; // CRC-32C, reflected
    let difference = computed ^ stored;
    if difference.count_ones() == 1 {
        return true;
    }
    // The checksum is linear: a flipped bit changes it by a pattern that depends on the
    // bit's distance from the end alone.
    let mut pattern = 1u32;
    for _ in 0..len.saturating_mul(8) {
        pattern = (pattern >> 1) ^ if pattern & 1 == 1 { POLYNOMIAL } else { 0 };
        if pattern == difference {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_fields_are_those_of_etcd() {
        for (record, field) in [
            (8u64, 8u64),
            (9, 9 | 0x87 << 56),
            (15, 15 | 0x81 << 56),
            (16, 16),
            (7, 7 | 0x81 << 56),
        ] {
            assert_eq!(
                decode_length(field),
                Some((record, record.wrapping_neg() % 8))
            );
        }
        for field in [
            0,
            9,
            9 | 7 << 56,
            8 | 0x80 << 56,
            9 | 0x86 << 56,
            0x87 << 56,
        ] {
            assert_eq!(decode_length(field), None, "{field:x}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let mut buffer = Vec::new();
        let mut encoder = Encoder {
            buffer: &mut buffer,
            offset: 0,
            crc: 7,
        };
        encoder.crc_record();
        encoder.metadata(b"0123456789");
        assert_eq!(
            &buffer[..16],
            [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 7, 0, 0, 0, 0]
        );
        let (len, _) =
            decode_length(u64::from_le_bytes(buffer[16..24].try_into().unwrap())).unwrap();
        let head = Head::decode(&buffer[24..], len).unwrap();
        assert_eq!(head.kind, Kind::Metadata);
        assert_eq!(head.crc, crc32c::crc32c_append(7, b"0123456789"));
        assert_eq!(head.record_len(), len);
        assert_eq!(&buffer[24 + head.data_start..][..10], b"0123456789");
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_recognised(mut data in prop::collection::vec(any::<u8>(), 1..300), bit: usize) {
            let stored = crc32c::crc32c_append(99, &data);
            let bit = bit % (data.len() * 8);
            data[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(one_bit_explains(crc32c::crc32c_append(99, &data), stored, data.len()));
        }

        #[test]
        fn any_bytes_decode_or_not(bytes: Vec<u8>, len: u64) {
            let _ = Head::decode(&bytes, len);
        }
    }
}

//! The bytes of a segment, all numbers little-endian.
//!
//! ```text
//! header      magic 8 | version u32 | zero u32
//! values      the records' values, back to back, in revision order
//!             zeros up to a multiple of 8
//! entries     one of 80 bytes for each record, in revision order:
//!               main i64 | value offset u64 | create revision i64 | version i64 | lease i64
//!               | replaced main i64 | key offset u64 | sub u32 | replaced sub u32
//!               | value bytes u32 | key bytes u32 | checksum u32 | flags u32
//! keys        the records' keys, back to back
//! trailer     offset of entries u64 | number of entries u64 | offset of keys u64
//!               | bytes of keys u64 | checksum of entries u32 | checksum of keys u32
//!               | version u32 | checksum of the trailer up to here u32 | magic 8
//! ```
//!
//! A value offset counts from the start of the file, a key offset from the start of the
//! keys. All checksums are CRC-32C; that of a record covers main, sub and flags (as in
//! its entry) and the value, so that a value delivered for another record is noticed.

use std::mem::size_of;

use super::RecordMeta;

pub(super) const MAGIC: [u8; 8] = *b"etcdcseg";
pub(super) const VERSION: u32 = 1;

pub(super) const HEADER_BYTES: usize = MAGIC.len() + 2 * size_of::<u32>();

const MAIN: usize = 0;
const VALUE_OFFSET: usize = MAIN + size_of::<i64>();
const CREATE: usize = VALUE_OFFSET + size_of::<u64>();
const KEY_VERSION: usize = CREATE + size_of::<i64>();
const LEASE: usize = KEY_VERSION + size_of::<i64>();
const REPLACED_MAIN: usize = LEASE + size_of::<i64>();
const KEY_OFFSET: usize = REPLACED_MAIN + size_of::<i64>();
const SUB: usize = KEY_OFFSET + size_of::<u64>();
const REPLACED_SUB: usize = SUB + size_of::<u32>();
const VALUE_LEN: usize = REPLACED_SUB + size_of::<u32>();
const KEY_LEN: usize = VALUE_LEN + size_of::<u32>();
const CHECKSUM: usize = KEY_LEN + size_of::<u32>();
const FLAGS: usize = CHECKSUM + size_of::<u32>();
pub(super) const ENTRY_BYTES: usize = FLAGS + size_of::<u32>();

const FLAG_TOMBSTONE: u32 = 1;
const FLAG_REPLACES: u32 = 2;

const ENTRIES_OFFSET: usize = 0;
const ENTRIES_COUNT: usize = ENTRIES_OFFSET + size_of::<u64>();
const KEYS_OFFSET: usize = ENTRIES_COUNT + size_of::<u64>();
const KEYS_LEN: usize = KEYS_OFFSET + size_of::<u64>();
const ENTRIES_CHECKSUM: usize = KEYS_LEN + size_of::<u64>();
const KEYS_CHECKSUM: usize = ENTRIES_CHECKSUM + size_of::<u32>();
const TRAILER_VERSION: usize = KEYS_CHECKSUM + size_of::<u32>();
const TRAILER_CHECKSUM: usize = TRAILER_VERSION + size_of::<u32>();
const TRAILER_MAGIC: usize = TRAILER_CHECKSUM + size_of::<u32>();
pub(super) const TRAILER_BYTES: usize = TRAILER_MAGIC + MAGIC.len();

/// The first bytes of a segment.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    put(&mut header, MAGIC.len(), &VERSION.to_le_bytes());
    header
}

/// A record's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub meta: RecordMeta,
    pub value_offset: u64,
    pub value_len: u32,
    pub key_offset: u64,
    pub key_len: u32,
    pub checksum: u32,
}

impl Entry {
    /// `None` if a sub revision is not a `u32`.
    pub(super) fn encode(&self) -> Option<[u8; ENTRY_BYTES]> {
        let meta = &self.meta;
        let (replaced_main, replaced_sub) = meta.replaces.unwrap_or_default();
        let mut bytes = [0; ENTRY_BYTES];
        put(&mut bytes, MAIN, &meta.main.to_le_bytes());
        put(&mut bytes, VALUE_OFFSET, &self.value_offset.to_le_bytes());
        put(&mut bytes, CREATE, &meta.create_revision.to_le_bytes());
        put(&mut bytes, KEY_VERSION, &meta.version.to_le_bytes());
        put(&mut bytes, LEASE, &meta.lease.to_le_bytes());
        put(&mut bytes, REPLACED_MAIN, &replaced_main.to_le_bytes());
        put(&mut bytes, KEY_OFFSET, &self.key_offset.to_le_bytes());
        put(
            &mut bytes,
            SUB,
            &u32::try_from(meta.sub).ok()?.to_le_bytes(),
        );
        put(
            &mut bytes,
            REPLACED_SUB,
            &u32::try_from(replaced_sub).ok()?.to_le_bytes(),
        );
        put(&mut bytes, VALUE_LEN, &self.value_len.to_le_bytes());
        put(&mut bytes, KEY_LEN, &self.key_len.to_le_bytes());
        put(&mut bytes, CHECKSUM, &self.checksum.to_le_bytes());
        put(&mut bytes, FLAGS, &flags(meta).to_le_bytes());
        Some(bytes)
    }

    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let flags = u32_at(bytes, FLAGS);
        let replaced = (
            i64_at(bytes, REPLACED_MAIN),
            i64::from(u32_at(bytes, REPLACED_SUB)),
        );
        let meta = RecordMeta {
            main: i64_at(bytes, MAIN),
            sub: i64::from(u32_at(bytes, SUB)),
            tombstone: flags & FLAG_TOMBSTONE != 0,
            create_revision: i64_at(bytes, CREATE),
            version: i64_at(bytes, KEY_VERSION),
            lease: i64_at(bytes, LEASE),
            replaces: (flags & FLAG_REPLACES != 0).then_some(replaced),
        };
        Entry {
            meta,
            value_offset: u64_at(bytes, VALUE_OFFSET),
            value_len: u32_at(bytes, VALUE_LEN),
            key_offset: u64_at(bytes, KEY_OFFSET),
            key_len: u32_at(bytes, KEY_LEN),
            checksum: u32_at(bytes, CHECKSUM),
        }
    }

    /// The revision alone, for searching.
    pub(super) fn revision(bytes: &[u8; ENTRY_BYTES]) -> (i64, i64) {
        (i64_at(bytes, MAIN), i64::from(u32_at(bytes, SUB)))
    }
}

/// The checksum of a record.
pub(super) fn checksum(meta: &RecordMeta, value: &[u8]) -> u32 {
    let mut head = [0; 20];
    put(&mut head, 0, &meta.main.to_le_bytes());
    put(&mut head, 8, &meta.sub.to_le_bytes());
    put(&mut head, 16, &flags(meta).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), value)
}

fn flags(meta: &RecordMeta) -> u32 {
    let mut flags = 0;
    if meta.tombstone {
        flags |= FLAG_TOMBSTONE;
    }
    if meta.replaces.is_some() {
        flags |= FLAG_REPLACES;
    }
    flags
}

/// The last bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub entries_offset: u64,
    pub count: u64,
    pub keys_offset: u64,
    pub keys_len: u64,
    pub entries_checksum: u32,
    pub keys_checksum: u32,
}

/// Why there is no trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrailerError {
    Magic,
    Checksum,
    Version(u32),
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        put(
            &mut bytes,
            ENTRIES_OFFSET,
            &self.entries_offset.to_le_bytes(),
        );
        put(&mut bytes, ENTRIES_COUNT, &self.count.to_le_bytes());
        put(&mut bytes, KEYS_OFFSET, &self.keys_offset.to_le_bytes());
        put(&mut bytes, KEYS_LEN, &self.keys_len.to_le_bytes());
        put(
            &mut bytes,
            ENTRIES_CHECKSUM,
            &self.entries_checksum.to_le_bytes(),
        );
        put(&mut bytes, KEYS_CHECKSUM, &self.keys_checksum.to_le_bytes());
        put(&mut bytes, TRAILER_VERSION, &VERSION.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..TRAILER_CHECKSUM]);
        put(&mut bytes, TRAILER_CHECKSUM, &checksum.to_le_bytes());
        put(&mut bytes, TRAILER_MAGIC, &MAGIC);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; TRAILER_BYTES]) -> Result<Trailer, TrailerError> {
        if bytes[TRAILER_MAGIC..] != MAGIC {
            return Err(TrailerError::Magic);
        }
        if crc32c::crc32c(&bytes[..TRAILER_CHECKSUM]) != u32_at(bytes, TRAILER_CHECKSUM) {
            return Err(TrailerError::Checksum);
        }
        match u32_at(bytes, TRAILER_VERSION) {
            VERSION => Ok(Trailer {
                entries_offset: u64_at(bytes, ENTRIES_OFFSET),
                count: u64_at(bytes, ENTRIES_COUNT),
                keys_offset: u64_at(bytes, KEYS_OFFSET),
                keys_len: u64_at(bytes, KEYS_LEN),
                entries_checksum: u32_at(bytes, ENTRIES_CHECKSUM),
                keys_checksum: u32_at(bytes, KEYS_CHECKSUM),
            }),
            other => Err(TrailerError::Version(other)),
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array(bytes, at))
}

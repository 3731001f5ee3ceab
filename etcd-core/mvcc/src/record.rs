//! Revisions and records: one stored change and the bytes it is stored as.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encoded_len_varint, key_len};

use etcd_proto::mvccpb::KeyValue;

/// Bytes of a raw bucket key of a put: main, `_`, sub.
pub const RAW_KEY_LEN: usize = 17;
/// Bytes of a raw bucket key of a tombstone: as of a put, then `t`.
pub const RAW_TOMBSTONE_KEY_LEN: usize = 18;

/// The place of a change in the history: `main` is the transaction, `sub` counts
/// the changes inside it from 0. Ordered as etcd orders them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The store's revision that this change belongs to.
    pub main: i64,
    /// The position among the changes of that revision, from 0.
    pub sub: i64,
}

impl Revision {
    /// Makes a revision of its two parts.
    pub const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }
}

/// A key of etcd's bucket `key`: big-endian main, `_`, big-endian sub, and `t`
/// for a tombstone. Held inline, it allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey {
    bytes: [u8; RAW_TOMBSTONE_KEY_LEN],
    len: u8,
}

impl RawKey {
    /// Encodes a revision and its tombstone mark.
    pub fn new(revision: Revision, tombstone: bool) -> RawKey {
        let mut bytes = [0; RAW_TOMBSTONE_KEY_LEN];
        bytes[..8].copy_from_slice(&revision.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..17].copy_from_slice(&revision.sub.to_be_bytes());
        bytes[17] = b't';
        let len = if tombstone {
            RAW_TOMBSTONE_KEY_LEN
        } else {
            RAW_KEY_LEN
        };
        RawKey {
            bytes,
            len: len as u8,
        }
    }

    /// Decodes a bucket key into its revision and whether it is a tombstone;
    /// `None` if the bytes are not of that form.
    pub fn decode(raw: &[u8]) -> Option<(Revision, bool)> {
        let tombstone = match raw.len() {
            RAW_KEY_LEN => false,
            RAW_TOMBSTONE_KEY_LEN if raw[17] == b't' => true,
            _ => return None,
        };
        if raw[8] != b'_' {
            return None;
        }
        let main = i64::from_be_bytes(raw[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(raw[9..17].try_into().ok()?);
        Some((Revision { main, sub }, tombstone))
    }

    /// The encoded key: 17 bytes, 18 for a tombstone.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for RawKey {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// One stored change, a put or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where in the history it stands.
    pub rev: Revision,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The key that changed.
    pub key: Bytes,
    /// The raw bucket value: the canonical encoding of `mvccpb.KeyValue`
    /// (ascending tags, zeros omitted; a tombstone holds the key only).
    pub value: Bytes,
    /// Main revision at which the key's present life began; 0 for a tombstone.
    pub create_revision: i64,
    /// Number of puts in the key's present life; 0 for a tombstone.
    pub version: i64,
    /// Lease the key is attached to; 0 for none and for a tombstone.
    pub lease: i64,
    /// The revision of the same key that this one supersedes, if it was still
    /// in the index: the previous put, or for a first put the tombstone before.
    pub replaces: Option<Revision>,
}

impl Record {
    /// The record's key in etcd's bucket `key`.
    pub fn raw_key(&self) -> RawKey {
        RawKey::new(self.rev, self.tombstone)
    }

    /// Bytes the record counts with in a budget: raw key, key and value.
    pub fn cost(&self) -> usize {
        self.raw_key().as_bytes().len() + self.key.len() + self.value.len()
    }
}

/// Encodes a key-value pair canonically, as etcd stores it: ascending tags,
/// zeros and empties omitted. The five arguments after `key` are the fields of
/// `mvccpb.KeyValue` in the order of their tags.
pub fn encode(
    key: &[u8],
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    value: &[u8],
    lease: i64,
) -> Bytes {
    let len = bytes_len(1, key)
        + int_len(2, create_revision)
        + int_len(3, mod_revision)
        + int_len(4, version)
        + bytes_len(5, value)
        + int_len(6, lease);
    let mut out = BytesMut::with_capacity(len);
    put_bytes(&mut out, 1, key);
    put_int(&mut out, 2, create_revision);
    put_int(&mut out, 3, mod_revision);
    put_int(&mut out, 4, version);
    put_bytes(&mut out, 5, value);
    put_int(&mut out, 6, lease);
    debug_assert_eq!(out.len(), len);
    out.freeze()
}

/// Encodes a tombstone's value: a `KeyValue` with nothing but the key.
pub fn encode_tombstone(key: &[u8]) -> Bytes {
    encode(key, 0, 0, 0, &[], 0)
}

/// Encodes a decoded pair canonically.
pub fn encode_kv(kv: &KeyValue) -> Bytes {
    encode(
        &kv.key,
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        &kv.value,
        kv.lease,
    )
}

fn bytes_len(tag: u32, field: &[u8]) -> usize {
    match field.len() {
        0 => 0,
        n => key_len(tag) + encoded_len_varint(n as u64) + n,
    }
}

fn int_len(tag: u32, field: i64) -> usize {
    match field {
        0 => 0,
        n => key_len(tag) + encoded_len_varint(n as u64),
    }
}

fn put_bytes(out: &mut BytesMut, tag: u32, field: &[u8]) {
    if !field.is_empty() {
        out.put_u8((tag << 3 | 2) as u8);
        prost::encoding::encode_varint(field.len() as u64, out);
        out.put_slice(field);
    }
}

fn put_int(out: &mut BytesMut, tag: u32, field: i64) {
    if field != 0 {
        out.put_u8((tag << 3) as u8);
        prost::encoding::encode_varint(field as u64, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn raw_keys_round_trip_and_sort_by_revision() {
        for (rev, tombstone) in [
            (Revision::new(2, 0), false),
            (Revision::new(1 << 40, 7), true),
        ] {
            let raw = RawKey::new(rev, tombstone);
            assert_eq!(raw.as_bytes().len(), if tombstone { 18 } else { 17 });
            assert_eq!(RawKey::decode(raw.as_bytes()), Some((rev, tombstone)));
        }
        assert!(
            RawKey::new(Revision::new(255, 0), false).as_bytes()
                < RawKey::new(Revision::new(256, 0), false).as_bytes()
        );
        assert_eq!(RawKey::decode(b"short"), None);
        assert_eq!(RawKey::decode(&[b'x'; 17]), None);
        assert_eq!(RawKey::decode(&[b'_'; 18]), None);
    }

    #[test]
    fn encoding_equals_prost() {
        let kv = KeyValue {
            key: "k".into(),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: vec![0; 200].into(),
            lease: -5,
        };
        assert_eq!(encode_kv(&kv), kv.encode_to_vec());
        assert_eq!(
            encode_tombstone(b"key"),
            KeyValue {
                key: "key".into(),
                ..Default::default()
            }
            .encode_to_vec()
        );
        assert_eq!(encode(b"", 0, 0, 0, b"", 0), Bytes::new());
    }
}

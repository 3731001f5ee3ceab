//! Events as bytes: encoded once, shared by every watcher that gets them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::history::History;
use crate::{ArchiveError, Record};

/// Field `events` of `WatchResponse`, length-delimited.
const TAG_EVENTS: u8 = 11 << 3 | 2;
/// Field `type` of `Event`, varint.
const TAG_TYPE: u8 = 1 << 3;
/// Field `kv` of `Event`, length-delimited.
const TAG_KV: u8 = 2 << 3 | 2;
/// Field `prev_kv` of `Event`, length-delimited.
const TAG_PREV_KV: u8 = 3 << 3 | 2;
/// `Event.EventType.DELETE`.
const DELETE: u8 = 1;

/// Encodes a record as one element of `WatchResponse.events`, tag and length
/// included. The bytes are a copy, so that a queued event pins neither the ring
/// nor a mapped segment.
pub(super) fn frame(record: &Record, prev_kv: Option<&[u8]>) -> Bytes {
    let deleted;
    let kv: &[u8] = if record.tombstone {
        deleted = crate::encode(&record.key, 0, record.rev.main, 0, &[], 0);
        &deleted
    } else {
        &record.value
    };
    let event_len =
        if record.tombstone { 2 } else { 0 } + field_len(kv) + prev_kv.map_or(0, field_len);
    let mut out = BytesMut::with_capacity(1 + encoded_len_varint(event_len as u64) + event_len);
    out.put_u8(TAG_EVENTS);
    encode_varint(event_len as u64, &mut out);
    if record.tombstone {
        out.put_slice(&[TAG_TYPE, DELETE]);
    }
    put_field(&mut out, TAG_KV, kv);
    if let Some(prev) = prev_kv {
        put_field(&mut out, TAG_PREV_KV, prev);
    }
    out.freeze()
}

/// The value that a record replaced, as `prev_kv` shows it: the key as it was one
/// revision earlier, absent if the record created the key or if that revision has
/// been compacted.
pub(super) fn previous(
    record: &Record,
    history: &dyn History,
) -> Result<Option<Bytes>, ArchiveError> {
    let created = !record.tombstone && record.create_revision == record.rev.main;
    match record.replaces {
        Some(replaced) if !created && record.rev.main > history.compact_revision() => {
            history.read(replaced).map(Some)
        }
        _ => Ok(None),
    }
}

/// The frames of one record, encoded when first asked for.
#[derive(Debug, Default)]
pub(super) struct Frames {
    plain: Option<Bytes>,
    with_prev: Option<Bytes>,
}

impl Frames {
    pub(super) fn get(
        &mut self,
        record: &Record,
        prev_kv: bool,
        history: &dyn History,
    ) -> Result<Bytes, ArchiveError> {
        if prev_kv {
            if let Some(frame) = &self.with_prev {
                return Ok(frame.clone());
            }
            if let Some(prev) = previous(record, history)? {
                let frame = frame(record, Some(&prev));
                self.with_prev = Some(frame.clone());
                return Ok(frame);
            }
        }
        let frame = self
            .plain
            .get_or_insert_with(|| frame(record, None))
            .clone();
        if prev_kv {
            self.with_prev = Some(frame.clone());
        }
        Ok(frame)
    }
}

fn field_len(field: &[u8]) -> usize {
    1 + encoded_len_varint(field.len() as u64) + field.len()
}

fn put_field(out: &mut BytesMut, tag: u8, field: &[u8]) {
    out.put_u8(tag);
    encode_varint(field.len() as u64, out);
    out.put_slice(field);
}

//! One message to a watching client.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};
use etcd_proto::etcdserverpb::ResponseHeader;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// The watch ID of what concerns no single watch: a rejected creation, and the
/// progress of a whole stream.
pub(super) const NO_WATCH: i64 = -1;

const TAG_HEADER: u8 = 1 << 3 | 2;
const TAG_WATCH_ID: u8 = 2 << 3;
const TAG_CREATED: u8 = 3 << 3;
const TAG_CANCELED: u8 = 4 << 3;
const TAG_COMPACT_REVISION: u8 = 5 << 3;
const TAG_CANCEL_REASON: u8 = 6 << 3 | 2;
const TAG_FRAGMENT: u8 = 7 << 3;

/// A `WatchResponse` whose events are encoded already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The header's revision; the caller adds cluster, member and term.
    pub revision: i64,
    /// The watch it belongs to; -1 for none.
    pub watch_id: i64,
    /// Answers a creation.
    pub created: bool,
    /// The watch has ended; nothing follows for it.
    pub canceled: bool,
    /// Set if the watch ended because what it needed next was compacted: the
    /// revision from which it can start again.
    pub compact_revision: i64,
    /// Why a creation was rejected.
    pub cancel_reason: Cow<'static, str>,
    /// More events of the same revision follow in the next response.
    pub fragment: bool,
    /// Elements of the field `events`, each with its tag and length.
    pub events: Vec<Bytes>,
}

impl Response {
    /// Bytes of the encoded message. `header.revision` is ignored, the
    /// response's own counts.
    pub fn encoded_len(&self, header: &ResponseHeader) -> usize {
        let header_len = self.header(header).encoded_len();
        1 + encoded_len_varint(header_len as u64) + header_len + self.body_len()
    }

    /// Appends the message, `header`'s cluster, member and term included.
    pub fn encode(&self, header: &ResponseHeader, out: &mut impl BufMut) {
        let header = self.header(header);
        out.put_u8(TAG_HEADER);
        encode_varint(header.encoded_len() as u64, out);
        header.encode_raw(out);
        put_int(out, TAG_WATCH_ID, self.watch_id);
        put_int(out, TAG_CREATED, self.created.into());
        put_int(out, TAG_CANCELED, self.canceled.into());
        put_int(out, TAG_COMPACT_REVISION, self.compact_revision);
        if !self.cancel_reason.is_empty() {
            out.put_u8(TAG_CANCEL_REASON);
            encode_varint(self.cancel_reason.len() as u64, out);
            out.put_slice(self.cancel_reason.as_bytes());
        }
        put_int(out, TAG_FRAGMENT, self.fragment.into());
        for event in &self.events {
            out.put_slice(event);
        }
    }

    /// Whether it only says how far the watch has come.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty() && !self.created && !self.canceled
    }

    fn header(&self, header: &ResponseHeader) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision,
            ..*header
        }
    }

    fn body_len(&self) -> usize {
        let reason = match self.cancel_reason.len() {
            0 => 0,
            len => 1 + encoded_len_varint(len as u64) + len,
        };
        int_len(self.watch_id)
            + int_len(self.created.into())
            + int_len(self.canceled.into())
            + int_len(self.compact_revision)
            + reason
            + int_len(self.fragment.into())
            + self.events.iter().map(Bytes::len).sum::<usize>()
    }
}

fn int_len(value: i64) -> usize {
    match value {
        0 => 0,
        value => 1 + encoded_len_varint(value as u64),
    }
}

fn put_int(out: &mut impl BufMut, tag: u8, value: i64) {
    if value != 0 {
        out.put_u8(tag);
        encode_varint(value as u64, out);
    }
}

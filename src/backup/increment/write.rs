//! Increments are written.

use etcd_proto::{leasepb::Lease, mvccpb::Event};
use jiff::Timestamp;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::frame::{Header, Kind, MAGIC, Mark, Trailer};
use crate::backup::{digest::hex, frame::push};

/// Frames of an increment whose header is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    events: u64,
}

impl Frames {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Events so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Adds events of one revision, in the order in which a watch gave them.
    pub(crate) fn changes(&mut self, revision: i64, events: &[Event]) {
        let mut content = revision.to_le_bytes().to_vec();
        for event in events {
            event
                .encode_length_delimited(&mut content)
                .expect("a Vec takes what is written");
        }
        self.events += events.len() as u64;
        push(&mut self.bytes, Kind::Events as u8, &content);
    }

    /// Adds all the leases there were at a revision.
    pub(crate) fn leases(&mut self, revision: i64, leases: &[Lease]) {
        let mut content = revision.to_le_bytes().to_vec();
        for lease in leases {
            lease
                .encode_length_delimited(&mut content)
                .expect("a Vec takes what is written");
        }
        push(&mut self.bytes, Kind::Leases as u8, &content);
    }

    /// Adds what the history was compacted to when the store was at `revision`.
    pub(crate) fn compacted(&mut self, revision: i64, compact_revision: i64) {
        self.pair(Kind::Compacted, revision, compact_revision);
    }

    /// Adds when a revision had been reached.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.pair(Kind::Mark, mark.revision, mark.time.as_millisecond());
    }

    fn pair(&mut self, kind: Kind, a: i64, b: i64) {
        let mut content = a.to_le_bytes().to_vec();
        content.extend_from_slice(&b.to_le_bytes());
        push(&mut self.bytes, kind as u8, &content);
    }
}

/// An increment of frames, and its digest in hex.
pub(crate) fn finish(
    header: &Header,
    frames: &Frames,
    revision: i64,
    time: Timestamp,
) -> (Vec<u8>, String) {
    let json = |value: serde_json::Result<Vec<u8>>| value.expect("plain data is JSON");
    let trailer = Trailer {
        revision,
        time,
        events: frames.events,
    };
    let mut out = Vec::with_capacity(frames.bytes.len() + 1024);
    out.extend_from_slice(MAGIC);
    push(
        &mut out,
        Kind::Header as u8,
        &json(serde_json::to_vec(header)),
    );
    out.extend_from_slice(&frames.bytes);
    push(
        &mut out,
        Kind::Trailer as u8,
        &json(serde_json::to_vec(&trailer)),
    );
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    (out, hex(&digest))
}

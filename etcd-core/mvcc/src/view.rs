//! An immutable snapshot of the store.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use etcd_proto::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use etcd_proto::mvccpb::KeyValue;
use prost::Message;

use crate::archive::{Archive, ArchiveError};
use crate::error::{ApplyError, ReadError};
use crate::hash::{self, KvHash};
use crate::index::{Entry, Index};
use crate::range::{self, Item, RangeSummary};
use crate::record::{Record, Revision};
use crate::span::Span;
use crate::tail::{Pinned, Tail};
use crate::txn;
use crate::watch::History;

/// The store at one revision, for reading from any thread while the writer goes
/// on. Cloning it is cheap. It pins the archive as it was and those nodes of
/// the index that have changed since: keep it for a request, not longer.
#[derive(Clone)]
pub struct View {
    pub(crate) index: Index,
    pub(crate) tail: Arc<Tail>,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) archived: i64,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) pushed: u64,
    /// Whether the revision is complete: others may be served from this index.
    pub(crate) settled: bool,
    pub(crate) hashes: Arc<Vec<KvHash>>,
}

impl View {
    /// The current main revision; an empty store is at 1.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compact revision, the lowest that can still be read; -1 if nothing
    /// was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// Serves a range into a response that is being built: appends its `kvs`,
    /// field by field, to `out`. Header, `more` and `count` are the caller's.
    pub fn range_encoded(
        &self,
        request: &RangeRequest,
        out: &mut BytesMut,
    ) -> Result<RangeSummary, ReadError> {
        self.range_items(request, &mut |item| {
            out.put_u8(RANGE_RESPONSE_KVS);
            prost::encoding::encode_varint(item.len() as u64, out);
            item.encode(out);
        })
    }

    /// Serves a range as a message, with nothing but the revision in its header.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        let mut kvs = Vec::new();
        let mut damaged = None;
        let summary = self.range_items(request, &mut |item| match item.decode() {
            Ok(kv) => kvs.push(kv),
            Err(error) => damaged = Some(error),
        })?;
        match damaged {
            Some(error) => Err(error.into()),
            None => Ok(RangeResponse {
                header: Some(ResponseHeader {
                    revision: self.revision,
                    ..Default::default()
                }),
                kvs,
                more: summary.more,
                count: summary.count,
            }),
        }
    }

    /// Serves a range to a visitor, one key-value pair at a time in the order of
    /// the reply.
    pub fn range_items(
        &self,
        request: &RangeRequest,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> Result<RangeSummary, ReadError> {
        range::range(self, request, visit)
    }

    /// The number of keys that exist in a range at a revision (0 or less:
    /// now). O(log n) now and at a revision that was paged through lately.
    pub fn count(&self, span: Span<'_>, revision: i64) -> Result<i64, ReadError> {
        let at = self.resolve(revision)?;
        range::count(self, span, at)
    }

    /// The raw bucket value at a revision: an encoded `mvccpb.KeyValue`.
    pub fn read(&self, rev: Revision) -> Result<Bytes, ReadError> {
        let mut out = Vec::with_capacity(1);
        self.read_all(&[rev], &mut out)?;
        Ok(out.pop().expect("one revision asked, one value read"))
    }

    /// The pair that a key held at a revision (0 or less: now), if it existed.
    pub fn get(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        let at = self.resolve(revision)?;
        match self.index.get(key).and_then(|entry| entry.visible(at)) {
            None => Ok(None),
            Some(rev) => Ok(Some(decode(self.read(rev)?)?)),
        }
    }

    /// Runs a transaction that holds ranges only (see
    /// [`is_read_only`](crate::is_read_only)) against this view. Its header
    /// holds the revision only.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, ApplyError> {
        txn::read(self, request)
    }

    /// Visits the changes from main revision `from_main` to `to_main`, both
    /// included and bounded by the view's own revision, in order, until the
    /// visitor breaks. Up to the compact revision only what a compaction keeps
    /// is visited.
    pub fn history(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.records(Revision::new(from_main, 0), to_main, &mut |record| {
            if record.rev.main > self.compacted || self.retained(&record) {
                visit(record)
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// The hash of the history up to a revision (0: now), equal on every member
    /// with the same history, stock etcd's included.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, ReadError> {
        if let Some(cached) = self.hashes.iter().find(|hash| hash.revision == revision) {
            return Ok(*cached);
        }
        if revision > self.revision {
            return Err(ReadError::Future);
        }
        if revision > 0 && revision < self.compacted {
            return Err(ReadError::Compacted);
        }
        let at = if revision == 0 {
            self.revision
        } else {
            revision
        };
        let whole = hash::hash(self, self.compacted, at, false, &mut || true)?;
        Ok(whole.expect("it was told to go on to the end"))
    }

    /// The hashes of finished compactions that are remembered, the oldest first.
    pub fn compaction_hashes(&self) -> &[KvHash] {
        &self.hashes
    }

    /// Checks a request's revision and resolves 0 and less to the current one.
    pub(crate) fn resolve(&self, revision: i64) -> Result<i64, ReadError> {
        match revision {
            r if r > self.revision => Err(ReadError::Future),
            r if r <= 0 => Ok(self.revision),
            r if r < self.compacted => Err(ReadError::Compacted),
            r => Ok(r),
        }
    }

    pub(crate) fn read_all(
        &self,
        revs: &[Revision],
        out: &mut Vec<Bytes>,
    ) -> Result<(), ReadError> {
        self.tail.read(revs, &self.pinned(), out)
    }

    /// Every record there is, dropped ones not yet rewritten included.
    pub(crate) fn records(
        &self,
        from: Revision,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.tail
            .scan(from, to_main.min(self.revision), &self.pinned(), visit)
    }

    /// Whether the history still holds this record. What it does not hold may be
    /// left out of a segment that is rewritten, and is not part of an image.
    pub fn keeps(&self, key: &[u8], rev: Revision, tombstone: bool) -> bool {
        rev.main > self.compacted || self.retains(key, rev, tombstone)
    }

    /// Whether a compaction at the compact revision keeps a record from before
    /// or at it: the put visible there, or a tombstone from exactly there.
    fn retained(&self, record: &Record) -> bool {
        self.retains(&record.key, record.rev, record.tombstone)
    }

    fn retains(&self, key: &[u8], rev: Revision, tombstone: bool) -> bool {
        if tombstone {
            return rev.main == self.compacted;
        }
        let entry = self.index.get(key);
        entry.and_then(|entry: &Entry| entry.visible(self.compacted)) == Some(rev)
    }

    fn pinned(&self) -> Pinned<'_> {
        Pinned {
            archive: &self.archive,
            archived: self.archived,
            compacted: self.compacted,
        }
    }
}

impl History for View {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn compact_revision(&self) -> i64 {
        self.compacted
    }

    fn scan(
        &self,
        from_main: i64,
        to_main: i64,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.history(from_main, to_main, visit)
            .map_err(archive_error)
    }

    fn read(&self, rev: Revision) -> Result<Bytes, ArchiveError> {
        View::read(self, rev).map_err(archive_error)
    }
}

/// What a watch makes of a failed read; it never asks for future revisions.
fn archive_error(error: ReadError) -> ArchiveError {
    match error {
        ReadError::Archive(error) => error,
        ReadError::Compacted | ReadError::Future => ArchiveError::Compacted,
    }
}

/// Tag and wire type of `RangeResponse.kvs`.
const RANGE_RESPONSE_KVS: u8 = 2 << 3 | 2;

/// Decodes a stored value.
pub(crate) fn decode(value: Bytes) -> Result<KeyValue, ArchiveError> {
    KeyValue::decode(value)
        .map_err(|error| ArchiveError::Read(format!("a stored value is damaged: {error}")))
}

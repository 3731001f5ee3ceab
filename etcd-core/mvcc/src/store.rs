//! The store's single writer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use etcd_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, TxnRequest, TxnResponse,
};
use etcd_proto::mvccpb::KeyValue;

use crate::archive::Archive;
use crate::compaction::{Compaction, CompactionJob};
use crate::error::{ApplyError, CompactError, ReadError};
use crate::hash::{CompactionHash, KvHash};
use crate::index::{Index, Newest};
use crate::record::{Record, Revision, encode, encode_tombstone};
use crate::span::Span;
use crate::tail::Tail;
use crate::txn;
use crate::view::{View, decode};

/// Hashes of finished compactions that are remembered.
const HASHES: usize = 10;

/// The multi-version store, owned by the applier. Applying the same requests in
/// the same order yields the same records and replies on every member.
pub struct Store {
    pub(crate) index: Index,
    pub(crate) tail: Arc<Tail>,
    archive: Arc<dyn Archive>,
    archived: i64,
    revision: i64,
    compacted: i64,
    pushed: u64,
    hashes: Arc<Vec<KvHash>>,
    /// Main revision up to which records were handed out for the archive.
    handed_out: i64,
    /// Records above it that a compaction has dropped: they never leave the ring.
    dead: BTreeSet<Revision>,
}

/// What a write did.
#[derive(Clone, Debug, Default)]
pub struct Applied<R> {
    /// The reply; its header holds the revision only.
    pub response: R,
    /// The records of the new revision in order; empty if nothing changed. They
    /// are in the ring already.
    pub records: Vec<Record>,
    /// Keys whose lease changed, in the order of the records.
    pub leases: Vec<LeaseChange>,
}

/// A key that moved from one lease to another; 0 stands for none. The two are
/// never equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// The key.
    pub key: Bytes,
    /// Lease to detach it from.
    pub old: i64,
    /// Lease to attach it to.
    pub new: i64,
}

/// A record found in the archive at a start.
#[derive(Clone, Copy, Debug)]
pub struct RestoredRecord<'a> {
    /// Where in the history it stands.
    pub rev: Revision,
    /// Whether it deleted the key.
    pub tombstone: bool,
    /// The key.
    pub key: &'a [u8],
    /// As in [`Record`].
    pub create_revision: i64,
    /// As in [`Record`].
    pub version: i64,
    /// As in [`Record`].
    pub lease: i64,
}

/// The changes of one transaction while it runs.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    records: Vec<Record>,
    leases: Vec<LeaseChange>,
}

impl Store {
    /// An empty store at revision 1, or, with `load` and `finish_load` to
    /// follow, the one whose records `archive` holds.
    pub fn new(archive: Arc<dyn Archive>) -> Store {
        Store {
            index: Index::new(),
            tail: Arc::new(Tail::new(archive.clone())),
            archive,
            archived: 0,
            revision: 1,
            compacted: -1,
            pushed: 0,
            hashes: Arc::default(),
            handed_out: 0,
            dead: BTreeSet::new(),
        }
    }

    /// Takes in one archived record. They come in ascending order, before
    /// anything is written; dropped ones may be among them.
    pub fn load(&mut self, record: RestoredRecord<'_>) {
        self.index.upsert(record.key, |_| Newest {
            rev: record.rev,
            tombstone: record.tombstone,
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
        });
        self.revision = self.revision.max(record.rev.main);
    }

    /// Ends loading. `revision` is the main revision of the checkpoint,
    /// `compacted` its compact revision or -1. Returns the revisions among the
    /// loaded ones that the compaction has dropped, in ascending order.
    pub fn finish_load(&mut self, revision: i64, compacted: i64) -> Vec<Revision> {
        self.revision = self.revision.max(revision).max(compacted);
        self.compacted = compacted;
        self.archived = self.revision;
        self.handed_out = self.revision;
        self.tail.set_archive(self.archive.clone(), self.archived);
        self.tail.set_compacted(compacted);
        let mut dead = Vec::new();
        let mut keys = Vec::new();
        for (key, entry) in self.index.walk(Span::From(b"")) {
            if entry.compactable(compacted) {
                keys.push(key.to_vec());
                entry.dropped(compacted, &mut dead);
            }
        }
        for key in keys {
            self.index.compact(&key, compacted);
        }
        dead.sort_unstable();
        dead
    }

    /// The current main revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compact revision; -1 if nothing was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// A snapshot of the store as it is now: O(1).
    pub fn view(&self) -> View {
        self.tail.expire(self.pushed);
        self.view_at(self.revision)
    }

    fn view_at(&self, revision: i64) -> View {
        View {
            index: self.index.clone(),
            tail: self.tail.clone(),
            archive: self.archive.clone(),
            archived: self.archived,
            revision,
            compacted: self.compacted,
            pushed: self.pushed,
            // Within a transaction the revision is still to change.
            settled: revision == self.revision,
            hashes: self.hashes.clone(),
        }
    }

    /// Puts a key. `lease_exists` answers for the request's lease.
    pub fn put(
        &mut self,
        request: &PutRequest,
        lease_exists: &dyn Fn(i64) -> bool,
    ) -> Result<Applied<PutResponse>, ApplyError> {
        if request.lease != 0 && !lease_exists(request.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        if (request.ignore_value || request.ignore_lease) && !self.exists(&request.key) {
            return Err(ApplyError::KeyNotFound);
        }
        let mut changes = Changes::default();
        let response = self.apply_put(request, &mut changes)?;
        Ok(self.commit(response, changes))
    }

    /// Deletes the keys of a range; deletes nothing, changes no revision.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<Applied<DeleteRangeResponse>, ApplyError> {
        let mut changes = Changes::default();
        let response = self.apply_delete(request, &mut changes)?;
        Ok(self.commit(response, changes))
    }

    /// Deletes keys in the order given, all in one revision, as the revocation
    /// of a lease does; the response is how many existed.
    pub fn delete_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) -> Applied<i64> {
        let mut changes = Changes::default();
        for key in keys {
            if self.exists(key) {
                self.delete(key, &mut changes);
            }
        }
        let deleted = changes.records.len() as i64;
        self.commit(deleted, changes)
    }

    /// Runs a transaction. All comparisons see the state before it; all that
    /// can be refused is, before anything is changed.
    pub fn txn(
        &mut self,
        request: &TxnRequest,
        lease_exists: &dyn Fn(i64) -> bool,
    ) -> Result<Applied<TxnResponse>, ApplyError> {
        let before = self.view_at(self.revision);
        let path = txn::path(&before, request)?;
        txn::check(&before, request, &path, lease_exists)?;
        drop(before);
        let mut changes = Changes::default();
        let mut response = txn::execute(self, request, &path, &mut changes)?;
        response.header = header(self.next(&changes));
        Ok(self.commit(response, changes))
    }

    /// Serves a range at the current state.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        self.view_at(self.revision).range(request)
    }

    /// Compacts the history up to a main revision. Revisions below it can no
    /// longer be read from now on; the work itself is the returned job.
    pub fn compact(&mut self, revision: i64) -> Result<Compaction, CompactError> {
        if revision <= self.compacted {
            return Err(CompactError::Compacted);
        }
        if revision > self.revision {
            return Err(CompactError::Future);
        }
        let compaction = Compaction {
            job: CompactionJob::new(self.compacted, revision),
            hash: CompactionHash {
                before: self.view(),
                revision,
            },
        };
        self.compacted = revision;
        self.tail.set_compacted(revision);
        Ok(compaction)
    }

    /// Remembers the hash of a finished compaction for requests of exactly its
    /// revision; the ten of the highest revisions are kept.
    pub fn cache_hash(&mut self, hash: KvHash) {
        let hashes = Arc::make_mut(&mut self.hashes);
        hashes.push(hash);
        hashes.sort_by_key(|hash| hash.revision);
        if hashes.len() > HASHES {
            hashes.remove(0);
        }
    }

    /// Bytes of the records in the ring: what no segment holds yet.
    pub fn ring_bytes(&self) -> usize {
        self.tail.ring_bytes()
    }

    /// Last main revision that the archive holds.
    pub fn archived_revision(&self) -> i64 {
        self.archived
    }

    /// The ring's records up to a main revision, for the next segment, without
    /// the puts that a compaction has dropped already. Dropped deletions are among
    /// them as long as an archived record may be what they deleted: without them
    /// it would come back to life when it is loaded.
    pub fn unarchived(&mut self, upto_main: i64) -> Vec<Record> {
        self.handed_out = self.handed_out.max(upto_main);
        let mut records = self.tail.unarchived(upto_main);
        let archived = self.archived > 0;
        records.retain(|record| (archived && record.tombstone) || !self.dead.contains(&record.rev));
        records
    }

    /// Whether a compaction has dropped a record of the ring.
    #[cfg(test)]
    pub(crate) fn has_dropped(&self, rev: Revision) -> bool {
        self.dead.contains(&rev)
    }

    /// Takes a new archive into use, one that holds every record up to
    /// `upto_main` that no compaction has dropped, and trims the ring. With the
    /// present [`Store::archived_revision`] it only replaces the archive, after
    /// segments were rewritten.
    pub fn archived(&mut self, upto_main: i64, archive: Arc<dyn Archive>) {
        self.archived = self.archived.max(upto_main);
        self.dead = self.dead.split_off(&Revision::new(self.archived + 1, 0));
        self.archive = archive;
        self.tail.set_archive(self.archive.clone(), self.archived);
    }

    /// Sorts what a compaction found dead: what is or will be in the archive stays
    /// in the list, what is in the ring only is kept from it.
    pub(crate) fn bury(&mut self, dead: &mut Vec<Revision>) {
        let handed_out = self.handed_out;
        self.dead
            .extend(dead.extract_if(.., |rev| rev.main > handed_out));
    }

    /// Whether a key exists now.
    fn exists(&self, key: &[u8]) -> bool {
        self.newest(key).is_some()
    }

    fn newest(&self, key: &[u8]) -> Option<Newest> {
        self.index
            .get(key)
            .map(|entry| entry.newest())
            .filter(|newest| !newest.tombstone)
    }

    fn stored(&self, rev: Revision) -> Result<KeyValue, ApplyError> {
        let value = self.view_at(self.revision).read(rev)?;
        decode(value).map_err(ApplyError::Archive)
    }

    /// The revision that a reply inside a transaction reports.
    fn next(&self, changes: &Changes) -> i64 {
        self.revision + i64::from(!changes.records.is_empty())
    }

    fn commit<R>(&mut self, response: R, changes: Changes) -> Applied<R> {
        self.revision = self.next(&changes);
        Applied {
            response,
            records: changes.records,
            leases: changes.leases,
        }
    }

    pub(crate) fn apply_range(
        &self,
        request: &RangeRequest,
        changes: &Changes,
    ) -> Result<RangeResponse, ApplyError> {
        Ok(self.view_at(self.next(changes)).range(request)?)
    }

    pub(crate) fn apply_put(
        &mut self,
        request: &PutRequest,
        changes: &mut Changes,
    ) -> Result<PutResponse, ApplyError> {
        let mut previous = None;
        let mut lease = request.lease;
        if (request.prev_kv || request.ignore_value || request.ignore_lease)
            && let Some(newest) = self.newest(&request.key)
        {
            if request.ignore_lease {
                lease = newest.lease;
            }
            if request.prev_kv || request.ignore_value {
                previous = Some(self.stored(newest.rev)?);
            }
        }
        let value = match &previous {
            Some(kv) if request.ignore_value => &kv.value,
            _ => &request.value,
        };
        self.write(&request.key, value, lease, changes);
        Ok(PutResponse {
            header: header(self.next(changes)),
            prev_kv: previous.filter(|_| request.prev_kv),
        })
    }

    pub(crate) fn apply_delete(
        &mut self,
        request: &DeleteRangeRequest,
        changes: &mut Changes,
    ) -> Result<DeleteRangeResponse, ApplyError> {
        let span = Span::new(&request.key, &request.range_end);
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            let all = RangeRequest {
                key: request.key.clone(),
                range_end: request.range_end.clone(),
                ..Default::default()
            };
            prev_kvs = self.apply_range(&all, changes)?.kvs;
        }
        let deleted = if let Span::Key(key) = span {
            let exists = self.exists(key);
            if exists {
                self.delete(key, changes);
            }
            i64::from(exists)
        } else {
            let live = self.index.walk(span).filter(|(_, entry)| entry.live());
            let keys: Vec<Vec<u8>> = live.map(|(key, _)| key.to_vec()).collect();
            for key in &keys {
                self.delete(key, changes);
            }
            keys.len() as i64
        };
        Ok(DeleteRangeResponse {
            header: header(self.next(changes)),
            deleted,
            prev_kvs,
        })
    }

    fn write(&mut self, key: &[u8], value: &[u8], lease: i64, changes: &mut Changes) {
        let rev = Revision::new(self.revision + 1, changes.records.len() as i64);
        let mut made = None;
        let previous = self.index.upsert(key, |previous| {
            let life = previous.filter(|p| !p.tombstone);
            *made.insert(Newest {
                rev,
                tombstone: false,
                create_revision: life.map_or(rev.main, |p| p.create_revision),
                version: life.map_or(1, |p| p.version + 1),
                lease,
            })
        });
        let made = made.expect("an upsert calls back once");
        let value = encode(
            key,
            made.create_revision,
            rev.main,
            made.version,
            value,
            lease,
        );
        self.record(key, value, made, previous, changes);
    }

    fn delete(&mut self, key: &[u8], changes: &mut Changes) {
        let tombstone = Newest {
            rev: Revision::new(self.revision + 1, changes.records.len() as i64),
            tombstone: true,
            create_revision: 0,
            version: 0,
            lease: 0,
        };
        let previous = self.index.upsert(key, |_| tombstone);
        self.record(key, encode_tombstone(key), tombstone, previous, changes);
    }

    fn record(
        &mut self,
        key: &[u8],
        value: Bytes,
        made: Newest,
        previous: Option<Newest>,
        changes: &mut Changes,
    ) {
        // The encoding begins with tag, length and key: the record shares it.
        let at = 1 + prost::encoding::encoded_len_varint(key.len() as u64);
        let key = if key.is_empty() {
            Bytes::new()
        } else {
            value.slice(at..at + key.len())
        };
        let old = previous.map_or(0, |p| p.lease);
        if old != made.lease {
            changes.leases.push(LeaseChange {
                key: key.clone(),
                old,
                new: made.lease,
            });
        }
        let record = Record {
            rev: made.rev,
            tombstone: made.tombstone,
            key,
            value,
            create_revision: made.create_revision,
            version: made.version,
            lease: made.lease,
            replaces: previous.map(|p| p.rev),
        };
        self.tail.push(record.clone());
        self.pushed += 1;
        changes.records.push(record);
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

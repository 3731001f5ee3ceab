//! Compaction and hashes.

use std::ops::ControlFlow;

use super::*;
use crate::{CompactError, KvHash, Revision, View};

fn revisions(view: &View) -> Vec<(i64, i64)> {
    let mut seen = Vec::new();
    view.history(0, i64::MAX, &mut |record| {
        seen.push((record.rev.main, record.rev.sub));
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

/// Puts and deletes `k` and `other`, up to revision 7.
fn fill(store: &mut Store) {
    put(store, "k", "1");
    put(store, "other", "2");
    put(store, "k", "3");
    delete(store, "k", "");
    put(store, "k", "5");
    put(store, "k", "6");
}

#[test]
fn b029_the_current_revision_can_be_compacted() {
    let (mut store, mut archive) = store();
    fill(&mut store);
    archive.take(&mut store, 5);
    compact(&mut store, &mut archive, 7);
    assert_eq!(keys(&store, &range_request("\0", "\0")), ["k", "other"]);
    assert_eq!(revisions(&store.view()), [(3, 0), (7, 0)]);
    archive.take(&mut store, 7);
    assert_eq!(
        archive.revisions(),
        [Revision::new(3, 0), Revision::new(7, 0)]
    );
}

#[test]
fn b030_refused_compactions() {
    let (mut store, mut archive) = store();
    fill(&mut store);
    compact(&mut store, &mut archive, 5);
    assert_eq!(store.compact(5).map(|_| ()), Err(CompactError::Compacted));
    assert_eq!(store.compact(8).map(|_| ()), Err(CompactError::Future));
    assert_eq!(store.compact_revision(), 5);
}

#[test]
fn a_tombstone_of_the_compact_revision_stays_until_the_next() {
    let (mut store, mut archive) = store();
    fill(&mut store);
    archive.take(&mut store, 7);
    compact(&mut store, &mut archive, 5);
    assert_eq!(revisions(&store.view()), [(3, 0), (5, 0), (6, 0), (7, 0)]);
    assert_eq!(archive.revisions().len(), 4);
    compact(&mut store, &mut archive, 6);
    assert_eq!(revisions(&store.view()), [(3, 0), (6, 0), (7, 0)]);
    assert_eq!(archive.revisions().len(), 3);
}

#[test]
fn an_interrupted_compaction_is_finished_by_loading() {
    let (mut store, mut archive) = store();
    fill(&mut store);
    archive.take(&mut store, 7);
    let mut job = store.compact(6).unwrap().job;
    assert!(!archive.step(&mut store, &mut job, 1));
    let restored = archive.restore(7, 6);
    assert_eq!(
        archive.revisions(),
        [
            Revision::new(3, 0),
            Revision::new(6, 0),
            Revision::new(7, 0)
        ]
    );
    assert_eq!(restored.view().hash_kv(0), store.view().hash_kv(0));
    assert_eq!((restored.revision(), restored.compact_revision()), (7, 6));
}

#[test]
fn b038_hashes_are_those_of_etcd() {
    // The bucket by hand: raw keys and values of one put and its tombstone.
    let (mut store, mut archive) = store();
    put(&mut store, "a", "b");
    delete(&mut store, "a", "");
    let mut bucket = b"key".to_vec();
    bucket.extend(b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0");
    bucket.extend(b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x01b");
    let first = bucket.len();
    bucket.extend(b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t");
    bucket.extend(b"\x0a\x01a");
    let hash = |bytes: &[u8], compact_revision, revision| KvHash {
        hash: crc32c::crc32c(bytes),
        compact_revision,
        revision,
    };
    let view = store.view();
    assert_eq!(view.hash_kv(0), Ok(hash(&bucket, -1, 3)));
    assert_eq!(view.hash_kv(2), Ok(hash(&bucket[..first], -1, 2)));
    assert_eq!(view.hash_kv(1), Ok(hash(b"key", -1, 1)));
    assert_eq!(view.hash_kv(4), Err(crate::ReadError::Future));
    // A tombstone of the compact revision is stored but does not count.
    compact(&mut store, &mut archive, 3);
    assert_eq!(store.view().hash_kv(3), Ok(hash(b"key", 3, 3)));
    assert_eq!(store.view().hash_kv(2), Err(crate::ReadError::Compacted));
}

#[test]
fn b164_the_hash_of_a_compaction_is_of_the_moment_before() {
    let (mut store, mut archive) = store();
    fill(&mut store);
    let before = store.view().hash_kv(4).unwrap();
    let mut compaction = store.compact(4).unwrap();
    while !archive.step(&mut store, &mut compaction.job, 1) {}
    let hash = compaction.hash.compute().unwrap();
    assert_eq!(hash, before);
    assert_ne!(store.view().hash_kv(4).unwrap(), hash);
    store.cache_hash(hash);
    assert_eq!(store.view().hash_kv(4), Ok(hash));
    // Still known when the revision itself no longer is.
    compact(&mut store, &mut archive, 7);
    assert_eq!(store.view().hash_kv(4), Ok(hash));
    for revision in 10..20 {
        store.cache_hash(KvHash { revision, ..hash });
    }
    assert_eq!(store.view().hash_kv(4), Err(crate::ReadError::Compacted));
}

#[test]
fn b164_while_compacting_a_tombstone_counts_as_seen() {
    // Nothing lives at 3 but the tombstone of 3: etcd then skips the put below
    // the previous compact revision, which HashKV would take in.
    let (mut store, mut archive) = store();
    put(&mut store, "a", "b");
    compact(&mut store, &mut archive, 2);
    delete(&mut store, "a", "");
    let uncompacted = store.view().hash_kv(3).unwrap();
    let hash = store.compact(3).unwrap().hash.compute().unwrap();
    let tombstone = b"key\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t\x0a\x01a";
    assert_eq!(hash.hash, crc32c::crc32c(tombstone));
    assert_ne!(hash.hash, uncompacted.hash);
    assert_eq!((hash.compact_revision, hash.revision), (2, 3));
}

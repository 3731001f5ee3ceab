//! Tests of the store as a whole: against a model, and by the numbers of etcd's
//! behaviours.

mod archive;
mod checks;
mod compaction;
mod kv;
mod model;
mod paging;
mod random;
mod transactions;

use etcd_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::Store;
use archive::Memory;

/// A store with an archive in memory.
fn store() -> (Store, Memory) {
    let archive = Memory::default();
    (Store::new(archive.shared()), archive)
}

/// Leases 1 to 9 exist.
fn leases(id: i64) -> bool {
    (1..10).contains(&id)
}

fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let applied = store.put(&put_request(key, value), &leases).unwrap();
    applied.response.header.unwrap().revision
}

fn delete(store: &mut Store, key: &str, end: &str) -> i64 {
    let request = DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: false,
    };
    store.delete_range(&request).unwrap().response.deleted
}

fn range_request(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

fn keys(store: &Store, request: &RangeRequest) -> Vec<String> {
    let response = store.view().range(request).unwrap();
    let keys = response
        .kvs
        .iter()
        .map(|kv| String::from_utf8(kv.key.to_vec()).unwrap());
    keys.collect()
}

/// Runs a compaction to its end and drops what it names from the archive.
fn compact(store: &mut Store, archive: &mut Memory, revision: i64) {
    let mut job = store.compact(revision).unwrap().job;
    while !archive.step(store, &mut job, 3) {}
}

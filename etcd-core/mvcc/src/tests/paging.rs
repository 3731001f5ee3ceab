//! Pages at a pinned revision, and the counts that come with them.

use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest};

use super::transactions::{op, put_op};
use super::*;
use crate::Span;

/// Reads a prefix as the API server does: the first page now, each further one
/// from behind the last key at the revision of the first.
fn page(store: &Store, first: Option<(&RangeResponse, i64)>, limit: i64) -> RangeResponse {
    let mut request = RangeRequest {
        limit,
        ..range_request("k/", "k0")
    };
    if let Some((page, revision)) = first {
        let mut key = page.kvs.last().unwrap().key.to_vec();
        key.push(0);
        request.key = key.into();
        request.revision = revision;
    }
    store.view().range(&request).unwrap()
}

#[test]
fn b018_pages_of_one_revision_add_up_while_keys_change() {
    for remembered in [true, false] {
        let (mut store, mut archive) = store();
        for i in 0..1000 {
            put(&mut store, &format!("k/{i:04}"), "old");
        }
        let mut current = page(&store, None, 100);
        let revision = current.header.as_ref().unwrap().revision;
        if !remembered {
            // As on another member, which never served the first page.
            archive.take(&mut store, revision);
            store = archive.restore(revision, -1);
        }
        let mut seen = current.kvs.clone();
        let mut left = 1000;
        for round in 0.. {
            assert_eq!((current.count, current.more), (left, left > 100));
            if !current.more {
                break;
            }
            left -= 100;
            delete(
                &mut store,
                &format!("k/{:04}", round * 70),
                &format!("k/{:04}", round * 70 + 30),
            );
            for i in 0..40 {
                put(&mut store, &format!("k/{:04}", 999 - i * 3), "new");
                put(&mut store, &format!("k/{i:04}+{round}"), "new");
            }
            archive.take(&mut store, revision + round * 20);
            current = page(&store, Some((&current, revision)), 100);
            assert!(current.kvs.iter().all(|kv| kv.mod_revision <= revision));
            seen.extend(current.kvs.iter().cloned());
        }
        assert_eq!(seen.len(), 1000);
        assert!(seen.iter().all(|kv| kv.value == "old"));
    }
}

#[test]
fn counts_of_the_past_by_either_way() {
    let (mut store, _) = store();
    for i in 0..50 {
        put(&mut store, &format!("k/{i:02}"), "");
        put(&mut store, "far", "");
    }
    for _ in 0..500 {
        put(&mut store, "noise", "");
    }
    // Few keys behind many changes are looked at, many behind few are corrected.
    let view = store.view();
    for (revision, count) in [(1, 0), (2, 1), (3, 1), (4, 2), (101, 50), (500, 50)] {
        assert_eq!(view.count(Span::Range(b"k/", b"k0"), revision), Ok(count));
    }
    assert_eq!(view.count(Span::Key(b"k/01"), 3), Ok(0));
    assert_eq!(view.count(Span::Key(b"k/01"), 4), Ok(1));
}

#[test]
fn a_page_inside_a_transaction_is_not_taken_for_its_revision() {
    let (mut store, _) = store();
    let limited = RangeRequest {
        limit: 1,
        ..range_request("k/", "k0")
    };
    let request = TxnRequest {
        success: vec![
            put_op("k/1"),
            put_op("k/2"),
            op(Request::RequestRange(limited.clone())),
            put_op("k/3"),
        ],
        ..Default::default()
    };
    store.txn(&request, &leases).unwrap();
    put(&mut store, "k/4", "");
    let then = RangeRequest {
        revision: 2,
        ..limited
    };
    assert_eq!(store.range(&then).unwrap().count, 3);
}

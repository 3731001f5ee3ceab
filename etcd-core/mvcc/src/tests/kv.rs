//! Puts, deletions and ranges, by the numbers of etcd's behaviours.

use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::*;
use crate::{ApplyError, LeaseChange, ReadError, Span};

#[test]
fn b001_an_overwrite_raises_revision_and_version() {
    let (mut store, _) = store();
    assert_eq!(put(&mut store, "k", "old"), 2);
    let request = PutRequest {
        prev_kv: true,
        ..put_request("k", "new")
    };
    let applied = store.put(&request, &leases).unwrap();
    assert_eq!(applied.response.prev_kv.unwrap().value, "old");
    let kv = store.view().get(b"k", 0).unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(
        applied.records[0].replaces,
        Some(crate::Revision::new(2, 0))
    );
    let first = PutRequest {
        prev_kv: true,
        ..put_request("other", "")
    };
    assert_eq!(store.put(&first, &leases).unwrap().response.prev_kv, None);
}

#[test]
fn b006_b009_ignoring_needs_the_key() {
    let (mut store, _) = store();
    for (ignore_value, ignore_lease) in [(true, false), (false, true)] {
        let request = PutRequest {
            ignore_value,
            ignore_lease,
            ..put_request("k", "")
        };
        assert_eq!(
            store.put(&request, &leases).unwrap_err(),
            ApplyError::KeyNotFound
        );
    }
    assert_eq!(store.revision(), 1);
}

#[test]
fn b008_ignore_value_without_a_lease_detaches() {
    let (mut store, _) = store();
    let attach = PutRequest {
        lease: 5,
        ..put_request("k", "v")
    };
    let applied = store.put(&attach, &leases).unwrap();
    let change = |old, new| LeaseChange {
        key: "k".into(),
        old,
        new,
    };
    assert_eq!(applied.leases, [change(0, 5)]);
    let keep = PutRequest {
        ignore_lease: true,
        ..put_request("k", "w")
    };
    assert!(store.put(&keep, &leases).unwrap().leases.is_empty());
    let detach = PutRequest {
        ignore_value: true,
        ..put_request("k", "")
    };
    assert_eq!(store.put(&detach, &leases).unwrap().leases, [change(5, 0)]);
    let kv = store.view().get(b"k", 0).unwrap().unwrap();
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"w"[..], 0, 3));
}

#[test]
fn b011_an_unknown_lease_stores_nothing() {
    let (mut store, _) = store();
    let request = PutRequest {
        lease: 77,
        ..put_request("k", "v")
    };
    assert_eq!(
        store.put(&request, &leases).unwrap_err(),
        ApplyError::LeaseNotFound
    );
    assert_eq!((store.revision(), store.ring_bytes()), (1, 0));
}

#[test]
fn b017_b025_b026_revisions_out_of_reach() {
    let (mut store, mut archive) = store();
    put(&mut store, "k", "1");
    put(&mut store, "k", "2");
    put(&mut store, "k", "3");
    let at = |revision| RangeRequest {
        revision,
        ..range_request("k", "")
    };
    assert_eq!(store.range(&at(1)).unwrap().kvs, []);
    assert_eq!(store.range(&at(5)), Err(ReadError::Future));
    compact(&mut store, &mut archive, 3);
    assert_eq!(store.range(&at(2)), Err(ReadError::Compacted));
    let response = store.range(&at(3)).unwrap();
    assert_eq!(response.kvs[0].value, "2");
    // b024: the header tells the present, not what was asked for.
    assert_eq!(response.header.unwrap().revision, 4);
}

#[test]
fn b018_b019_b020_limit_count_and_keys() {
    let (mut store, _) = store();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "value");
    }
    let limited = RangeRequest {
        limit: 2,
        ..range_request("a", "z")
    };
    let response = store.range(&limited).unwrap();
    assert_eq!(
        (response.kvs.len(), response.more, response.count),
        (2, true, 3)
    );
    let counted = RangeRequest {
        count_only: true,
        keys_only: true,
        ..limited.clone()
    };
    let response = store.range(&counted).unwrap();
    assert_eq!(
        (response.kvs.len(), response.more, response.count),
        (0, false, 3)
    );
    let bare = RangeRequest {
        keys_only: true,
        limit: 3,
        ..limited
    };
    let response = store.range(&bare).unwrap();
    assert!(
        !response.more
            && response
                .kvs
                .iter()
                .all(|kv| kv.value.is_empty() && kv.version == 1)
    );
}

#[test]
fn b021_sorts_by_every_target_in_both_orders() {
    let (mut store, _) = store();
    for (key, value) in [
        ("a", "3"),
        ("b", "2"),
        ("c", "1"),
        ("b", "5"),
        ("b", "6"),
        ("a", "4"),
    ] {
        put(&mut store, key, value);
    }
    // a: created 2, changed 7, version 2; b: 3, 6, 3; c: 4, 4, 1.
    let expected = [
        (SortTarget::Key, "abc"),
        (SortTarget::Version, "cab"),
        (SortTarget::Create, "abc"),
        (SortTarget::Mod, "cba"),
        (SortTarget::Value, "cab"),
    ];
    for (target, ascending) in expected {
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let request = RangeRequest {
                sort_order: order.into(),
                sort_target: target.into(),
                ..range_request("a", "z")
            };
            let mut sorted = keys(&store, &request);
            if order == SortOrder::Descend {
                sorted.reverse();
            }
            assert_eq!(sorted.concat(), ascending, "{target:?} {order:?}");
        }
    }
    // Without an order the limit comes before the sorting: of a, b and c, the
    // last in order of value is cut off.
    let request = RangeRequest {
        sort_target: SortTarget::Value.into(),
        limit: 1,
        ..range_request("a", "z")
    };
    assert_eq!(keys(&store, &request), ["a"]);
}

#[test]
fn b024_filters_leave_the_count_alone() {
    let (mut store, _) = store();
    for key in ["a", "b", "c", "a"] {
        put(&mut store, key, "");
    }
    let request = RangeRequest {
        min_mod_revision: 4,
        max_create_revision: 2,
        limit: 1,
        ..range_request("a", "z")
    };
    let response = store.range(&request).unwrap();
    assert_eq!(
        (response.kvs.len(), response.more, response.count),
        (1, false, 3)
    );
    assert_eq!(response.kvs[0].key, "a");
}

#[test]
fn b027_a_deletion_of_nothing_keeps_the_revision() {
    let (mut store, _) = store();
    put(&mut store, "b", "2");
    put(&mut store, "a", "1");
    let request = DeleteRangeRequest {
        key: "a".into(),
        range_end: "c".into(),
        prev_kv: true,
    };
    let applied = store.delete_range(&request).unwrap();
    assert_eq!(applied.response.deleted, 2);
    let previous: Vec<_> = applied
        .response
        .prev_kvs
        .iter()
        .map(|kv| &kv.value[..])
        .collect();
    assert_eq!(previous, [b"1", b"2"]);
    let revs: Vec<_> = applied
        .records
        .iter()
        .map(|record| (record.rev.main, record.rev.sub))
        .collect();
    assert_eq!(revs, [(4, 0), (4, 1)]);
    let again = store.delete_range(&request).unwrap();
    assert_eq!(
        (
            again.response.deleted,
            again.response.header.unwrap().revision
        ),
        (0, 4)
    );
    assert!(again.records.is_empty());
}

#[test]
fn b028_a_deleted_key_begins_a_new_life() {
    let (mut store, _) = store();
    put(&mut store, "k", "1");
    put(&mut store, "k", "2");
    delete(&mut store, "k", "");
    put(&mut store, "k", "3");
    let kv = store.view().get(b"k", 0).unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    assert_eq!(store.view().get(b"k", 4).unwrap(), None);
    assert_eq!(store.view().get(b"k", 3).unwrap().unwrap().version, 2);
}

#[test]
fn b067_keys_of_a_lease_go_in_one_revision() {
    let (mut store, _) = store();
    for key in ["b", "a", "c"] {
        let request = PutRequest {
            lease: 3,
            ..put_request(key, "")
        };
        store.put(&request, &leases).unwrap();
    }
    let applied = store.delete_keys([&b"a"[..], b"b", b"missing"]);
    assert_eq!((applied.response, store.revision()), (2, 5));
    let subs: Vec<_> = applied
        .records
        .iter()
        .map(|record| record.rev.sub)
        .collect();
    assert_eq!(subs, [0, 1]);
    assert!(
        applied
            .leases
            .iter()
            .all(|change| (change.old, change.new) == (3, 0))
    );
    assert_eq!(store.view().count(Span::From(b"a"), 0), Ok(1));
    assert_eq!(store.delete_keys([&b"a"[..]]).response, 0);
    assert_eq!(store.revision(), 5);
}

#[test]
fn a_view_is_not_touched_by_later_writes() {
    let (mut store, mut archive) = store();
    for i in 0..200 {
        put(&mut store, &format!("k{i:03}"), "old");
    }
    let view = store.view();
    delete(&mut store, "k", "k1");
    for i in 150..200 {
        put(&mut store, &format!("k{i:03}"), "new");
    }
    archive.take(&mut store, 240);
    let response = view.range(&range_request("k", "l")).unwrap();
    assert_eq!(response.count, 200);
    assert!(response.kvs.iter().all(|kv| kv.value == "old"));
    assert_eq!(store.view().count(Span::Range(b"k", b"l"), 0), Ok(100));
}

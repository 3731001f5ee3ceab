//! Range.

use etcd_e2e::Options;
use etcd_e2e::client::{ZERO, delete, get, prefix, range};
use etcd_e2e::errors::{COMPACTED, FUTURE_REVISION, INVALID_SORT_OPTION};
use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::{RangeRequest, RangeResponse};

use crate::pool::{fresh, server};

fn keys(answer: &RangeResponse) -> Vec<String> {
    answer
        .kvs
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}

#[tokio::test]
async fn b014_empty_intervals() {
    let server = server().await;
    let client = &server.client;
    for key in ["a", "b", "c", "d", "e"] {
        client.put(key, "v").await.unwrap();
    }
    for (from, to) in [("c", "c"), ("d", "b")] {
        let answer = client.range(range(from, to)).await.unwrap();
        assert_eq!(
            (keys(&answer), answer.count, answer.more),
            (vec![], 0, false),
            "[{from}, {to})"
        );
    }
    assert_eq!(
        keys(&client.range(range("b", "d")).await.unwrap()),
        ["b", "c"]
    );
}

#[tokio::test]
async fn b015_every_key() {
    let server = server().await;
    let client = &server.client;
    for key in [&b"\0"[..], b"\0\0", b"a", b"\xff", b"\xff\xff"] {
        client.put(key, "v").await.unwrap();
    }
    let all = client.range(range(ZERO, ZERO)).await.unwrap();
    let found: Vec<&[u8]> = all.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(found, [&b"\0"[..], b"\0\0", b"a", b"\xff", b"\xff\xff"]);
    assert_eq!(all.count, 5);
}

#[tokio::test]
async fn b016_from_a_key_on() {
    let server = server().await;
    let client = &server.client;
    for key in ["a", "b", "ba", "c", "\u{10ffff}"] {
        client.put(key, "v").await.unwrap();
    }
    assert_eq!(
        keys(&client.range(range("b", ZERO)).await.unwrap()),
        ["b", "ba", "c", "\u{10ffff}"]
    );
    assert_eq!(
        keys(&client.range(range("bb", ZERO)).await.unwrap()),
        ["c", "\u{10ffff}"]
    );
    assert_eq!(keys(&client.range(prefix("b")).await.unwrap()), ["b", "ba"]);
}

#[tokio::test]
async fn b017_at_revision_one() {
    let (_server, client) = fresh(Options::single()).await;
    assert_eq!(client.revision().await.unwrap(), 1);
    client.put("a", "v").await.unwrap();
    let answer = client
        .range(RangeRequest {
            revision: 1,
            ..range(ZERO, ZERO)
        })
        .await
        .unwrap();
    assert_eq!(
        (keys(&answer), answer.count, answer.header.unwrap().revision),
        (vec![], 0, 2)
    );
    // A revision at or below 0 is the current one.
    for revision in [0, -1] {
        let answer = client
            .range(RangeRequest {
                revision,
                ..range(ZERO, ZERO)
            })
            .await
            .unwrap();
        assert_eq!(keys(&answer), ["a"]);
    }
}

#[tokio::test]
async fn b018_limit() {
    let server = server().await;
    let client = &server.client;
    for key in ["a", "b", "c", "d", "e"] {
        client.put(key, "v").await.unwrap();
    }
    let limited = |limit| {
        client.range(RangeRequest {
            limit,
            ..range(ZERO, ZERO)
        })
    };
    let answer = limited(2).await.unwrap();
    assert_eq!(
        (keys(&answer), answer.more, answer.count),
        (vec!["a".into(), "b".into()], true, 5)
    );
    for (limit, expected) in [(4, true), (5, false), (6, false), (0, false), (-1, false)] {
        let answer = limited(limit).await.unwrap();
        assert_eq!((answer.more, answer.count), (expected, 5), "limit {limit}");
    }
    // An explicit order fetches all, sorts, and limits then.
    let sorted = RangeRequest {
        limit: 2,
        sort_order: SortOrder::Descend.into(),
        ..range(ZERO, ZERO)
    };
    let answer = client.range(sorted).await.unwrap();
    assert_eq!(
        (keys(&answer), answer.more, answer.count),
        (vec!["e".into(), "d".into()], true, 5)
    );
}

#[tokio::test]
async fn b018_pages_at_one_revision() {
    let server = server().await;
    let client = &server.client;
    for number in 0..25 {
        client.put(format!("p/{number:02}"), "v").await.unwrap();
    }
    let revision = client.revision().await.unwrap();
    client.put("p/005", "new").await.unwrap();
    client.delete(delete("p/20")).await.unwrap();
    let mut found = Vec::new();
    let mut from = b"p/".to_vec();
    loop {
        let request = RangeRequest {
            limit: 10,
            revision,
            ..range(&from, "p0")
        };
        let page = client.range(request).await.unwrap();
        assert_eq!(page.count, 25 - i64::try_from(found.len()).unwrap());
        found.extend(keys(&page));
        if !page.more {
            break;
        }
        from = found.last().unwrap().clone().into_bytes();
        from.push(0);
    }
    assert_eq!(
        found,
        (0..25)
            .map(|number| format!("p/{number:02}"))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn b019_count_only() {
    let server = server().await;
    let client = &server.client;
    for key in ["a", "b", "c"] {
        client.put(key, "v").await.unwrap();
    }
    let request = RangeRequest {
        count_only: true,
        limit: 1,
        ..range(ZERO, ZERO)
    };
    let answer = client.range(request).await.unwrap();
    assert_eq!(
        (keys(&answer), answer.count, answer.more),
        (vec![], 3, false)
    );
}

#[tokio::test]
async fn b020_keys_only() {
    let server = server().await;
    let client = &server.client;
    client.put("a", "v").await.unwrap();
    client.put("a", "w").await.unwrap();
    let stored = client.get("a").await.unwrap().kvs.remove(0);
    let answer = client
        .range(RangeRequest {
            keys_only: true,
            ..range(ZERO, ZERO)
        })
        .await
        .unwrap();
    let kv = &answer.kvs[0];
    assert_eq!((&kv.key[..], &kv.value[..]), (&b"a"[..], &b""[..]));
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (stored.create_revision, stored.mod_revision, stored.version)
    );
    let request = RangeRequest {
        keys_only: true,
        count_only: true,
        ..range(ZERO, ZERO)
    };
    let answer = client.range(request).await.unwrap();
    assert_eq!((keys(&answer), answer.count), (vec![], 1));
}

#[tokio::test]
async fn b021_sort() {
    let server = server().await;
    let client = &server.client;
    // By creation: b c a; by last change: a c b; by version: a c b; by value: c b a.
    for (key, value) in [
        ("b", "0"),
        ("c", "0"),
        ("a", "3"),
        ("c", "1"),
        ("b", "0"),
        ("b", "2"),
    ] {
        client.put(key, value).await.unwrap();
    }
    let cases = [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["a", "c", "b"]),
        (SortTarget::Create, ["b", "c", "a"]),
        (SortTarget::Mod, ["a", "c", "b"]),
        (SortTarget::Value, ["c", "b", "a"]),
    ];
    for (target, ascending) in cases {
        let sorted = |order: SortOrder| RangeRequest {
            sort_target: target.into(),
            sort_order: order.into(),
            ..range(ZERO, ZERO)
        };
        let up = client.range(sorted(SortOrder::Ascend)).await.unwrap();
        assert_eq!(keys(&up), ascending, "{target:?} ascending");
        let down = client.range(sorted(SortOrder::Descend)).await.unwrap();
        let descending: Vec<&str> = ascending.into_iter().rev().collect();
        assert_eq!(keys(&down), descending, "{target:?} descending");
        let none = client.range(sorted(SortOrder::None)).await.unwrap();
        assert_eq!(
            keys(&none),
            ascending,
            "{target:?} without order is ascending"
        );
    }
}

#[tokio::test]
async fn b021_sort_without_order_limits_first() {
    let server = server().await;
    let client = &server.client;
    for (key, value) in [("a", "4"), ("b", "3"), ("c", "2"), ("d", "1")] {
        client.put(key, value).await.unwrap();
    }
    // One more than the limit is read in the order of keys, then sorted, then cut.
    let by_value = RangeRequest {
        sort_target: SortTarget::Value.into(),
        limit: 2,
        ..range(ZERO, ZERO)
    };
    let answer = client.range(by_value.clone()).await.unwrap();
    assert_eq!(
        (keys(&answer), answer.more, answer.count),
        (vec!["c".into(), "b".into()], true, 4)
    );
    let ordered = RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        ..by_value
    };
    assert_eq!(keys(&client.range(ordered).await.unwrap()), ["d", "c"]);
}

#[tokio::test]
async fn b021_invalid_sort_option() {
    let server = server().await;
    INVALID_SORT_OPTION.check(
        server
            .client
            .range(RangeRequest {
                sort_order: 9,
                ..get("a")
            })
            .await,
    );
    INVALID_SORT_OPTION.check(
        server
            .client
            .range(RangeRequest {
                sort_target: 9,
                ..get("a")
            })
            .await,
    );
}

#[tokio::test]
async fn b021_revision_filters() {
    let server = server().await;
    let client = &server.client;
    let base = client.revision().await.unwrap();
    for key in ["a", "b", "c", "a"] {
        client.put(key, "v").await.unwrap();
    }
    // Created at 1, 2, 3; last changed at 4, 2, 3 (above base).
    let all = || range(ZERO, ZERO);
    let cases = [
        (
            RangeRequest {
                min_mod_revision: base + 3,
                ..all()
            },
            vec!["a", "c"],
        ),
        (
            RangeRequest {
                max_mod_revision: base + 3,
                ..all()
            },
            vec!["b", "c"],
        ),
        (
            RangeRequest {
                min_create_revision: base + 2,
                ..all()
            },
            vec!["b", "c"],
        ),
        (
            RangeRequest {
                max_create_revision: base + 1,
                ..all()
            },
            vec!["a"],
        ),
        (
            RangeRequest {
                min_mod_revision: base + 3,
                max_mod_revision: base + 3,
                ..all()
            },
            vec!["c"],
        ),
    ];
    for (request, expected) in cases {
        let answer = client.range(request.clone()).await.unwrap();
        assert_eq!(keys(&answer), expected, "{request:?}");
        assert_eq!(answer.count, 3, "count ignores filters: {request:?}");
    }
}

#[tokio::test]
async fn b024_header_revision_is_current() {
    let server = server().await;
    let client = &server.client;
    let first = client.put("k", "1").await.unwrap().header.unwrap().revision;
    client.put("k", "2").await.unwrap();
    let last = client
        .put("other", "3")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let old = client
        .range(RangeRequest {
            revision: first,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!(
        (&old.kvs[0].value[..], old.header.unwrap().revision),
        (&b"1"[..], last)
    );
    let none = client.get("missing").await.unwrap();
    assert_eq!(none.header.unwrap().revision, last);
    let deleted = client.delete(delete("missing")).await.unwrap();
    assert_eq!(deleted.header.unwrap().revision, last);
}

#[tokio::test]
async fn b025_future_revision() {
    let server = server().await;
    let client = &server.client;
    let now = client.put("k", "v").await.unwrap().header.unwrap().revision;
    client
        .range(RangeRequest {
            revision: now,
            ..get("k")
        })
        .await
        .unwrap();
    FUTURE_REVISION.check(
        client
            .range(RangeRequest {
                revision: now + 1,
                ..get("k")
            })
            .await,
    );
    let serializable = RangeRequest {
        revision: now + 1,
        serializable: true,
        ..get("k")
    };
    FUTURE_REVISION.check(client.range(serializable).await);
}

#[tokio::test]
async fn b026_compacted_revision() {
    let server = server().await;
    let client = &server.client;
    let first = client.put("k", "1").await.unwrap().header.unwrap().revision;
    let second = client.put("k", "2").await.unwrap().header.unwrap().revision;
    client.put("k", "3").await.unwrap();
    client.compact(second).await.unwrap();
    COMPACTED.check(
        client
            .range(RangeRequest {
                revision: first,
                ..get("k")
            })
            .await,
    );
    COMPACTED.check(
        client
            .range(RangeRequest {
                revision: first,
                count_only: true,
                ..get("k")
            })
            .await,
    );
    let kept = client
        .range(RangeRequest {
            revision: second,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!(&kept.kvs[0].value[..], b"2");
}

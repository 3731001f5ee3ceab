//! DeleteRange and Compact.

use etcd_e2e::client::{ZERO, delete, delete_range, get, put, range};
use etcd_e2e::errors::{COMPACTED, FUTURE_REVISION};
use etcd_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};

use crate::pool::server;

#[tokio::test]
async fn b027_delete_range() {
    let server = server().await;
    let client = &server.client;
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        client.put(key, value).await.unwrap();
    }
    let before = client.revision().await.unwrap();

    let some = client
        .delete(DeleteRangeRequest {
            prev_kv: true,
            ..delete_range("b", "d")
        })
        .await
        .unwrap();
    assert_eq!(
        (some.deleted, some.header.unwrap().revision),
        (2, before + 1)
    );
    let previous: Vec<_> = some
        .prev_kvs
        .iter()
        .map(|kv| (&kv.key[..], &kv.value[..]))
        .collect();
    assert_eq!(previous, [(&b"b"[..], &b"2"[..]), (b"c", b"3")]);

    for request in [
        delete_range("b", "d"),
        delete("b"),
        delete_range("d", "a"),
        delete_range("a", "a"),
    ] {
        let none = client
            .delete(DeleteRangeRequest {
                prev_kv: true,
                ..request.clone()
            })
            .await
            .unwrap();
        assert_eq!(
            (none.deleted, none.header.unwrap().revision),
            (0, before + 1),
            "{request:?}"
        );
        assert_eq!(none.prev_kvs, []);
    }

    let rest = client.delete(delete_range("a", ZERO)).await.unwrap();
    assert_eq!((rest.deleted, rest.prev_kvs.len()), (2, 0));
    assert_eq!(client.range(range(ZERO, ZERO)).await.unwrap().count, 0);
}

#[tokio::test]
async fn b028_delete_then_put() {
    let server = server().await;
    let client = &server.client;
    client.put("k", "1").await.unwrap();
    client.put("k", "2").await.unwrap();
    let deleted = client
        .delete(delete("k"))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let created = client.put("k", "3").await.unwrap().header.unwrap().revision;
    let kv = client.get("k").await.unwrap().kvs.remove(0);
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (created, created, 1)
    );
    assert_eq!(
        client
            .range(RangeRequest {
                revision: deleted,
                ..get("k")
            })
            .await
            .unwrap()
            .count,
        0
    );
    let before = client
        .range(RangeRequest {
            revision: deleted - 1,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!(
        (&before.kvs[0].value[..], before.kvs[0].version),
        (&b"2"[..], 2)
    );
}

#[tokio::test]
async fn b029_compact_at_the_current_revision() {
    let server = server().await;
    let client = &server.client;
    for number in 0..5 {
        client.put("k", format!("{number}")).await.unwrap();
        client.put("gone", format!("{number}")).await.unwrap();
    }
    client.delete(delete("gone")).await.unwrap();
    let revision = client.revision().await.unwrap();
    let answer = client.compact(revision).await.unwrap();
    assert_eq!(answer.header.unwrap().revision, revision);
    for serializable in [false, true] {
        for at in [0, revision] {
            let live = RangeRequest {
                serializable,
                revision: at,
                ..range(ZERO, ZERO)
            };
            let answer = client.range(live).await.unwrap();
            assert_eq!(
                (
                    answer.count,
                    &answer.kvs[0].value[..],
                    answer.kvs[0].version
                ),
                (1, &b"4"[..], 5)
            );
        }
        let old = RangeRequest {
            serializable,
            revision: revision - 1,
            ..get("k")
        };
        COMPACTED.check(client.range(old).await);
    }
    // Versions go on where they were.
    let put = client
        .put_with(PutRequest {
            prev_kv: true,
            ..put("k", "5")
        })
        .await
        .unwrap();
    assert_eq!(put.prev_kv.unwrap().version, 5);
    assert_eq!(client.get("k").await.unwrap().kvs[0].version, 6);
}

#[tokio::test]
async fn b030_compact_twice_and_ahead() {
    let server = server().await;
    let client = &server.client;
    for number in 0..5 {
        client.put("k", format!("{number}")).await.unwrap();
    }
    let revision = client.revision().await.unwrap();
    FUTURE_REVISION.check(client.compact(revision + 1).await);
    client.compact(revision - 1).await.unwrap();
    COMPACTED.check(client.compact(revision - 1).await);
    COMPACTED.check(client.compact(revision - 2).await);
    let lazily = CompactionRequest {
        revision,
        physical: false,
    };
    client.kv().compact(lazily).await.unwrap();
    COMPACTED.check(client.kv().compact(lazily).await);
    for revision in [0, -1] {
        COMPACTED.check(client.compact(revision).await);
    }
}

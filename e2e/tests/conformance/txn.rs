//! Transactions: comparisons, branches, effects.

use std::time::Duration;

use etcd_e2e::client::{ZERO, delete, delete_range, get, op, prefix, put, range};
use etcd_e2e::compare::{
    Equal, Greater, Less, NotEqual, create_revision, lease, mod_revision, over, txn, value, version,
};
use etcd_e2e::errors::{COMPACTED, FUTURE_REVISION};
use etcd_e2e::{Client, Options};
use etcd_proto::etcdserverpb::response_op::Response;
use etcd_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse, ResponseOp, TxnResponse};

use crate::pool::{fresh, server, three};

fn ranged(response: &ResponseOp) -> &RangeResponse {
    match &response.response {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("no range: {other:?}"),
    }
}

fn nested(response: &ResponseOp) -> &TxnResponse {
    match &response.response {
        Some(Response::ResponseTxn(txn)) => txn,
        other => panic!("no transaction: {other:?}"),
    }
}

#[tokio::test]
async fn b048_read_only_keeps_the_revision() {
    let server = server().await;
    let client = &server.client;
    let before = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let answer = client
        .txn(txn([version("k", Greater, 0)], [op(get("k"))], []))
        .await
        .unwrap();
    assert!(answer.succeeded);
    assert_eq!(answer.header.unwrap().revision, before);
    let read = ranged(&answer.responses[0]);
    assert_eq!(
        (&read.kvs[0].value[..], read.header.unwrap().revision),
        (&b"v"[..], before)
    );
    let serializable = RangeRequest {
        serializable: true,
        ..get("k")
    };
    let answer = client.txn(txn([], [op(serializable)], [])).await.unwrap();
    assert_eq!(answer.header.unwrap().revision, before);
    assert_eq!(client.revision().await.unwrap(), before);
}

#[tokio::test]
async fn b049_deleting_nothing_keeps_the_revision() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    let answer = client
        .txn(txn([], [op(delete("missing"))], []))
        .await
        .unwrap();
    assert_eq!(answer.header.unwrap().revision, before);
    assert_eq!(client.revision().await.unwrap(), before);
}

#[tokio::test]
async fn b050_one_revision_for_all() {
    let server = server().await;
    let client = &server.client;
    client.put("d", "v").await.unwrap();
    let before = client.revision().await.unwrap();
    let ops = [
        op(put("a", "1")),
        op(put("b", "2")),
        op(delete("d")),
        op(put("c", "3")),
    ];
    let answer = client.txn(txn([], ops, [])).await.unwrap();
    assert_eq!(answer.header.unwrap().revision, before + 1);
    assert_eq!(client.revision().await.unwrap(), before + 1);
    let kvs = client.range(range(ZERO, ZERO)).await.unwrap().kvs;
    assert_eq!(
        kvs.iter()
            .map(|kv| (&kv.key[..], kv.mod_revision))
            .collect::<Vec<_>>(),
        [
            (&b"a"[..], before + 1),
            (b"b", before + 1),
            (b"c", before + 1)
        ]
    );
}

#[tokio::test]
async fn b051_failure_branch() {
    let server = server().await;
    let client = &server.client;
    let before = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let no = client
        .txn(txn(
            [value("k", Equal, "w")],
            [op(put("k", "x"))],
            [op(get("k"))],
        ))
        .await
        .unwrap();
    assert!(!no.succeeded);
    assert_eq!(no.header.unwrap().revision, before);
    assert_eq!(&ranged(&no.responses[0]).kvs[0].value[..], b"v");
    let empty = client
        .txn(txn([value("k", Equal, "w")], [op(put("k", "x"))], []))
        .await
        .unwrap();
    assert_eq!((empty.succeeded, empty.responses.len()), (false, 0));
    assert_eq!(empty.header.unwrap().revision, before);
    // Every comparison must hold.
    let both = [value("k", Equal, "v"), version("k", Equal, 2)];
    let one_of_two = client
        .txn(txn(both, [], [op(put("k", "y"))]))
        .await
        .unwrap();
    assert!(!one_of_two.succeeded);
    assert_eq!(one_of_two.header.unwrap().revision, before + 1);
    assert_eq!(&client.get("k").await.unwrap().kvs[0].value[..], b"y");
}

#[tokio::test]
async fn b052_range_compare() {
    let server = server().await;
    let client = &server.client;
    for (key, text) in [("c/a", "1"), ("c/b", "1"), ("c/c", "2")] {
        client.put(key, text).await.unwrap();
    }
    let holds = async |compare| client.txn(txn([compare], [], [])).await.unwrap().succeeded;
    assert!(holds(over(value("c/a", Equal, "1"), "c/c")).await);
    assert!(!holds(over(value("c/", Equal, "1"), "c0")).await);
    assert!(holds(over(version("c/", Equal, 1), "c0")).await);
    assert!(!holds(over(create_revision("c/", Equal, 0), "c0")).await);
    assert!(holds(over(mod_revision("c/", Greater, 0), "c0")).await);
    // No key in the range: a value cannot match, all else compares with 0.
    assert!(!holds(over(value("none/", Equal, ""), "none0")).await);
    assert!(!holds(over(value("none/", NotEqual, "x"), "none0")).await);
    assert!(holds(over(version("none/", Equal, 0), "none0")).await);
    assert!(!holds(over(version("none/", Greater, 0), "none0")).await);
    assert!(holds(over(version("a", Less, 2), ZERO)).await);
}

#[tokio::test]
async fn b052_every_comparison() {
    let server = server().await;
    let client = &server.client;
    let revision = client.put("k", "m").await.unwrap().header.unwrap().revision;
    let holds = async |compare| client.txn(txn([compare], [], [])).await.unwrap().succeeded;
    for (result, below, same, above) in [
        (Equal, false, true, false),
        (NotEqual, true, false, true),
        (Greater, true, false, false),
        (Less, false, false, true),
    ] {
        for (given, expected) in [(-1, below), (0, same), (1, above)] {
            let text = [b"l", b"m", b"n"][usize::try_from(given + 1).unwrap()];
            let what = format!("{result:?} {given}");
            assert_eq!(
                holds(value("k", result, text)).await,
                expected,
                "value {what}"
            );
            assert_eq!(
                holds(version("k", result, 1 + given)).await,
                expected,
                "version {what}"
            );
            assert_eq!(
                holds(mod_revision("k", result, revision + given)).await,
                expected,
                "mod {what}"
            );
            assert_eq!(
                holds(create_revision("k", result, revision + given)).await,
                expected,
                "create {what}"
            );
        }
    }
}

#[tokio::test]
async fn b054_missing_key() {
    let server = server().await;
    let client = &server.client;
    let holds = async |compare| client.txn(txn([compare], [], [])).await.unwrap().succeeded;
    assert!(holds(version("missing", Equal, 0)).await);
    assert!(holds(create_revision("missing", Equal, 0)).await);
    assert!(holds(mod_revision("missing", Equal, 0)).await);
    assert!(holds(lease("missing", Equal, 0)).await);
    assert!(!holds(version("missing", Greater, 0)).await);
    assert!(!holds(value("missing", Equal, "")).await);
    assert!(!holds(value("missing", NotEqual, "")).await);
    // A comparison without a value compares with 0.
    let mut unset = version("missing", Equal, 0);
    unset.target_union = None;
    assert!(holds(unset).await);
}

#[tokio::test]
async fn b055_lease_compare() {
    let server = server().await;
    let client = &server.client;
    let id = client.grant(60, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease: id,
            ..put("k", "v")
        })
        .await
        .unwrap();
    client.put("free", "v").await.unwrap();
    let holds = async |compare| client.txn(txn([compare], [], [])).await.unwrap().succeeded;
    assert!(holds(lease("k", Equal, id)).await);
    assert!(!holds(lease("k", Equal, 0)).await);
    assert!(holds(lease("k", NotEqual, 0)).await);
    assert!(holds(lease("free", Equal, 0)).await);
}

#[tokio::test]
async fn b056_nested() {
    let server = server().await;
    let client = &server.client;
    let before = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let inner = txn(
        [value("k", Equal, "v")],
        [op(put("yes", "1")), op(get("k"))],
        [op(put("no", "1"))],
    );
    let other = txn(
        [value("k", Equal, "w")],
        [op(put("neither", "1"))],
        [op(delete_range("none", "nonf"))],
    );
    let answer = client
        .txn(txn([], [op(put("k", "w")), op(inner), op(other)], []))
        .await
        .unwrap();
    assert_eq!(answer.header.unwrap().revision, before + 1);
    assert_eq!(answer.responses.len(), 3);
    // All comparisons see the store as it was before, all reads see the writes before them.
    let first = nested(&answer.responses[1]);
    assert!(first.succeeded);
    assert_eq!(first.responses.len(), 2);
    assert_eq!(&ranged(&first.responses[1]).kvs[0].value[..], b"w");
    let second = nested(&answer.responses[2]);
    assert!(!second.succeeded);
    assert_eq!(second.header.unwrap_or_default(), Default::default());
    assert_eq!(client.get("yes").await.unwrap().count, 1);
    assert_eq!(client.get("no").await.unwrap().count, 0);
    assert_eq!(client.get("neither").await.unwrap().count, 0);
}

#[tokio::test]
async fn b058_compacted_range_applies_nothing_anywhere() {
    let mut cluster = three().await;
    let clients = cluster.clients();
    let client = &clients[0];
    let old = client.put("k", "1").await.unwrap().header.unwrap().revision;
    client.put("k", "2").await.unwrap();
    let now = client.put("k", "3").await.unwrap().header.unwrap().revision;
    client.compact(now).await.unwrap();
    let bad = |revision| RangeRequest {
        revision,
        ..get("k")
    };
    COMPACTED.check(
        client
            .txn(txn([], [op(put("x", "v")), op(bad(old))], []))
            .await,
    );
    COMPACTED.check(
        client
            .txn(txn(
                [version("k", Equal, 0)],
                [],
                [op(bad(old)), op(put("x", "v"))],
            ))
            .await,
    );
    COMPACTED.check(client.txn(txn([], [op(bad(old))], [])).await);
    FUTURE_REVISION.check(
        client
            .txn(txn([], [op(put("x", "v")), op(bad(now + 100))], []))
            .await,
    );
    FUTURE_REVISION.check(client.txn(txn([], [op(bad(now + 100))], [])).await);
    let inner = txn([], [op(put("y", "v")), op(bad(old))], []);
    COMPACTED.check(
        client
            .txn(txn([], [op(put("x", "v")), op(inner)], []))
            .await,
    );
    // The branch not taken is not looked at.
    let taken = client
        .txn(txn([], [op(put("z", "v"))], [op(bad(old))]))
        .await
        .unwrap();
    assert_eq!(taken.header.unwrap().revision, now + 1);
    cluster.equal().await;
    for client in &clients {
        for key in ["x", "y"] {
            let local = client
                .range(RangeRequest {
                    serializable: true,
                    ..get(key)
                })
                .await
                .unwrap();
            assert_eq!((local.count, local.header.unwrap().revision), (0, now + 1));
        }
    }
}

#[tokio::test]
async fn b059_reads_see_earlier_writes() {
    let server = server().await;
    let client = &server.client;
    client.put("t/a", "old").await.unwrap();
    client.put("t/c", "old").await.unwrap();
    let before = client.revision().await.unwrap();
    let past = RangeRequest {
        revision: before,
        ..prefix("t/")
    };
    let ops = [
        op(put("t/a", "new")),
        op(put("t/b", "new")),
        op(prefix("t/")),
        op(past),
        op(delete_range("t/c", "t/d")),
        op(prefix("t/")),
    ];
    let answer = client.txn(txn([], ops, [])).await.unwrap();
    let seen = ranged(&answer.responses[2]);
    assert_eq!(
        (seen.count, &seen.kvs[0].value[..], seen.kvs[0].version),
        (3, &b"new"[..], 2)
    );
    assert_eq!(seen.kvs[1].mod_revision, before + 1);
    let old = ranged(&answer.responses[3]);
    assert_eq!((old.count, &old.kvs[0].value[..]), (2, &b"old"[..]));
    let last = ranged(&answer.responses[5]);
    assert_eq!(
        (last.count, &last.kvs[0].key[..], &last.kvs[1].key[..]),
        (2, &b"t/a"[..], &b"t/b"[..])
    );
}

#[tokio::test]
async fn b060_failed_txn_on_a_stopped_member_leaves_no_key() {
    let (mut server, client) = fresh(Options::single()).await;
    client.put("k", "v").await.unwrap();
    server.kill();
    let request = txn([version("k", Greater, 0)], [op(put("left", "v"))], []);
    let failed = tokio::time::timeout(Duration::from_secs(5), client.txn(request)).await;
    assert!(!matches!(failed, Ok(Ok(_))), "{failed:?}");
    server.spawn().unwrap();
    server.ready().await.unwrap();
    assert_eq!(server.client().get("left").await.unwrap().count, 0);
}

/// Adds one to a counter the optimistic way; returns how often it had to begin again.
async fn increment(client: &Client, key: &str) -> usize {
    let mut retries = 0;
    loop {
        let read = client.get(key).await.unwrap();
        let (number, revision) = match read.kvs.first() {
            Some(kv) => (
                std::str::from_utf8(&kv.value)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap(),
                kv.mod_revision,
            ),
            None => (0, 0),
        };
        let next = put(key, (number + 1).to_string());
        if client
            .txn(txn([mod_revision(key, Equal, revision)], [op(next)], []))
            .await
            .unwrap()
            .succeeded
        {
            return retries;
        }
        retries += 1;
    }
}

#[tokio::test]
async fn b061_optimistic_transactions() {
    let server = server().await;
    let client = &server.client;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut retries = 0;
                for _ in 0..10 {
                    retries += increment(&client, "counter").await;
                }
                retries
            })
        })
        .collect();
    let mut retries = 0;
    for task in tasks {
        retries += task.await.unwrap();
    }
    let counter = client.get("counter").await.unwrap().kvs.remove(0);
    assert_eq!((&counter.value[..], counter.version), (&b"80"[..], 80));
    assert!(retries > 0, "eight at once never met");
}

#[tokio::test]
async fn b061_serializable_snapshot() {
    let server = server().await;
    let client = &server.client;
    client.put("x", "1").await.unwrap();
    client.put("y", "1").await.unwrap();
    // Both were read at one revision; another writes one of them before the commit.
    let snapshot = client.get("x").await.unwrap();
    let at = snapshot.header.unwrap().revision;
    let y = client
        .range(RangeRequest {
            revision: at,
            ..get("y")
        })
        .await
        .unwrap();
    client.put("y", "2").await.unwrap();
    let unchanged = |read: &RangeResponse| {
        let kv = &read.kvs[0];
        mod_revision(&kv.key, Equal, kv.mod_revision)
    };
    let commit = txn(
        [unchanged(&snapshot), unchanged(&y)],
        [op(put("x", "3")), op(put("y", "3"))],
        [],
    );
    let before = client.revision().await.unwrap();
    let answer = client.txn(commit).await.unwrap();
    assert!(!answer.succeeded);
    assert_eq!(answer.header.unwrap().revision, before);
    assert_eq!(&client.get("x").await.unwrap().kvs[0].value[..], b"1");
    assert_eq!(&client.get("y").await.unwrap().kvs[0].value[..], b"2");
}

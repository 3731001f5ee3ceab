//! Transactions that are refused before they are proposed.

use etcd_e2e::Options;
use etcd_e2e::client::{ZERO, delete, delete_range, get, op, put, range};
use etcd_e2e::compare::{Equal, txn, version};
use etcd_e2e::errors::{
    DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, REQUEST_TOO_LARGE, TOO_MANY_OPS, VALUE_PROVIDED,
};
use etcd_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

use crate::pool::{fresh, server};

fn puts(count: usize) -> Vec<RequestOp> {
    (0..count)
        .map(|number| op(put(format!("n/{number}"), "v")))
        .collect()
}

fn gets(count: usize) -> Vec<RequestOp> {
    (0..count)
        .map(|number| op(get(format!("n/{number}"))))
        .collect()
}

#[tokio::test]
async fn b042_too_many_operations() {
    let server = server().await;
    let client = &server.client;
    let compares = |count: usize| vec![version("k", Equal, 0); count];
    client
        .txn(txn(compares(128), puts(128), gets(128)))
        .await
        .unwrap();
    TOO_MANY_OPS.check(client.txn(txn(compares(129), [], [])).await);
    TOO_MANY_OPS.check(client.txn(txn([], puts(129), [])).await);
    TOO_MANY_OPS.check(client.txn(txn([], [], puts(129))).await);
    // A nested transaction gets what its parent left.
    let nest = |outer: usize, inner: usize| {
        let mut ops = gets(outer - 1);
        ops.push(op(txn([], puts(inner), [])));
        txn([], ops, [])
    };
    client.txn(nest(28, 100)).await.unwrap();
    TOO_MANY_OPS.check(client.txn(nest(28, 101)).await);
    TOO_MANY_OPS.check(
        client
            .txn(txn([], [], [op(txn([], [], [op(txn([], puts(127), []))]))]))
            .await,
    );
}

#[tokio::test]
async fn b042_raised_limit() {
    let (_server, client) = fresh(Options::single().args(["--max-txn-ops=200"])).await;
    client.txn(txn([], puts(200), [])).await.unwrap();
    TOO_MANY_OPS.check(client.txn(txn([], puts(201), [])).await);
}

#[tokio::test]
async fn b042_bad_operations() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    EMPTY_KEY.check(client.txn(txn([version("", Equal, 0)], [], [])).await);
    EMPTY_KEY.check(client.txn(txn([], [op(put("", "v"))], [])).await);
    EMPTY_KEY.check(client.txn(txn([], [], [op(get(""))])).await);
    EMPTY_KEY.check(
        client
            .txn(txn([], [op(txn([], [op(delete(""))], []))], []))
            .await,
    );
    let ignored = PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    VALUE_PROVIDED.check(client.txn(txn([], [op(ignored)], [])).await);
    KEY_NOT_FOUND.check(client.txn(txn([], [RequestOp::default()], [])).await);
    // What only the apply can see: nothing of it is done.
    let absent = PutRequest {
        ignore_value: true,
        ..put("absent", "")
    };
    KEY_NOT_FOUND.check(
        client
            .txn(txn([], [op(put("x", "v")), op(absent)], []))
            .await,
    );
    REQUEST_TOO_LARGE.check(
        client
            .txn(txn([], [op(put("x", vec![b'v'; 1536 << 10]))], []))
            .await,
    );
    assert_eq!(client.get("x").await.unwrap().count, 0);
    assert_eq!(client.revision().await.unwrap(), before);
}

#[tokio::test]
async fn b043_put_twice() {
    let server = server().await;
    let client = &server.client;
    DUPLICATE_KEY.check(
        client
            .txn(txn([], [op(put("k", "1")), op(put("k", "2"))], []))
            .await,
    );
    DUPLICATE_KEY.check(
        client
            .txn(txn(
                [],
                [],
                [op(put("k", "1")), op(get("k")), op(put("k", "2"))],
            ))
            .await,
    );
    // In branches that exclude each other it is no duplicate.
    client
        .txn(txn([], [op(put("k", "1"))], [op(put("k", "2"))]))
        .await
        .unwrap();
}

#[tokio::test]
async fn b044_put_and_delete() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    for deletion in [delete("k"), delete_range("a", "z"), delete_range("k", "l")] {
        for ops in [
            [op(put("k", "1")), op(deletion.clone())],
            [op(deletion.clone()), op(put("k", "1"))],
        ] {
            DUPLICATE_KEY.check(client.txn(txn([], ops, [])).await);
        }
    }
    assert_eq!(client.revision().await.unwrap(), before);
    for deletion in [
        delete("j"),
        delete_range("a", "k"),
        delete_range("k\0", ZERO),
    ] {
        client
            .txn(txn([], [op(put("k", "1")), op(deletion)], []))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn b044_deletion_without_end_is_not_checked() {
    let server = server().await;
    let client = &server.client;
    // The check takes the end `\0` as it is written: as before every key.
    for deletion in [delete_range("k", ZERO), delete_range(ZERO, ZERO)] {
        client
            .txn(txn([], [op(put("k", "1")), op(deletion.clone())], []))
            .await
            .unwrap();
        assert_eq!(client.get("k").await.unwrap().count, 0, "{deletion:?}");
        client
            .txn(txn([], [op(deletion.clone()), op(put("k", "1"))], []))
            .await
            .unwrap();
        assert_eq!(client.get("k").await.unwrap().count, 1, "{deletion:?}");
    }
}

#[tokio::test]
async fn b045_deletions_may_overlap() {
    let server = server().await;
    let client = &server.client;
    for key in ["a", "b", "c"] {
        client.put(key, "v").await.unwrap();
    }
    let before = client.revision().await.unwrap();
    let ops = [
        op(delete_range("a", "c")),
        op(delete_range("b", "d")),
        op(delete("a")),
    ];
    let answer = client.txn(txn([], ops, [])).await.unwrap();
    assert_eq!(answer.header.unwrap().revision, before + 1);
    assert_eq!(client.range(range(ZERO, ZERO)).await.unwrap().count, 0);
}

#[tokio::test]
async fn b047_nested_duplicates() {
    let server = server().await;
    let client = &server.client;
    let then = |ops: Vec<RequestOp>| op(txn([], ops, []));
    let otherwise = |ops: Vec<RequestOp>| {
        op(TxnRequest {
            failure: ops,
            ..TxnRequest::default()
        })
    };
    let k = || op(put("k", "v"));
    let gone = || op(delete_range("a", "z"));
    let refused = [
        vec![k(), then(vec![k()])],
        vec![k(), otherwise(vec![k()])],
        vec![then(vec![k()]), otherwise(vec![k()])],
        vec![then(vec![k()]), then(vec![k()])],
        vec![then(vec![then(vec![k(), k()])])],
        vec![then(vec![otherwise(vec![k()])]), k()],
        vec![gone(), then(vec![k()])],
        vec![gone(), otherwise(vec![k()])],
        vec![k(), then(vec![gone()])],
        vec![k(), otherwise(vec![gone()])],
        vec![then(vec![gone()]), k()],
        vec![then(vec![k()]), gone()],
    ];
    for (number, ops) in refused.into_iter().enumerate() {
        let success = client.txn(txn([], ops.clone(), [])).await;
        assert!(
            matches!(&success, Err(status) if DUPLICATE_KEY.matches(status)),
            "{number}: {success:?}"
        );
        let failure = client.txn(txn([], [], ops)).await;
        assert!(
            matches!(&failure, Err(status) if DUPLICATE_KEY.matches(status)),
            "{number}: {failure:?}"
        );
    }
    let both = op(txn([], [k()], [k()]));
    client
        .txn(txn([], [both, op(put("other", "v"))], []))
        .await
        .unwrap();
    let accepted = vec![then(vec![gone()]), then(vec![gone()]), op(delete("k"))];
    client.txn(txn([], accepted, [])).await.unwrap();
}

//! Requests that must not reach the log.

use etcd_e2e::client::{op, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::{DUPLICATE_KEY, EMPTY_KEY, REQUEST_TOO_LARGE, TOO_MANY_OPS};
use etcd_e2e::{Options, Process, eventually, http};
use etcd_proto::etcdserverpb::{RequestOp, TxnRequest};

fn nested(mut inner: Vec<RequestOp>, depth: usize) -> TxnRequest {
    for _ in 0..depth {
        inner = vec![op(TxnRequest {
            success: inner,
            ..TxnRequest::default()
        })];
    }
    TxnRequest {
        success: inner,
        ..TxnRequest::default()
    }
}

#[tokio::test]
async fn s33_what_is_refused_never_enters_the_log() {
    let server = Process::start(Options::single()).await.unwrap();
    let client = server.client();
    client.put("k", "v").await.unwrap();
    // The cluster's version is the last thing a new cluster agrees on by itself.
    let version = format!("{}/version", server.client_url());
    eventually(AGREES_WITHIN, "the cluster's version", async || {
        let (_, body) = http::get(&version).await.map_err(|e| e.to_string())?;
        if body.contains(r#""etcdcluster":"3.7.0""#) {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    let before = client.status().await.unwrap();

    let large = vec![b'v'; 1_600_000];
    REQUEST_TOO_LARGE.check(client.put("k", &large).await);
    let txn = async |request| client.kv().txn(request).await;
    for depth in [1, 3, 20] {
        REQUEST_TOO_LARGE.check(txn(nested(vec![op(put("k", &large))], depth)).await);
        let many = (0..129).map(|n| op(put(format!("k/{n}"), "v"))).collect();
        TOO_MANY_OPS.check(txn(nested(many, depth)).await);
        let twice = vec![op(put("k", "a")), op(put("k", "b"))];
        DUPLICATE_KEY.check(txn(nested(twice, depth)).await);
        EMPTY_KEY.check(txn(nested(vec![op(put("", "v"))], depth)).await);
    }
    // Deeper than a decoder follows.
    let deep = txn(nested(vec![op(put("k", "v"))], 1000)).await;
    assert!(deep.is_err());

    let after = client.status().await.unwrap();
    assert_eq!(after.raft_index, before.raft_index);
    assert_eq!(after.raft_applied_index, before.raft_applied_index);
    assert_eq!(client.get("k").await.unwrap().kvs[0].value, "v");
}

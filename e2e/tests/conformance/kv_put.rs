//! Put.

use bytes::Bytes;
use etcd_e2e::Options;
use etcd_e2e::client::{ZERO, delete, delete_range, get, put, range};
use etcd_e2e::errors::{
    EMPTY_KEY, KEY_NOT_FOUND, LEASE_NOT_FOUND, LEASE_PROVIDED, NO_SPACE, REQUEST_TOO_LARGE,
    VALUE_PROVIDED,
};
use etcd_proto::etcdserverpb::PutRequest;
use tonic::Code;

use crate::pool::{fresh, server};

#[tokio::test]
async fn b001_put_overwrites() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();

    let first = client
        .put_with(PutRequest {
            prev_kv: true,
            ..put("k", "1")
        })
        .await
        .unwrap();
    assert_eq!(first.header.unwrap().revision, before + 1);
    assert_eq!(first.prev_kv, None);

    let second = client
        .put_with(PutRequest {
            prev_kv: true,
            ..put("k", "2")
        })
        .await
        .unwrap();
    assert_eq!(second.header.unwrap().revision, before + 2);
    let previous = second.prev_kv.unwrap();
    assert_eq!(
        (&previous.key[..], &previous.value[..]),
        (&b"k"[..], &b"1"[..])
    );
    assert_eq!(
        (
            previous.create_revision,
            previous.mod_revision,
            previous.version
        ),
        (before + 1, before + 1, 1)
    );

    let now = client.get("k").await.unwrap().kvs.remove(0);
    assert_eq!(
        (&now.value[..], now.create_revision, now.mod_revision),
        (&b"2"[..], before + 1, before + 2)
    );
    assert_eq!(now.version, 2);

    // Nothing is returned that was not asked for.
    let third = client.put("k", "3").await.unwrap();
    assert_eq!(third.prev_kv, None);
}

#[tokio::test]
async fn b001_header_names_cluster_member_and_term() {
    let server = server().await;
    let header = server.client.put("k", "v").await.unwrap().header.unwrap();
    assert_ne!((header.cluster_id, header.member_id), (0, 0));
    assert!(header.raft_term > 1, "{header:?}");
    let status = server.client.status().await.unwrap();
    let same = status.header.unwrap();
    assert_eq!(
        (same.cluster_id, same.member_id, same.raft_term),
        (header.cluster_id, header.member_id, header.raft_term)
    );
    assert_eq!(status.leader, header.member_id);
}

#[tokio::test]
async fn b002_empty_key() {
    let server = server().await;
    let client = &server.client;
    EMPTY_KEY.check(client.put("", "v").await);
    EMPTY_KEY.check(client.range(get("")).await);
    EMPTY_KEY.check(client.range(range("", ZERO)).await);
    EMPTY_KEY.check(client.delete(delete("")).await);
    EMPTY_KEY.check(client.delete(delete_range("", "z")).await);
}

#[tokio::test]
async fn b003_value_above_the_limit() {
    const LIMIT: usize = 1536 * 1024;
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    REQUEST_TOO_LARGE.check(client.put("k", vec![b'x'; LIMIT]).await);
    // Beyond the limit and the 512 KiB around it, the transport itself refuses.
    let refused = client
        .put("k", vec![b'x'; LIMIT + (512 << 10)])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(
        refused
            .message()
            .starts_with("grpc: received message larger than max ("),
        "{refused:?}"
    );
    // The connection is as good as before, and nothing was stored.
    assert_eq!(client.revision().await.unwrap(), before);
    assert_eq!(client.get("k").await.unwrap().count, 0);
    client.put("k", vec![b'x'; LIMIT - 1024]).await.unwrap();
}

#[tokio::test]
async fn b004_raised_request_limit() {
    let (_server, client) = fresh(Options::single().args(["--max-request-bytes=10485760"])).await;
    let value = Bytes::from(vec![b'x'; 9 << 20]);
    client.put("k", &value).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().kvs[0].value, value);
    REQUEST_TOO_LARGE.check(client.put("k", vec![b'x'; 10 << 20]).await);
}

#[tokio::test]
async fn b005_s34_over_quota() {
    let (_server, client) = fresh(Options::single().args(["--quota-backend-bytes=8388608"])).await;
    let value = vec![b'x'; 256 << 10];
    let mut refused = None;
    for number in 0..200 {
        if let Err(status) = client.put(format!("fill/{number}"), &value).await {
            refused = Some(status);
            break;
        }
    }
    NO_SPACE.is(&refused.expect("a quota of 8 MiB holds no 50 MiB"));
    // Small ones are refused as well, reads and deletions go on.
    NO_SPACE.check(client.put("small", "v").await);
    assert_eq!(client.get("fill/0").await.unwrap().count, 1);
    assert_eq!(client.delete(delete("fill/0")).await.unwrap().deleted, 1);
    NO_SPACE.check(client.put("small", "v").await);
}

#[tokio::test]
async fn b006_ignore_value_of_a_missing_key() {
    let server = server().await;
    KEY_NOT_FOUND.check(
        server
            .client
            .put_with(PutRequest {
                ignore_value: true,
                ..put("k", "")
            })
            .await,
    );
    assert_eq!(server.client.get("k").await.unwrap().count, 0);
}

#[tokio::test]
async fn b007_ignore_value_with_a_value() {
    let server = server().await;
    server.client.put("k", "v").await.unwrap();
    VALUE_PROVIDED.check(
        server
            .client
            .put_with(PutRequest {
                ignore_value: true,
                ..put("k", "w")
            })
            .await,
    );
    assert_eq!(
        &server.client.get("k").await.unwrap().kvs[0].value[..],
        b"v"
    );
}

#[tokio::test]
async fn b008_ignore_value_without_lease_detaches() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    client
        .put_with(PutRequest {
            ignore_value: true,
            ..put("k", "")
        })
        .await
        .unwrap();
    let kv = client.get("k").await.unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"v"[..], 0, 2));
    client.revoke(lease).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().count, 1);
}

#[tokio::test]
async fn b009_ignore_lease_of_a_missing_key() {
    let server = server().await;
    KEY_NOT_FOUND.check(
        server
            .client
            .put_with(PutRequest {
                ignore_lease: true,
                ..put("k", "v")
            })
            .await,
    );
    assert_eq!(server.client.get("k").await.unwrap().count, 0);
}

#[tokio::test]
async fn b010_ignore_lease_with_a_lease() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    client.put("k", "v").await.unwrap();
    LEASE_PROVIDED.check(
        client
            .put_with(PutRequest {
                ignore_lease: true,
                lease,
                ..put("k", "v")
            })
            .await,
    );
    // Without a lease it keeps the one that is attached.
    client
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    client
        .put_with(PutRequest {
            ignore_lease: true,
            ..put("k", "w")
        })
        .await
        .unwrap();
    let kv = client.get("k").await.unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.lease), (&b"w"[..], lease));
}

#[tokio::test]
async fn b011_unknown_lease() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    LEASE_NOT_FOUND.check(
        client
            .put_with(PutRequest {
                lease: 123_456,
                ..put("k", "v")
            })
            .await,
    );
    let answer = client.get("k").await.unwrap();
    assert_eq!((answer.count, answer.header.unwrap().revision), (0, before));
}

#[tokio::test]
async fn b013_put_again_without_lease_survives_revoke() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease,
            ..put("a", "v")
        })
        .await
        .unwrap();
    client
        .put_with(PutRequest {
            lease,
            ..put("b", "v")
        })
        .await
        .unwrap();
    client.put("a", "w").await.unwrap();
    client.revoke(lease).await.unwrap();
    let left = client.range(range(ZERO, ZERO)).await.unwrap();
    assert_eq!(
        left.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(),
        [b"a"]
    );
    assert_eq!(left.kvs[0].lease, 0);
}

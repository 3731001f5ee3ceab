//! Leases on one member.

use std::time::{Duration, Instant};

use etcd_e2e::client::{get, prefix, put};
use etcd_e2e::errors::{LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE};
use etcd_e2e::watch::{self, ANSWER_WITHIN};
use etcd_e2e::{Client, Options, eventually};
use etcd_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseLeasesRequest, PutRequest, RangeRequest,
};
use etcd_proto::mvccpb::event::EventType;

use crate::pool::{fresh, server};

/// Longer than any lease of these tests lives, with what a busy machine adds.
const GONE_WITHIN: Duration = Duration::from_secs(20);

async fn put_leased(client: &Client, key: &str, lease: i64) {
    client
        .put_with(PutRequest {
            lease,
            ..put(key, "v")
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn b062_server_chooses_the_id() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    let first = client.grant(60, 0).await.unwrap();
    let second = client.grant(60, 0).await.unwrap();
    assert!(
        first.id > 0 && second.id > 0 && first.id != second.id,
        "{first:?} {second:?}"
    );
    assert_eq!((first.ttl, first.error.as_str()), (60, ""));
    assert_eq!(first.header.unwrap().revision, before);
    let chosen = client.grant(60, 7_777).await.unwrap();
    assert_eq!(chosen.id, 7_777);
}

#[tokio::test]
async fn b063_duplicate_id() {
    let server = server().await;
    let client = &server.client;
    client.grant(60, 4_711).await.unwrap();
    LEASE_EXISTS.check(client.grant(60, 4_711).await);
    client.revoke(4_711).await.unwrap();
    client.grant(60, 4_711).await.unwrap();
}

#[tokio::test]
async fn b064_ttl_too_large() {
    let server = server().await;
    let client = &server.client;
    LEASE_TTL_TOO_LARGE.check(client.grant(9_000_000_001, 0).await);
    let most = client.grant(9_000_000_000, 0).await.unwrap();
    assert_eq!(most.ttl, 9_000_000_000);
}

#[tokio::test]
async fn b065_small_ttl_is_raised() {
    // 1.5 election timeouts in whole seconds, rounded up.
    for (heartbeat_ms, election_ms, least) in [(50, 500, 1), (100, 1000, 2), (200, 2000, 3)] {
        let (_server, client) = fresh(Options {
            heartbeat_ms,
            election_ms,
            ..Options::single()
        })
        .await;
        let granted = client.grant(1, 0).await.unwrap();
        assert_eq!(granted.ttl, least, "election timeout {election_ms} ms");
        let ttl = client.time_to_live(granted.id, false).await.unwrap();
        assert_eq!(ttl.granted_ttl, least);
        assert_eq!(client.grant(least + 1, 0).await.unwrap().ttl, least + 1);
    }
}

#[tokio::test]
async fn b065_ttl_of_zero_or_less_is_raised() {
    let server = server().await;
    for ttl in [0, -1] {
        assert_eq!(server.client.grant(ttl, 0).await.unwrap().ttl, 1);
    }
}

#[tokio::test]
async fn b067_revoke_deletes_in_one_revision() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    for key in ["l/c", "l/a", "l/b"] {
        put_leased(client, key, lease).await;
    }
    client.put("l/free", "v").await.unwrap();
    let before = client.revision().await.unwrap();
    let mut stream = client.watch();
    stream.create(watch::prefix("l/")).await;
    let revoked = client.revoke(lease).await.unwrap();
    assert_eq!(revoked.header.unwrap().revision, before + 1);
    let response = stream.next().await;
    let events: Vec<_> = response
        .events
        .iter()
        .map(|event| {
            (
                event.r#type(),
                &event.kv.as_ref().unwrap().key[..],
                event.kv.as_ref().unwrap().mod_revision,
            )
        })
        .collect();
    assert_eq!(
        events,
        [
            (EventType::Delete, &b"l/a"[..], before + 1),
            (EventType::Delete, b"l/b", before + 1),
            (EventType::Delete, b"l/c", before + 1)
        ]
    );
    assert_eq!(client.range(prefix("l/")).await.unwrap().count, 1);
    // A lease without keys changes no revision.
    let empty = client.grant(60, 0).await.unwrap().id;
    assert_eq!(
        client.revoke(empty).await.unwrap().header.unwrap().revision,
        before + 1
    );
}

#[tokio::test]
async fn b068_revoke_unknown_or_twice() {
    let server = server().await;
    let client = &server.client;
    LEASE_NOT_FOUND.check(client.revoke(424_242).await);
    let lease = client.grant(60, 0).await.unwrap().id;
    client.revoke(lease).await.unwrap();
    LEASE_NOT_FOUND.check(client.revoke(lease).await);
}

#[tokio::test]
async fn b069_expiry_deletes() {
    let server = server().await;
    let client = &server.client;
    let granted = client.grant(2, 0).await.unwrap();
    let start = Instant::now();
    put_leased(client, "e/a", granted.id).await;
    put_leased(client, "e/b", granted.id).await;
    let mut stream = client.watch();
    stream.create(watch::prefix("e/")).await;
    let events = stream.events(2).await;
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "after {:?}",
        start.elapsed()
    );
    assert!(
        events
            .iter()
            .all(|event| event.r#type() == EventType::Delete),
        "{events:?}"
    );
    let revisions: Vec<i64> = events
        .iter()
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert_eq!(revisions[0], revisions[1]);
    assert_eq!(client.range(prefix("e/")).await.unwrap().count, 0);
    assert_eq!(
        client.time_to_live(granted.id, false).await.unwrap().ttl,
        -1
    );
    LEASE_NOT_FOUND.check(
        client
            .put_with(PutRequest {
                lease: granted.id,
                ..put("e/c", "v")
            })
            .await,
    );
}

#[tokio::test]
async fn b070_keep_alive_extends() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(2, 0).await.unwrap().id;
    put_leased(client, "k", lease).await;
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    send.send(LeaseKeepAliveRequest { id: lease })
        .await
        .unwrap();
    let mut answers = client
        .lease()
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    let start = Instant::now();
    let mut renewals = 0;
    // Twice its time, so without renewals it would be gone.
    while start.elapsed() < Duration::from_secs(4) {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (lease, 2));
        renewals += 1;
        assert_eq!(
            client.get("k").await.unwrap().count,
            1,
            "after {:?}",
            start.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        send.send(LeaseKeepAliveRequest { id: lease })
            .await
            .unwrap();
    }
    assert!(renewals > 4);
    // The stream ends with its requests, and then the lease.
    drop(send);
    while answers.message().await.unwrap().is_some() {}
    eventually(GONE_WITHIN, "the lease ends", async || {
        match client
            .get("k")
            .await
            .map_err(|status| status.to_string())?
            .count
        {
            0 => Ok(()),
            _ => Err("the key is there".to_owned()),
        }
    })
    .await;
}

#[tokio::test]
async fn b071_keep_alive_of_an_unknown_lease() {
    let server = server().await;
    let answer = server.client.keep_alive(424_242).await.unwrap();
    assert_eq!((answer.id, answer.ttl), (424_242, 0));
}

#[tokio::test]
async fn b072_time_to_live_of_an_unknown_lease() {
    let server = server().await;
    let answer = server.client.time_to_live(424_242, true).await.unwrap();
    assert_eq!(
        (answer.id, answer.ttl, answer.granted_ttl),
        (424_242, -1, 0)
    );
    assert!(answer.keys.is_empty());
    assert_ne!(answer.header.unwrap().member_id, 0);
}

#[tokio::test]
async fn b073_time_to_live_lists_keys() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    for key in ["b", "a", "c"] {
        put_leased(client, key, lease).await;
    }
    let plain = client.time_to_live(lease, false).await.unwrap();
    assert_eq!((plain.granted_ttl, plain.keys.len()), (60, 0));
    assert!((55..=60).contains(&plain.ttl), "{plain:?}");
    let mut keys = client.time_to_live(lease, true).await.unwrap().keys;
    keys.sort();
    assert_eq!(keys, ["a", "b", "c"]);
    client.put("b", "free").await.unwrap();
    let mut keys = client.time_to_live(lease, true).await.unwrap().keys;
    keys.sort();
    assert_eq!(keys, ["a", "c"]);
}

#[tokio::test]
async fn b074_leases_lists_all() {
    let server = server().await;
    let client = &server.client;
    for (id, ttl) in [(11, 300), (12, 100), (13, 200)] {
        client.grant(ttl, id).await.unwrap();
    }
    let listed = async || {
        let answer = client
            .lease()
            .lease_leases(LeaseLeasesRequest {})
            .await
            .unwrap()
            .into_inner();
        answer
            .leases
            .iter()
            .map(|lease| lease.id)
            .collect::<Vec<_>>()
    };
    // The first to expire comes first.
    assert_eq!(listed().await, [12, 13, 11]);
    client.revoke(13).await.unwrap();
    assert_eq!(listed().await, [12, 11]);
}

#[tokio::test]
async fn b075_key_moved_to_another_lease() {
    let server = server().await;
    let client = &server.client;
    let first = client.grant(60, 0).await.unwrap().id;
    let second = client.grant(60, 0).await.unwrap().id;
    put_leased(client, "k", first).await;
    put_leased(client, "k", second).await;
    assert!(
        client
            .time_to_live(first, true)
            .await
            .unwrap()
            .keys
            .is_empty()
    );
    assert_eq!(client.time_to_live(second, true).await.unwrap().keys, ["k"]);
    client.revoke(first).await.unwrap();
    let kv = client.get("k").await.unwrap().kvs.remove(0);
    assert_eq!(kv.lease, second);
    client.revoke(second).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().count, 0);
}

#[tokio::test]
async fn b079_revoke_survives_restart() {
    let (mut server, client) = fresh(Options::single()).await;
    let kept = client.grant(600, 0).await.unwrap().id;
    let revoked = client.grant(600, 0).await.unwrap().id;
    put_leased(&client, "kept", kept).await;
    put_leased(&client, "revoked", revoked).await;
    client.revoke(revoked).await.unwrap();
    server.restart().await.unwrap();
    let client = server.client();
    let gone = client.time_to_live(revoked, true).await.unwrap();
    assert_eq!((gone.ttl, gone.keys.len()), (-1, 0));
    let still = client.time_to_live(kept, true).await.unwrap();
    assert_eq!(
        (still.granted_ttl, still.keys.as_slice()),
        (600, &["kept".into()][..])
    );
    assert_eq!(client.get("revoked").await.unwrap().count, 0);
    let kv = client.get("kept").await.unwrap().kvs.remove(0);
    assert_eq!(kv.lease, kept);
    client.revoke(kept).await.unwrap();
    assert_eq!(client.get("kept").await.unwrap().count, 0);
}

#[tokio::test]
async fn b079_expiry_goes_on_after_restart() {
    let (mut server, client) = fresh(Options::single()).await;
    let lease = client.grant(2, 0).await.unwrap().id;
    put_leased(&client, "k", lease).await;
    server.restart().await.unwrap();
    let client = server.client();
    eventually(GONE_WITHIN, "the lease ends", async || {
        match client
            .get("k")
            .await
            .map_err(|status| status.to_string())?
            .count
        {
            0 => Ok(()),
            _ => Err("the key is there".to_owned()),
        }
    })
    .await;
}

#[tokio::test]
async fn b069_history_of_an_expired_key() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(1, 0).await.unwrap().id;
    put_leased(client, "k", lease).await;
    let revision = client.revision().await.unwrap();
    let mut stream = client.watch();
    stream.create(watch::key("k")).await;
    let response = stream
        .try_next(ANSWER_WITHIN)
        .await
        .unwrap()
        .expect("an expiry");
    assert_eq!(response.events.len(), 1);
    let old = client
        .range(RangeRequest {
            revision,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!((old.count, old.kvs[0].lease), (1, lease));
}

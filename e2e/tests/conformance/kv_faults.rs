//! Key-value requests around restarts and lost quorums.

use std::time::Duration;

use etcd_e2e::client::{delete, get, prefix, put, require_leader};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::NO_LEADER;
use etcd_e2e::{Options, eventually};
use etcd_proto::etcdserverpb::RangeRequest;
use tonic::Code;

use crate::pool::{fresh, three};

#[tokio::test]
async fn b034_require_leader_without_quorum() {
    let mut cluster = three().await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    let client = cluster.members[0].client();
    eventually(
        AGREES_WITHIN,
        "the rest knows that there is no leader",
        async || {
            let leader = client
                .status()
                .await
                .map_err(|status| status.to_string())?
                .leader;
            if leader == 0 {
                Ok(())
            } else {
                Err(format!("{leader:x}"))
            }
        },
    )
    .await;
    NO_LEADER.check(client.kv().put(require_leader(put("k", "v"))).await);
    NO_LEADER.check(client.kv().range(require_leader(get("k"))).await);
    let status = client.status().await.unwrap();
    assert_eq!(status.errors, ["etcdserver: no leader"]);
}

#[tokio::test]
async fn b035_put_that_timed_out_applies_at_most_once() {
    let cluster = three().await;
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    for place in &others {
        cluster.members[*place].pause().unwrap();
    }
    let mut attempts = Vec::new();
    for number in 0..10 {
        let client = client.clone();
        attempts.push(async move {
            let mut request = tonic::Request::new(put(format!("once/{number}"), "v"));
            request.set_timeout(Duration::from_millis(200));
            client.kv().put(request).await
        });
    }
    for answer in futures::future::join_all(attempts).await {
        let status = answer.expect_err("nothing is acknowledged without a quorum");
        // The server's own deadline and the transport's run side by side.
        assert!(
            matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
            "{status:?}"
        );
    }
    for place in &others {
        cluster.members[*place].resume().unwrap();
    }
    let probe = eventually(AGREES_WITHIN, "a write after the pause", async || {
        client.put("probe", "v").await
    })
    .await;
    let found = client.range(prefix("once/")).await.unwrap();
    for kv in &found.kvs {
        assert_eq!(kv.version, 1, "{kv:?}");
        assert!(kv.mod_revision < probe.header.unwrap().revision);
    }
    // They stay as they are: nothing is tried again later.
    let again = client.range(prefix("once/")).await.unwrap();
    assert_eq!(again.kvs, found.kvs);
}

#[tokio::test]
async fn b035_put_to_a_stopped_member_is_not_sent() {
    let mut cluster = three().await;
    let place = cluster.follower().await;
    cluster.members[place].kill();
    let refused = cluster.members[place]
        .client()
        .put("never", "v")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let other = cluster.members[(place + 1) % 3].client();
    assert_eq!(other.get("never").await.unwrap().count, 0);
}

#[tokio::test]
async fn b036_ranges_in_flight_at_stop() {
    let (mut server, client) = fresh(Options::single()).await;
    for number in 0..200 {
        client
            .put(format!("big/{number}"), vec![b'v'; 64 << 10])
            .await
            .unwrap();
    }
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(status) = client.range(prefix("big/")).await {
                        break status;
                    }
                }
            })
        })
        .collect();
    // At least one answer has gone round.
    client.range(prefix("big/")).await.unwrap();
    server.stop(Duration::from_secs(15)).await.unwrap();
    for reader in readers {
        let status = reader.await.unwrap();
        let told = matches!(
            status.code(),
            Code::Unavailable | Code::Cancelled | Code::Unknown
        );
        // tonic's way to say that the server closed the connection in order, before it began with the request.
        let unbegun = status.code() == Code::Internal && format!("{status:?}").contains("NO_ERROR");
        assert!(told || unbegun, "{status:?}");
    }
    let log = server.log();
    assert!(!log.contains("panic"), "{log}");
}

#[tokio::test]
async fn b038_hash_kv_is_repeatable_and_equal() {
    let mut cluster = three().await;
    let clients = cluster.clients();
    for number in 0..30 {
        clients[number % 3]
            .put(format!("h/{}", number % 7), format!("{number}"))
            .await
            .unwrap();
    }
    clients[0].delete(delete("h/3")).await.unwrap();
    let revision = clients[0].revision().await.unwrap();
    cluster.equal().await;
    let mut hashes = Vec::new();
    for client in clients.iter().chain(&clients) {
        let hash = client.hash_kv(revision).await.unwrap();
        assert_eq!(hash.hash_revision, revision);
        hashes.push((hash.hash, hash.compact_revision));
    }
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
    // An older revision has another hash, and that one does not change any more.
    let older = clients[0].hash_kv(revision - 1).await.unwrap().hash;
    assert_ne!(older, hashes[0].0);
    clients[1].put("h/new", "v").await.unwrap();
    assert_eq!(
        clients[0].hash_kv(revision).await.unwrap().hash,
        hashes[0].0
    );
    assert_eq!(clients[0].hash_kv(revision - 1).await.unwrap().hash, older);
}

#[tokio::test]
async fn b039_hash_is_unchanged_by_restart() {
    let (mut server, client) = fresh(Options::single()).await;
    for number in 0..50 {
        client
            .put(format!("h/{}", number % 9), format!("{number}"))
            .await
            .unwrap();
    }
    client.delete(delete("h/3")).await.unwrap();
    client.compact(20).await.unwrap();
    let before = client.hash_kv(0).await.unwrap();
    let early = client.hash_kv(30).await.unwrap();
    server.restart().await.unwrap();
    let client = server.client();
    let after = client.hash_kv(0).await.unwrap();
    assert_eq!(
        (after.hash, after.hash_revision, after.compact_revision),
        (before.hash, before.hash_revision, before.compact_revision)
    );
    assert_eq!(client.hash_kv(30).await.unwrap().hash, early.hash);
}

#[tokio::test]
async fn b040_data_survives_restart() {
    let (mut server, client) = fresh(Options::single()).await;
    for number in 0..20 {
        client
            .put(format!("k/{}", number % 6), format!("{number}"))
            .await
            .unwrap();
    }
    client.delete(delete("k/5")).await.unwrap();
    let old = RangeRequest {
        revision: 10,
        ..prefix("k/")
    };
    let before = client.range(prefix("k/")).await.unwrap();
    let history = client.range(old.clone()).await.unwrap();

    server.stop(Duration::from_secs(15)).await.unwrap();
    server.spawn().unwrap();
    server.ready().await.unwrap();
    let client = server.client();
    let after = client.range(prefix("k/")).await.unwrap();
    assert_eq!((&after.kvs, after.count), (&before.kvs, before.count));
    assert_eq!(
        after.header.unwrap().revision,
        before.header.unwrap().revision
    );
    assert_eq!(client.range(old.clone()).await.unwrap().kvs, history.kvs);

    server.restart().await.unwrap();
    let client = server.client();
    assert_eq!(client.range(prefix("k/")).await.unwrap().kvs, before.kvs);
    assert_eq!(client.range(old).await.unwrap().kvs, history.kvs);
    let next = client
        .put("k/0", "next")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    assert_eq!(next, before.header.unwrap().revision + 1);
}

#[tokio::test]
async fn b041_linearizable_get_under_minority() {
    let mut cluster = three().await;
    let place = cluster.follower().await;
    let client = cluster.members[place].client();
    client.put("k", "v").await.unwrap();
    eventually(AGREES_WITHIN, "the put on every member", async || {
        let local = client
            .range(RangeRequest {
                serializable: true,
                ..get("k")
            })
            .await;
        if local.map_err(|status| status.to_string())?.count == 1 {
            Ok(())
        } else {
            Err("not there".to_owned())
        }
    })
    .await;
    for other in (0..3).filter(|other| *other != place) {
        cluster.members[other].kill();
    }
    let mut request = tonic::Request::new(get("k"));
    request.set_timeout(Duration::from_millis(1500));
    let status = client.kv().range(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
    let local = client
        .range(RangeRequest {
            serializable: true,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!(&local.kvs[0].value[..], b"v");
}

#[tokio::test]
async fn b041_reads_on_every_member_see_every_write() {
    let cluster = three().await;
    let clients = cluster.clients();
    for number in 0..30 {
        let value = format!("{number}");
        clients[number % 3].put("k", &value).await.unwrap();
        for client in &clients {
            assert_eq!(client.get("k").await.unwrap().kvs[0].value, value);
        }
    }
}

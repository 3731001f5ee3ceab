//! Leases among three members.

use std::time::Duration;

use etcd_e2e::client::{get, put, require_leader};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::{LEASE_NOT_FOUND, NO_LEADER, TIMEOUT};
use etcd_e2e::{Client, eventually};
use etcd_proto::etcdserverpb::{LeaseKeepAliveRequest, PutRequest, RangeRequest};
use tonic::Code;

use crate::pool::three;

/// Waits until the member's view of the leader is `leader` (0: none).
async fn sees_leader(client: &Client, leader: u64) {
    eventually(
        AGREES_WITHIN,
        "the member's view of the leader",
        async || {
            let seen = client
                .status()
                .await
                .map_err(|status| status.to_string())?
                .leader;
            if seen == leader {
                Ok(())
            } else {
                Err(format!("{seen:x}, not {leader:x}"))
            }
        },
    )
    .await;
}

#[tokio::test]
async fn b077_s26_new_leader_refreshes_ttls() {
    let cluster = three().await;
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let lease = client.grant(20, 0).await.unwrap().id;
    eventually(AGREES_WITHIN, "the lease has aged", async || {
        let left = client
            .time_to_live(lease, false)
            .await
            .map_err(|status| status.to_string())?
            .ttl;
        if left <= 17 {
            Ok(())
        } else {
            Err(format!("{left}"))
        }
    })
    .await;
    let next = (leader + 1) % 3;
    let target = cluster.id(next).await.unwrap();
    client.move_leader(target).await.unwrap();
    let client = cluster.members[next].client();
    sees_leader(&client, target).await;
    let left = eventually(AGREES_WITHIN, "the new leader tells", async || {
        client.time_to_live(lease, false).await
    })
    .await;
    assert!(left.ttl >= 19, "{left:?}");
    assert_eq!(left.granted_ttl, 20);
}

#[tokio::test]
async fn b077_s26_expiry_after_leader_change() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let lease = client.grant(2, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    cluster.members[leader].kill();
    let client = cluster.members[(leader + 1) % 3].client();
    eventually(
        AGREES_WITHIN,
        "the lease ends under the new leader",
        async || match client
            .get("k")
            .await
            .map_err(|status| status.to_string())?
            .count
        {
            0 => Ok(()),
            _ => Err("the key is there".to_owned()),
        },
    )
    .await;
    LEASE_NOT_FOUND.check(client.revoke(lease).await);
}

#[tokio::test]
async fn b080_followers_forward() {
    let cluster = three().await;
    let leader = cluster.leader().await;
    let leading = cluster.members[leader].client();
    let lease = leading.grant(30, 0).await.unwrap().id;
    eventually(AGREES_WITHIN, "the lease has aged", async || {
        let left = leading
            .time_to_live(lease, false)
            .await
            .map_err(|status| status.to_string())?
            .ttl;
        if left <= 28 {
            Ok(())
        } else {
            Err(format!("{left}"))
        }
    })
    .await;
    let follower = cluster.members[(leader + 1) % 3].client();
    let renewed = follower.keep_alive(lease).await.unwrap();
    assert_eq!((renewed.id, renewed.ttl), (lease, 30));
    let left = leading.time_to_live(lease, false).await.unwrap().ttl;
    assert!(left >= 29, "{left}");
    // Everything else about leases is the same at a follower.
    follower
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    let seen = follower.time_to_live(lease, true).await.unwrap();
    assert_eq!(
        (seen.granted_ttl, seen.keys.as_slice()),
        (30, &["k".into()][..])
    );
    assert_eq!(follower.keep_alive(424_242).await.unwrap().ttl, 0);
    assert_eq!(follower.time_to_live(424_242, false).await.unwrap().ttl, -1);
    let other = follower.grant(30, 0).await.unwrap().id;
    assert_eq!(leading.keep_alive(other).await.unwrap().ttl, 30);
    follower.revoke(lease).await.unwrap();
    assert_eq!(leading.get("k").await.unwrap().count, 0);
}

#[tokio::test]
async fn b081_keep_alive_without_leader() {
    let mut cluster = three().await;
    let client = cluster.members[0].client();
    let lease = client.grant(60, 0).await.unwrap().id;
    // A stream that is open ends as well, with the same error.
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let requests = require_leader(tokio_stream::wrappers::ReceiverStream::new(receive));
    send.send(LeaseKeepAliveRequest { id: lease })
        .await
        .unwrap();
    let mut open = client
        .lease()
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(open.message().await.unwrap().unwrap().ttl, 60);

    cluster.members[1].kill();
    cluster.members[2].kill();
    sees_leader(&client, 0).await;
    NO_LEADER.check(
        tokio::time::timeout(AGREES_WITHIN, open.message())
            .await
            .expect("the stream ends"),
    );
    let requests = require_leader(tokio_stream::once(LeaseKeepAliveRequest { id: lease }));
    let answer = match client.lease().lease_keep_alive(requests).await {
        Ok(stream) => stream.into_inner().message().await,
        Err(status) => Err(status),
    };
    NO_LEADER.check(answer);
}

#[tokio::test]
async fn b082_forwarding_that_gets_no_answer() {
    let cluster = three().await;
    let leader = cluster.leader().await;
    let lease = cluster.members[leader]
        .client()
        .grant(60, 0)
        .await
        .unwrap()
        .id;
    let follower = cluster.members[(leader + 1) % 3].client();
    sees_leader(&follower, cluster.id(leader).await.unwrap()).await;
    cluster.members[leader].pause().unwrap();
    cluster.members[(leader + 2) % 3].pause().unwrap();
    // The client gives up first.
    let mut request = tonic::Request::new(tokio_stream::once(LeaseKeepAliveRequest { id: lease }));
    request.set_timeout(Duration::from_millis(300));
    let answer = match follower.lease().lease_keep_alive(request).await {
        Ok(stream) => stream.into_inner().message().await,
        Err(status) => Err(status),
    };
    let status = answer.unwrap_err();
    // Whichever of the two deadlines is noticed first.
    let told = matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded);
    assert!(told || TIMEOUT.matches(&status), "{status:?}");
    // The server gives up first: 5 s and two election timeouts.
    let status = tokio::time::timeout(Duration::from_secs(20), follower.keep_alive(lease))
        .await
        .expect("the server gives up by itself")
        .unwrap_err();
    assert!(
        TIMEOUT.matches(&status) || NO_LEADER.matches(&status),
        "{status:?}"
    );
}

#[tokio::test]
async fn b083_renew_after_quorum_returns() {
    let mut cluster = three().await;
    let client = cluster.members[0].client();
    let lease = client.grant(60, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    cluster.members[1].kill();
    cluster.members[2].kill();
    sees_leader(&client, 0).await;
    cluster.members[1].spawn().unwrap();
    let renewed = eventually(AGREES_WITHIN, "a renewal", async || {
        client.keep_alive(lease).await
    })
    .await;
    assert_eq!(renewed.ttl, 60);
    let kv = client
        .range(RangeRequest {
            serializable: false,
            ..get("k")
        })
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(kv.lease, lease);
}

//! What the membership API refuses, and learners.

use std::time::Duration;

use etcd_e2e::client::{get, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::{
    BAD_LEADER_TRANSFEREE, LEARNER_NOT_READY, MEMBER_BAD_URLS, MEMBER_NOT_ENOUGH_STARTED,
    MEMBER_NOT_FOUND, MEMBER_NOT_LEARNER, NOT_LEADER, NOT_SUPPORTED_FOR_LEARNER, PEER_URL_EXISTS,
    TOO_MANY_LEARNERS, UNHEALTHY,
};
use etcd_e2e::watch::key;
use etcd_e2e::{Client, Cluster, Options, eventually, http};
use etcd_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, RangeRequest,
};
use tonic::Status;

use crate::pool::{fresh, server, three};

async fn add(client: &Client, url: &str, is_learner: bool) -> Result<MemberAddResponse, Status> {
    let request = MemberAddRequest {
        peer_ur_ls: vec![url.into()],
        is_learner,
    };
    Ok(client.cluster().member_add(request).await?.into_inner())
}

#[tokio::test]
async fn b142_existing_url() {
    let server = server().await;
    let client = &server.client;
    PEER_URL_EXISTS.check(add(client, &server.peer_url(), false).await);
    PEER_URL_EXISTS.check(add(client, &server.peer_url(), true).await);
    assert_eq!(client.members().await.unwrap().len(), 1);
}

#[tokio::test]
async fn b143_bad_urls() {
    let server = server().await;
    let client = &server.client;
    for url in [
        "",
        "127.0.0.1:2380",
        "://127.0.0.1:2380",
        "http://127.0.0.1",
        "ftp://127.0.0.1:2380",
        "http://127.0.0.1:2380/path",
    ] {
        let refused = add(client, url, false).await;
        assert!(
            matches!(&refused, Err(status) if MEMBER_BAD_URLS.matches(status)),
            "{url:?}: {refused:?}"
        );
    }
    let none = MemberAddRequest {
        peer_ur_ls: vec![],
        is_learner: false,
    };
    MEMBER_BAD_URLS.check(client.cluster().member_add(none).await);
    assert_eq!(client.members().await.unwrap().len(), 1);
}

#[tokio::test]
async fn b144_unknown_member() {
    let server = server().await;
    let client = &server.client;
    let id = 0x1234;
    MEMBER_NOT_FOUND.check(
        client
            .cluster()
            .member_remove(MemberRemoveRequest { id })
            .await,
    );
    MEMBER_NOT_FOUND.check(
        client
            .cluster()
            .member_promote(MemberPromoteRequest { id })
            .await,
    );
    let update = MemberUpdateRequest {
        id,
        peer_ur_ls: vec!["http://127.0.0.1:1".into()],
    };
    MEMBER_NOT_FOUND.check(client.cluster().member_update(update).await);
}

#[tokio::test]
async fn b144_member_list() {
    let server = server().await;
    let client = &server.client;
    let id = client.status().await.unwrap().header.unwrap().member_id;
    for linearizable in [false, true] {
        let answer = client
            .cluster()
            .member_list(MemberListRequest { linearizable })
            .await
            .unwrap()
            .into_inner();
        let header = answer.header.unwrap();
        // Answers of this service carry no revision.
        assert_eq!((header.member_id, header.revision), (id, 0));
        assert!(header.raft_term > 0 && header.cluster_id != 0);
        let [member] = &answer.members[..] else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (member.id, member.name.as_str(), member.is_learner),
            (id, "default", false)
        );
        assert_eq!(
            (&member.peer_ur_ls, &member.client_ur_ls),
            (&vec![server.peer_url()], &vec![server.client_url()])
        );
    }
}

#[tokio::test]
async fn b145_not_enough_started() {
    let (server, client) = fresh(Options::single()).await;
    let added = add(&client, "http://127.0.0.1:1", false).await.unwrap();
    let member = added.member.unwrap();
    assert_eq!((member.name.as_str(), member.is_learner), ("", false));
    assert_eq!(member.peer_ur_ls, ["http://127.0.0.1:1"]);
    assert_eq!(added.members.len(), 2);
    // One of two has started: neither may another join, nor that one leave.
    MEMBER_NOT_ENOUGH_STARTED.check(add(&client, "http://127.0.0.1:2", false).await);
    let id = client.status().await.unwrap().header.unwrap().member_id;
    MEMBER_NOT_ENOUGH_STARTED.check(
        client
            .cluster()
            .member_remove(MemberRemoveRequest { id })
            .await,
    );
    drop(server);
}

#[tokio::test]
async fn b145_unhealthy() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let other = cluster.id((leader + 2) % 3).await.unwrap();
    let url = cluster.members[leader].client_url();
    let lost = async || {
        let name = "etcd_network_disconnected_peers_total";
        http::metric(&url, name).await.unwrap().unwrap_or(0.0)
    };
    let before = lost().await;
    cluster.members[(leader + 1) % 3].kill();
    // It counts as healthy until the leader has noticed.
    eventually(AGREES_WITHIN, "the leader has noticed", async || {
        let now = lost().await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    // Whoever joins counts as down: of four, two are too few.
    for is_learner in [false, true] {
        UNHEALTHY.check(add(&client, "http://127.0.0.1:1", is_learner).await);
    }
    // And of the two that are left none may go.
    eventually(
        AGREES_WITHIN,
        "the removal is refused",
        async || match client
            .cluster()
            .member_remove(MemberRemoveRequest { id: other })
            .await
        {
            Err(status) if UNHEALTHY.matches(&status) => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        },
    )
    .await;
    assert_eq!(client.members().await.unwrap().len(), 3);
}

#[tokio::test]
async fn b146_promote_a_voter() {
    let server = server().await;
    let client = &server.client;
    let id = client.status().await.unwrap().header.unwrap().member_id;
    MEMBER_NOT_LEARNER.check(
        client
            .cluster()
            .member_promote(MemberPromoteRequest { id })
            .await,
    );
}

#[tokio::test]
async fn b147_b148_learner_that_has_not_started() {
    let (_server, client) = fresh(Options::single()).await;
    let added = add(&client, "http://127.0.0.1:1", true).await.unwrap();
    let learner = added.member.unwrap();
    assert!(learner.is_learner);
    LEARNER_NOT_READY.check(
        client
            .cluster()
            .member_promote(MemberPromoteRequest { id: learner.id })
            .await,
    );
    TOO_MANY_LEARNERS.check(add(&client, "http://127.0.0.1:2", true).await);
    BAD_LEADER_TRANSFEREE.check(client.move_leader(learner.id).await);
    // A learner counts in no quorum: writes go on, and it may be removed.
    client.put("k", "v").await.unwrap();
    let listed = client.members().await.unwrap();
    assert_eq!(listed.iter().filter(|member| member.is_learner).count(), 1);
    let removed = client
        .cluster()
        .member_remove(MemberRemoveRequest { id: learner.id })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(removed.members.len(), 1);
    MEMBER_NOT_FOUND.check(
        client
            .cluster()
            .member_remove(MemberRemoveRequest { id: learner.id })
            .await,
    );
}

#[tokio::test]
async fn b149_learner_serves_little_and_is_promoted() {
    let mut cluster = Cluster::start(1, Options::single()).await.unwrap();
    let client = cluster.members[0].client();
    for number in 0..20 {
        client.put(format!("k/{number}"), "v").await.unwrap();
    }
    let member = cluster.add(0, true).await.unwrap();
    cluster.members[1].spawn().unwrap();
    cluster.members[1].serving().await.unwrap();
    let learner = cluster.members[1].client();
    let local = RangeRequest {
        serializable: true,
        ..get("k/19")
    };
    eventually(AGREES_WITHIN, "the learner has caught up", async || {
        let count = learner
            .range(local.clone())
            .await
            .map_err(|status| status.to_string())?
            .count;
        if count == 1 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let status = learner.status().await.unwrap();
    assert!(status.is_learner && !client.status().await.unwrap().is_learner);
    NOT_SUPPORTED_FOR_LEARNER.check(learner.get("k/19").await);
    NOT_SUPPORTED_FOR_LEARNER.check(learner.put_with(put("k", "v")).await);
    NOT_SUPPORTED_FOR_LEARNER.check(learner.grant(60, 0).await);
    NOT_SUPPORTED_FOR_LEARNER.check(learner.members().await);
    let mut stream = learner.watch_client();
    let watch = tokio_stream::once(etcd_proto::etcdserverpb::WatchRequest {
        request_union: Some(
            etcd_proto::etcdserverpb::watch_request::RequestUnion::CreateRequest(key("k")),
        ),
    });
    let refused = match stream.watch(watch).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    NOT_SUPPORTED_FOR_LEARNER.check(refused);
    BAD_LEADER_TRANSFEREE.check(client.move_leader(member.id).await);

    cluster.promote(0, member.id).await;
    cluster.members[1].ready().await.unwrap();
    assert!(!learner.status().await.unwrap().is_learner);
    MEMBER_NOT_LEARNER.check(
        client
            .cluster()
            .member_promote(MemberPromoteRequest { id: member.id })
            .await,
    );
    learner.put("k", "v").await.unwrap();
    cluster.equal().await;
}

#[tokio::test]
async fn b150_move_leader() {
    let cluster = three().await;
    let leader = cluster.leader().await;
    let next = (leader + 1) % 3;
    let target = cluster.id(next).await.unwrap();
    let follower = cluster.members[next].client();
    NOT_LEADER.check(follower.move_leader(target).await);
    let client = cluster.members[leader].client();
    BAD_LEADER_TRANSFEREE.check(client.move_leader(0x1234).await);
    let term = client.status().await.unwrap().raft_term;
    client.move_leader(target).await.unwrap();
    eventually(AGREES_WITHIN, "the new leader", async || {
        let status = follower
            .status()
            .await
            .map_err(|status| status.to_string())?;
        if status.leader == target && status.raft_term > term {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    // To itself it is already done.
    follower.move_leader(target).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), client.put("k", "v"))
        .await
        .unwrap()
        .unwrap();
}

//! Watches at members that lose leader, quorum or log.

use etcd_e2e::client::{delete, prefix as under, require_leader};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::NO_LEADER;
use etcd_e2e::watch::{key, prefix};
use etcd_e2e::{Cluster, Options, Watch, eventually};
use etcd_proto::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};

use crate::pool::three;

#[tokio::test]
async fn b109_require_leader() {
    let mut cluster = three().await;
    let client = cluster.members[0].client();
    let mut open = Watch::open(&client, true);
    open.create(key("k")).await;
    let mut patient = client.watch();
    patient.create(key("k")).await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    NO_LEADER.is(&open.ended(AGREES_WITHIN).await);
    let stream = require_leader(tokio_stream::pending::<WatchRequest>());
    let refused = match client.watch_client().watch(stream).await {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    NO_LEADER.check(refused);
    // One that asked for no leader waits until there is one again.
    cluster.members[1].spawn().unwrap();
    let revision = eventually(AGREES_WITHIN, "a put after the loss", async || {
        client.put("k", "v").await
    })
    .await;
    let event = patient.events(1).await.remove(0);
    // A put that was not answered may have been applied as well.
    assert!(event.kv.unwrap().mod_revision <= revision.header.unwrap().revision);
}

#[tokio::test]
async fn b095_members_see_the_same() {
    let cluster = three().await;
    let clients = cluster.clients();
    let mut streams = Vec::new();
    for client in &clients {
        let mut watch = client.watch();
        watch.create(prefix("s/")).await;
        streams.push(watch);
    }
    for number in 0..60 {
        let client = &clients[number % 3];
        client
            .put(format!("s/{}", number % 7), format!("{number}"))
            .await
            .unwrap();
        if number % 10 == 9 {
            client
                .delete(delete(format!("s/{}", number % 7)))
                .await
                .unwrap();
        }
    }
    let expected = streams[0].events(66).await;
    for watch in &mut streams[1..] {
        assert_eq!(watch.events(66).await, expected);
    }
}

#[tokio::test]
async fn b112_s29_watcher_at_a_member_restored_from_a_snapshot() {
    const LOG: [&str; 2] = ["--snapshot-count=50", "--snapshot-catchup-entries=10"];
    let cluster = Cluster::start(3, Options::single().args(LOG))
        .await
        .unwrap();
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    let client = cluster.members[leader].client();
    let start = client
        .put("s/first", "v")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let lagging = cluster.members[behind].client();
    eventually(AGREES_WITHIN, "the follower has the first", async || {
        let local = lagging
            .range(RangeRequest {
                serializable: true,
                ..under("s/")
            })
            .await;
        if local.map_err(|status| status.to_string())?.count == 1 {
            Ok(())
        } else {
            Err("not there".to_owned())
        }
    })
    .await;
    let mut synced = lagging.watch();
    synced.create(prefix("s/")).await;
    let mut replaying = lagging.watch();
    replaying
        .create(WatchCreateRequest {
            start_revision: start,
            ..prefix("s/")
        })
        .await;
    assert_eq!(
        replaying.events(1).await[0]
            .kv
            .as_ref()
            .unwrap()
            .mod_revision,
        start
    );
    // Long enough that the log before its end is gone, so it has to be given a snapshot.
    cluster.members[behind].pause().unwrap();
    for number in 0..400 {
        client.put(format!("s/{number}"), "v").await.unwrap();
    }
    cluster.members[behind].resume().unwrap();
    for watch in [&mut synced, &mut replaying] {
        let revisions: Vec<i64> = watch
            .events(400)
            .await
            .iter()
            .map(|event| event.kv.as_ref().unwrap().mod_revision)
            .collect();
        assert_eq!(revisions, (start + 1..=start + 400).collect::<Vec<_>>());
    }
    let next = client
        .put("s/last", "v")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    assert_eq!(
        synced.events(1).await[0].kv.as_ref().unwrap().mod_revision,
        next
    );
}

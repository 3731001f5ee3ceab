//! What takes minutes by its nature: `make soak` runs it, `make test` does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod million;
mod stalled_disk;

use std::time::{Duration, Instant};

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::{Client, Cluster, Options, eventually};

/// etcd checkpoints a lease every five minutes.
const CHECKPOINT: Duration = Duration::from_secs(300);

const TTL: i64 = 3600;

async fn left(client: &Client, lease: i64) -> i64 {
    eventually(AGREES_WITHIN, "the time to live", async || {
        client.time_to_live(lease, false).await
    })
    .await
    .ttl
}

#[tokio::test]
async fn b078_s26_checkpoint_keeps_the_remaining_time() {
    let gates = "--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true";
    let mut cluster = Cluster::start(3, Options::single().args([gates]))
        .await
        .unwrap();
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let lease = client.grant(TTL, 0).await.unwrap().id;
    let start = Instant::now();
    // The clock is what this is about: a checkpoint is due, and has been replicated.
    tokio::time::sleep(CHECKPOINT + Duration::from_secs(5)).await;

    let next = (leader + 1) % 3;
    client
        .move_leader(cluster.id(next).await.unwrap())
        .await
        .unwrap();
    let place = cluster.leader().await;
    let after_change = left(&cluster.members[place].client(), lease).await;
    assert!(
        after_change <= TTL - 300 + 2,
        "{after_change} s after {:?}",
        start.elapsed()
    );
    assert!(
        after_change > TTL - 300 - 60,
        "{after_change} s after {:?}",
        start.elapsed()
    );

    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.spawn().unwrap();
    }
    for member in &mut cluster.members {
        member.ready().await.unwrap();
    }
    let place = cluster.leader().await;
    let after_restart = left(&cluster.members[place].client(), lease).await;
    assert!(
        after_restart <= TTL - 300 + 2,
        "{after_restart} s after {:?}",
        start.elapsed()
    );
}

//! Members that stand still, as if cut off, and return.

use std::time::Duration;

use etcd_e2e::client::{get, put, require_leader};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::{Cluster, Options, eventually};
use etcd_proto::etcdserverpb::RangeRequest;

#[tokio::test]
async fn s18_minority_refuses_and_heals() {
    let cluster = Cluster::start(3, Options::single()).await.unwrap();
    let leader = cluster.leader().await;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let cut = cluster.members[leader].client();
    cut.put("k", "before").await.unwrap();
    // The leader alone: it must neither acknowledge nor answer a linearizable read.
    cluster.members[second].pause().unwrap();
    cluster.members[third].pause().unwrap();
    let mut write = tonic::Request::new(put("k", "minority"));
    write.set_timeout(Duration::from_secs(2));
    assert!(cut.kv().put(write).await.is_err());
    eventually(AGREES_WITHIN, "the leader steps down", async || {
        match cut.kv().range(require_leader(get("k"))).await {
            Err(status) if etcd_e2e::errors::NO_LEADER.matches(&status) => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        }
    })
    .await;
    let local = cut
        .range(RangeRequest {
            serializable: true,
            ..get("k")
        })
        .await
        .unwrap();
    assert_eq!(&local.kvs[0].value[..], b"before");
    cluster.members[second].resume().unwrap();
    cluster.members[third].resume().unwrap();
    let put = eventually(AGREES_WITHIN, "a write after healing", async || {
        cut.put("k", "after").await
    })
    .await;
    let revision = put.header.unwrap().revision;
    for client in cluster.clients() {
        let read = client.get("k").await.unwrap();
        assert_eq!(
            (&read.kvs[0].value[..], read.kvs[0].mod_revision),
            (&b"after"[..], revision)
        );
    }
}

#[tokio::test]
async fn s20_deposed_leader_serves_nothing_stale() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    for round in 0..3 {
        let old = cluster.leader().await;
        let deposed = cluster.members[old].client();
        deposed.put("k", format!("{round} old")).await.unwrap();
        cluster.members[old].pause().unwrap();
        let others = [(old + 1) % 3, (old + 2) % 3].map(|place| cluster.members[place].client());
        let value = format!("{round} new");
        eventually(
            AGREES_WITHIN,
            "a write under a new leader",
            async || match tokio::time::timeout(Duration::from_secs(2), others[0].put("k", &value))
                .await
            {
                Ok(answer) => answer.map(drop).map_err(|status| status.to_string()),
                Err(_) => Err("no answer".to_owned()),
            },
        )
        .await;
        // The read waits at the old leader when it wakes up, still believing that it leads.
        let reads: Vec<_> = (0..4)
            .map(|_| {
                let client = deposed.clone();
                tokio::spawn(async move { client.get("k").await })
            })
            .collect();
        cluster.members[old].resume().unwrap();
        for read in reads {
            // An error is an answer as well, but no old value.
            if let Ok(read) = read.await.unwrap() {
                assert_eq!(read.kvs[0].value, value);
            }
        }
        let read = eventually(AGREES_WITHIN, "a read at the old leader", async || {
            deposed.get("k").await
        })
        .await;
        assert_eq!(read.kvs[0].value, value);
    }
    cluster.equal().await;
}

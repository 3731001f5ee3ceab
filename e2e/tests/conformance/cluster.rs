//! Clusters whose members come, go and return.

use std::time::Duration;

use etcd_e2e::client::{get, prefix};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::load::Writers;
use etcd_e2e::{Cluster, Options, eventually};
use etcd_proto::etcdserverpb::{MemberRemoveRequest, RangeRequest};

use crate::pool::three;

#[tokio::test]
async fn b152_removed_member_does_not_return() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let place = cluster.follower().await;
    let id = cluster.id(place).await.unwrap();
    cluster.remove((place + 1) % 3, id).await;
    // It learns of it and ends by itself.
    cluster.members[place].exit(AGREES_WITHIN).await.unwrap();
    cluster.members[place].spawn().unwrap();
    let status = cluster.members[place].exit(AGREES_WITHIN).await.unwrap();
    let log = cluster.members[place].log();
    assert!(log.contains("removed"), "{status}: {log}");
    let others = cluster.members[(place + 1) % 3].client();
    assert_eq!(others.members().await.unwrap().len(), 2);
    others.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn b152_removed_while_stopped() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let place = cluster.follower().await;
    let through = (place + 1) % 3;
    let id = cluster.id(place).await.unwrap();
    cluster.members[place].kill();
    cluster.remove(through, id).await;
    let client = cluster.members[through].client();
    let term = client.status().await.unwrap().raft_term;
    cluster.members[place].spawn().unwrap();
    cluster.members[place].exit(AGREES_WITHIN).await.unwrap();
    // It disturbed nobody.
    client.put("k", "v").await.unwrap();
    assert_eq!(client.status().await.unwrap().raft_term, term);
    assert_eq!(client.members().await.unwrap().len(), 2);
}

#[tokio::test]
async fn b154_force_new_cluster() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let client = cluster.members[0].client();
    for number in 0..20 {
        client
            .put(format!("k/{number}"), format!("{number}"))
            .await
            .unwrap();
    }
    let before = client.range(prefix("k/")).await.unwrap();
    // A member knows only of a later write that an earlier one is committed, and what it does not
    // know to be committed it gives up: so there is a later one.
    client.put("later", "v").await.unwrap();
    cluster.equal().await;
    let revision = client.revision().await.unwrap();
    for member in &mut cluster.members {
        member.kill();
    }
    let survivor = &mut cluster.members[0];
    survivor.options().args.push("--force-new-cluster".into());
    survivor.spawn().unwrap();
    survivor.ready().await.unwrap();
    let client = survivor.client();
    let members = client.members().await.unwrap();
    assert_eq!(members.len(), 1, "{members:?}");
    let after = client.range(prefix("k/")).await.unwrap();
    assert_eq!(after.kvs, before.kvs);
    let kept = after.header.unwrap().revision;
    assert!(
        (revision - 1..=revision).contains(&kept),
        "{kept} of {revision}"
    );
    assert_eq!(
        client
            .put("k/new", "v")
            .await
            .unwrap()
            .header
            .unwrap()
            .revision,
        kept + 1
    );
    // Without the flag it stays what it has become.
    survivor.options().args.clear();
    survivor.restart().await.unwrap();
    assert_eq!(client.members().await.unwrap().len(), 1);
    assert_eq!(client.range(prefix("k/")).await.unwrap().count, 21);
}

#[tokio::test]
async fn b155_full_rotation() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let clients = cluster.clients();
    let writers = Writers::start(&clients, 2, "load/");
    // Each of the first three is replaced: a learner joins, is promoted, then the old one goes.
    for old in 0..3 {
        let through = 2 + old;
        let id = cluster.id(old).await.unwrap();
        let member = cluster.add(through, true).await.unwrap();
        let new = cluster.members.len() - 1;
        cluster.members[new].spawn().unwrap();
        cluster.promote(through, member.id).await;
        cluster.members[new].ready().await.unwrap();
        cluster.remove(new, id).await;
        cluster.members[old].kill();
    }
    let ledger = writers.finish().await;
    let survivors: Vec<_> = cluster.members[3..]
        .iter()
        .map(|member| member.client())
        .collect();
    for client in &survivors {
        ledger.verify(client, "load/").await;
    }
    let names: Vec<_> = survivors[0]
        .members()
        .await
        .unwrap()
        .into_iter()
        .map(|member| member.name)
        .collect();
    assert_eq!(names.len(), 3);
    assert!(
        ["m3", "m4", "m5"]
            .iter()
            .all(|name| names.iter().any(|own| own == name)),
        "{names:?}"
    );
    survivors[2].put("k", "v").await.unwrap();
    cluster.equal().await;
}

#[tokio::test]
async fn b157_revision_never_falls() {
    let mut cluster = three().await;
    let mut last = 0;
    for round in 0..6 {
        let place = round % 3;
        // Restarts and pauses in turn, so that each member is behind once.
        if round < 3 {
            cluster.members[place].kill();
        } else {
            cluster.members[place].pause().unwrap();
        }
        let client = cluster.members[(place + 1) % 3].client();
        for number in 0..5 {
            let put = eventually(AGREES_WITHIN, "a put by the majority", async || {
                match tokio::time::timeout(
                    Duration::from_secs(3),
                    client.put(format!("k/{number}"), "v"),
                )
                .await
                {
                    Ok(answer) => answer.map_err(|status| status.to_string()),
                    Err(_) => Err("no answer".to_owned()),
                }
            })
            .await;
            let revision = put.header.unwrap().revision;
            assert!(revision > last, "{revision} after {last}");
            last = revision;
        }
        if round < 3 {
            cluster.members[place].spawn().unwrap();
            cluster.members[place].ready().await.unwrap();
        } else {
            cluster.members[place].resume().unwrap();
        }
        let returned = cluster.members[place].client();
        let read = eventually(
            AGREES_WITHIN,
            "a read at the member that returned",
            async || returned.get("k/0").await,
        )
        .await;
        assert!(read.header.unwrap().revision >= last);
        let local = returned
            .range(RangeRequest {
                serializable: true,
                ..get("k/0")
            })
            .await
            .unwrap();
        assert!(local.header.unwrap().revision >= last);
    }
    cluster.equal().await;
}

#[tokio::test]
async fn b144_member_removed_twice() {
    let mut cluster = Cluster::start(1, Options::single()).await.unwrap();
    let member = cluster.add(0, true).await.unwrap();
    cluster.remove(0, member.id).await;
    let client = cluster.members[0].client();
    etcd_e2e::errors::MEMBER_NOT_FOUND.check(
        client
            .cluster()
            .member_remove(MemberRemoveRequest { id: member.id })
            .await,
    );
}

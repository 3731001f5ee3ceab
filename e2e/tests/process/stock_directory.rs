//! The binary is swapped: our server starts on the data directory of stock etcd.

use std::path::PathBuf;
use std::time::Duration;

use etcd_e2e::client::{get, prefix, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::{Cluster, Etcdctl, Options, Process, Target, eventually, stock};
use etcd_proto::etcdserverpb::RangeRequest;

fn stock_options() -> Options {
    Options {
        target: Target::Stock,
        ..Options::single()
    }
    // Snapshots and log files of several generations.
    .args([
        "--snapshot-count=60",
        "--snapshot-catchup-entries=10",
        "--logger=zap",
    ])
}

/// History of every kind; the revision after it.
async fn fill(member: &Process) -> i64 {
    let client = member.client();
    client.grant(600, 77).await.unwrap();
    for round in 0..40 {
        for key in 0..5 {
            let value = vec![b'a' + key; 2_000];
            client.put(format!("k/{key}/{round}"), value).await.unwrap();
        }
    }
    let mut leased = put("leased", "1");
    leased.lease = 77;
    client.put_with(leased).await.unwrap();
    client.compact(120).await.unwrap();
    client.put("k/0/0", "again").await.unwrap();
    client
        .delete(etcd_e2e::client::delete("k/1/7"))
        .await
        .unwrap();
    client.put("k/1/7", "reborn").await.unwrap();
    client.revision().await.unwrap()
}

/// The keys as they were at `revision`.
fn at(revision: i64) -> RangeRequest {
    RangeRequest {
        revision,
        ..prefix("k/")
    }
}

fn kept_aside(member: &Process) -> Vec<PathBuf> {
    let snap = member.data_dir().join("member/snap");
    std::fs::read_dir(snap)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("db")
        })
        .collect()
}

#[tokio::test]
async fn a_directory_of_stock_etcd_is_taken_over() {
    let mut member = Process::start(stock_options()).await.unwrap();
    let revision = fill(&member).await;
    let client = member.client();
    let before = client.hash_kv(revision).await.unwrap();
    let status = client.status().await.unwrap().header.unwrap();
    let members = client.members().await.unwrap();
    let old = client.range(at(revision - 2)).await.unwrap();
    member.kill();

    member.options().target = Target::Ours;
    member.restart().await.unwrap();
    for start in 0..2 {
        let client = member.client();
        let now = client.status().await.unwrap();
        let header = now.header.unwrap();
        assert_eq!(
            (header.cluster_id, header.member_id, header.revision),
            (status.cluster_id, status.member_id, revision + start)
        );
        let hash = client.hash_kv(revision).await.unwrap();
        assert_eq!((hash.hash, hash.compact_revision), (before.hash, 120));
        assert_eq!(client.members().await.unwrap(), members);
        let again = client.range(at(revision - 2)).await.unwrap();
        assert_eq!((again.kvs, again.count), (old.kvs.clone(), old.count));
        let lease = client.time_to_live(77, true).await.unwrap();
        assert_eq!(
            (lease.granted_ttl, lease.keys),
            (600, vec!["leased".into()])
        );
        let aside = kept_aside(&member);
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert!(aside[0].to_string_lossy().contains("db.stock-"));
        client.put("ours", "1").await.unwrap();
        member.kill();
        member.restart().await.unwrap();
    }
    assert_eq!(
        member.log().matches("took over the data directory").count(),
        1
    );
}

#[tokio::test]
async fn a_directory_that_stock_etcd_still_uses_is_refused() {
    let mut stock = Process::start(stock_options()).await.unwrap();
    let revision = fill(&stock).await;
    let hash = stock.client().hash_kv(0).await.unwrap().hash;
    let mut ours = Process::prepare(Options {
        target: Target::Ours,
        ..Options::single()
    })
    .unwrap();
    let data = format!("--data-dir={}", stock.data_dir().display());
    ours.options().args = vec![data];
    ours.spawn().unwrap();
    let status = ours.exit(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(ours.log().contains("snap/db"), "{}", ours.log());
    stock.client().put("still", "here").await.unwrap();
    assert!(!stock.data_dir().join("member/store/MANIFEST").exists());
    stock.kill();
    stock.restart().await.unwrap();
    let client = stock.client();
    assert_eq!(client.hash_kv(revision).await.unwrap().hash, hash);
    let still = client.range(get("still")).await.unwrap();
    assert_eq!(still.count, 1);
}

#[tokio::test]
async fn a_directory_with_authentication_is_refused_and_left_alone() {
    let mut member = Process::start(stock_options()).await.unwrap();
    let endpoint = [member.client_url()];
    let tool = Etcdctl::new(&endpoint).unwrap();
    tool.run(&["put", "a", "1"]).await.unwrap();
    tool.run(&["user", "add", "root:secret"]).await.unwrap();
    tool.run(&["user", "grant-role", "root", "root"])
        .await
        .unwrap();
    tool.run(&["auth", "enable"]).await.unwrap();
    // Its store is written every 100 ms; a graceful end writes the rest.
    member.stop(Duration::from_secs(30)).await.unwrap();

    member.options().target = Target::Ours;
    member.spawn().unwrap();
    let status = member.exit(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = member.log();
    assert!(log.contains("authentication is enabled"), "{log}");

    member.options().target = Target::Stock;
    member.spawn().unwrap();
    let with_password = ["--user=root:secret", "get", "a", "--print-value-only"];
    let value = eventually(AGREES_WITHIN, "stock etcd serves again", async || {
        tool.run(&with_password).await
    })
    .await;
    assert_eq!(value.trim(), "1");
}

#[tokio::test]
async fn three_members_of_stock_etcd_are_swapped_one_by_one() {
    let mut cluster = Cluster::start(3, stock_options()).await.unwrap();
    let revision = fill(&cluster.members[0]).await;
    cluster.equal().await;
    let members = cluster.members[0].client().members().await.unwrap();
    for place in 0..3 {
        cluster.members[place]
            .stop(Duration::from_secs(30))
            .await
            .unwrap();
        let other = cluster.members[(place + 1) % 3].client();
        for missed in 0..200 {
            // More than stock keeps of its log: it comes back behind.
            let key = format!("missed/{place}/{missed}");
            other.put(key, vec![b'm'; 500]).await.unwrap();
        }
        cluster.members[place].options().target = Target::Ours;
        cluster.members[place].restart().await.unwrap();
        cluster.equal().await;
        let log = cluster.members[place].log();
        assert!(log.contains("took over the data directory"), "{log}");
    }
    let client = cluster.members[2].client();
    assert_eq!(client.members().await.unwrap(), members);
    assert_eq!(client.revision().await.unwrap(), revision + 600);
    assert_eq!(client.status().await.unwrap().version, stock::VERSION);
}

#[tokio::test]
async fn members_of_ours_are_replaced_by_stock_etcd() {
    let ours = Options {
        target: Target::Ours,
        ..stock_options()
    };
    let mut cluster = Cluster::start(3, ours).await.unwrap();
    let revision = fill(&cluster.members[0]).await;
    for round in 0..3 {
        let leaver = cluster.id(round).await.unwrap();
        let through = round + 1;
        cluster.remove(through, leaver).await;
        cluster.members[round].kill();
        let added = cluster.add(through, true).await.unwrap();
        let place = cluster.members.len() - 1;
        cluster.members[place].options().target = Target::Stock;
        cluster.members[place].spawn().unwrap();
        cluster.promote(through, added.id).await;
        cluster.members[place].ready().await.unwrap();
        cluster.equal().await;
        // Our image, in chunks and with a trailer, is one for stock too.
        let log = cluster.members[place].log();
        assert!(round > 0 || log.contains("applied snapshot"), "{log}");
    }
    let last = &cluster.members[5];
    assert_eq!(last.client().revision().await.unwrap(), revision);
    last.client().put("back", "1").await.unwrap();
    cluster.equal().await;
}

//! SIGTERM.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::SERVER_STOPPED;
use etcd_e2e::load::Writers;
use etcd_e2e::{Cluster, Options, Process, eventually, watch};
use etcd_proto::etcdserverpb::LeaseKeepAliveRequest;

#[tokio::test]
async fn sigterm_ends_a_single_member_quickly() {
    let mut server = Process::start(Options::single()).await.unwrap();
    server.client().put("k", "v").await.unwrap();
    let start = Instant::now();
    let status = server.stop(Duration::from_secs(10)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // etcd ends by the signal it was sent, once it is done.
    assert_eq!(status.signal(), Some(15), "{status}");
    server.spawn().unwrap();
    server.ready().await.unwrap();
    assert_eq!(server.client().get("k").await.unwrap().count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_at_the_leader_hands_over() {
    let options = Options {
        heartbeat_ms: 100,
        election_ms: 1000,
        ..Options::single()
    };
    let mut cluster = Cluster::start(3, options).await.unwrap();
    let leader = cluster.leader().await;
    let others = [
        cluster.members[(leader + 1) % 3].client(),
        cluster.members[(leader + 2) % 3].client(),
    ];
    let old = cluster.id(leader).await.unwrap();
    let writers = Writers::start(&others, 4, "load/");
    eventually(AGREES_WITHIN, "writes are under way", async || {
        if writers.acknowledged() > 100 {
            Ok(())
        } else {
            Err(writers.acknowledged())
        }
    })
    .await;
    let start = Instant::now();
    cluster.members[leader]
        .stop(Duration::from_secs(15))
        .await
        .unwrap();
    let stopped = start.elapsed();
    let status = eventually(AGREES_WITHIN, "a new leader", async || {
        let status = others[0]
            .status()
            .await
            .map_err(|status| status.to_string())?;
        if status.leader != 0 && status.leader != old {
            Ok(status)
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    assert_ne!(status.leader, old);
    assert!(
        stopped < Duration::from_secs(5),
        "it took {stopped:?} to end"
    );
    let ledger = writers.finish().await;
    // Handed over, not timed out: less than an election timeout without a write.
    eprintln!(
        "stopped after {stopped:?}, longest gap {:?}",
        ledger.longest_gap
    );
    assert!(
        ledger.longest_gap < Duration::from_millis(1000),
        "no write for {:?}",
        ledger.longest_gap
    );
    for client in &others {
        ledger.verify(client, "load/").await;
    }
    cluster.members[leader].spawn().unwrap();
    cluster.members[leader].ready().await.unwrap();
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_with_open_streams_hands_over_and_ends_quickly() {
    let options = Options {
        heartbeat_ms: 100,
        election_ms: 1000,
        ..Options::single()
    };
    let mut cluster = Cluster::start(3, options).await.unwrap();
    let leader = cluster.leader().await;
    let old = cluster.id(leader).await.unwrap();
    let client = cluster.members[leader].client();
    let mut watches = Vec::new();
    for _ in 0..50 {
        let mut stream = client.watch();
        stream.create(watch::key("k")).await;
        watches.push(stream);
    }
    // Streams of leases too, none of which ends by itself.
    client.grant(60, 77).await.unwrap();
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    requests
        .send(LeaseKeepAliveRequest { id: 77 })
        .await
        .unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut renewals = client
        .lease()
        .lease_keep_alive(stream)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl, 60);

    let other = cluster.members[(leader + 1) % 3].client();
    let term = other.status().await.unwrap().raft_term;
    let start = Instant::now();
    let taken_over = tokio::spawn(async move {
        loop {
            let status = other.status().await.unwrap();
            if status.leader != 0 && status.leader != old {
                return (start.elapsed(), status.raft_term);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    cluster.members[leader]
        .stop(Duration::from_secs(10))
        .await
        .unwrap();
    let stopped = start.elapsed();
    let (handed_over, new_term) = taken_over.await.unwrap();
    eprintln!("handed over after {handed_over:?}, ended after {stopped:?}");
    // Handed over, not timed out: less than an election timeout, in one election.
    assert!(handed_over < Duration::from_millis(1000), "{handed_over:?}");
    assert_eq!(new_term, term + 1);
    assert!(stopped < Duration::from_millis(1500), "{stopped:?}");
    // Every stream was told why, so that clients go elsewhere at once.
    for stream in watches {
        let status = stream.ended(Duration::from_secs(5)).await;
        SERVER_STOPPED.is(&status);
    }
    SERVER_STOPPED.check(renewals.message().await);
}

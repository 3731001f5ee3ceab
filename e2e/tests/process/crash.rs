//! SIGKILL under load.

use std::time::{Duration, Instant};

use etcd_e2e::client::prefix;
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::load::{Observer, Writers};
use etcd_e2e::{Client, Cluster, Options, Process, Target, eventually, wal};

/// How long members are killed.
fn duration() -> Duration {
    let seconds = std::env::var("E2E_SECONDS")
        .map_or(20, |text| text.parse().expect("E2E_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// etcd's own defaults, as in production.
fn defaults() -> Options {
    Options {
        heartbeat_ms: 100,
        election_ms: 1000,
        ..Options::single()
    }
}

/// Waits until `writers` have got another `count` acknowledgements.
async fn progress(writers: &Writers, count: usize) {
    let goal = writers.acknowledged() + count;
    eventually(AGREES_WITHIN, "writes are acknowledged", async || {
        let done = writers.acknowledged();
        if done >= goal {
            Ok(())
        } else {
            Err(format!("{done} of {goal}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_members_killed_under_load() {
    let mut cluster = Cluster::start(3, defaults()).await.unwrap();
    let clients = cluster.clients();
    let first = clients[0].revision().await.unwrap() + 1;
    let observers: Vec<Observer> = (0..3)
        .map(|at| Observer::start(&clients, at, "load/", first))
        .collect();
    let writers = Writers::start(&clients, 6, "load/");
    let start = Instant::now();
    let mut kills = 0;
    while start.elapsed() < duration() {
        progress(&writers, 100).await;
        // Every other time the leader.
        let leader = cluster.leader().await;
        let victim = if kills % 2 == 0 {
            leader
        } else {
            (leader + 1 + kills / 2 % 2) % 3
        };
        cluster.members[victim].kill();
        kills += 1;
        // The others go on without it.
        progress(&writers, 100).await;
        cluster.members[victim].spawn().unwrap();
        cluster.members[victim].ready().await.unwrap();
    }
    let ledger = writers.finish().await;
    eprintln!(
        "{kills} kills, {} acknowledged, {} ambiguous, longest gap {:?}",
        ledger.acked.len(),
        ledger.ambiguous.len(),
        ledger.longest_gap
    );
    assert!(kills >= 2);
    cluster.equal().await;
    for client in &clients {
        ledger.verify(client, "load/").await;
    }
    let last = clients[0].revision().await.unwrap();
    for observer in observers {
        let seen = observer.finish(last, AGREES_WITHIN).await;
        ledger.verify_seen(&seen);
    }
    assert!(
        ledger.longest_gap <= Duration::from_secs(3),
        "no write for {:?}",
        ledger.longest_gap
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_single_member_killed_under_load() {
    let mut server = Process::start(Options::single()).await.unwrap();
    let clients = [server.client()];
    let first = clients[0].revision().await.unwrap() + 1;
    let observer = Observer::start(&clients, 0, "load/", first);
    let writers = Writers::start(&clients, 8, "load/");
    for _ in 0..5 {
        progress(&writers, 200).await;
        server.restart().await.unwrap();
    }
    progress(&writers, 200).await;
    let ledger = writers.finish().await;
    ledger.verify(&clients[0], "load/").await;
    let last = clients[0].revision().await.unwrap();
    ledger.verify_seen(&observer.finish(last, AGREES_WITHIN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_all_members_killed_at_once() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let clients = cluster.clients();
    let writers = Writers::start(&clients, 6, "load/");
    for _ in 0..3 {
        progress(&writers, 200).await;
        for member in &mut cluster.members {
            member.kill();
        }
        for member in &mut cluster.members {
            member.spawn().unwrap();
        }
        for member in &mut cluster.members {
            member.ready().await.unwrap();
        }
    }
    let ledger = writers.finish().await;
    cluster.equal().await;
    for client in &clients {
        ledger.verify(client, "load/").await;
    }
}

#[tokio::test]
async fn s02_torn_tail() {
    let mut server = Process::start(Options::single()).await.unwrap();
    let client = server.client();
    for number in 0..30 {
        client
            .put(format!("t/{number:02}"), vec![b'v'; 3000])
            .await
            .unwrap();
    }
    server.kill();
    // The last record was on its way to the disk when the machine died: its end never arrived.
    let segment = wal::segments(&server.data_dir()).unwrap().pop().unwrap();
    let last = *wal::frames(&segment)
        .unwrap()
        .iter()
        .rfind(|frame| frame.len > 2000)
        .unwrap();
    wal::lose_from(&segment, (last.offset + 8 + last.len / 2) & !511).unwrap();
    server.spawn().unwrap();
    server.ready().await.unwrap();
    let found = client.range(prefix("t/")).await.unwrap();
    assert!((29..=30).contains(&found.count), "{} keys", found.count);
    for (number, kv) in found.kvs.iter().enumerate() {
        assert_eq!(
            (&kv.key[..], kv.value.len()),
            (format!("t/{number:02}").as_bytes(), 3000)
        );
    }
    client.put("t/again", "v").await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(
        client.range(prefix("t/")).await.unwrap().count,
        found.count + 1
    );
}

#[tokio::test]
async fn s04_killed_while_it_bootstraps() {
    // Stock etcd does not survive this: killed between creating its log and the first entry it comes
    // back without members and waits for ever (etcd #16596). Ours has to.
    if Target::from_env() == Target::Stock {
        return;
    }
    let mut server = Process::prepare(Options::single()).unwrap();
    // A little later each time, so that it dies at every stage of its first start.
    for wait in (0..12).map(|step| Duration::from_millis(step * step)) {
        server.spawn().unwrap();
        tokio::time::sleep(wait).await;
        server.kill();
    }
    server.spawn().unwrap();
    server.ready().await.unwrap();
    let client = server.client();
    client.put("k", "v").await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(client.get("k").await.unwrap().count, 1);
}

#[tokio::test]
async fn s07_nothing_is_applied_twice() {
    let mut server = Process::start(Options::single().args(["--snapshot-count=40"]))
        .await
        .unwrap();
    let client = server.client();
    let mut expected = 0;
    for round in 0..5 {
        for _ in 0..30 {
            expected += 1;
            let put = client.put("counter", format!("{expected}")).await.unwrap();
            assert_eq!(put.header.unwrap().revision, expected + 1, "round {round}");
        }
        server.restart().await.unwrap();
        let kv = client.get("counter").await.unwrap().kvs.remove(0);
        assert_eq!(
            (kv.version, kv.mod_revision),
            (expected, expected + 1),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn s22_dead_member_replaced() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let dead = cluster.follower().await;
    let through = (dead + 1) % 3;
    let client: Client = cluster.members[through].client();
    client.put("k", "before").await.unwrap();
    let id = cluster.id(dead).await.unwrap();
    cluster.members[dead].kill();
    // It can be removed while it is down, and then another may join.
    cluster.remove(through, id).await;
    let member = cluster.add(through, true).await.unwrap();
    let new = cluster.members.len() - 1;
    cluster.members[new].spawn().unwrap();
    cluster.promote(through, member.id).await;
    cluster.members[new].ready().await.unwrap();
    let joined = cluster.members[new].client();
    assert_eq!(&joined.get("k").await.unwrap().kvs[0].value[..], b"before");
    joined.put("k", "after").await.unwrap();
    cluster.equal().await;
    assert_eq!(client.members().await.unwrap().len(), 3);
}

/// A killed leader's connections are closed by its kernel: what is to be sent to it waits for the next leader, and is not written into them.
#[tokio::test]
async fn b035_a_write_right_after_the_leader_was_killed_is_made_by_the_next() {
    let mut cluster = Cluster::start(3, defaults()).await.unwrap();
    for round in 0..4 {
        let leader = cluster.leader().await;
        let client = cluster.members[(leader + 1) % 3].client();
        client.get("greeting").await.unwrap();
        cluster.members[leader].kill();
        client.put("greeting", format!("{round}")).await.unwrap();
        cluster.members[leader].restart().await.unwrap();
    }
}

/// Followers learn from the leader's host that it is gone; nobody waits for its silence to last.
#[tokio::test]
async fn s42_a_killed_leader_has_a_successor_before_an_election_timeout() {
    let election = Duration::from_secs(10);
    let options = Options {
        election_ms: u64::try_from(election.as_millis()).unwrap(),
        ..defaults()
    };
    let mut cluster = Cluster::start(3, options).await.unwrap();
    for round in 0..3 {
        let leader = cluster.leader().await;
        let client = cluster.members[(leader + 1) % 3].client();
        client.get("greeting").await.unwrap();
        cluster.members[leader].kill();
        let killed = Instant::now();
        let put = client.put("greeting", format!("{round}"));
        let put = tokio::time::timeout(election / 2, put).await;
        put.expect("a write before an election timeout").unwrap();
        eprintln!(
            "round {round}: written {:?} after the leader was killed",
            killed.elapsed()
        );
        cluster.members[leader].restart().await.unwrap();
    }
}

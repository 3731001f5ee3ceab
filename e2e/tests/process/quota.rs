//! A store that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etcd_e2e::client::{ZERO, delete_range};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::NO_SPACE;
use etcd_e2e::load::Writers;
use etcd_e2e::{Cluster, Options, Process, eventually};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmType, DefragmentRequest};

#[tokio::test]
async fn s34_full_store_can_be_cleared() {
    let mut cluster = Cluster::start(3, Options::single().args(["--quota-backend-bytes=8388608"]))
        .await
        .unwrap();
    let clients = cluster.clients();
    let value = vec![b'v'; 128 << 10];
    let mut stored = 0;
    loop {
        match clients[stored % 3]
            .put(format!("fill/{stored}"), &value)
            .await
        {
            Ok(_) => stored += 1,
            Err(status) => {
                NO_SPACE.is(&status);
                break;
            }
        }
        assert!(stored < 400, "a quota of 8 MiB holds no 50 MiB");
    }
    // Every member refuses, and says so, also after a restart.
    for client in &clients {
        eventually(
            AGREES_WITHIN,
            "the alarm everywhere",
            async || match client.put("k", "v").await {
                Err(status) if NO_SPACE.matches(&status) => Ok(()),
                outcome => Err(format!("{outcome:?}")),
            },
        )
        .await;
        NO_SPACE.check(client.grant(60, 0).await);
        // It refuses for its own size too, before it has heard of the alarm.
        eventually(AGREES_WITHIN, "NOSPACE in its status", async || {
            let errors = client.status().await.unwrap().errors;
            match errors.iter().any(|error| error.contains("NOSPACE")) {
                true => Ok(()),
                false => Err(errors),
            }
        })
        .await;
    }
    let alarms = clients[0]
        .alarm(AlarmAction::Get, 0, AlarmType::None)
        .await
        .unwrap()
        .alarms;
    assert!(
        !alarms.is_empty()
            && alarms
                .iter()
                .all(|alarm| alarm.alarm() == AlarmType::Nospace),
        "{alarms:?}"
    );
    cluster.members[0].restart().await.unwrap();
    NO_SPACE.check(clients[0].put("k", "v").await);
    // Reads, deletions, compaction and defragmentation go on, and make room.
    assert_eq!(clients[1].get("fill/0").await.unwrap().count, 1);
    let deleted = clients[1]
        .delete(delete_range("fill/", ZERO))
        .await
        .unwrap();
    // The put that was refused may have been stored all the same: the store was full when it was applied.
    let refused = deleted.deleted - i64::try_from(stored).unwrap();
    assert!((0..=1).contains(&refused), "{refused}");
    clients[1]
        .compact(deleted.header.unwrap().revision)
        .await
        .unwrap();
    for client in &clients {
        eventually(AGREES_WITHIN, "the space is given back", async || {
            // Each member compacts in its own time; only then there is something to give.
            let mut maintenance = client.maintenance();
            let defragmented = maintenance.defragment(DefragmentRequest {}).await;
            defragmented.map_err(|status| status.to_string())?;
            let status = client.status().await.map_err(|status| status.to_string())?;
            if status.db_size < 4 << 20 {
                Ok(())
            } else {
                Err(format!("{} bytes", status.db_size))
            }
        })
        .await;
    }
    // Each member that refused a write has raised an alarm of its own, also while the first are cleared.
    for client in &clients {
        eventually(AGREES_WITHIN, "writes again", async || {
            for alarm in clients[2]
                .alarm(AlarmAction::Get, 0, AlarmType::None)
                .await?
                .alarms
            {
                clients[2]
                    .alarm(AlarmAction::Deactivate, alarm.member_id, AlarmType::Nospace)
                    .await?;
            }
            client.put("k", "v").await
        })
        .await;
    }
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defragmentation_stops_neither_reads_nor_writes() {
    let server = Process::start(Options::single()).await.unwrap();
    let client = server.client();
    // 100 MiB, of which all but the last change of each key is dead.
    let value = vec![b'v'; 256 << 10];
    for number in 0..400 {
        client
            .put(format!("fill/{}", number % 40), &value)
            .await
            .unwrap();
    }
    let revision = client.revision().await.unwrap();
    client.compact(revision).await.unwrap();
    let before = client.status().await.unwrap();
    let writers = Writers::start(&[server.client()], 2, "load/");
    let (read, stop) = (server.client(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        while !stopped.load(Ordering::Relaxed) {
            let began = Instant::now();
            assert_eq!(read.get("fill/7").await.unwrap().count, 1);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    });
    eventually(AGREES_WITHIN, "writes are under way", async || {
        if writers.acknowledged() > 50 {
            Ok(())
        } else {
            Err(writers.acknowledged())
        }
    })
    .await;
    let (acknowledged, start) = (writers.acknowledged(), Instant::now());
    client
        .maintenance()
        .defragment(DefragmentRequest {})
        .await
        .unwrap();
    let took = start.elapsed();
    let during = writers.acknowledged() - acknowledged;
    stop.store(true, Ordering::Relaxed);
    let slowest = reader.await.unwrap();
    let ledger = writers.finish().await;
    eprintln!(
        "{took:?} for {} bytes, {during} writes meanwhile, longest gap {:?}, slowest read {slowest:?}",
        before.db_size, ledger.longest_gap
    );
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(during > 0, "no write in {took:?}");
    assert!(
        ledger.longest_gap < Duration::from_millis(500),
        "no write for {:?}",
        ledger.longest_gap
    );
    ledger.verify(&client, "load/").await;
    let after = client.status().await.unwrap();
    assert!(after.db_size < before.db_size / 2, "{before:?} {after:?}");
}

//! Members whose data differs although every checksum is right.

use std::path::Path;

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::CORRUPT;
use etcd_e2e::{Client, Cluster, Options, eventually, http};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmMember, AlarmType, DefragmentRequest};
use etcd_storage::disk::RealDisk;
use etcd_storage::manifest::Manifest;
use etcd_storage::segment::{Segment, SegmentWriter};

/// Replaces `from` by `to`, of the same length, in every stored value of a stopped
/// member, and writes the segments anew as if they had always been so.
fn damage(member: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let store = member.join("member").join("store");
    let manifest = Manifest::load(&RealDisk, &store).unwrap().unwrap();
    let mut changed = 0;
    for name in &manifest.segments {
        let path = store.join(name);
        let rewritten = store.join("rewritten");
        let segment = Segment::open(&RealDisk, &path).unwrap();
        let mut writer = SegmentWriter::create(&RealDisk, &rewritten).unwrap();
        for record in segment.scan(i64::MIN, i64::MAX) {
            let (meta, key, value) = record.unwrap();
            let mut value = value.to_vec();
            if let Some(at) = value.windows(from.len()).position(|part| part == from) {
                value[at..at + to.len()].copy_from_slice(to);
                changed += 1;
            }
            writer.push(&meta, &key, &value).unwrap();
        }
        writer.finish().unwrap();
        drop(segment);
        std::fs::rename(&rewritten, &path).unwrap();
    }
    assert_ne!(
        changed,
        0,
        "no value holds {:?}",
        String::from_utf8_lossy(from)
    );
}

/// Three members with ten keys, and a follower that has all of them in segments.
async fn three(args: &[&str]) -> (Cluster, usize) {
    let cluster = Cluster::start(3, Options::single().args(args.iter().copied()))
        .await
        .unwrap();
    let client = cluster.members[0].client();
    for number in 0..10 {
        client
            .put(format!("k/{number}"), format!("value-{number}"))
            .await
            .unwrap();
    }
    let place = cluster.follower().await;
    checkpoint(&cluster.members[place].client()).await;
    (cluster, place)
}

/// Defragmentation ends with a checkpoint of all that was applied before.
async fn checkpoint(client: &Client) {
    client.get("k/9").await.unwrap();
    client
        .maintenance()
        .defragment(DefragmentRequest {})
        .await
        .unwrap();
}

async fn alarms(client: &Client) -> Vec<AlarmMember> {
    let listed = client.alarm(AlarmAction::Get, 0, AlarmType::None).await;
    listed.unwrap().alarms
}

async fn corrupt(client: &Client, member_id: u64) {
    let expected = AlarmMember {
        member_id,
        alarm: AlarmType::Corrupt.into(),
    };
    eventually(AGREES_WITHIN, "the alarm CORRUPT", async || {
        let raised = alarms(client).await;
        if raised.is_empty() {
            return Err("no alarm".to_owned());
        }
        assert_eq!(raised, [expected]);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_a_member_that_differs_does_not_start() {
    let (mut cluster, place) = three(&["--feature-gates=InitialCorruptCheck=true"]).await;
    let id = cluster.id(place).await.unwrap();
    // Unharmed it starts.
    cluster.members[place].restart().await.unwrap();
    let log = cluster.members[place].log();
    assert!(
        log.contains("initial corruption checking passed; no corruption"),
        "{log}"
    );
    cluster.members[place].kill();
    let directory = cluster.members[place].data_dir();
    damage(&directory, b"value-4", b"value-x");
    cluster.members[place].spawn().unwrap();
    let status = cluster.members[place].exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = cluster.members[place].log();
    let line = format!("{id:x} found data inconsistency with peers");
    assert!(log.contains(&line), "no {line:?} in {log}");
    // The others go on, and nobody has voted for what it had.
    let client = cluster.members[(place + 1) % 3].client();
    client.put("k/10", "value-10").await.unwrap();
    assert!(alarms(&client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_the_periodic_check_ends_writes_and_names_the_member() {
    let (mut cluster, place) = three(&["--corrupt-check-time=1s"]).await;
    let id = cluster.id(place).await.unwrap();
    let clients = cluster.clients();
    let (first, second) = ((place + 1) % 3, (place + 2) % 3);
    // Equal members are left alone, whoever leads.
    let leader = cluster.leader().await;
    cluster.members[leader]
        .logged("\"number-of-peers-checked\":2", AGREES_WITHIN)
        .await;
    assert!(alarms(&clients[leader]).await.is_empty());

    cluster.members[place].kill();
    damage(&cluster.members[place].data_dir(), b"value-4", b"value-x");
    cluster.members[place].spawn().unwrap();
    corrupt(&clients[first], id).await;

    // Every member refuses and says so; reads go on. Also after a restart.
    cluster.members[second].restart().await.unwrap();
    for (place, client) in clients.iter().enumerate() {
        let url = cluster.members[place].client_url();
        eventually(AGREES_WITHIN, "writes are refused", async || {
            match client.put("k", "v").await {
                Err(status) if CORRUPT.matches(&status) => Ok(()),
                outcome => Err(format!("{outcome:?}")),
            }
        })
        .await;
        client.get("k/0").await.unwrap();
        let (code, body) = http::get(&format!("{url}/health")).await.unwrap();
        assert_eq!(
            (code, body.trim()),
            (503, r#"{"health":"false","reason":"ALARM CORRUPT"}"#)
        );
        let (code, body) = http::get(&format!("{url}/readyz")).await.unwrap();
        assert_eq!(code, 503);
        assert!(body.contains("[-]data_corruption failed"), "{body}");
        let (code, _) = http::get(&format!("{url}/livez")).await.unwrap();
        assert_eq!(code, 200);
    }
    // The way out: the member goes, then the alarm.
    cluster.remove(first, id).await;
    let client = &clients[first];
    // It may have led: then another does first.
    eventually(AGREES_WITHIN, "writes again", async || {
        client
            .alarm(AlarmAction::Deactivate, id, AlarmType::Corrupt)
            .await?;
        client.put("k", "v").await.map(drop)
    })
    .await;
    let checks = || {
        let logs = [first, second].map(|place| cluster.members[place].log());
        let checks = logs.map(|log| log.matches("finished peer corruption check").count());
        checks[0] + checks[1]
    };
    let before = checks();
    eventually(AGREES_WITHIN, "two more checks", async || {
        if checks() >= before + 2 {
            Ok(())
        } else {
            Err(checks())
        }
    })
    .await;
    assert!(alarms(client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_b164_the_hash_of_a_compaction_names_the_member() {
    let (mut cluster, place) = three(&[
        "--feature-gates=CompactHashCheck=true",
        "--compact-hash-check-time=1s",
    ])
    .await;
    let id = cluster.id(place).await.unwrap();
    let client = cluster.members[(place + 1) % 3].client();
    let compact = async |to: i64| {
        client.put("k/0", format!("value-{to}")).await.unwrap();
        client.compact(to).await.unwrap();
    };
    compact(3).await;
    let leader = cluster.leader().await;
    cluster.members[leader]
        .logged("successfully checked hash on whole cluster", AGREES_WITHIN)
        .await;
    assert!(alarms(&client).await.is_empty());

    checkpoint(&cluster.members[place].client()).await;
    cluster.members[place].kill();
    damage(&cluster.members[place].data_dir(), b"value-4", b"value-x");
    cluster.members[place].spawn().unwrap();
    cluster.members[place].ready().await.unwrap();
    compact(8).await;
    corrupt(&client, id).await;
    CORRUPT.check(client.compact(9).await);
}

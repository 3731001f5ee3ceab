//! Members whose data differs although every checksum is right.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use etcd_e2e::client::{get, op, prefix, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::CORRUPT;
use etcd_e2e::{Client, Cluster, Options, Process, eventually, http, watch};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{
    AlarmMember, AlarmType, DefragmentRequest, HashRequest, RangeRequest, SnapshotRequest,
    TxnRequest, WatchCreateRequest,
};
use etcd_storage::disk::RealDisk;
use etcd_storage::manifest::Manifest;
use etcd_storage::segment::{Segment, SegmentWriter};
use serde_json::Value;

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

/// Waits until these members have compared all members so many times more.
async fn more_checks(cluster: &Cluster, places: &[usize], more: usize) {
    let checks = || -> usize {
        let logs = places.iter().map(|place| cluster.members[*place].log());
        logs.map(|log| log.matches("finished peer corruption check").count())
            .sum()
    };
    let before = checks();
    eventually(AGREES_WITHIN, "more checks", async || {
        if checks() >= before + more {
            Ok(())
        } else {
            Err(checks())
        }
    })
    .await;
}

/// Makes that member the leader.
async fn lead(cluster: &Cluster, place: usize) {
    let leader = cluster.leader().await;
    if leader != place {
        let id = cluster.id(place).await.unwrap();
        let moved = cluster.members[leader].client().move_leader(id).await;
        moved.unwrap();
    }
    assert_eq!(cluster.leader().await, place);
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

    // While another member is away nobody else is suspected, though of two that differ
    // neither has a majority: the alarm has told of the one.
    lead(&cluster, first).await;
    cluster.members[second].kill();
    more_checks(&cluster, &[first], 3).await;
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
    more_checks(&cluster, &[first, second], 2).await;
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

/// Flips one bit of a value where it lies in a stopped member's store; the segment.
fn flip(member: &Path, value: &[u8]) -> PathBuf {
    let store = member.join("member").join("store");
    let manifest = Manifest::load(&RealDisk, &store).unwrap().unwrap();
    for name in &manifest.segments {
        let path = store.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(value.len()).position(|part| part == value) {
            bytes[at + value.len() - 1] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("no value {:?}", String::from_utf8_lossy(value));
}

fn serializable(request: RangeRequest) -> RangeRequest {
    RangeRequest {
        serializable: true,
        ..request
    }
}

/// Every way in which a client reaches a record by one member.
#[derive(Clone, Copy, Debug)]
enum Way {
    Get,
    List,
    Stream,
    Txn,
    Watch,
    Hash,
    HashKv,
    Snapshot,
    Defragment,
}

impl Way {
    const ALL: [Way; 9] = [
        Way::Get,
        Way::List,
        Way::Stream,
        Way::Txn,
        Way::Watch,
        Way::Hash,
        Way::HashKv,
        Way::Snapshot,
        Way::Defragment,
    ];

    /// Goes for what is damaged, of which nothing may come; the refusal.
    async fn is_refused(self, client: &Client) -> tonic::Status {
        let refused = match self {
            Way::Get => client.range(serializable(get("k/4"))).await.err(),
            Way::List => client.range(serializable(prefix("k/"))).await.err(),
            Way::Stream => {
                let asked = client.kv().range_stream(serializable(prefix("k/"))).await;
                match asked {
                    Ok(stream) => end(stream.into_inner()).await,
                    Err(status) => Some(status),
                }
            }
            Way::Txn => {
                let request = TxnRequest {
                    success: vec![op(serializable(get("k/4")))],
                    ..TxnRequest::default()
                };
                client.txn(request).await.err()
            }
            Way::Watch => {
                let mut watch = client.watch();
                let request = WatchCreateRequest {
                    start_revision: 1,
                    ..watch::key("k/4")
                };
                watch.create(request).await;
                loop {
                    match watch.try_next(AGREES_WITHIN).await {
                        Ok(Some(response)) => assert!(response.events.is_empty()),
                        // It stays silent until the member ends.
                        Ok(None) => panic!("the watch goes on"),
                        Err(status) => break Some(status),
                    }
                }
            }
            Way::Hash => client.maintenance().hash(HashRequest {}).await.err(),
            Way::HashKv => client.hash_kv(0).await.err(),
            Way::Snapshot => {
                let stream = client.maintenance().snapshot(SnapshotRequest {}).await;
                end(stream.unwrap().into_inner()).await
            }
            Way::Defragment => {
                // The fourth segment: they are joined.
                client.put("k/9", vec![b'v'; 2000]).await.unwrap();
                let mut api = client.maintenance();
                api.defragment(DefragmentRequest {}).await.err()
            }
        };
        refused.unwrap_or_else(|| panic!("{self:?} was served"))
    }
}

/// How a stream ends; `None` if with all of it.
async fn end<T>(mut stream: tonic::Streaming<T>) -> Option<tonic::Status> {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Waits until a member has ended for its damaged segment.
async fn quarantined(member: &mut Process, segment: &Path, what: &dyn Debug) -> PathBuf {
    let ended = member.exit(AGREES_WITHIN).await.unwrap();
    let log = member.log();
    assert_eq!(ended.code(), Some(1), "{what:?}: {log}");
    let last = log.lines().rfind(|line| line.contains("\"fatal\""));
    let line: Value = serde_json::from_str(last.unwrap()).unwrap();
    let told = line["msg"].as_str().unwrap();
    assert!(told.contains(segment.to_str().unwrap()), "{what:?}: {told}");
    let note = segment.with_file_name("quarantine");
    assert!(note.exists(), "{what:?}: {told}");
    note
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_a_flipped_bit_is_never_served_nor_replicated_and_the_member_is_replaced() {
    let (mut cluster, place) = three(&[]).await;
    let id = cluster.id(place).await.unwrap();
    let others = [(place + 1) % 3, (place + 2) % 3];
    let client = cluster.members[place].client();
    for number in 5..7 {
        let value = vec![b'v'; 2000];
        client.put(format!("k/{number}"), value).await.unwrap();
        checkpoint(&client).await;
    }
    cluster.members[place].kill();
    let segment = flip(&cluster.members[place].data_dir(), b"value-4");
    for way in Way::ALL {
        let member = &mut cluster.members[place];
        member.spawn().unwrap();
        member.ready().await.unwrap();
        let client = member.client();
        let sound = client.range(serializable(get("k/3"))).await.unwrap();
        assert_eq!(sound.kvs[0].value, "value-3", "{way:?}");
        way.is_refused(&client).await;
        let note = quarantined(member, &segment, &way).await;
        std::fs::remove_file(note).unwrap();
    }

    // It leads, and is to bring a new member up to date: it sends nothing of what it has,
    // and another does.
    cluster.members[place].spawn().unwrap();
    cluster.members[place].ready().await.unwrap();
    eventually(AGREES_WITHIN, "the damaged member leads", async || {
        let leader = cluster.leader().await;
        if leader == place {
            return Ok(());
        }
        let client = cluster.members[leader].client();
        Err(client.move_leader(id).await)
    })
    .await;
    let added = cluster.add(others[0], true).await.unwrap();
    cluster.members[3].spawn().unwrap();
    let note = quarantined(&mut cluster.members[place], &segment, &"an image").await;
    cluster.members[3]
        .logged("ready to serve client requests", AGREES_WITHIN)
        .await;

    // A change whose answer is of the old value is agreed on without it.
    std::fs::remove_file(note).unwrap();
    cluster.members[place].spawn().unwrap();
    cluster.members[place].ready().await.unwrap();
    let mut change = put("k/4", "value-x");
    change.prev_kv = true;
    let client = cluster.members[others[0]].client();
    let before = client.put_with(change).await.unwrap().prev_kv.unwrap();
    assert_eq!(before.value, "value-4");
    quarantined(&mut cluster.members[place], &segment, &"a change").await;

    // A start does not help, the member is to be replaced.
    cluster.members[place].spawn().unwrap();
    let ended = cluster.members[place].exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(ended.code(), Some(1));
    let log = cluster.members[place].log();
    let last = log.lines().rfind(|line| line.contains("\"fatal\""));
    assert!(
        last.unwrap().contains("remove it from the cluster"),
        "{log}"
    );
    cluster.remove(others[0], id).await;
    cluster.promote(others[0], added.id).await;
    cluster.equal().await;
    let now = cluster.members[3]
        .client()
        .range(prefix("k/"))
        .await
        .unwrap();
    assert_eq!((now.count, &now.kvs[4].value[..]), (10, &b"value-x"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_a_member_alone_goes_on_with_what_is_sound() {
    let mut member = Process::start(Options::single()).await.unwrap();
    let client = member.client();
    for number in 0..10 {
        let value = format!("value-{number}");
        client.put(format!("k/{number}"), value).await.unwrap();
    }
    checkpoint(&client).await;
    member.kill();
    flip(&member.data_dir(), b"value-4");
    for start in 0..2 {
        member.spawn().unwrap();
        member.ready().await.unwrap();
        let client = member.client();
        for way in [Way::Get, Way::List, Way::Hash, Way::HashKv, Way::Snapshot] {
            let refused = way.is_refused(&client).await;
            let reason = refused.message();
            assert!(
                reason.contains("revision 6.0 has changed"),
                "{way:?}: {reason}"
            );
        }
        let told = "what is damaged is neither served nor sent to other members";
        eventually(AGREES_WITHIN, "the damage is told", async || {
            match member.log().matches(told).count() {
                count if count == start + 1 => Ok(()),
                count => Err(count),
            }
        })
        .await;
        // Whoever writes it anew has it again.
        client.put("k/3", "again").await.unwrap();
        let sound = client.get("k/3").await.unwrap();
        assert_eq!(sound.kvs[0].value, "again");
        Way::Get.is_refused(&client).await;
        assert!(member.is_running());
        member.kill();
    }
    member.spawn().unwrap();
    member.ready().await.unwrap();
    let client = member.client();
    client.put("k/4", "again").await.unwrap();
    let written = client.get("k/4").await.unwrap();
    assert_eq!(written.kvs[0].value, "again");
}

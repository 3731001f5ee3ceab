//! Alarms, snapshots, status, hashes and metrics.

use std::time::Duration;

use etcd_e2e::client::{ZERO, delete, delete_range, get, op, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::{CORRUPT, NO_SPACE};
use etcd_e2e::{Client, Cluster, Options, eventually, http};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{
    AlarmMember, AlarmType, DefragmentRequest, RangeRequest, SnapshotRequest, TxnRequest,
};
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataValue;

use crate::pool::{fresh, server, three};

fn txn(request: impl Into<etcd_e2e::client::Operation>) -> TxnRequest {
    TxnRequest {
        success: vec![op(request)],
        ..TxnRequest::default()
    }
}

async fn alarms(client: &Client) -> Vec<AlarmMember> {
    let listed = client.alarm(AlarmAction::Get, 0, AlarmType::None).await;
    listed.unwrap().alarms
}

fn alarm(member_id: u64, alarm: AlarmType) -> AlarmMember {
    AlarmMember {
        member_id,
        alarm: alarm.into(),
    }
}

/// Writes 128 KiB at a time until the store is full; how many were stored.
async fn fill(client: &Client) -> usize {
    let value = vec![b'v'; 128 << 10];
    for stored in 0..400 {
        if let Err(status) = client.put(format!("fill/{stored}"), &value).await {
            NO_SPACE.is(&status);
            return stored;
        }
    }
    panic!("a quota of 8 MiB holds no 50 MiB");
}

const QUOTA: &str = "--quota-backend-bytes=8388608";

#[tokio::test]
async fn b158_no_space_everywhere_and_after_a_restart() {
    let mut cluster = Cluster::start(3, Options::single().args([QUOTA]))
        .await
        .unwrap();
    let clients = cluster.clients();
    fill(&clients[0]).await;
    let refused = async |client: &Client| {
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
        NO_SPACE.check(client.kv().txn(txn(put("k", "v"))).await);
    };
    for client in &clients {
        refused(client).await;
        assert_eq!(client.get("fill/0").await.unwrap().count, 1);
    }
    let raised = alarms(&clients[1]).await;
    assert!(!raised.is_empty());
    assert!(raised.iter().all(|a| a.alarm() == AlarmType::Nospace));
    // Deletions go on, by themselves and in transactions.
    let deleted = clients[1].delete(delete("fill/1")).await.unwrap();
    assert_eq!(deleted.deleted, 1);
    clients[2].kv().txn(txn(delete("fill/2"))).await.unwrap();
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.spawn().unwrap();
    }
    for member in &mut cluster.members {
        member.ready().await.unwrap();
    }
    for client in &clients {
        refused(client).await;
        let (listed, status) = (alarms(client).await, client.status().await.unwrap());
        assert!(raised.iter().all(|a| listed.contains(a)), "{listed:?}");
        let told = status.errors.iter().any(|e| e.contains("alarm:NOSPACE"));
        assert!(told, "{:?}", status.errors);
    }
}

#[tokio::test]
async fn b159_disarming_restores_writes() {
    let (_process, client) = fresh(Options::single().args([QUOTA])).await;
    fill(&client).await;
    NO_SPACE.check(client.put("k", "v").await);
    let raised = alarms(&client).await;
    let id = client.status().await.unwrap().header.unwrap().member_id;
    assert_eq!(raised, [alarm(id, AlarmType::Nospace)]);
    // Room alone is not enough.
    let deleted = client.delete(delete_range("fill/", ZERO)).await.unwrap();
    let revision = deleted.header.unwrap().revision;
    client.compact(revision).await.unwrap();
    let mut maintenance = client.maintenance();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    NO_SPACE.check(client.put("k", "v").await);
    let disarmed = client
        .alarm(AlarmAction::Deactivate, id, AlarmType::Nospace)
        .await
        .unwrap();
    assert_eq!(disarmed.alarms, raised);
    client.put("k", "v").await.unwrap();
    assert!(alarms(&client).await.is_empty());
    // A second time there is nothing to disarm.
    let again = client
        .alarm(AlarmAction::Deactivate, id, AlarmType::Nospace)
        .await
        .unwrap();
    assert!(again.alarms.is_empty());
}

#[tokio::test]
async fn b159_writes_wait_for_the_last_alarm() {
    let server = server().await;
    let client = &server.client;
    for member in [7, 8] {
        let raised = client
            .alarm(AlarmAction::Activate, member, AlarmType::Nospace)
            .await
            .unwrap();
        assert_eq!(raised.alarms, [alarm(member, AlarmType::Nospace)]);
    }
    // Of no kind there is no alarm.
    let none = client
        .alarm(AlarmAction::Activate, 7, AlarmType::None)
        .await
        .unwrap();
    assert!(none.alarms.is_empty());
    NO_SPACE.check(client.put("k", "v").await);
    for (member, writes) in [(7, false), (8, true)] {
        client
            .alarm(AlarmAction::Deactivate, member, AlarmType::Nospace)
            .await
            .unwrap();
        let outcome = client.put("k", "v").await;
        assert_eq!(outcome.is_ok(), writes, "{outcome:?}");
    }
}

#[tokio::test]
async fn b160_corrupt_refuses_every_change() {
    let (mut process, client) = fresh(Options::single()).await;
    client.put("k", "v").await.unwrap();
    client.grant(60, 77).await.unwrap();
    let id = client.status().await.unwrap().header.unwrap().member_id;
    let raised = client
        .alarm(AlarmAction::Activate, id, AlarmType::Corrupt)
        .await
        .unwrap();
    assert_eq!(raised.alarms, [alarm(id, AlarmType::Corrupt)]);
    for restart in [false, true] {
        if restart {
            process.restart().await.unwrap();
        }
        CORRUPT.check(client.put("k", "w").await);
        CORRUPT.check(client.delete(delete("k")).await);
        CORRUPT.check(client.kv().txn(txn(put("k", "w"))).await);
        CORRUPT.check(client.kv().txn(txn(delete("k"))).await);
        CORRUPT.check(client.compact(2).await);
        CORRUPT.check(client.grant(60, 0).await);
        CORRUPT.check(client.revoke(77).await);
        // What changes nothing is answered.
        assert_eq!(client.get("k").await.unwrap().count, 1);
        let local = RangeRequest {
            serializable: true,
            ..get("k")
        };
        assert_eq!(client.range(local.clone()).await.unwrap().count, 1);
        client.kv().txn(txn(get("k"))).await.unwrap();
        assert_eq!(client.keep_alive(77).await.unwrap().ttl, 60);
        assert_eq!(client.time_to_live(77, true).await.unwrap().granted_ttl, 60);
        assert_eq!(client.members().await.unwrap().len(), 1);
        assert_eq!(alarms(&client).await, [alarm(id, AlarmType::Corrupt)]);
        let errors = client.status().await.unwrap().errors;
        assert!(errors[0].contains("alarm:CORRUPT"), "{errors:?}");
        let url = process.client_url();
        let (code, body) = http::get(&format!("{url}/health")).await.unwrap();
        let unhealthy = r#"{"health":"false","reason":"ALARM CORRUPT"}"#;
        assert_eq!((code, body.trim()), (503, unhealthy));
        let (code, body) = http::get(&format!("{url}/readyz")).await.unwrap();
        assert_eq!(code, 503);
        assert!(body.contains("[-]data_corruption failed: alarm activated: CORRUPT"));
        let livez = http::get(&format!("{url}/livez")).await.unwrap();
        assert_eq!(livez, (200, "ok\n".to_owned()));
    }
    client
        .alarm(AlarmAction::Deactivate, id, AlarmType::Corrupt)
        .await
        .unwrap();
    client.put("k", "w").await.unwrap();
    client.revoke(77).await.unwrap();
}

#[tokio::test]
async fn b161_snapshot_ends_with_its_hash() {
    let server = server().await;
    let client = &server.client;
    client.put("k", vec![b'v'; 100_000]).await.unwrap();
    let version = client.status().await.unwrap().storage_version;
    let answer = client.maintenance().snapshot(SnapshotRequest {}).await;
    let mut stream = answer.unwrap().into_inner();
    let (mut hash, mut last, mut left) = (Sha256::new(), Vec::new(), u64::MAX);
    let mut bytes = 0;
    while let Some(part) = stream.message().await.unwrap() {
        assert!(part.header.is_none());
        assert_eq!(part.version, version);
        assert!(part.remaining_bytes <= left);
        assert!(part.blob.len() <= 32 << 10, "{}", part.blob.len());
        // What came before was no hash.
        hash.update(&last);
        bytes += last.len();
        left = part.remaining_bytes;
        last = part.blob.to_vec();
    }
    assert_eq!(left, 0);
    assert_eq!(last, hash.finalize().to_vec());
    assert_eq!(bytes % 512, 0, "{bytes}");
}

#[tokio::test]
async fn b163_status() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let leader = cluster.leader().await;
    cluster.members[leader]
        .client()
        .put("k", "v")
        .await
        .unwrap();
    let learner = cluster.add(leader, true).await.unwrap();
    cluster.members[3].spawn().unwrap();
    cluster.members[3].serving().await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (place, client) in cluster.clients().iter().enumerate() {
        let status = eventually(AGREES_WITHIN, "a leader is known", async || {
            let status = client.status().await.map_err(|e| e.to_string())?;
            match status.leader {
                0 => Err("none".to_owned()),
                _ => Ok(status),
            }
        })
        .await;
        assert_eq!(status.db_size_quota, 2 << 30);
        assert_eq!(status.is_learner, place == 3);
        assert_eq!(status.version, "3.7.3");
        assert!(status.db_size > 0 && status.db_size_in_use <= status.db_size);
        assert!(status.raft_applied_index <= status.raft_index);
        assert!(status.errors.is_empty(), "{:?}", status.errors);
        assert!(!status.downgrade_info.unwrap().enabled);
        ids.insert(status.header.unwrap().member_id);
    }
    assert_eq!(ids.len(), 4);
    assert!(ids.contains(&learner.id));
    let (_limited, client) = fresh(Options::single().args([QUOTA])).await;
    assert_eq!(client.status().await.unwrap().db_size_quota, 8 << 20);
}

#[tokio::test]
async fn b164_hashes_of_compactions_agree() {
    let cluster = three().await;
    let clients = cluster.clients();
    let mut previous = None;
    for round in 0..3 {
        let mut revision = 0;
        for number in 0..20 {
            let put = clients[number % 3]
                .put(format!("k/{}", number % 7), format!("{round}/{number}"))
                .await;
            revision = put.unwrap().header.unwrap().revision;
        }
        let to = revision - 3;
        clients[0].compact(to).await.unwrap();
        // It is of the moment before, and kept when the revision itself is gone.
        let hash = eventually(AGREES_WITHIN, "one hash of all members", async || {
            let mut hashes = Vec::new();
            for client in &clients {
                let hash = client.hash_kv(to).await.map_err(|e| e.to_string())?;
                hashes.push((hash.hash, hash.compact_revision, hash.hash_revision));
            }
            let old = previous.is_none_or(|previous| hashes[0].1 == previous);
            match hashes.windows(2).all(|pair| pair[0] == pair[1]) && old {
                true => Ok(hashes[0]),
                false => Err(format!("{hashes:?}")),
            }
        })
        .await;
        assert_eq!(hash.2, to);
        previous = Some(to);
        clients[1].compact(to + 1).await.unwrap();
        previous = previous.map(|to| to + 1);
        for client in &clients {
            eventually(AGREES_WITHIN, "the hash is remembered", async || {
                let kept = client.hash_kv(to).await.map_err(|e| e.to_string())?;
                let kept = (kept.hash, kept.compact_revision, kept.hash_revision);
                if kept == hash {
                    Ok(())
                } else {
                    Err(format!("{kept:?}"))
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn b165_metrics() {
    let (process, client) = fresh(Options::single().args([QUOTA])).await;
    let url = process.client_url();
    let metric = async |name: &str| http::metric(&url, name).await.unwrap().unwrap_or(0.0);
    client.put("size", "v").await.unwrap();
    assert!(metric("etcd_mvcc_db_total_size_in_bytes").await > 0.0);
    assert!(metric("etcd_mvcc_db_total_size_in_use_in_bytes").await > 0.0);
    let quota = metric("etcd_server_quota_backend_bytes").await;
    assert_eq!(quota, f64::from(8 << 20));

    let histograms = [
        "etcd_server_range_duration_seconds_count",
        "etcd_server_request_duration_seconds_count",
        "etcd_mvcc_hash_rev_duration_seconds_count",
        "etcd_mvcc_hash_duration_seconds_count",
        "etcd_disk_backend_defrag_duration_seconds_count",
        "etcd_disk_backend_snapshot_duration_seconds_count",
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "etcd_debugging_lease_ttl_total_count",
        "etcd_server_health_failures",
        "etcd_server_health_success",
    ];
    let mut before = Vec::new();
    for name in histograms {
        before.push(metric(name).await);
    }
    client.put("k", "v").await.unwrap();
    client.put("k", "w").await.unwrap();
    client.get("k").await.unwrap();
    client.grant(60, 0).await.unwrap();
    client.compact(4).await.unwrap();
    client.hash_kv(0).await.unwrap();
    let mut maintenance = client.maintenance();
    let hash = etcd_proto::etcdserverpb::HashRequest {};
    maintenance.hash(hash).await.unwrap();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    let mut image = maintenance
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    while image.message().await.unwrap().is_some() {}
    let health = async || http::get(&format!("{url}/health")).await.unwrap().0;
    assert_eq!(health().await, 200);
    client
        .alarm(AlarmAction::Activate, 7, AlarmType::Corrupt)
        .await
        .unwrap();
    assert_eq!(health().await, 503);
    for (name, before) in histograms.into_iter().zip(before) {
        // The end of an image is counted after the client has it.
        eventually(Duration::from_secs(10), name, async || {
            let now = metric(name).await;
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
    }
    let (_, text) = http::get(&format!("{url}/metrics")).await.unwrap();
    for line in [
        r#"etcd_server_request_duration_seconds_count{success="true",type="Put"} 3"#,
        r#"etcd_server_request_duration_seconds_count{success="true",type="Compaction"} 1"#,
        r#"etcd_server_range_duration_seconds_count{success="true"}"#,
        r#"etcd_debugging_server_alarms{alarm_type="CORRUPT",server_id="7"} 1"#,
        "etcd_debugging_mvcc_total_put_size_in_bytes 9",
        "etcd_debugging_mvcc_db_compaction_keys_total 1",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn b165_versions_of_clients() {
    let (process, client) = fresh(Options::single()).await;
    let mut request = tonic::Request::new(get("k"));
    let version = MetadataValue::from_static("3.6");
    request.metadata_mut().insert("client-api-version", version);
    client.kv().range(request).await.unwrap();
    let url = format!("{}/metrics", process.client_url());
    let (_, text) = http::get(&url).await.unwrap();
    let line = r#"etcd_server_client_requests_total{client_api_version="3.6",type="unary"} 1"#;
    assert!(text.contains(line), "{text}");
}

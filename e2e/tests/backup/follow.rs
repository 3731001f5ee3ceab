//! Increments, and restores to any revision and time between two backups.

use std::time::Duration;

use etcd_e2e::client::{delete, op, put};
use etcd_e2e::compare::txn;
use etcd_e2e::pod::Running;
use etcd_e2e::{Client, Gate, Pod, Process, Target, Way, eventually};
use serde_json::{Value, json};

use crate::world::{
    KEYS, cluster, etcd, everything, folder, history, minio, restored, s3, snapshot, target, voters,
};

async fn told(pod: &Pod, member: &Process) -> Value {
    json!({
        "cluster": cluster(member).await,
        "voters": voters(&[member]),
        "destination": pod.destination,
        "maxLagSeconds": 1,
    })
}

/// Waits until all is stored up to `revision`.
async fn stored(run: &mut Running, revision: i64) -> Value {
    run.until("it is stored", |shown| {
        shown["following"]["storedRevision"].as_i64() >= Some(revision)
    })
    .await
    .unwrap()["following"]
        .clone()
}

/// Some changes of every kind; the revision after them.
async fn changes(client: &Client, round: i64) -> i64 {
    for number in 0..5 {
        client
            .put(format!("k/{}", number % 3), format!("{round}-{number}"))
            .await
            .unwrap();
    }
    client.delete(delete("k/1")).await.unwrap();
    client.grant(700, 100 + round).await.unwrap();
    let mut leased = put(format!("leased/{round}"), "x");
    leased.lease = 100 + round;
    client.put_with(leased).await.unwrap();
    let both = txn(
        [],
        [op(put("t/1", round.to_string())), op(put("t/2", "2"))],
        [],
    );
    client.txn(both).await.unwrap();
    if round == 2 {
        client.revoke(101).await.unwrap();
    }
    client.revision().await.unwrap()
}

#[tokio::test]
async fn any_revision_since_the_backup_is_restored_hash_for_hash() {
    for from in [Target::Ours, Target::Stock] {
        let (pod, bucket) = s3(&format!("follow-{from}")).await;
        pod.write("encryption-key/age.key", KEYS[0]).unwrap();
        let member = etcd(from).await;
        let client = member.client();
        history(&client).await;
        let made = pod
            .succeed("snapshot", &snapshot(&pod, &member, "full").await)
            .await
            .unwrap();
        let base = made["artifact"]["revision"].as_i64().unwrap();
        let mut run_told = told(&pod, &member).await;
        run_told["encrypted"] = json!(true);
        let mut run = pod.start("follow", &run_told).unwrap();
        let mut last = base;
        for round in 1..=3 {
            last = changes(&client, round).await;
            stored(&mut run, last).await;
        }
        // What the cluster says of each revision while it can.
        let mut hashes = Vec::new();
        for revision in base..=last {
            hashes.push((revision, client.hash_kv(revision).await.unwrap().hash));
        }
        for (revision, hash) in hashes.iter().rev().step_by(5) {
            let source = target(&pod, json!({"revision": revision}));
            let copy = restored(&pod.another().unwrap(), Target::Ours, source, 0).await;
            let found = copy.member.client().hash_kv(0).await.unwrap();
            assert_eq!(
                (found.header.unwrap().revision, found.hash),
                (*revision, *hash),
                "{from}"
            );
            assert_eq!(copy.report["reach"]["revision"], *revision);
        }
        // Leases: those that were there, and none that had ended.
        let source = target(&pod, json!("latest"));
        let copy = restored(&pod.another().unwrap(), Target::Stock, source, 0).await;
        let restored_client = copy.member.client();
        assert_eq!(
            everything(&restored_client).await,
            everything(&client).await,
            "{from}"
        );
        let leases = |leases: etcd_proto::etcdserverpb::LeaseLeasesResponse| {
            let mut ids: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
            ids.sort_unstable();
            ids
        };
        let ask = etcd_proto::etcdserverpb::LeaseLeasesRequest {};
        let there = client.lease().lease_leases(ask).await.unwrap().into_inner();
        let here = restored_client
            .lease()
            .lease_leases(ask)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(leases(here), leases(there), "{from}");
        assert_eq!(
            restored_client
                .time_to_live(103, false)
                .await
                .unwrap()
                .granted_ttl,
            700
        );
        // A compaction comes along.
        client.compact(last - 3).await.unwrap();
        let last = changes(&client, 4).await;
        stored(&mut run, last).await;
        let hash = client.hash_kv(0).await.unwrap();
        let copy = restored(
            &pod.another().unwrap(),
            Target::Ours,
            target(&pod, json!({"revision": last})),
            0,
        )
        .await;
        let found = copy.member.client().hash_kv(0).await.unwrap();
        assert_eq!(
            (found.hash, found.compact_revision),
            (hash.hash, hash.compact_revision),
            "{from}"
        );
        let outcome = run.terminate().await.unwrap();
        assert_eq!(
            outcome.answer["follow"]["storedRevision"], last,
            "{}",
            outcome.log
        );
        let keys = bucket.keys("etcd/demo/increments/").await.unwrap();
        assert!(keys.len() >= 4, "{keys:?}");
        let list = pod
            .succeed("list", &json!({"destination": pod.destination}))
            .await
            .unwrap();
        let span = &list["increments"][0];
        assert_eq!(
            (&span["afterRevision"], &span["revision"]),
            (&json!(base), &json!(last))
        );
    }
}

#[tokio::test]
async fn a_time_between_two_changes_is_restored_to_the_first() {
    let pod = Pod::claim().unwrap();
    let member = etcd(Target::Ours).await;
    let client = member.client();
    client.put("k", "0").await.unwrap();
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let mut run = pod.start("follow", &told(&pod, &member).await).unwrap();
    let mut times = Vec::new();
    for number in 1..=3 {
        client.put("k", number.to_string()).await.unwrap();
        let revision = client.revision().await.unwrap();
        run.until("it is seen", |shown| {
            shown["following"]["revision"].as_i64() >= Some(revision)
        })
        .await
        .unwrap();
        times.push((jiff::Timestamp::now(), revision));
        // Marks of time are half a second apart.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    stored(&mut run, times[2].1).await;
    for (time, revision) in &times[..2] {
        let source = target(&pod, json!({"time": time.to_string()}));
        let verified = pod
            .succeed("verify", &json!({"source": source}))
            .await
            .unwrap();
        assert_eq!(verified["reach"]["revision"], *revision, "at {time}");
    }
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let source = target(&pod, json!({"time": later.to_string()}));
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "TargetOutOfReach");
    let source = target(&pod, json!({"revision": 1}));
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "NotFound");
    let source = json!({"backup": {"destination": pod.destination, "folder": "full", "target": {"revision": 1}}});
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "TargetOutOfReach");
}

#[tokio::test]
async fn a_follower_that_is_killed_or_doubled_loses_and_repeats_nothing() {
    let (pod, _) = s3("follow-killed").await;
    let member = etcd(Target::Ours).await;
    let client = member.client();
    history(&client).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let told = told(&pod, &member).await;
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..600 {
                client
                    .put(format!("w/{}", number % 50), number.to_string())
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    for _ in 0..2 {
        let mut run = pod.start("follow", &told).unwrap();
        run.until("one is stored", |shown| {
            shown["following"]["increments"].as_i64() >= Some(1)
        })
        .await
        .unwrap();
        run.kill();
    }
    let other = pod.another().unwrap();
    let (mut one, mut two) = (
        pod.start("follow", &told).unwrap(),
        other.start("follow", &told).unwrap(),
    );
    writer.await.unwrap();
    let last = client.revision().await.unwrap();
    stored(&mut one, last).await;
    stored(&mut two, last).await;
    drop((one, two));
    let source = target(&pod, json!({"revision": last}));
    let copy = restored(&pod, Target::Ours, source, 0).await;
    assert_eq!(
        copy.member.client().hash_kv(0).await.unwrap().hash,
        client.hash_kv(0).await.unwrap().hash
    );
}

#[tokio::test]
async fn o26_while_the_store_is_away_the_backlog_is_bounded_and_a_gap_is_told() {
    let minio = minio().await;
    minio.bucket("backlog").await.unwrap();
    let gate = Gate::open(&minio.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let mut pod = Pod::s3(minio, Some(&endpoint), "backlog", "etcd/demo").unwrap();
    pod.patience = 2;
    let member = etcd(Target::Ours).await;
    let client = member.client();
    client.put("k", "0").await.unwrap();
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let mut told = told(&pod, &member).await;
    told["maxBacklogBytes"] = json!(1 << 20);
    let mut run = pod.start("follow", &told).unwrap();
    run.until("it follows", |shown| {
        shown["following"]["revision"].as_i64() > Some(1)
    })
    .await
    .unwrap();
    gate.set(Way::Shut);
    let value = vec![b'x'; 64 << 10];
    for number in 0..64 {
        client
            .put(format!("v/{number}"), value.clone())
            .await
            .unwrap();
    }
    let last = client.revision().await.unwrap();
    let shown = run
        .until("the backlog is full", |shown| {
            shown["following"]["backlogBytes"].as_u64() >= Some(1 << 20)
                && !shown["trouble"].is_null()
        })
        .await
        .unwrap();
    assert!(
        shown["following"]["backlogBytes"].as_u64() < Some(4 << 20),
        "{shown}"
    );
    assert!(
        shown["following"]["revision"].as_i64() < Some(last),
        "{shown}"
    );
    // The cluster is well, and forgets what was not read.
    client.put("alive", "x").await.unwrap();
    gate.set(Way::Open);
    let last = client.revision().await.unwrap();
    let following = stored(&mut run, last).await;
    assert!(following["fullBackupNeeded"].is_null(), "{following}");

    gate.set(Way::Shut);
    for number in 0..64 {
        client
            .put(format!("v/{number}"), value.clone())
            .await
            .unwrap();
    }
    run.until("the backlog is full again", |shown| {
        shown["following"]["backlogBytes"].as_u64() >= Some(1 << 20)
    })
    .await
    .unwrap();
    let lost = client.revision().await.unwrap();
    client.compact(lost).await.unwrap();
    gate.set(Way::Open);
    let shown = run
        .until("a new full backup is asked for", |shown| {
            shown["following"]["fullBackupNeeded"].is_string()
        })
        .await
        .unwrap();
    let reached = shown["following"]["storedRevision"].as_i64().unwrap();
    assert!(reached < lost);
    let source = target(&pod, json!({"revision": lost}));
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "TargetOutOfReach", "{}", failed.message);
    pod.succeed("snapshot", &snapshot(&pod, &member, "second").await)
        .await
        .unwrap();
    client.put("after", "the gap").await.unwrap();
    let after = client.revision().await.unwrap();
    let following = stored(&mut run, after).await;
    assert!(following["fullBackupNeeded"].is_null(), "{following}");
    let newest = pod
        .succeed(
            "verify",
            &json!({"source": target(&pod, json!({"revision": after}))}),
        )
        .await
        .unwrap();
    assert_eq!(newest["folder"], "second");
    // From the first backup nothing leads beyond the gap.
    let first = json!({"backup": {"destination": pod.destination, "folder": "full", "target": {"revision": after}}});
    let failed = pod.fail("verify", &json!({"source": first})).await.unwrap();
    assert_eq!(failed.reason, "Gap", "{}", failed.message);
    let list = pod
        .succeed("list", &json!({"destination": pod.destination}))
        .await
        .unwrap();
    assert_eq!(list["increments"].as_array().unwrap().len(), 2, "{list}");
}

#[tokio::test]
async fn o24_an_increment_that_is_missing_swapped_or_damaged_is_found() {
    let (pod, bucket) = s3("chain").await;
    let member = etcd(Target::Ours).await;
    let client = member.client();
    client.put("k", "0").await.unwrap();
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let mut run = pod.start("follow", &told(&pod, &member).await).unwrap();
    let mut last = 0;
    for round in 1..=3 {
        last = changes(&client, round).await;
        stored(&mut run, last).await;
    }
    run.terminate().await.unwrap();
    let keys = bucket.keys("etcd/demo/increments/").await.unwrap();
    assert!(keys.len() >= 3, "{keys:?}");
    let source = json!({"source": target(&pod, json!({"revision": last}))});
    pod.succeed("verify", &source).await.unwrap();
    let (second, third) = (
        bucket.get(&keys[1]).await.unwrap(),
        bucket.get(&keys[2]).await.unwrap(),
    );
    let mut flipped = second.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    for bad in [flipped, second[..second.len() / 2].to_vec(), third] {
        bucket.put(&keys[1], bad).await.unwrap();
        let failed = pod.fail("verify", &source).await.unwrap();
        assert!(
            ["Corrupt", "Gap"].contains(&failed.reason.as_str()),
            "{failed:?}"
        );
        assert!(!failed.transient);
    }
    bucket.delete(&keys[1]).await.unwrap();
    assert_eq!(pod.fail("verify", &source).await.unwrap().reason, "Gap");
    bucket.put(&keys[1], second).await.unwrap();
    pod.succeed("verify", &source).await.unwrap();
}

#[tokio::test]
async fn increments_that_no_backup_needs_are_pruned() {
    let (pod, bucket) = s3("pruned").await;
    let member = etcd(Target::Ours).await;
    let client = member.client();
    client.put("k", "0").await.unwrap();
    pod.succeed("snapshot", &snapshot(&pod, &member, "first").await)
        .await
        .unwrap();
    let mut run = pod.start("follow", &told(&pod, &member).await).unwrap();
    let mut last = 0;
    for round in 1..=3 {
        last = changes(&client, round).await;
        stored(&mut run, last).await;
    }
    let before = bucket.keys("etcd/demo/increments/").await.unwrap().len();
    pod.succeed("snapshot", &snapshot(&pod, &member, "second").await)
        .await
        .unwrap();
    let end = changes(&client, 4).await;
    stored(&mut run, end).await;
    let delete = json!({
        "cluster": cluster(&member).await,
        "destination": pod.destination,
        "folders": ["first"],
        "pruneIncrements": true,
    });
    let report = pod.succeed("delete", &delete).await.unwrap();
    let removed = report["increments"].as_u64().unwrap() as usize;
    assert!(
        removed >= before - 1 && removed <= before,
        "{report} of {before}"
    );
    // The second backup still leads to the end.
    let verified = pod
        .succeed(
            "verify",
            &json!({"source": target(&pod, json!({"revision": end}))}),
        )
        .await
        .unwrap();
    assert_eq!((&verified["folder"], last < end), (&json!("second"), true));
    drop(folder(&pod, "second"));
}

#[tokio::test]
async fn a_follower_outlives_its_members_and_waits_for_a_backup_to_begin_at() {
    let pod = Pod::claim().unwrap();
    let mut member = etcd(Target::Ours).await;
    let client = member.client();
    client.put("k", "0").await.unwrap();
    let mut run = pod.start("follow", &told(&pod, &member).await).unwrap();
    let shown = run
        .until("it waits", |shown| {
            shown["following"]["fullBackupNeeded"].is_string()
        })
        .await
        .unwrap();
    assert!(
        shown["following"]["fullBackupNeeded"]
            .as_str()
            .unwrap()
            .contains("no full backup"),
        "{shown}"
    );
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let first = changes(&client, 1).await;
    stored(&mut run, first).await;
    member.restart().await.unwrap();
    let second = eventually(Duration::from_secs(20), "a write", async || {
        client.put("k", "2").await
    })
    .await
    .header
    .unwrap()
    .revision;
    stored(&mut run, second).await;
    let outcome = run.terminate().await.unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.log);
}

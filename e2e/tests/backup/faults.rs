//! The store, the member or the disk fails in the middle of it.

use std::time::Duration;

use etcd_e2e::gate::s3_error;
use etcd_e2e::minio::Credentials;
use etcd_e2e::{Cluster, Gate, Minio, Options, Pod, Target, Way};
use serde_json::json;

use crate::world::{cluster, etcd, folder, history, minio, noise, s3, snapshot, voters};

/// A pod whose way to the shared MinIO has a gate.
async fn gated(bucket: &str) -> (Pod, Gate, etcd_e2e::Bucket) {
    let minio = minio().await;
    let made = minio.bucket(bucket).await.unwrap();
    let gate = Gate::open(&minio.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(minio, Some(&endpoint), bucket, "etcd/demo").unwrap();
    (pod, gate, made)
}

#[tokio::test]
async fn o26_a_store_that_stops_slows_or_cuts_is_waited_out() {
    let (pod, gate, bucket) = gated("faults").await;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 400).await;
    let upload = |shown: &serde_json::Value| {
        shown["stage"] == "Uploading" && shown["doneBytes"].as_u64() > Some(4 << 20)
    };
    for (name, way) in [
        ("shut", Way::Shut),
        ("held", Way::Held),
        ("slow", Way::Slow(64 << 10)),
        (
            "busy",
            s3_error("503 Slow Down", "SlowDown", "reduce your rate"),
        ),
        ("cut", Way::CutAfter(0)),
    ] {
        gate.set(Way::Slow(16 << 20));
        let told = snapshot(&pod, &member, name).await;
        let mut run = pod.start("snapshot", &told).unwrap();
        run.until("some of it", upload).await.unwrap();
        gate.set(way.clone());
        if matches!(way, Way::Shut | Way::Answer(_)) {
            let shown = run
                .until("the trouble", |shown| !shown["trouble"].is_null())
                .await
                .unwrap();
            assert_eq!(shown["trouble"]["transient"], true, "{shown}");
        } else {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        gate.set(Way::Open);
        let outcome = run.end().await.unwrap();
        assert_eq!(
            outcome.code,
            Some(0),
            "{name}: {}\n{}",
            outcome.answer,
            outcome.log
        );
        assert_eq!(
            bucket
                .keys(&format!("etcd/demo/{name}/"))
                .await
                .unwrap()
                .len(),
            2
        );
        // The member was never in the way of its clients.
        member.client().put("alive", name).await.unwrap();
    }
}

#[tokio::test]
async fn o26_a_store_that_stays_away_ends_the_run_and_is_told_as_passing() {
    let (mut pod, gate, _) = gated("away").await;
    pod.patience = 4;
    let member = etcd(Target::Ours).await;
    let told = snapshot(&pod, &member, "full").await;
    for (way, expected) in [
        (Way::Shut, "StoreUnreachable"),
        (Way::Held, "StoreUnreachable"),
        (s3_error("503 Slow Down", "SlowDown", "x"), "StoreBusy"),
        (
            s3_error("500 Internal Server Error", "InternalError", "x"),
            "StoreFailed",
        ),
        (
            s3_error("507 Insufficient Storage", "XMinioStorageFull", "x"),
            "StoreFull",
        ),
    ] {
        gate.set(way);
        let failed = pod.fail("snapshot", &told).await.unwrap();
        assert_eq!(
            (failed.reason.as_str(), failed.transient),
            (expected, true),
            "{}",
            failed.message
        );
    }
}

#[tokio::test]
async fn o27_credentials_that_change_in_the_middle_are_read_anew() {
    let mut minio = Minio::start().await.unwrap();
    let bucket = minio.bucket("rotated").await.unwrap();
    drop(bucket);
    let gate = Gate::open(&minio.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(&minio, Some(&endpoint), "rotated", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 400).await;
    gate.set(Way::Slow(16 << 20));
    let told = snapshot(&pod, &member, "full").await;
    let mut run = pod.start("snapshot", &told).unwrap();
    run.until("some of it", |shown| {
        shown["stage"] == "Uploading" && shown["doneBytes"].as_u64() > Some(9 << 20)
    })
    .await
    .unwrap();
    gate.set(Way::Shut);
    // The store forgets the old ones first; the Secret follows a while later.
    minio.restart_as(Credentials::new("second")).await.unwrap();
    gate.set(Way::Open);
    run.until("the old ones are refused", |shown| {
        shown["trouble"]["reason"] == "InvalidCredentials"
    })
    .await
    .unwrap();
    pod.credentials(minio.credentials()).unwrap();
    let outcome = run.end().await.unwrap();
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.answer, outcome.log);
    assert!(!outcome.log.contains("canary"), "a secret is in the log");
}

#[tokio::test]
async fn a_member_that_dies_in_the_middle_is_replaced_by_another() {
    let (pod, gate, _) = gated("member").await;
    let mut cluster_of = Cluster::start(
        3,
        Options {
            target: Target::Ours,
            ..Options::single()
        },
    )
    .await
    .unwrap();
    let leader = cluster_of.leader().await;
    noise(&cluster_of.members[leader].client(), 300).await;
    let told = json!({
        "cluster": cluster(&cluster_of.members[0]).await,
        "voters": voters(&cluster_of.members.iter().collect::<Vec<_>>()),
        "destination": pod.destination,
        "folder": "full",
    });
    gate.set(Way::Slow(8 << 20));
    let mut run = pod.start("snapshot", &told).unwrap();
    run.until("some of it", |shown| {
        shown["stage"] == "Uploading" && shown["doneBytes"].as_u64() > Some(1 << 20)
    })
    .await
    .unwrap();
    // The first follower in the order of voters is the one that is read.
    let read = (0..3).find(|place| *place != leader).unwrap();
    cluster_of.members[read].kill();
    gate.set(Way::Open);
    let outcome = run.end().await.unwrap();
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.answer, outcome.log);
    assert!(
        outcome.log.contains("waits for a member"),
        "{}",
        outcome.log
    );
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_as_such() {
    let minio = Minio::start_small(48 << 20).await.unwrap();
    minio.bucket("small").await.unwrap();
    let mut pod = Pod::s3(&minio, None, "small", "etcd/demo").unwrap();
    pod.patience = 4;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 900).await;
    let told = snapshot(&pod, &member, "full").await;
    let outcome = pod.run("snapshot", &told).await.unwrap();
    let failed = outcome.failed().unwrap();
    // Where MinIO runs into the end of its disk in the middle of a body, it may say only that it
    // got less of it than it was promised.
    let expected = match failed.message.contains("IncompleteBody") {
        true => "StoreFailed",
        false => "StoreFull",
    };
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        (expected, true),
        "{}",
        outcome.log
    );

    let mut pod = Pod::claim().unwrap();
    pod.claim_bytes = Some(8 << 20);
    let told = snapshot(&pod, &member, "full").await;
    let failed = pod.fail("snapshot", &told).await.unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("StoreFull", true),
        "{}",
        failed.message
    );
}

#[tokio::test]
async fn o17_a_member_that_is_upgraded_in_the_middle_leaves_no_run_stuck() {
    let (pod, gate, _) = gated("upgrade").await;
    let mut member = etcd(Target::Ours).await;
    noise(&member.client(), 300).await;
    gate.set(Way::Slow(8 << 20));
    let told = snapshot(&pod, &member, "full").await;
    let mut run = pod.start("snapshot", &told).unwrap();
    run.until("some of it", |shown| {
        shown["stage"] == "Uploading" && shown["doneBytes"].as_u64() > Some(1 << 20)
    })
    .await
    .unwrap();
    member.restart().await.unwrap();
    gate.set(Way::Open);
    let outcome = run.end().await.unwrap();
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.answer, outcome.log);
}

#[tokio::test]
async fn x18_locked_and_encrypted_by_the_store_as_asked() {
    let minio = minio().await;
    let bucket = minio.bucket_with_locks("locked").await.unwrap();
    let mut pod = Pod::s3(minio, None, "locked", "etcd/demo").unwrap();
    pod.destination["s3"]["objectLock"] = json!({"mode": "Compliance", "days": 2});
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let now = jiff::Timestamp::now().as_second();
    for key in bucket.keys("etcd/demo/full/").await.unwrap() {
        let (_, until) = bucket.head(&key).await.unwrap();
        let days = (until.unwrap() - now) as f64 / 86_400.0;
        assert!(days > 1.9 && days < 2.1, "{key}: {days}");
        let refused = bucket.destroy(&key).await.unwrap().unwrap_err();
        assert!(
            refused.contains("WORM") || refused.contains("AccessDenied"),
            "{refused}"
        );
    }
    // A bucket that was not made for it says so.
    let (mut other, _) = s3("unlocked").await;
    other.destination["s3"]["objectLock"] = json!({"days": 2});
    let told = snapshot(&other, &member, "full").await;
    let failed = other.fail("snapshot", &told).await.unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("Unsupported", false),
        "{}",
        failed.message
    );
    // Encryption by the store needs keys that this MinIO does not have: it is asked for, not left out.
    let (mut sse, _) = s3("sse").await;
    sse.destination["s3"]["serverSideEncryption"] = json!({"type": "KMS", "kmsKeyID": "k"});
    let told = snapshot(&sse, &member, "full").await;
    let failed = sse.fail("snapshot", &told).await.unwrap();
    assert!(!failed.transient, "{}", failed.message);
    drop(folder(&sse, "full"));
}

//! Runs that die, and those that come after them.

use std::time::Duration;

use etcd_e2e::{Gate, Pod, Target, Way};
use serde_json::json;

use crate::world::{artifact, etcd, killed_anywhere, minio, noise, s3, snapshot};

#[tokio::test]
async fn o25_a_snapshot_killed_anywhere_leaves_nothing_that_the_next_does_not_remove() {
    let minio = minio().await;
    let bucket = minio.bucket("killed").await.unwrap();
    let gate = Gate::open(&minio.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(minio, Some(&endpoint), "killed", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 400).await;
    let told = snapshot(&pod, &member, "full").await;
    let mut unfinished = 0;
    for bytes in [0, 1 << 20, 9 << 20, 18 << 20, 25 << 20] {
        // The store stands still after so many bytes; the run is killed there.
        let until = gate.passed() + bytes;
        let mut run = pod.start("snapshot", &told).unwrap();
        while run.is_running() && gate.passed() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate.set(Way::Held);
        run.kill();
        gate.set(Way::Open);
        let keys = bucket.keys("etcd/demo/full/").await.unwrap();
        assert!(
            !keys.iter().any(|key| key.ends_with("manifest.json")),
            "{keys:?}"
        );
        for key in keys.iter().filter_map(|key| key.strip_suffix(".attempt")) {
            unfinished += bucket.uploads(key).await.unwrap();
        }
    }
    assert!(unfinished > 0, "none was killed in the middle of an upload");
    let killed = killed_anywhere(&pod, "snapshot", &told, || {}).await;
    assert!(killed >= 5, "only {killed} were killed");
    pod.succeed("snapshot", &told).await.unwrap();
    let keys = bucket.keys("etcd/demo/full/").await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let key = artifact(&bucket, "full").await;
    assert_eq!(bucket.uploads(&key).await.unwrap(), 0);
}

#[tokio::test]
async fn a_run_that_is_asked_to_end_tidies_up() {
    let minio = minio().await;
    let bucket = minio.bucket("asked").await.unwrap();
    let gate = Gate::open(&minio.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(minio, Some(&endpoint), "asked", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 400).await;
    gate.set(Way::Slow(4 << 20));
    let mut run = pod
        .start("snapshot", &snapshot(&pod, &member, "full").await)
        .unwrap();
    run.until("half of it", |shown| {
        shown["stage"] == "Uploading" && shown["doneBytes"].as_u64() > Some(12 << 20)
    })
    .await
    .unwrap();
    let attempts = bucket.keys("etcd/demo/full/").await.unwrap();
    gate.set(Way::Open);
    let outcome = run.terminate().await.unwrap();
    let failed = outcome.failed().unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("Cancelled", true)
    );
    assert_eq!(
        bucket.keys("etcd/demo/full/").await.unwrap(),
        Vec::<String>::new()
    );
    for key in attempts
        .iter()
        .filter_map(|key| key.strip_suffix(".attempt"))
    {
        assert_eq!(bucket.uploads(key).await.unwrap(), 0, "{key}");
    }
}

#[tokio::test]
async fn of_two_runs_for_one_folder_one_wins_and_its_backup_is_whole() {
    let (pod, bucket) = s3("rivals").await;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 200).await;
    let told = snapshot(&pod, &member, "full").await;
    let other = pod.another().unwrap();
    let (one, two) = tokio::join!(pod.run("snapshot", &told), other.run("snapshot", &told));
    for outcome in [one.unwrap(), two.unwrap()] {
        if outcome.code != Some(0) {
            // It lost its upload or its manifest to the other.
            let failed = outcome.failed().unwrap();
            assert!(
                ["Conflict", "NotFound", "StoreFailed"].contains(&failed.reason.as_str()),
                "{failed:?}"
            );
        }
    }
    pod.succeed("snapshot", &told).await.unwrap();
    assert_eq!(bucket.keys("etcd/demo/full/").await.unwrap().len(), 2);
    pod.succeed(
        "verify",
        &json!({"source": crate::world::folder(&pod, "full")}),
    )
    .await
    .unwrap();
}

//! Backups are removed.

use etcd_e2e::{Pod, Target};
use serde_json::json;

use crate::world::{cluster, etcd, folder, history, s3, snapshot};

#[tokio::test]
async fn a_backup_is_removed_and_removing_it_again_is_no_error() {
    let (s3, _) = s3("removed").await;
    for pod in [s3, Pod::claim().unwrap()] {
        let member = etcd(Target::Ours).await;
        history(&member.client()).await;
        for name in ["a", "b"] {
            pod.succeed("snapshot", &snapshot(&pod, &member, name).await)
                .await
                .unwrap();
        }
        let told = json!({
            "cluster": cluster(&member).await,
            "destination": pod.destination,
            "folders": ["a", "never-was"],
        });
        let report = pod.succeed("delete", &told).await.unwrap();
        assert_eq!(
            (&report["folders"], &report["objects"]),
            (&json!(1), &json!(2))
        );
        let again = pod.succeed("delete", &told).await.unwrap();
        assert_eq!(again["objects"], 0);
        let list = pod
            .succeed("list", &json!({"destination": pod.destination}))
            .await
            .unwrap();
        assert_eq!(list["backups"].as_array().unwrap().len(), 1);
        pod.succeed("verify", &json!({"source": folder(&pod, "b")}))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_half_removed_is_no_backup_and_is_removed_by_the_next() {
    let (pod, bucket) = s3("half").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "a").await)
        .await
        .unwrap();
    // Killed after its first step.
    bucket.delete("etcd/demo/a/manifest.json").await.unwrap();
    let failed = pod
        .fail("verify", &json!({"source": folder(&pod, "a")}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "NotFound");
    let told = json!({
        "cluster": cluster(&member).await,
        "destination": pod.destination,
        "folders": ["a"],
    });
    assert_eq!(pod.succeed("delete", &told).await.unwrap()["objects"], 1);
    assert_eq!(
        bucket.keys("etcd/demo/a/").await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn o29_another_clusters_backups_are_not_removed() {
    let (pod, bucket) = s3("others").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "a").await)
        .await
        .unwrap();
    let mut told = json!({
        "cluster": cluster(&member).await,
        "destination": pod.destination,
        "folders": ["a"],
    });
    told["cluster"]["clusterID"] = json!("abc");
    let failed = pod.fail("delete", &told).await.unwrap();
    assert_eq!(failed.reason, "ForeignDestination");
    bucket.delete("etcd/demo/etcd-backups.json").await.unwrap();
    let failed = pod.fail("delete", &told).await.unwrap();
    assert_eq!(failed.reason, "WrongCluster");
    assert_eq!(bucket.keys("etcd/demo/a/").await.unwrap().len(), 2);
}

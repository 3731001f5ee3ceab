//! Other images: between stock etcd and ours, and one that is not there.

use crate::world::{condition, with};

/// Sets the image of a cluster.
fn image(repository: &str, tag: &str) -> String {
    format!(r#"{{"spec":{{"image":{{"repository":"{repository}","tag":"{tag}"}}}}}}"#)
}

#[test]
fn a_cluster_goes_to_the_stock_image_and_comes_back_with_its_data() {
    with("engines", async |world| {
        world
            .apply(
                r#"{"apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                "metadata": {"name": "moves"},
                "spec": {"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}}}"#,
            )
            .await;
        let first = world.ready("moves", 3).await;
        world.put("moves", "greeting", "hello").await;

        let stock = image("localhost/etcd-development/etcd", "v3.7.3");
        let patch = ["patch", "etcdcluster/moves", "--type=merge", "--patch"];
        world.kubectl(&[&patch[..], &[&stock]].concat()).await;
        let runs = |engine: &'static str| {
            move |status: &serde_json::Value| {
                condition(status, "Ready") == "True"
                    && status["members"].as_array().is_some_and(|members| {
                        members.len() == 3 && members.iter().all(|m| m["engine"] == engine)
                    })
            }
        };
        let second = world
            .cluster_when("moves", "three members of stock etcd", runs("Etcd"))
            .await;
        assert_eq!(first["clusterID"], second["clusterID"]);
        world.every_pod_reads("moves", "greeting", "hello").await;
        world.put("moves", "answer", "hi").await;

        let ours = image("localhost/etcd-core", &world.tag);
        world.kubectl(&[&patch[..], &[&ours]].concat()).await;
        let third = world
            .cluster_when("moves", "three members of ours", runs("EtcdCore"))
            .await;
        assert_eq!(first["clusterID"], third["clusterID"]);
        world.every_pod_reads("moves", "greeting", "hello").await;
        world.every_pod_reads("moves", "answer", "hi").await;
    });
}

#[test]
fn o19_an_image_that_is_not_there_is_named_and_a_revert_recovers() {
    with("o19", async |world| {
        world
            .apply(
                r#"{"apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                "metadata": {"name": "reverts"},
                "spec": {"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}}}"#,
            )
            .await;
        world.ready("reverts", 3).await;
        let bad = image("localhost/etcd-core", "not-there");
        let patch = ["patch", "etcdcluster/reverts", "--type=merge", "--patch"];
        world.kubectl(&[&patch[..], &[&bad]].concat()).await;
        let status = world
            .cluster_when("reverts", "told that the image is missing", |status| {
                status["conditions"].as_array().is_some_and(|all| {
                    all.iter()
                        .any(|c| c["type"] == "Degraded" && c["reason"] == "ImageUnavailable")
                })
            })
            .await;
        assert_eq!(condition(&status, "Available"), "True");
        assert_eq!(status["readyReplicas"], 2);
        world.put("reverts", "still", "serving").await;
        let back = r#"{"spec":{"image":null}}"#;
        world.kubectl(&[&patch[..], &[back]].concat()).await;
        world.ready("reverts", 3).await;
        world.every_pod_reads("reverts", "still", "serving").await;
    });
}

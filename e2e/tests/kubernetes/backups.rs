//! Backups on demand in a store, and clusters that begin with them.

use std::time::Instant;

use etcd_e2e::Etcdutl;
use etcd_e2e::minio::Credentials;
use etcd_e2e::scratch::Scratch;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::store::{BUCKET, Store, reason_of};
use crate::world::{World, with};

/// A cluster with these fields too.
fn cluster(replicas: i32, more: Value) -> Value {
    let mut spec =
        json!({"replicas": replicas, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    spec
}

/// A backup of the cluster `from`.
fn backup(destination: Value) -> Value {
    json!({"clusterRef": {"name": "from"}, "destination": destination, "compression": "None"})
}

impl World {
    /// Deletes a cluster and then all claims of the namespace, and waits until they are gone.
    async fn destroy(&self, name: &str) {
        let object = format!("etcdcluster/{name}");
        self.kubectl(&["delete", &object, "--wait"]).await;
        self.kubectl(&["delete", "pvc", "--all", "--wait"]).await;
    }
}

#[test]
fn o24_a_backup_outlives_every_volume_and_a_new_cluster_begins_with_it() {
    with("backup", async |world| {
        let store = Store::start(&world).await;
        world
            .make("EtcdCluster", "from", cluster(3, json!({})))
            .await;
        let before = world.ready("from", 3).await;
        world.fill("from", "some/", 200).await;
        let kept = world.everything("from").await;

        // A bucket and credentials that are wrong are named, and cost nothing but the run.
        let stranger = Credentials::new("stranger");
        world.credentials("wrong-credentials", &stranger).await;
        let wrong = Store::destination("nobodys-bucket", "from", "backup-credentials");
        world
            .make("EtcdBackup", "wrong-bucket", backup(wrong))
            .await;
        let wrong = Store::destination(BUCKET, "from", "wrong-credentials");
        world
            .make("EtcdBackup", "wrong-credentials", backup(wrong))
            .await;
        let started = Instant::now();
        let good = Store::destination(BUCKET, "from", "backup-credentials");
        world.make("EtcdBackup", "good", backup(good.clone())).await;
        let status = world.done("EtcdBackup", "good").await;
        println!("\n  a backup was proven after {:.1?}", started.elapsed());
        let (reason, why) = world.stalled("EtcdBackup", "wrong-bucket").await;
        assert_eq!(reason, "NoSuchBucket", "{why}");
        assert!(why.contains("nobodys-bucket"), "{why}");
        let (reason, why) = world.stalled("EtcdBackup", "wrong-credentials").await;
        assert_eq!(reason, "InvalidCredentials", "{why}");

        let (reason, why) = reason_of(&status, "Verified");
        assert_eq!(reason, "Restore", "{why}");
        let artifact = &status["artifact"];
        assert_eq!(artifact["clusterID"], before["clusterID"]);
        assert_eq!(artifact["totalKeys"].as_u64(), Some(kept.len() as u64));
        let revision = artifact["revision"].as_i64().unwrap();
        let table = world.kubectl(&["get", "etcdbackup"]).await;
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[0],
            [
                "NAME", "CLUSTER", "PHASE", "SIZE", "REVISION", "VERIFIED", "AGE"
            ]
        );
        let row = rows.iter().find(|row| row[0] == "good").unwrap();
        assert_eq!(row[1..3], ["from", "Completed"], "{table}");
        // The size has two words.
        let number = revision.to_string();
        assert!(
            row.contains(&number.as_str()) && row.contains(&"True"),
            "{table}"
        );

        // It is a file of etcd's own.
        let keys = store.bucket.keys("from/good").await.unwrap();
        let key = keys.iter().find(|key| key.ends_with(".db")).unwrap();
        let scratch = Scratch::new().unwrap();
        let file = scratch.path().join("snapshot.db");
        std::fs::write(&file, store.bucket.get(key).await.unwrap()).unwrap();
        let stock = Etcdutl::new().unwrap();
        let file = file.to_str().unwrap();
        let said = stock
            .run(&["snapshot", "status", file, "-w", "json"])
            .await
            .unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["revision"], revision, "{said}");

        // One that is deleted while the store stands still takes its run along, and what the run has left there once the store goes on.
        store.minio.pause().unwrap();
        let mut given_up = backup(good.clone());
        given_up["deletionPolicy"] = json!("Delete");
        world.make("EtcdBackup", "given-up", given_up).await;
        world
            .told("EtcdBackup", "given-up", "under way", |status| {
                status["run"]["kind"] == "Snapshot"
            })
            .await;
        world.pod_of_run("backup.given-up", "snapshot").await;
        let delete = ["delete", "etcdbackup/given-up"];
        world
            .kubectl(&[&delete[..], &["--wait=false"]].concat())
            .await;
        world.pod_of_run("backup.given-up", "delete").await;
        store.minio.resume().unwrap();
        world
            .kubectl(&["wait", "--for=delete", delete[1], "--timeout=240s"])
            .await;
        assert_eq!(store.bucket.keys("from/given-up").await.unwrap(), [""; 0]);

        // Everything is lost but the store, and the credentials are wrong when they are needed.
        world.destroy("from").await;
        world.credentials("backup-credentials", &stranger).await;
        let begins = json!({"bootstrap": {"restore": {"from": {"backupRef": {"name": "good"}}}}});
        world.make("EtcdCluster", "to", cluster(3, begins)).await;
        let refused = |status: &Value| {
            let reason = status["plan"]["reason"].as_str().unwrap_or_default();
            reason.contains("InvalidCredentials")
        };
        let status = world
            .cluster_when("to", "told that its credentials are wrong", refused)
            .await;
        println!(
            "\n  what is said of wrong credentials: {}",
            status["plan"]["reason"]
        );
        world
            .credentials("backup-credentials", store.minio.credentials())
            .await;
        let mended = Instant::now();
        let after = world.ready("to", 3).await;
        println!(
            "\n  three members {:.1?} after the Secret was mended",
            mended.elapsed()
        );

        assert_ne!(after["clusterID"], before["clusterID"]);
        assert_eq!(world.everything("to").await, kept);
        let now = world.member("to").await.revision().await.unwrap();
        assert!(now >= revision + 1_000_000_000, "{now} after {revision}");
        let object: DynamicObject = world.kind("EtcdBackup").get("good").await.unwrap();
        assert_eq!(object.data["status"]["artifact"], *artifact);
    });
}

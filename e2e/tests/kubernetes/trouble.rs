//! A store in trouble while runs in pods are at work.

use std::collections::BTreeSet;
use std::sync::Arc;

use etcd_e2e::minio::Credentials;
use etcd_e2e::{Gate, Minio, Way, eventually};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::store::{BUCKET, IP, Store};
use crate::world::{LIMIT, World, condition, with};

/// Bytes of the cluster's values, which do not compress: more than one part of an upload.
const VALUE: usize = 64 << 10;
const VALUES: usize = 192;
/// Bytes that have passed to the store when an upload is certainly in its middle: between its first
/// part and its last.
const SOME: u64 = 4 << 20;
/// So slow, in bytes a second, that the middle lasts for seconds.
const SLOW: u64 = 1 << 20;
/// Bytes of a disk that is full, and of each object that fills it.
const SMALL: u64 = 64 << 20;
const FILL: usize = 4 << 20;

impl World {
    /// Values that do not compress.
    async fn noise(&self, cluster: &str) {
        let client = self.member(cluster).await;
        let mut state = 1_u64;
        for number in 0..VALUES {
            let value: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .take(VALUE)
            .collect();
            client.put(format!("noise/{number}"), value).await.unwrap();
        }
    }

    /// Makes a backup of the cluster, and waits until some of it has passed the gate.
    async fn under_way(&self, gate: &Gate, name: &str, destination: Value) {
        let before = gate.passed();
        gate.set(Way::Slow(SLOW));
        self.backup(name, destination).await;
        eventually(LIMIT, "an upload is in its middle", async || {
            match gate.passed() - before {
                passed if passed > SOME => Ok(()),
                passed => Err(passed),
            }
        })
        .await;
    }

    async fn backup(&self, name: &str, destination: Value) {
        let spec = json!({"clusterRef": {"name": "three"}, "destination": destination, "compression": "None"});
        self.make("EtcdBackup", name, spec).await;
    }

    /// Waits until the backup's run says that it waits because of one of these.
    async fn waits_for(&self, name: &str, reasons: &[&str]) {
        let labels = format!("etcd-core.io/run-of=backup.{name},etcd-core.io/run=snapshot");
        let what = format!("{name} waits: {reasons:?}");
        self.progress(&labels, &what, |progress| {
            let reason = progress["trouble"]["reason"].as_str();
            reason.is_some_and(|reason| reasons.contains(&reason))
        })
        .await;
    }

    /// Whether it was proven, in one attempt.
    async fn proven_at_once(&self, name: &str) {
        let status = self.done("EtcdBackup", name).await;
        assert_eq!(status["phase"], "Completed", "{name}: {status}");
        assert_eq!(condition(&status, "Verified"), "True", "{name}: {status}");
        assert_eq!(status["run"]["attempt"], 1, "{name}: {status}");
    }

    /// Every state of the condition Ready that the cluster goes through from now on.
    fn readiness(&self, cluster: &str) -> (Arc<Mutex<BTreeSet<String>>>, JoinHandle<()>) {
        let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={cluster}"));
        let stream = watcher(self.clusters(), config)
            .default_backoff()
            .applied_objects();
        let states = seen.clone();
        let task = tokio::spawn(stream.for_each(move |found| {
            if let Ok(found) = found {
                let state = condition(&found.data["status"], "Ready").to_owned();
                states.lock().insert(state);
            }
            async {}
        }));
        (seen, task)
    }
}

/// A store whose disk has no room for a part of a backup, and its destination.
async fn full(world: &World) -> (Minio, Value) {
    let minio = Minio::start_small_at(IP, &[], SMALL).await.unwrap();
    let bucket = minio.bucket("small").await.unwrap();
    let mut filled = 0;
    let refused = loop {
        match bucket.put(&format!("fill/{filled}"), vec![7; FILL]).await {
            Ok(()) => filled += 1,
            Err(error) => break format!("{error:#}"),
        }
    };
    // It looks at its disk now and then, and runs into its end in between: then it says so, or
    // that it got less of the body than it was promised.
    let words = ["StorageFull", "no space left", "IncompleteBody"];
    assert!(words.iter().any(|word| refused.contains(word)), "{refused}");
    let authority = minio.authority().unwrap().pem();
    world.secret("small-ca", json!({"ca.crt": authority})).await;
    world
        .credentials("small-credentials", minio.credentials())
        .await;
    let destination = json!({"s3": {"bucket": "small", "prefix": "full", "endpoint": minio.endpoint(),
        "endpointNetwork": "Private", "forcePathStyle": true,
        "credentialsSecretRef": {"name": "small-credentials"}, "caSecretRef": {"name": "small-ca"}}});
    (minio, destination)
}

#[test]
fn o26_o27_runs_outlast_a_store_in_trouble_and_nobody_waits_for_them() {
    with("trouble", async |world| {
        let (mut store, gate) = Store::start_behind_a_gate(&world).await;
        let spec = json!({"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        world.make("EtcdCluster", "three", spec).await;
        world.ready("three", 3).await;
        world.noise("three").await;
        let (ready, watching) = world.readiness("three");
        let traffic = world.traffic("three").await;
        let destination =
            |bucket: &str| Store::destination(bucket, "trouble", "backup-credentials");

        // A disk that is full, with nobody to notice for as long as the rest takes.
        let (small, to_small) = full(&world).await;
        world.backup("full", to_small).await;

        // Killed in the middle, and back.
        world.under_way(&gate, "killed", destination(BUCKET)).await;
        store.minio.kill();
        world.waits_for("killed", &["StoreUnreachable"]).await;
        store.minio.spawn().await.unwrap();
        gate.set(Way::Open);
        world.proven_at_once("killed").await;

        // Other credentials: the store knows them before the Secret does.
        world.under_way(&gate, "rotated", destination(BUCKET)).await;
        let second = Credentials::new("second");
        store.minio.restart_as(second.clone()).await.unwrap();
        gate.set(Way::Open);
        world.waits_for("rotated", &["InvalidCredentials"]).await;
        world.credentials("backup-credentials", &second).await;
        world.proven_at_once("rotated").await;

        // A bucket that somebody removes: that does not pass, and is said at once.
        let doomed = store.minio.bucket("doomed").await.unwrap();
        world
            .under_way(&gate, "removed", destination("doomed"))
            .await;
        doomed.remove().await.unwrap();
        gate.set(Way::Open);
        let (reason, why) = world.stalled("EtcdBackup", "removed").await;
        assert_eq!(reason, "NoSuchBucket", "{why}");
        assert!(why.contains("doomed"), "{why}");
        store.minio.bucket("doomed").await.unwrap();
        world.backup("again", destination("doomed")).await;
        world.proven_at_once("again").await;

        // Room is made. What MinIO says of a body that it had no room for may name no disk.
        world.waits_for("full", &["StoreFull", "StoreFailed"]).await;
        small.grow(4 * SMALL).unwrap();
        world.proven_at_once("full").await;

        let figures = world.finish(traffic, "a store in trouble").await;
        assert_eq!((figures.failed, figures.retried), (0, 0), "{figures}");
        watching.abort();
        assert_eq!(*ready.lock(), BTreeSet::from(["True".to_owned()]));
    });
}

//! Backups by schedule, the changes between them, and points in time that are restored in place.

use std::collections::BTreeSet;

use etcd_e2e::eventually;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::store::Store;
use crate::world::{LIMIT, World, condition, with};

/// The schedule of the sample.
const SCHEDULE: &str = "three-nightly";

impl World {
    /// Changes the spec of the schedule.
    async fn reschedule(&self, spec: Value) {
        let patch = json!({"spec": spec}).to_string();
        let name = format!("etcdbackupschedule/{SCHEDULE}");
        self.kubectl(&["patch", &name, "--type=merge", "--patch", &patch])
            .await;
    }

    /// Names of the schedule's backups that are stored.
    async fn stored(&self) -> BTreeSet<String> {
        let label = format!("etcd-core.io/schedule={SCHEDULE}");
        let list = ListParams::default().labels(&label);
        let backups = self.kind("EtcdBackup").list(&list).await.unwrap();
        let stored = backups.into_iter().filter(|backup| {
            backup.data["status"]["artifact"].is_object()
                && backup.metadata.deletion_timestamp.is_none()
        });
        stored.map(|backup| backup.name_any()).collect()
    }

    /// Waits until every change up to `revision` is stored.
    pub(crate) async fn followed(&self, revision: i64) {
        let labels = "etcd-core.io/run=follow";
        self.progress(labels, "increments are stored", |progress| {
            progress["following"]["storedRevision"].as_i64() >= Some(revision)
        })
        .await;
    }

    /// Waits until the cluster says that it is backed up.
    async fn backed_up(&self, cluster: &str) {
        self.cluster_when(cluster, "backed up", |status| {
            condition(status, "BackedUp") == "True"
        })
        .await;
    }
}

fn claims_of(pods: &[Pod]) -> BTreeSet<String> {
    let members = pods.iter().map(|pod| &pod.labels()["etcd-core.io/member"]);
    members.map(|member| format!("data-{member}")).collect()
}

#[test]
fn o21_o23_a_schedule_follows_every_change_and_a_revision_comes_back_in_place() {
    with("schedule", async |world| {
        let _store = Store::start(&world).await;
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        world.apply(&claim.to_string()).await;
        world.apply_sample("three.yaml").await;
        let before = world.ready("three", 3).await;
        let old = before["clusterID"].as_str().unwrap().to_owned();
        world.fill("three", "first/", 50).await;

        // Increments need a full backup to begin at: it is made at once.
        world.apply_sample("backup-schedule.yaml").await;
        world.apply_sample("backup.yaml").await;
        world.backed_up("three").await;
        let first = eventually(LIMIT, "a backup for increments", async || {
            match world.stored().await {
                stored if stored.is_empty() => Err(stored),
                stored => Ok(stored),
            }
        })
        .await;

        // The samples of one backup on a volume, and of a restore that names another cluster.
        let status = world.done("EtcdBackup", "three-once").await;
        let uri = status["artifact"]["uri"].as_str().unwrap();
        assert!(uri.contains("backups"), "{uri}");
        world.apply_sample("restore.yaml").await;
        let status = world.done("EtcdRestore", "three-back").await;
        assert_eq!(status["phase"], "Superseded", "{status}");

        // Every minute, and only the last is kept.
        let often = json!({"schedule": "* * * * *", "retention":
            {"keepLast": 1, "keepDaily": null, "keepWeekly": null, "maxAge": null}});
        world.reschedule(often).await;
        let last = eventually(
            LIMIT,
            "another backup takes the first one's place",
            async || {
                let stored = world.stored().await;
                match stored.is_disjoint(&first) && stored.len() == 1 {
                    true => Ok(stored),
                    false => Err(stored),
                }
            },
        )
        .await;
        world.reschedule(json!({"schedule": "0 2 * * *"})).await;
        let last = last.first().unwrap();

        // What is wanted back lies between full backups, and was changed since.
        let wanted = world.fill("three", "wanted/", 100).await;
        let kept = world.everything("three").await;
        let now = world.fill("three", "wanted/", 150).await;
        world.followed(now).await;
        let pods = world.pods_of("three").await;
        let restore = |target: Value| {
            json!({"clusterRef": {"name": "three"}, "replaces": old, "target": target,
                "source": {"backupRef": {"name": last}}})
        };

        // Nothing is touched for what cannot be restored.
        world
            .make(
                "EtcdRestore",
                "too-far",
                restore(json!({"revision": now + 1_000})),
            )
            .await;
        let (reason, why) = world.stalled("EtcdRestore", "too-far").await;
        assert_eq!(reason, "TargetOutOfReach", "{why}");
        assert_eq!(world.ready("three", 3).await["clusterID"], old.as_str());

        world
            .make("EtcdRestore", "back", restore(json!({"revision": wanted})))
            .await;
        let status = world.done("EtcdRestore", "back").await;
        assert_eq!(status["phase"], "Completed", "{status}");
        assert_eq!(status["restoredRevision"], wanted, "{status}");
        assert_eq!(status["lostRevisions"], now - wanted, "{status}");
        let after = world.ready("three", 3).await;
        assert_ne!(after["clusterID"], old.as_str());
        assert_eq!(after["clusterID"], status["clusterID"]);
        assert_eq!(world.everything("three").await, kept);
        let revision = world.member("three").await.revision().await.unwrap();
        assert!(revision >= wanted + 1_000_000_000, "{revision}");

        // The old volumes are kept, and named.
        let named: BTreeSet<String> =
            serde_json::from_value(status["quarantinedVolumes"].clone()).unwrap();
        assert_eq!(named, claims_of(&pods));
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(world.client.clone(), &world.namespace);
        for claim in &named {
            claims.get(claim).await.unwrap();
        }

        // Applied again, and by another name, it does nothing.
        world
            .make("EtcdRestore", "again", restore(json!({"revision": wanted})))
            .await;
        let again = world.done("EtcdRestore", "again").await;
        assert_eq!(again["phase"], "Superseded", "{again}");
        world
            .make("EtcdRestore", "back", restore(json!({"revision": wanted})))
            .await;
        assert_eq!(
            world.ready("three", 3).await["clusterID"],
            after["clusterID"]
        );

        // The cluster it has become is backed up too, and another begins with that.
        world.backed_up("three").await;

        // Increments that are asked for no more end.
        world.reschedule(json!({"increments": null})).await;
        let follower = format!("deployment/{SCHEDULE}-follow");
        world
            .kubectl(&["wait", "--for=delete", &follower, "--timeout=240s"])
            .await;
        world.apply_sample("restored.yaml").await;
        world.ready("restored", 3).await;
        assert_eq!(world.everything("restored").await, kept);
    });
}

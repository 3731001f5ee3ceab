//! A point in time that is restored by hand, and drills that look after what is stored.

use etcd_e2e::eventually;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::store::{BUCKET, Store, reason_of};
use crate::world::{LIMIT, World, condition, with};

impl World {
    /// The backups of the schedule that are stored, the oldest first.
    async fn kept_by(&self, schedule: &str) -> Vec<String> {
        let label = format!("etcd-core.io/schedule={schedule}");
        let list = self.kind("EtcdBackup");
        let list = list.list(&ListParams::default().labels(&label)).await;
        let mut stored: Vec<_> = list
            .unwrap()
            .into_iter()
            .filter(|backup| backup.data["status"]["artifact"].is_object())
            .collect();
        stored.sort_by_key(|backup| backup.creation_timestamp().map(|time| time.0));
        stored.iter().map(ResourceExt::name_any).collect()
    }

    /// Waits until so many backups of the schedule are stored; their names, the oldest first.
    async fn kept_are(&self, schedule: &str, count: usize) -> Vec<String> {
        let what = format!("{count} backups of {schedule}");
        eventually(LIMIT, &what, async || {
            let names = self.kept_by(schedule).await;
            match names.len() == count {
                true => Ok(names),
                false => Err(names),
            }
        })
        .await
    }

    /// What `kubectl etcd restore` would do.
    async fn outlook(&self, args: &[&str]) -> Value {
        let dry = [args, &["--dry-run", "-o", "json"]].concat();
        let said = self.etcd(&dry).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

#[test]
fn o21_o24_a_point_in_time_comes_back_by_hand_and_a_drill_finds_what_was_damaged() {
    with("times", async |world| {
        let store = Store::start(&world).await;
        let spec = json!({"replicas": 1, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        world.make("EtcdCluster", "one", spec).await;
        let before = world.ready("one", 1).await;
        let id = before["clusterID"].as_str().unwrap();
        world.fill("one", "first/", 20).await;
        let destination = Store::destination(BUCKET, "times", "backup-credentials");
        let spec = json!({"clusterRef": {"name": "one"}, "schedule": "@yearly", "increments": {"maxLag": "1s"},
            "drill": {"schedule": "* * * * *"}, "template": {"spec": {"destination": destination}}});
        world.make("EtcdBackupSchedule", "yearly", spec).await;
        let old = world.kept_are("yearly", 1).await.remove(0);
        let proven = world.done("EtcdBackup", &old).await["verifiedAt"].clone();

        // What is wanted back lies between two whole seconds, as times of the API do.
        let wanted = world.fill("one", "then/", 60).await;
        world.followed(wanted).await;
        let kept = world.everything("one").await;
        let now = Timestamp::now().as_second();
        let time = Timestamp::from_second(now).unwrap() + SignedDuration::from_secs(1);
        eventually(LIMIT, "the clock is there", async || {
            match Timestamp::now() {
                now if now > time => Ok(()),
                now => Err(now),
            }
        })
        .await;
        let last = world.fill("one", "then/", 80).await;
        world.followed(last).await;

        let (at, revision) = (time.to_string(), wanted.to_string());
        let by_time = ["restore", "one", "--from", &old, "--time", &at];
        let by_revision = ["restore", "one", "--from", &old, "--revision", &revision];
        for asked in [&by_time, &by_revision] {
            let outlook = world.outlook(asked).await;
            let told = ["restoredRevision", "currentRevision", "lostRevisions"];
            let told = told.map(|figure| outlook[figure].as_i64());
            assert_eq!(
                told,
                [Some(wanted), Some(last), Some(last - wanted)],
                "{asked:?}: {outlook}"
            );
            assert_eq!(outlook["replaces"], id, "{outlook}");
        }
        let left = world.kubectl(&["get", "etcdrestore", "-o", "name"]).await;
        assert_eq!(left.trim(), "", "a dry run leaves nothing");
        assert_eq!(world.ready("one", 1).await["clusterID"], id);
        let confirmed = [&by_time[..], &["--replaces", id, "--yes"]].concat();
        let said = world.etcd(&confirmed).await;
        assert!(said.contains("is done"), "{said}");
        assert_eq!(world.everything("one").await, kept);
        let made = world.kind("EtcdRestore").list(&ListParams::default()).await;
        let made = made.unwrap().items.remove(0);
        assert_eq!(made.data["spec"]["target"]["time"], at, "{:?}", made.data);
        assert_eq!(made.data["status"]["restoredRevision"], wanted);

        // The old backup is proven again, once a minute at most.
        let again = |status: &Value| {
            status["phase"] == "Completed"
                && condition(status, "Verified") == "True"
                && status["verifiedAt"] != proven
        };
        world.told("EtcdBackup", &old, "proven again", again).await;

        // The cluster it has become has a backup too; the old one decays in the store.
        let both = world.kept_are("yearly", 2).await;
        assert_eq!(both[0], old);
        let keys = store.bucket.keys(&format!("times/{old}-")).await.unwrap();
        let key = keys.iter().find(|key| key.contains("snapshot-")).unwrap();
        let flip = |content: &mut Vec<u8>| {
            let middle = content.len() / 2;
            content[middle] ^= 1;
        };
        store.bucket.tamper(key, flip).await.unwrap();
        let found = |status: &Value| condition(status, "Verified") == "False";
        let status = world.told("EtcdBackup", &old, "found", found).await;
        let (reason, why) = reason_of(&status, "Verified");
        println!("\n  what a drill says of a flipped bit: {reason}: {why}");
        assert!(
            ["Corrupt", "HashMismatch"].contains(&reason.as_str()),
            "{why}"
        );
        let table = world.etcd(&["backups", "one", "-o", "json"]).await;
        let table: Value = serde_json::from_str(&table).unwrap();
        let verified = |name: &str| {
            let lines = table["backups"].as_array().unwrap();
            let line = lines.iter().find(|line| line["name"] == name).unwrap();
            line["verified"].as_bool()
        };
        assert_eq!(
            (verified(&old), verified(&both[1])),
            (Some(false), Some(true)),
            "{table}"
        );
        let from_old = ["restore", "one", "--from", &old, "--dry-run"];
        let said = world.etcd_fails(&from_old).await;
        assert!(said.contains(&reason), "{said}");
    });
}

//! Two of three volumes that are lost for ever, under load.

use std::collections::BTreeSet;

use etcd_e2e::load::{Ledger, Writers};
use etcd_e2e::{Client, eventually};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

use crate::client::speaks_tls;
use crate::world::{LIMIT, World, condition, with};

/// So many writers put one key after the other.
const WRITERS: usize = 4;
/// Writes that are waited for to know that they flow: less than a second's.
const SOME: usize = 200;

impl World {
    /// Writers through the cluster's client Service, once they are at work.
    async fn writers(&self, cluster: &str) -> Writers {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = services.get(&format!("{cluster}-client")).await.unwrap();
        let ip = service.spec.unwrap().cluster_ip.unwrap();
        let pods = self.pods_of(cluster).await;
        let client = if speaks_tls(&pods[0]) {
            let host = format!("{cluster}-client.{}.svc", self.namespace);
            let bundle = self.bundle(cluster).await.unwrap();
            Client::secure(&format!("https://{ip}:2379"), &host, &bundle)
        } else {
            Client::new(&format!("http://{ip}:2379"))
        };
        let writers = Writers::start(&[client], WRITERS, "load/");
        flow(&writers).await;
        writers
    }

    /// The pod that leads, and those that do not.
    async fn led(&self, cluster: &str) -> (Pod, Vec<Pod>) {
        let leader = self.leader_of(cluster).await;
        let mut others = self.pods_of(cluster).await;
        others.retain(|pod| pod.uid() != leader.uid());
        assert_eq!(others.len(), 2);
        (leader, others)
    }

    /// What of the acknowledged writes is there, and what is not: their revisions.
    async fn kept_and_lost(
        &self,
        cluster: &str,
        ledger: &Ledger,
    ) -> (BTreeSet<i64>, BTreeSet<i64>) {
        let found: BTreeSet<(Vec<u8>, i64)> = self
            .everything(cluster)
            .await
            .into_iter()
            .map(|kv| (kv.value.to_vec(), kv.mod_revision))
            .collect();
        let (kept, lost): (Vec<_>, Vec<_>) = ledger
            .acked
            .iter()
            .partition(|acked| found.contains(&(acked.value.to_vec(), acked.revision)));
        let revisions =
            |acked: Vec<&etcd_e2e::load::Acked>| acked.iter().map(|a| a.revision).collect();
        (revisions(kept), revisions(lost))
    }
}

/// Waits until more writes are acknowledged.
async fn flow(writers: &Writers) {
    let goal = writers.acknowledged() + SOME;
    eventually(LIMIT, "writes are acknowledged", async || {
        match writers.acknowledged() {
            now if now >= goal => Ok(()),
            now => Err(format!("{now} of {goal}")),
        }
    })
    .await;
}

/// How much a restore raises revisions, unless told otherwise.
const RAISED: i64 = 1_000_000_000;

fn member_of(pod: &Pod) -> &str {
    &pod.labels()["etcd-core.io/member"]
}

/// The claims of the members that were replaced, as status names them.
fn quarantined(status: &Value) -> BTreeSet<String> {
    let lineage = status["lineage"].as_array().cloned().unwrap_or_default();
    let volumes = lineage
        .iter()
        .flat_map(|ancestor| ancestor["volumes"].as_array().cloned().unwrap_or_default());
    volumes
        .filter_map(|volume| volume.as_str().map(str::to_owned))
        .collect()
}

#[test]
fn o09_a_quorum_lost_for_certain_comes_back_by_itself_and_nothing_acknowledged_is_lost() {
    with("quorum", async |world| {
        let spec = json!({"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}},
            "recovery": {"quorumLoss": {"policy": "Automatic"}}});
        world.make("EtcdCluster", "three", spec).await;
        let before = world.ready("three", 3).await;
        let writers = world.writers("three").await;

        // The files of both followers vanish, and their processes die.
        let (leader, followers) = world.led("three").await;
        for pod in &followers {
            let folder = world.folder_of(&format!("data-{}", member_of(pod))).await;
            std::fs::remove_dir_all(folder.join("data")).unwrap();
        }
        for pod in &followers {
            let uid = pod.uid().unwrap();
            world.machine.kill_in_pod(&uid, "etcd").unwrap();
        }
        let old = before["clusterID"].clone();
        world
            .cluster_when("three", "it has become another cluster", |status| {
                status["clusterID"].is_string() && status["clusterID"] != old
            })
            .await;
        flow(&writers).await;
        let after = world.ready("three", 3).await;
        let ledger = writers.finish().await;
        let (kept, lost) = world.kept_and_lost("three", &ledger).await;
        println!(
            "\n  two of three volumes gone: writable again after {:.1?}; of {} acknowledged writes {} are lost",
            ledger.longest_gap,
            kept.len() + lost.len(),
            lost.len()
        );
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(condition(&after, "QuorumLost"), "False");
        // It was made of the member that led, and the others' volumes are named.
        for pod in &followers {
            let claim = format!("data-{}", member_of(pod));
            assert!(quarantined(&after).contains(&claim), "{after}");
        }
        let members = after["members"].as_array().unwrap();
        assert!(
            members
                .iter()
                .any(|member| member["name"] == member_of(&leader)),
            "{after}"
        );
    });
}

#[test]
fn o09_a_restore_from_the_survivor_loses_only_what_the_lost_members_alone_had() {
    with("survivor", async |world| {
        // Plain, for once: other tests leave TLS to its default.
        let off = json!({"mode": "Disabled"});
        let spec = json!({"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}},
            "tls": {"client": off, "peer": off}});
        world.make("EtcdCluster", "three", spec).await;
        let before = world.ready("three", 3).await;
        let writers = world.writers("three").await;

        // The leader's claim and that of a follower are deleted, and the pods after them.
        let (leader, mut followers) = world.led("three").await;
        let survivor = followers.pop().unwrap();
        let lost = [leader, followers.pop().unwrap()];
        for pod in &lost {
            let claim = format!("data-{}", member_of(pod));
            world
                .claims()
                .delete(&claim, &DeleteParams::default())
                .await
                .unwrap();
        }
        for pod in &lost {
            world
                .pods()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await
                .unwrap();
        }
        world
            .cluster_when("three", "it says that the quorum is lost", |status| {
                condition(status, "QuorumLost") == "True" && condition(status, "Stalled") == "True"
            })
            .await;
        let old = before["clusterID"].as_str().unwrap();
        let restore =
            json!({"clusterRef": {"name": "three"}, "replaces": old, "source": {"survivor": {}}});
        // By hand, which first says what it knows, and changes nothing.
        let by_hand = ["restore", "three", "--survivor"];
        let said = world.etcd(&[&by_hand[..], &["--dry-run"]].concat()).await;
        assert!(said.contains("nothing was changed"), "{said}");
        assert!(said.contains(old), "{said}");
        let named = [
            "--name",
            "survivor",
            "--replaces",
            old,
            "--yes",
            "--wait=false",
        ];
        let begun = std::time::Instant::now();
        world.etcd(&[&by_hand[..], &named].concat()).await;
        flow(&writers).await;
        println!("\n  writable {:.1?} after the EtcdRestore", begun.elapsed());
        let status = world.done("EtcdRestore", "survivor").await;
        assert_eq!(status["phase"], "Completed", "{status}");
        let after = world.ready("three", 3).await;
        assert_eq!(status["clusterID"], after["clusterID"]);
        let ledger = writers.finish().await;

        let (kept, gone) = world.kept_and_lost("three", &ledger).await;
        println!(
            "\n  the leader and a follower lost: {} of {} acknowledged writes are lost",
            gone.len(),
            kept.len() + gone.len()
        );
        // What the survivor had is there without a hole; later revisions are raised far above.
        let had = kept.range(..RAISED).next_back().unwrap();
        assert!(
            gone.iter().all(|revision| revision > had),
            "{had}: {gone:?}"
        );
        let members = after["members"].as_array().unwrap();
        assert!(
            members
                .iter()
                .any(|member| member["name"] == member_of(&survivor)),
            "{after}"
        );

        // Applied again under another name it destroys nothing.
        world.make("EtcdRestore", "again", restore).await;
        let again = world.done("EtcdRestore", "again").await;
        assert_eq!(again["phase"], "Superseded", "{again}");
        assert_eq!(
            world.ready("three", 3).await["clusterID"],
            after["clusterID"]
        );
    });
}

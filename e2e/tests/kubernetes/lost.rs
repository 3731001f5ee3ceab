//! Volumes that are emptied or taken away while clients work.

use std::path::{Path, PathBuf};

use etcd_e2e::kubernetes::TEST_STATE;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::Value;

use crate::steady::ELECTION;
use crate::world::{World, with};

impl World {
    pub(crate) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The folder on this machine that is the volume of a claim.
    pub(crate) async fn folder_of(&self, claim: &str) -> PathBuf {
        let claim = self.claims().get(claim).await.unwrap();
        let volume = claim.spec.unwrap().volume_name.unwrap();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let path = volumes.get(&volume).await.unwrap();
        let path = path.spec.unwrap().host_path.unwrap().path;
        let name = Path::new(&path).file_name().unwrap();
        Path::new(TEST_STATE).join("volumes").join(name)
    }

    /// Waits until `lost` is no member any more and three others are; the status.
    async fn replaced(&self, cluster: &str, lost: &str) -> Value {
        self.cluster_when(cluster, &format!("{lost} is replaced"), |status| {
            let members = status["members"].as_array().cloned().unwrap_or_default();
            members.len() == 3
                && members.iter().all(|member| {
                    member["name"] != lost && member["role"] == "Voter" && member["healthy"] == true
                })
        })
        .await;
        self.gone(lost).await;
        self.ready(cluster, 3).await
    }
}

/// A member of the cluster that does not lead: its name and its pod.
async fn follower(world: &World, cluster: &str) -> (String, Pod) {
    let leader = world.leader_of(cluster).await;
    let pods = world.pods_of(cluster).await;
    let pod = pods.into_iter().find(|pod| pod.uid() != leader.uid());
    let pod = pod.expect("one of three that does not lead");
    (pod.labels()["etcd-core.io/member"].clone(), pod)
}

#[test]
fn o08_a_volume_emptied_and_a_claim_deleted_cost_one_member_each() {
    with("o08", async |world| {
        world.apply_sample("three.yaml").await;
        let before = world.ready("three", 3).await;
        let traffic = world.traffic("three").await;

        // The files vanish under a running member, which then crashes.
        let (emptied, pod) = follower(&world, "three").await;
        let folder = world.folder_of(&format!("data-{emptied}")).await;
        std::fs::remove_dir_all(folder.join("data")).unwrap();
        world
            .machine
            .kill_in_pod(&pod.uid().unwrap(), "etcd")
            .unwrap();
        let between = world.replaced("three", &emptied).await;
        assert_eq!(between["clusterID"], before["clusterID"]);

        // The claim is deleted, and the pod after it.
        let (robbed, pod) = follower(&world, "three").await;
        let claim = format!("data-{robbed}");
        world
            .claims()
            .delete(&claim, &DeleteParams::default())
            .await
            .unwrap();
        world
            .pods()
            .delete(&pod.name_any(), &DeleteParams::default())
            .await
            .unwrap();
        let after = world.replaced("three", &robbed).await;
        assert_eq!(after["clusterID"], before["clusterID"]);

        // Two members are new, and one is as old as the cluster.
        let ids = |status: &Value| -> Vec<Value> {
            let members = status["members"].as_array().unwrap();
            members.iter().map(|member| member["id"].clone()).collect()
        };
        let old = ids(&before);
        let kept = ids(&after)
            .into_iter()
            .filter(|id| old.contains(id))
            .count();
        assert_eq!(kept, 1, "{after}");
        let figures = world
            .finish(traffic, "a volume emptied, a claim deleted")
            .await;
        assert!(figures.longest_gap < ELECTION, "{figures}");
        assert_eq!(figures.failed, 0, "{figures}");
    });
}

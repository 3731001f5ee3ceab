//! Changes of the spec while clients work.

use std::time::Duration;

use etcd_e2e::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::steady::ELECTION;
use crate::world::{LIMIT, SYSTEM, World, condition, with};

impl World {
    /// Merges this into the cluster's spec.
    pub(crate) async fn change(&self, cluster: &str, spec: Value) {
        let patch = json!({ "spec": spec }).to_string();
        let name = format!("etcdcluster/{cluster}");
        self.kubectl(&["patch", &name, "--type=merge", "-p", &patch])
            .await;
    }

    /// Waits until every member runs that image, and the cluster is ready.
    async fn upgraded(&self, cluster: &str, members: i64, image: &str) -> Value {
        self.cluster_when(cluster, &format!("ready with {image}"), |status| {
            status["image"] == image
                && condition(status, "Ready") == "True"
                && status["readyReplicas"].as_i64() == Some(members)
        })
        .await;
        for pod in self.pods_of(cluster).await {
            assert_eq!(image_of(&pod), image, "{:?}", pod.metadata.name);
        }
        self.ready(cluster, members).await
    }

    /// The image that is asked for by `{"image": next()}`: the same programs by another name.
    fn next(&self) -> (Value, String) {
        let image = json!({"repository": "localhost/etcd-core", "tag": "next"});
        (
            json!({ "image": image }),
            "localhost/etcd-core:next".to_owned(),
        )
    }

    /// The image of clusters that name none.
    fn present(&self) -> (Value, String) {
        (
            json!({"image": null}),
            format!("localhost/etcd-core:{}", self.tag),
        )
    }

    /// Rolling upgrades in a row, there and back; the leader is the last each time.
    pub(crate) async fn roll(&self, cluster: &str, times: usize) {
        for time in 0..times {
            let (spec, image) = if time % 2 == 0 {
                self.next()
            } else {
                self.present()
            };
            let leader = self.leader_of(cluster).await.name_any();
            self.change(cluster, spec).await;
            self.upgraded(cluster, 3, &image).await;
            let mut pods = self.pods_of(cluster).await;
            pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
            let last = pods.last().map(ResourceExt::name_any);
            assert_eq!(last, Some(leader), "the leader is restarted last");
        }
    }
}

/// How many rolling upgrades there are in a row: two, or `E2E_UPGRADES`.
fn upgrades() -> usize {
    std::env::var("E2E_UPGRADES").map_or(2, |text| text.parse().expect("E2E_UPGRADES is a number"))
}

fn image_of(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let etcd = containers.into_iter().find(|one| one.name == "etcd");
    etcd.and_then(|one| one.image.clone()).unwrap_or_default()
}

#[test]
fn o14_one_grows_to_five_and_shrinks_back_while_clients_work() {
    with("o14-load", async |world| {
        world.apply_sample("one.yaml").await;
        let id = world.ready("one", 1).await["clusterID"].clone();
        let traffic = world.traffic("one").await;
        for members in [3, 5, 3, 1] {
            world.change("one", json!({"replicas": members})).await;
            let status = world.ready("one", members as i64).await;
            assert_eq!(status["clusterID"], id);
            let leader = world.leader_of("one").await;
            let listed = world.members_by(&leader).await;
            assert_eq!(listed.len(), members, "{listed:?}");
        }
        let figures = world.finish(traffic, "1→3→5→3→1").await;
        assert!(figures.longest_gap < ELECTION, "{figures}");
        assert_eq!(figures.failed, 0, "{figures}");
        // Who has left is no member any more, and its pod is about to go.
        eventually(LIMIT, "one pod", async || {
            match world.pods_of("one").await.len() {
                1 => Ok(()),
                pods => Err(pods),
            }
        })
        .await;
    });
}

#[test]
fn o19_o40_upgrades_roll_leader_last_and_a_bad_image_stops_at_one() {
    with("o40", async |world| {
        world.apply_sample("three.yaml").await;
        let id = world.ready("three", 3).await["clusterID"].clone();
        let traffic = world.traffic("three").await;
        world.roll("three", upgrades()).await;

        let bad = json!({"image": {"repository": "localhost/etcd-core", "tag": "no-such-tag"}});
        world.change("three", bad).await;
        let stopped = world
            .cluster_when("three", "it stops at one member and says why", |status| {
                let lines = status["members"].as_array().cloned().unwrap_or_default();
                let ill: Vec<_> = lines
                    .iter()
                    .filter(|line| line["healthy"] != true)
                    .collect();
                ill.len() == 1
                    && ill[0]["message"]
                        .as_str()
                        .is_some_and(|message| message.contains("no-such-tag"))
            })
            .await;
        assert_eq!(condition(&stopped, "Available"), "True");
        traffic.flows(500, Duration::from_secs(60)).await;
        let pods = world.pods_of("three").await;
        let wrong = pods
            .iter()
            .filter(|pod| image_of(pod).ends_with(":no-such-tag"));
        assert_eq!(wrong.count(), 1, "no other member was touched");

        let (spec, image) = world.present();
        world.change("three", spec).await;
        let status = world.upgraded("three", 3, &image).await;
        assert_eq!(status["clusterID"], id);
        let figures = world
            .finish(
                traffic,
                &format!("{} upgrades, a bad image, a revert", upgrades()),
            )
            .await;
        assert!(figures.longest_gap < ELECTION, "{figures}");
        assert_eq!(figures.failed, 0, "{figures}");
    });
}

#[test]
fn o13_o41_scaling_during_an_upgrade_whose_operator_is_deleted() {
    with("o13", async |world| {
        world.apply_sample("three.yaml").await;
        let id = world.ready("three", 3).await["clusterID"].clone();
        let traffic = world.traffic("three").await;
        let (spec, image) = world.next();
        world.change("three", spec).await;
        world
            .cluster_when("three", "the upgrade is under way", |status| {
                status["phase"] == "Updating"
            })
            .await;
        world.change("three", json!({"replicas": 5})).await;
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            pods.delete(&pod.name_any(), &DeleteParams::default())
                .await
                .unwrap();
        }
        let status = world.upgraded("three", 5, &image).await;
        assert_eq!(status["clusterID"], id);
        let figures = world
            .finish(traffic, "scaled to five during an upgrade")
            .await;
        assert!(figures.longest_gap < ELECTION, "{figures}");
        assert_eq!(figures.failed, 0, "{figures}");
    });
}

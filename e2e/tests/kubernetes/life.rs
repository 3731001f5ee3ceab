//! From a manifest to a cluster that serves, through the loss of its pods, to its deletion.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::conditions;

use crate::world::{SYSTEM, World, condition, with};

/// Whether Kubernetes counts the pod as ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl World {
    /// Deletes the pods and waits until others of the same names are ready.
    async fn lose(&self, pods: &[Pod]) {
        for pod in pods {
            self.pods()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await
                .unwrap();
        }
        for pod in pods {
            let old = pod.uid();
            self.object_when(self.pods(), &pod.name_any(), "is back", |found| {
                found.is_some_and(|found| found.uid() != old && is_ready(found))
            })
            .await;
        }
    }

    async fn scale_operator(&self, replicas: i32) {
        let scale = ["scale", "deployment/etcd-operator", "--namespace", SYSTEM];
        let replicas_flag = format!("--replicas={replicas}");
        self.kubectl
            .run(&[&scale[..], &[replicas_flag.as_str()]].concat())
            .await
            .unwrap();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM);
        self.object_when(api, "etcd-operator", "is scaled", |found| {
            let status = found.and_then(|found| found.status.as_ref());
            status.is_some_and(|status| {
                status.ready_replicas.unwrap_or(0) == replicas
                    && status.replicas.unwrap_or(0) == replicas
            })
        })
        .await;
        if replicas == 0 {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
            for pod in pods.list(&ListParams::default()).await.unwrap() {
                let uid = pod.uid().unwrap();
                let gone = conditions::is_deleted(&uid);
                use kube::runtime::wait::Condition;
                self.object_when(pods.clone(), &pod.name_any(), "is gone", |found| {
                    gone.matches_object(found)
                })
                .await;
            }
        }
    }
}

#[test]
fn a_cluster_of_three_lives_on_three_nodes_and_dies_leaving_its_volumes() {
    with("life", async |world| {
        world.apply_sample("three.yaml").await;
        let status = world.ready("three", 3).await;
        assert_eq!(condition(&status, "Available"), "True");
        assert_eq!(condition(&status, "Stalled"), "False");
        let pods = world.pods_of("three").await;
        let nodes: BTreeSet<_> = pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
            .collect();
        assert_eq!(nodes.len(), 3, "{nodes:?}");

        world.put("three", "greeting", "hello").await;
        world.every_pod_reads("three", "greeting", "hello").await;

        let table = world.kubectl(&["get", "etcdcluster"]).await;
        let mut lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let heading = lines.next().unwrap();
        assert_eq!(
            heading,
            [
                "NAME", "READY", "DESIRED", "LEADER", "VERSION", "PHASE", "AGE"
            ]
        );
        let row = lines.next().unwrap();
        let leader = status["leader"].as_str().unwrap();
        assert_eq!(
            row[..6],
            ["three", "3", "3", leader, "3.7.3", "Running"],
            "{table}"
        );
        assert!(leader.starts_with("three-"), "{leader}");

        let told = world.kubectl(&["describe", "etcdcluster", "three"]).await;
        for word in ["Conditions:", "Ready", "Available", "Events:"] {
            assert!(told.contains(word), "no {word} in:\n{told}");
        }
        assert!(!told.contains("Events:  <none>"), "{told}");

        // One member, by hand of a person; its data is there again, and nothing else changed.
        let id = status["clusterID"].clone();
        world.lose(&pods[..1]).await;
        let status = world.ready("three", 3).await;
        assert_eq!(status["clusterID"], id);
        world.every_pod_reads("three", "greeting", "hello").await;

        world
            .kubectl(&["delete", "etcdcluster", "three", "--wait"])
            .await;
        world.nothing_is_left_of("three").await;
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(world.client.clone(), &world.namespace);
        assert_eq!(
            claims
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .len(),
            3
        );
    });
}

#[test]
fn o12_all_pods_return_with_their_data_while_the_operator_is_down() {
    with("o12", async |world| {
        world.apply_sample("three.yaml").await;
        let before = world.ready("three", 3).await;
        world.put("three", "kept", "yes").await;
        world.scale_operator(0).await;
        let pods = world.pods_of("three").await;
        world.lose(&pods[..1]).await;
        world.every_pod_reads("three", "kept", "yes").await;
        let pods = world.pods_of("three").await;
        world.lose(&pods).await;
        world.every_pod_reads("three", "kept", "yes").await;
        world.put("three", "kept", "still").await;
        world.scale_operator(1).await;
        world.every_pod_reads("three", "kept", "still").await;
        let after = world.ready("three", 3).await;
        assert_eq!(before["clusterID"], after["clusterID"]);
    });
}

impl World {
    /// Waits until nothing that runs belongs to the cluster any more.
    async fn nothing_is_left_of(&self, cluster: &str) {
        self.none_of::<StatefulSet>(cluster).await;
        self.none_of::<Service>(cluster).await;
        self.none_of::<PodDisruptionBudget>(cluster).await;
        self.none_of::<Pod>(cluster).await;
    }

    async fn none_of<K>(&self, cluster: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Send
            + serde::de::DeserializeOwned
            + 'static,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = ListParams::default().labels(&format!("etcd-core.io/cluster={cluster}"));
        for object in api.list(&selector).await.unwrap() {
            let uid = object.uid();
            self.object_when(api.clone(), &object.name_any(), "is gone", |found| {
                found.is_none_or(|found| found.uid() != uid)
            })
            .await;
        }
    }
}

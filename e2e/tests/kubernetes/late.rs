//! Pods that come late, or never: while a cluster forms, and while one grows.

use std::collections::BTreeSet;

use etcd_e2e::eventually;
use etcd_e2e::http;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::members::{address, is_unschedulable, node_of};
use crate::world::{LIMIT, condition, with};

/// Three members, of which no two share a node.
const SPREAD: &str = "
apiVersion: etcd-core.io/v1alpha1
kind: EtcdCluster
metadata: {name: late}
spec:
  replicas: 3
  storage: {persistentVolumeClaim: {size: 1Gi}}
  podTemplate:
    spec:
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}
";

#[test]
fn o10_a_late_pod_joins_the_one_cluster_there_is() {
    with("o10", async |world| {
        let nodes = world.nodes().await;
        world.cordon(&nodes[2..], true).await;
        world.apply(SPREAD).await;
        // Two wait long enough for the third, and then form the cluster without it.
        let status = world
            .cluster_when("late", "two of three have formed the cluster", |status| {
                status["readyReplicas"].as_i64() == Some(2)
            })
            .await;
        let id = status["clusterID"].as_str().unwrap().to_owned();
        let bootstrap = status["bootstrap"].clone();
        assert_eq!(
            bootstrap["members"].as_array().unwrap().len(),
            2,
            "{status}"
        );
        assert_eq!(condition(&status, "Available"), "True");
        assert_eq!(condition(&status, "Ready"), "False");
        world.put("late", "written", "by two").await;
        let pods = world.pods_of("late").await;
        let late: Vec<_> = pods.iter().filter(|pod| is_unschedulable(pod)).collect();
        assert_eq!(late.len(), 1, "one pod found no node");
        let member = late[0].labels()["etcd-core.io/member"].clone();

        world.cordon(&nodes, false).await;
        let status = world.ready("late", 3).await;
        // It was added, as a learner, to the cluster that was there.
        let line = |status: &serde_json::Value| {
            let members = status["members"].as_array().unwrap().clone();
            members
                .into_iter()
                .find(|line| line["name"] == member.as_str())
                .unwrap()
        };
        assert_eq!(line(&status)["ticket"]["kind"], "Join", "{status}");
        assert_eq!(status["clusterID"], id.as_str());
        assert_eq!(status["bootstrap"], bootstrap);
        let mut ids = BTreeSet::new();
        for pod in world.pods_of("late").await {
            let members = world.members_by(&pod).await;
            assert_eq!(members.len(), 3, "{members:?}");
            let client = world.client_of(&pod).await;
            let answer = eventually(LIMIT, "its status", async || client.status().await).await;
            ids.insert(format!("{:x}", answer.header.unwrap().cluster_id));
        }
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(world.client.clone(), &world.namespace);
        for claim in claims.list(&ListParams::default()).await.unwrap() {
            ids.insert(claim.annotations()["etcd-core.io/cluster-id"].clone());
        }
        assert_eq!(ids, BTreeSet::from([id]), "exactly one cluster ID, ever");
        world.every_pod_reads("late", "written", "by two").await;
    });
}

#[test]
fn o07_a_member_that_finds_no_node_is_never_added() {
    with("o07-node", async |world| {
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        world.put("one", "before", "1").await;
        let selector = r#"{"spec": {"replicas": 3, "podTemplate": {"spec": {"nodeSelector": {"there-is": "no-such-node"}}}}}"#;
        world
            .kubectl(&["patch", "etcdcluster/one", "--type=merge", "-p", selector])
            .await;
        world
            .cluster_when("one", "it waits for the pod, and says why", |status| {
                let reason = status["plan"]["reason"].as_str().unwrap_or_default();
                reason.contains("one-1") && reason.contains("Unschedulable")
            })
            .await;
        let first = world.member_pod("one-0", "is there", |_| true).await;
        assert_eq!(world.members_by(&first).await.len(), 1, "nothing was added");
        world.put("one", "between", "2").await;

        let revert = r#"{"spec": {"replicas": 1, "podTemplate": null}}"#;
        world
            .kubectl(&["patch", "etcdcluster/one", "--type=merge", "-p", revert])
            .await;
        world.ready("one", 1).await;
        world.gone("one-1").await;
        let same = world.member_pod("one-0", "is there", |_| true).await;
        assert_eq!(same.uid(), first.uid(), "the first was not restarted");
        world.every_pod_reads("one", "between", "2").await;
    });
}

#[test]
fn o07_a_learner_that_never_starts_is_rolled_back() {
    with("o07", async |world| {
        world.apply_sample("one.yaml").await;
        let id = world.ready("one", 1).await["clusterID"].clone();
        world.put("one", "before", "1").await;
        let first = world.member_pod("one-0", "is there", |_| true).await;

        // The pod of the second waits for its ticket, and its kubelet dies: the ticket is issued, and never arrives.
        let nodes = world.nodes().await;
        world.cordon(&nodes, true).await;
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=3"])
            .await;
        world
            .member_pod("one-1", "finds no node", is_unschedulable)
            .await;
        world.pause("one", true).await;
        world.cordon(&nodes, false).await;
        let second = world
            .member_pod("one-1", "has an address", |pod| address(pod).is_some())
            .await;
        let report = format!("http://{}:2381/admission", address(&second).unwrap());
        eventually(LIMIT, "it waits for its ticket", async || {
            let (_, body) = http::get(&report)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if body.contains("Empty") {
                Ok(())
            } else {
                Err(body)
            }
        })
        .await;
        let kubelet = world.machine.take_kubelet(&node_of(&second)).unwrap();
        world.pause("one", false).await;
        world
            .cluster_when("one", "the second has its ticket", |status| {
                let members = status["members"].as_array().cloned().unwrap_or_default();
                members.iter().any(|member| {
                    member["name"] == "one-1"
                        && member["role"] == "Learner"
                        && member["ticket"]["kind"] == "Join"
                })
            })
            .await;
        let members = world.members_by(&first).await;
        assert_eq!(members.len(), 2, "{members:?}");
        assert_eq!(members.iter().filter(|member| member.is_learner).count(), 1);
        // It has no vote, so the first serves without it.
        world.put("one", "between", "2").await;

        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=1"])
            .await;
        eventually(LIMIT, "the learner is removed again", async || {
            let members = world.members_by(&first).await;
            if members.len() == 1 {
                Ok(())
            } else {
                Err(members)
            }
        })
        .await;
        drop(kubelet);
        let status = world.ready("one", 1).await;
        assert_eq!(status["clusterID"], id);
        world.gone("one-1").await;
        world.nodes_are_well().await;

        // And the way is free again.
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=3"])
            .await;
        let status = world.ready("one", 3).await;
        assert_eq!(status["clusterID"], id);
        world.every_pod_reads("one", "between", "2").await;
    });
}

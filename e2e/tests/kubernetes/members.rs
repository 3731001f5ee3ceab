//! A cluster's members, as Kubernetes and as etcd know them.

use etcd_e2e::eventually;
use etcd_proto::etcdserverpb::Member;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;

use crate::life::is_ready;
use crate::world::{LIMIT, World, condition};

impl World {
    /// Waits until the member's pod is there and `wanted` holds.
    pub(crate) async fn member_pod(
        &self,
        member: &str,
        what: &str,
        wanted: impl Fn(&Pod) -> bool,
    ) -> Pod {
        let name = format!("{member}-0");
        self.object_when(self.pods(), &name, what, |pod| pod.is_some_and(&wanted))
            .await
            .unwrap()
    }

    /// Waits until this pod's containers were started again, and are ready.
    pub(crate) async fn restarted(&self, pod: &Pod) {
        let before = restarts(pod);
        self.object_when(self.pods(), &pod.name_any(), "was restarted", |now| {
            now.is_some_and(|now| restarts(now) > before && is_ready(now))
        })
        .await;
    }

    /// The members as this pod of the cluster lists them.
    pub(crate) async fn members_by(&self, pod: &Pod) -> Vec<Member> {
        let client = self.client_of(pod).await;
        eventually(LIMIT, "the member list", async || client.members().await).await
    }

    /// Waits until the member's StatefulSet and pod are gone.
    pub(crate) async fn gone(&self, member: &str) {
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), &self.namespace);
        self.object_when(sets, member, "is gone", |set| set.is_none())
            .await;
        self.object_when(self.pods(), &format!("{member}-0"), "is gone", |pod| {
            pod.is_none()
        })
        .await;
    }

    /// Sets `spec.paused` and waits until the operator has seen it.
    pub(crate) async fn pause(&self, cluster: &str, paused: bool) {
        let patch = format!(r#"{{"spec": {{"paused": {paused}}}}}"#);
        let name = format!("etcdcluster/{cluster}");
        self.kubectl(&["patch", &name, "--type=merge", "-p", &patch])
            .await;
        let wanted = if paused { "True" } else { "False" };
        self.cluster_when(cluster, "paused, or not", |status| {
            condition(status, "Paused") == wanted
        })
        .await;
    }
}

/// How often the pod's containers were started again.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).sum()
}

/// The pod's address, once it has one.
pub(crate) fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// The node the pod is on.
pub(crate) fn node_of(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    node.expect("the pod is on a node")
}

/// Whether Kubernetes says that no node fits the pod.
pub(crate) fn is_unschedulable(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

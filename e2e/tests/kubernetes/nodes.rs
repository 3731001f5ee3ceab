//! Nodes that take no pods.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::world::World;

impl World {
    /// The names of all nodes.
    pub(crate) async fn nodes(&self) -> Vec<String> {
        let api: Api<Node> = Api::all(self.client.clone());
        let list = api.list(&ListParams::default()).await.unwrap();
        list.iter().map(ResourceExt::name_any).collect()
    }

    /// Lets no new pod onto these nodes, or lets them again.
    pub(crate) async fn cordon(&self, nodes: &[String], cordoned: bool) {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = json!({"spec": {"unschedulable": cordoned}});
        for node in nodes {
            api.patch(node, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap();
        }
    }

    /// Waits until no node is cordoned and all are ready.
    pub(crate) async fn nodes_are_well(&self) {
        self.cordon(&self.nodes().await, false).await;
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "node",
            "--all",
            "--timeout=120s",
        ])
        .await;
    }
}

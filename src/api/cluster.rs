//! `EtcdCluster`: what a user asks for.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    BootstrapSpec, EtcdClusterStatus, ImageSpec, MaintenanceSpec, OptionsSpec, PodTemplate,
    RecoverySpec, ServiceSpec, StorageSpec, TlsSpec,
};

/// A cluster of etcd, kept as its spec says.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd-core.io",
    version = "v1alpha1",
    kind = "EtcdCluster",
    plural = "etcdclusters",
    shortname = "etcd",
    category = "all",
    namespaced,
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A cluster of etcd, kept as its spec says.",
    cel,
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Members that serve"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas", description = "Members wanted"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader", description = "Member that leads"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Version of etcd"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "What is going on"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.plan.reason", description = "What is done next, and why", priority = 1),
    validation = (
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
        "metadata.name must be at most 40 characters: lower-case letters, digits and '-', beginning with a letter and not ending with '-'"
    )
)]
#[x_kube(
    cel,
    validation = (
        "!(has(self.image) && has(self.image.repository)) || has(self.image.tag) || has(self.image.digest) || has(self.version)",
        "image.repository needs image.tag, image.digest or version to say which image is meant"
    ),
    validation = (
        "has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)",
        "bootstrap cannot be changed; create another EtcdCluster"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterSpec {
    /// Members wanted. 0 puts the cluster to sleep: its pods stop, its members and
    /// their volumes stay.
    #[serde(default = "default_replicas")]
    #[x_kube(validation = ("self in [0, 1, 3, 5, 7]", "replicas must be 0 (asleep), 1, 3, 5 or 7"))]
    pub replicas: i32,
    /// Version of etcd, such as `3.7.3`, checked against what the members report.
    /// Left out, it is what the image brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^3\.[0-9]{1,2}\.[0-9]{1,3}(-[0-9A-Za-z.-]{1,32})?$"))]
    pub version: Option<String>,
    /// The image members run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,
    /// Where members keep their data; a claim of 8Gi each if left out.
    #[serde(default)]
    pub storage: StorageSpec,
    /// TLS of clients and of members among themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// What it begins with, if not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapSpec>,
    /// Options of etcd.
    #[serde(default)]
    pub options: OptionsSpec,
    /// What is done about members that do not come back.
    #[serde(default)]
    pub recovery: RecoverySpec,
    /// Shape of the members' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// When the operator may restart members of its own accord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,
    /// The Service clients use.
    #[serde(default)]
    pub service: ServiceSpec,
    /// Leave the cluster alone: nothing is created, changed or deleted. Status is
    /// still kept.
    #[serde(default)]
    pub paused: bool,
}

fn default_replicas() -> i32 {
    3
}

impl EtcdClusterSpec {
    /// The user's Secret with what the operator shows to members, in mode Secret.
    pub fn operator_secret(&self) -> Option<&str> {
        let client = self.tls.as_ref()?.client.as_ref()?;
        Some(&client.operator_secret_ref.as_ref()?.name)
    }
}

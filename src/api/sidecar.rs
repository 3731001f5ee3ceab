//! Containers and volumes that users add to the members' pods: a closed set of
//! fields, so that they can do nothing that the pods' own containers cannot.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EmptyDirSpec, PullPolicy, Resources};

/// A container beside etcd. It runs as the same user, without privileges, on a root
/// filesystem that cannot be written, and sees none of etcd's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!(self.name in ['etcd', 'admission'])", "podTemplate.spec.sidecars[].name must not be etcd or admission"),
)]
pub struct Sidecar {
    /// Its name.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its image.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// When its image is pulled.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Program to run, instead of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
    /// Environment, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub env: BTreeMap<String, String>,
    /// Ports it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<SidecarPort>,
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where volumes of `podTemplate.spec.volumes` appear in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volume_mounts: Vec<SidecarMount>,
}

/// A port of a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!(self.containerPort in [2379, 2380, 2381])", "podTemplate.spec.sidecars[].ports[].containerPort must not be 2379, 2380 or 2381"),
    validation = ("!(self.name in ['client', 'peer', 'metrics'])", "podTemplate.spec.sidecars[].ports[].name must not be client, peer or metrics"),
)]
pub struct SidecarPort {
    /// Its name.
    #[schemars(length(max = 15), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The port; etcd's own are taken.
    #[schemars(range(min = 1, max = 65_535))]
    pub container_port: i32,
}

/// A place where a volume appears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarMount {
    /// The volume, of `podTemplate.spec.volumes`.
    #[schemars(length(min = 1, max = 58))]
    pub name: String,
    /// Where.
    #[schemars(length(min = 1, max = 512))]
    pub mount_path: String,
    /// Whether it cannot be written.
    #[serde(default)]
    pub read_only: bool,
}

/// A volume for sidecars. It comes from this namespace or from nowhere, never from
/// the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.emptyDir) ? 1 : 0) == 1",
        "podTemplate.spec.volumes[] must have exactly one of configMap, secret and emptyDir"
    ),
)]
pub struct ExtraVolume {
    /// Its name.
    #[schemars(length(max = 58), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The files of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectName>,
    /// The files of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectName>,
    /// An empty directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirSpec>,
}

/// Name of an object in the cluster's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

//! Which image members run.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The image of the members. Any image with an `etcd` in its path will do, stock
/// etcd's among them; left out, the operator's default is taken and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("has(self.repository) || !(has(self.tag) || has(self.digest))", "image.tag and image.digest need image.repository"),
)]
pub struct ImageSpec {
    /// Registry and name, without tag: `registry.example/etcd-development/etcd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    /// Tag; left out, `v` followed by `spec.version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"))]
    pub tag: Option<String>,
    /// Digest, `sha256:` and 64 hex digits. It wins over the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// When the kubelet pulls the image.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets of this namespace that hold the registry's credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pull_secrets: Vec<PullSecret>,
}

/// Name of a Secret in the cluster's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// If the node does not have it.
    #[default]
    IfNotPresent,
    /// Before every start.
    Always,
    /// Never; it must be on the node.
    Never,
}

impl PullPolicy {
    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Always => "Always",
            PullPolicy::Never => "Never",
        }
    }
}

impl ImageSpec {
    /// The reference to pull, or `None` if the spec leaves the choice to the
    /// operator. `version` is `spec.version`, without `v`.
    pub fn reference(&self, version: Option<&str>) -> Option<String> {
        let repository = self.repository.as_deref()?;
        if let Some(digest) = &self.digest {
            return Some(format!("{repository}@{digest}"));
        }
        if let Some(tag) = &self.tag {
            return Some(format!("{repository}:{tag}"));
        }
        version.map(|version| format!("{repository}:v{version}"))
    }
}

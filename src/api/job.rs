//! Shape of the Jobs that carry out backups, verifications and restores. As with
//! members' pods it is a list of what is allowed, not a patch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PullSecret, Resources};

/// The Jobs that do the work, in pods of the operator's own image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// ServiceAccount whose ambient identity is used towards the store when no
    /// credentials are named; the namespace's default one if left out. Its Kubernetes
    /// token is not mounted. Who sets it must be allowed to create pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Attempts, the first one included. Only what may pass by itself is tried again:
    /// a store that cannot be reached, not one that denies access.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: i32,
    /// Seconds an attempt may take, waiting for a node included.
    #[serde(default = "six_hours")]
    #[schemars(range(min = 60, max = 604_800))]
    pub active_deadline_seconds: i64,
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<JobScheduling>,
    /// Room to restore a backup into when it is verified.
    #[serde(default)]
    pub scratch: ScratchSpec,
    /// Secrets of this namespace with the credentials of the registry the operator's
    /// image comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pull_secrets: Vec<PullSecret>,
}

/// Where the pods of a Job may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobScheduling {
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Node and pod affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Room to work in: a directory of the node, or a volume that lives as long as the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!has(self.storageClassName) || has(self.size)", "job.scratch.storageClassName needs job.scratch.size"),
)]
pub struct ScratchSpec {
    /// How much it may hold, such as `8Gi`: about twice the size of the store. Without
    /// it the node's disk sets the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[kMGTPE])?$")
    )]
    pub size: Option<String>,
    /// Takes a volume of this StorageClass instead of the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

fn three() -> i32 {
    3
}

fn six_hours() -> i64 {
    6 * 3600
}

impl Default for JobSpec {
    fn default() -> Self {
        JobSpec {
            service_account_name: None,
            attempts: three(),
            active_deadline_seconds: six_hours(),
            resources: None,
            scheduling: None,
            scratch: ScratchSpec::default(),
            pull_secrets: Vec::new(),
        }
    }
}

//! Where members keep their data, and what becomes of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Quantity;

/// Where members keep their data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("has(self.persistentVolumeClaim) != has(self.emptyDir)", "storage must be exactly one of persistentVolumeClaim and emptyDir"),
    validation = ("has(self.persistentVolumeClaim) == has(oldSelf.persistentVolumeClaim)", "storage cannot change between persistentVolumeClaim and emptyDir; create another EtcdCluster"),
    validation = ("!has(self.emptyDir) || !has(oldSelf.emptyDir) || self.emptyDir == oldSelf.emptyDir", "storage.emptyDir cannot be changed; create another EtcdCluster"),
)]
pub struct StorageSpec {
    /// A volume of its own for each member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSpec>,
    /// The node's disk or memory: a pod that goes takes its data along, and its
    /// member is replaced by a new one. For tests and caches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirSpec>,
    /// What becomes of the claims when the `EtcdCluster` is deleted.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
    /// What becomes of a member's claim when the cluster is scaled in.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
    /// What becomes of a member's claim when the member was replaced by another.
    #[serde(default)]
    pub when_replaced: RetentionPolicy,
}

/// A claim per member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("quantity(self.size).isGreaterThan(quantity('0'))", "storage.persistentVolumeClaim.size must be greater than 0"),
    validation = ("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "storage.persistentVolumeClaim.size may only grow"),
    validation = (
        "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "storage.persistentVolumeClaim.storageClassName cannot be changed; create another EtcdCluster"
    ),
)]
pub struct ClaimSpec {
    /// Size of each volume, such as `8Gi`. It may grow, if the class allows it.
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[kMGTPE])?$")
    )]
    pub size: String,
    /// StorageClass; left out, the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// A directory that lives as long as the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirSpec {
    /// What it is made of.
    #[serde(default)]
    pub medium: StorageMedium,
    /// How much it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// What an emptyDir is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StorageMedium {
    /// The node's disk.
    #[default]
    Disk,
    /// The node's memory.
    Memory,
}

/// What becomes of a claim that is no longer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionPolicy {
    /// It stays, and with it the data, until someone deletes it.
    #[default]
    Retain,
    /// It is deleted, and with it the data.
    Delete,
}

impl Default for StorageSpec {
    fn default() -> Self {
        StorageSpec {
            persistent_volume_claim: Some(ClaimSpec {
                size: "8Gi".to_owned(),
                storage_class_name: None,
            }),
            empty_dir: None,
            when_deleted: RetentionPolicy::Retain,
            when_scaled: RetentionPolicy::Retain,
            when_replaced: RetentionPolicy::Retain,
        }
    }
}

//! `EtcdBackup`: one backup of a cluster, the run that makes it and what is stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Compression, Destination, EncryptionSpec, FailureStatus, JobSpec, RunStatus, Verification,
};

/// One backup of a cluster: the run that makes it, and what is stored. Applied once, it
/// is carried out once; another backup is another object.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd-core.io",
    version = "v1alpha1",
    kind = "EtcdBackup",
    plural = "etcdbackups",
    shortname = "etcdbackup",
    namespaced,
    status = "EtcdBackupStatus",
    derive = "PartialEq",
    doc = "One backup of a cluster: the run that makes it, and what is stored.",
    cel,
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name", description = "Cluster that is backed up"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "What is going on"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.artifact.size", description = "Size of the store"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.artifact.revision", description = "Revision of the store"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.conditions[?(@.type=='Verified')].status", description = "Whether it was proven"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.run.progress.percent", description = "Percent done", priority = 1),
    printcolumn(name = "Where", type_ = "string", json_path = ".status.artifact.uri", description = "Where it is stored", priority = 1),
    validation = (
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 50",
        "metadata.name must be at most 50 characters: lower-case letters, digits and '-', not at its ends"
    )
)]
#[x_kube(
    cel,
    validation = ("self.clusterRef == oldSelf.clusterRef", "clusterRef cannot be changed; create another EtcdBackup"),
    validation = ("self.destination == oldSelf.destination", "destination cannot be changed; create another EtcdBackup"),
    validation = ("self.compression == oldSelf.compression", "compression cannot be changed; create another EtcdBackup"),
    validation = (
        "has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || self.encryption == oldSelf.encryption)",
        "encryption cannot be changed; create another EtcdBackup"
    ),
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupSpec {
    /// The cluster, in this namespace.
    pub cluster_ref: ClusterRef,
    /// Where it is stored.
    pub destination: Destination,
    /// How it is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Encrypts it before it leaves the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// How it is proven to be good.
    #[serde(default)]
    pub verification: Verification,
    /// What becomes of what is stored when this object is deleted. In a namespace that
    /// is going away it is kept.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// The Jobs that do the work.
    #[serde(default)]
    pub job: JobSpec,
}

/// An `EtcdCluster` of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// What becomes of what is stored when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays, and can be restored by its address.
    #[default]
    Retain,
    /// It is deleted first.
    Delete,
}

/// State of a backup. `run` is memory: it is recorded before the Job it names is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupStatus {
    /// Generation of the spec this status speaks of; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,
    /// What is going on, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was stored, or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// The Job at work, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunStatus>,
    /// How the last attempt failed, until one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureStatus>,
    /// What is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// When it was last proven to be good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// The request to verify it again that is being carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub verifying: Option<String>,
    /// The request to verify it again that was last carried out: the value of the
    /// annotation etcd-core.io/verify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub verify_request: Option<String>,
    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for EtcdBackupStatus {
    fn default() -> Self {
        EtcdBackupStatus {
            observed_generation: super::never_observed(),
            phase: None,
            started_at: None,
            completed_at: None,
            run: None,
            failure: None,
            artifact: None,
            verified_at: None,
            verifying: None,
            verify_request: None,
            conditions: Vec::new(),
        }
    }
}

/// What a backup is at, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// Not begun, or waiting to try again.
    Pending,
    /// A Job is at it.
    Running,
    /// It is stored.
    Completed,
    /// It is stored and is being verified once more.
    Verifying,
    /// It was given up.
    Failed,
    /// What is stored is being deleted.
    Deleting,
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where it is.
    pub uri: String,
    /// Bytes of the snapshot.
    pub size_bytes: i64,
    /// The same for people.
    pub size: String,
    /// Bytes as stored, compressed and encrypted.
    pub stored_bytes: i64,
    /// SHA-256 of the snapshot, in hex.
    pub sha256: String,
    /// Revision of the store.
    pub revision: i64,
    /// Keys in it.
    pub total_keys: i64,
    /// etcd's hash of the store at that revision, in hex.
    pub kv_hash: String,
    /// Version of etcd it was taken from.
    pub etcd_version: String,
    /// Cluster it was taken of, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Member it was taken from.
    pub member: String,
    /// When the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
}

//! `EtcdRestore`, which gives a cluster other data, and where data comes from: the same
//! for a cluster that begins with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ClaimDestination, ClusterRef, Destination, EncryptionSpec, FailureStatus, JobSpec, RunStatus,
    S3Destination,
};

/// Gives an existing cluster the data of a backup, or of its own most advanced member
/// after its quorum was lost. It can be done once; nothing of it can be changed.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd-core.io",
    version = "v1alpha1",
    kind = "EtcdRestore",
    plural = "etcdrestores",
    shortname = "etcdrestore",
    namespaced,
    status = "EtcdRestoreStatus",
    derive = "PartialEq",
    doc = "Gives an existing cluster the data of a backup, or of its most advanced member after its quorum was lost.",
    cel,
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name", description = "Cluster that is restored"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "What is going on"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.restoredRevision", description = "Revision of what is restored"),
    printcolumn(name = "Lost", type_ = "integer", json_path = ".status.lostRevisions", description = "Revisions that are lost by it"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source", description = "What is restored", priority = 1),
    validation = (
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 50",
        "metadata.name must be at most 50 characters: lower-case letters, digits and '-', not at its ends"
    )
)]
#[x_kube(
    cel,
    validation = ("self == oldSelf", "an EtcdRestore cannot be changed; create another"),
    validation = ("!has(self.target) || !has(self.source.survivor)", "target goes with a backup, not with source.survivor"),
    validation = ("!has(self.target) || !has(self.source.file)", "target goes with a backup, not with source.file"),
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRestoreSpec {
    /// The cluster, in this namespace.
    pub cluster_ref: ClusterRef,
    /// The cluster ID that is given up, in hex, as the cluster's status has it. While
    /// the cluster has any other, nothing is done: applied again it destroys nothing.
    #[schemars(regex(pattern = r"^[0-9a-f]{1,16}$"))]
    pub replaces: String,
    /// What is restored.
    pub source: RestoreSource,
    /// Which state of it; the backup's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// What becomes of revisions.
    #[serde(default)]
    pub revisions: RevisionsSpec,
    /// Only find out what it would restore, and what would be lost by it.
    #[serde(default)]
    pub dry_run: bool,
    /// The Jobs that verify it beforehand. The restore itself is done in the pod of the
    /// cluster's first new member.
    #[serde(default)]
    pub job: JobSpec,
}

/// What is restored: a backup by its object, one by its place, a file, or what is left
/// of the cluster itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "[has(self.backupRef), has(self.s3), has(self.persistentVolumeClaim), has(self.survivor)].filter(given, given).size() == 1",
        "source must be exactly one of backupRef, s3, persistentVolumeClaim and survivor"
    ),
    validation = (
        "!(has(self.folder) || has(self.file) || has(self.encryption)) || has(self.s3) || has(self.persistentVolumeClaim)",
        "source.folder, source.file and source.encryption go with source.s3 and source.persistentVolumeClaim"
    ),
    validation = ("!(has(self.folder) && has(self.file))", "source.folder and source.file exclude each other"),
)]
pub struct RestoreSource {
    /// An `EtcdBackup` of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<BackupRef>,
    /// A bucket with backups, or with a snapshot file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Destination>,
    /// A volume with backups, or with a snapshot file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimDestination>,
    /// The most advanced member that is left after the quorum was lost. All that are
    /// left are stopped and compared first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivor: Option<Survivor>,
    /// Folder of the backup in the bucket or volume; the newest one that the target
    /// allows if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 128),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub folder: Option<String>,
    /// A snapshot file in the bucket or volume, as `etcdctl snapshot save` of any etcd
    /// writes it, possibly compressed by zstd or gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 1024),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub file: Option<String>,
    /// How it is decrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// Restore it also if it is a backup of another cluster. An EtcdCluster that begins
    /// with a backup takes that of any.
    #[serde(default)]
    pub allow_other_cluster: bool,
}

/// What a source stands for: a place, whatever becomes of the object that named it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredSource {
    /// Bucket or volume.
    pub destination: Destination,
    /// Folder of the backup; the newest one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// A snapshot file instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How it is decrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
}

/// An `EtcdBackup` of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRef {
    /// Its name.
    #[schemars(length(min = 1, max = 50))]
    pub name: String,
}

/// What is left of the cluster itself. There is nothing to say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survivor {}

/// Which state is restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("has(self.revision) != has(self.time)", "target must be exactly one of revision and time"),
)]
pub struct RestoreTarget {
    /// At this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// At the last revision that was reached by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// What becomes of revisions. Clients that watch remember the last one they saw; they
/// must never see an old one again with other content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionsSpec {
    /// How much the revision is raised beyond the restored one. All before is then
    /// marked as compacted, so that watches are told to begin anew. 0 leaves both as
    /// they were: only for clusters that nobody watches.
    #[serde(default = "a_thousand_million")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub bump: i64,
}

fn a_thousand_million() -> i64 {
    1_000_000_000
}

impl Default for RevisionsSpec {
    fn default() -> Self {
        RevisionsSpec {
            bump: a_thousand_million(),
        }
    }
}

/// State of a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRestoreStatus {
    /// Generation of the spec this status speaks of; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,
    /// What is going on, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// What is restored, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredSource>,
    /// The Job that verifies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunStatus>,
    /// How the last attempt failed, until one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureStatus>,
    /// SHA-256 of the snapshot that was verified; what is restored is what was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Cluster whose backup it is, in hex, if that is known.
    #[serde(
        default,
        rename = "sourceClusterID",
        skip_serializing_if = "Option::is_none"
    )]
    pub source_cluster_id: Option<String>,
    /// Revision of what is restored, before it is raised. Of a survivor it is known once
    /// it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_revision: Option<i64>,
    /// Newest revision of the cluster when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<i64>,
    /// Revisions that are lost by it: those after the restored one, up to the last that
    /// was seen before the members were stopped. Of a survivor: 0 if it led last and no
    /// other voter can have gone on. Absent where it is not known; the message of the
    /// conditions then says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_revisions: Option<i64>,
    /// Claims of the members that were replaced. They are kept, with all their data,
    /// until someone deletes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub quarantined_volumes: Vec<String>,
    /// The cluster's new ID, in hex.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// When it was done, or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for EtcdRestoreStatus {
    fn default() -> Self {
        EtcdRestoreStatus {
            observed_generation: super::never_observed(),
            phase: None,
            source: None,
            stored: None,
            run: None,
            failure: None,
            sha256: None,
            source_cluster_id: None,
            restored_revision: None,
            current_revision: None,
            lost_revisions: None,
            quarantined_volumes: Vec::new(),
            cluster_id: None,
            completed_at: None,
            conditions: Vec::new(),
        }
    }
}

/// What a restore is at, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// Not begun, or waiting for something.
    Pending,
    /// What is to be restored is being verified; the cluster is untouched.
    Verifying,
    /// It was verified, and the cluster will be restored next.
    Verified,
    /// Members are being stopped, or their volumes compared.
    Stopping,
    /// The first member of the new cluster is being made.
    Restoring,
    /// The new cluster serves, and grows.
    Growing,
    /// It is done. Of a dry run: it was found out.
    Completed,
    /// The cluster has another ID than the one to be replaced: nothing was done.
    Superseded,
    /// It was given up; the message says what became of the cluster.
    Failed,
}

/// What a new cluster begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!has(self.from.survivor)", "bootstrap.restore.from.survivor is of use to an EtcdRestore only"),
    validation = ("!has(self.target) || !has(self.from.file)", "bootstrap.restore.target goes with a backup, not with from.file"),
)]
pub struct BootstrapRestore {
    /// What is restored.
    pub from: RestoreSource,
    /// Which state of it; the backup's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// What becomes of revisions.
    #[serde(default)]
    pub revisions: RevisionsSpec,
}

/// How a new cluster begins, if not empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapSpec {
    /// With the data of a backup, or of a snapshot of any etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<BootstrapRestore>,
}

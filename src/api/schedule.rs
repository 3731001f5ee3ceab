//! `EtcdBackupSchedule`: backups that are taken again and again, and how long they are
//! kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ClusterRef, Compression, DeletionPolicy, Destination, EncryptionSpec, EtcdBackupSpec, JobSpec,
    PodMetadata, Verification,
};

/// Backups of a cluster, taken again and again, as a CronJob makes Jobs.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd-core.io",
    version = "v1alpha1",
    kind = "EtcdBackupSchedule",
    plural = "etcdbackupschedules",
    shortname = "etcdschedule",
    namespaced,
    status = "EtcdBackupScheduleStatus",
    derive = "PartialEq",
    doc = "Backups of a cluster, taken again and again, as a CronJob makes Jobs.",
    cel,
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name", description = "Cluster that is backed up"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule", description = "When"),
    printcolumn(name = "Time-Zone", type_ = "string", json_path = ".spec.timeZone", description = "By which clock", priority = 1),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", description = "Whether it is held"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessTime", description = "When the last good backup was taken"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", description = "When the next one is due"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.increments.lag", description = "How far increments are behind", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = (
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
        "metadata.name must be at most 40 characters: lower-case letters, digits and '-', not at its ends"
    )
)]
#[x_kube(
    cel,
    validation = ("self.clusterRef == oldSelf.clusterRef", "clusterRef cannot be changed; create another EtcdBackupSchedule"),
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupScheduleSpec {
    /// The cluster, in this namespace.
    pub cluster_ref: ClusterRef,
    /// When, as five fields of cron (minute, hour, day of month, month, day of week) or
    /// one of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. One that never
    /// comes stalls the schedule.
    #[schemars(
        length(max = 64),
        regex(pattern = r"^(@[a-z]+|[0-9A-Za-z*,/#?-]+( [0-9A-Za-z*,/#?-]+){4})$")
    )]
    pub schedule: String,
    /// Time zone of the schedule by its IANA name, such as `Europe/Berlin`; UTC if left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// Take no further backups; what is kept stays, and increments go on.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds after its time at which a backup may still begin; without it, until the
    /// next one is due. Of several that were missed only the last is made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10))]
    pub starting_deadline_seconds: Option<i64>,
    /// What happens when a backup is due and the one before has not ended.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Backups that failed and are still shown.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_history_limit: i32,
    /// Which good backups are kept; all of them if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Verifies old backups again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillSpec>,
    /// Stores the changes between backups, so that any point in time can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increments: Option<IncrementsSpec>,
    /// The backups that are made.
    pub template: BackupTemplate,
}

/// What happens when a backup is due and the one before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It waits for that one.
    #[default]
    Forbid,
    /// Both run.
    Allow,
    /// That one is given up.
    Replace,
}

/// Which good backups are kept: those that one of the `keep` fields names, all if
/// there is none of these, and of them those younger than `maxAge`. The newest good
/// one is always kept, and one that is being restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "!has(self.maxAge) || self.maxAge.matches('[1-9]')",
        "retention.maxAge must be longer than 0"
    ),
)]
pub struct RetentionSpec {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_last: Option<u32>,
    /// The newest of each of the last so many hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_hourly: Option<u32>,
    /// The newest of each of the last so many days that have one, by the schedule's
    /// time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_daily: Option<u32>,
    /// The newest of each of the last so many weeks that have one; weeks begin on
    /// Mondays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_weekly: Option<u32>,
    /// What is older goes, whatever the other fields say: days, hours and minutes, such
    /// as `90d` or `36h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 16),
        regex(pattern = r"^([0-9]{1,5}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?$")
    )]
    pub max_age: Option<String>,
}

/// Old backups are verified again, one at a time, the one whose proof is oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSpec {
    /// When, as the schedule of the backups, in the same time zone.
    #[schemars(
        length(max = 64),
        regex(pattern = r"^(@[a-z]+|[0-9A-Za-z*,/#?-]+( [0-9A-Za-z*,/#?-]+){4})$")
    )]
    pub schedule: String,
}

/// The changes between backups are stored as they come, by one Deployment per schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "duration(self.maxLag) >= duration('1s') && duration(self.maxLag) <= duration('1h')",
        "increments.maxLag must be between 1s and 1h, such as 10s"
    ),
)]
pub struct IncrementsSpec {
    /// How long a change may be only in the cluster: `10s`, `1m`.
    #[serde(default = "ten_seconds")]
    #[schemars(
        length(min = 2, max = 16),
        regex(pattern = r"^([0-9]{1,2}h)?([0-9]{1,3}m)?([0-9]{1,5}s)?$")
    )]
    pub max_lag: String,
}

/// A backup as the schedule makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupTemplate {
    /// Labels and annotations of the backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// Their spec.
    pub spec: BackupTemplateSpec,
}

/// Spec of the backups a schedule makes: that of an `EtcdBackup`, without its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupTemplateSpec {
    /// Where they are stored.
    pub destination: Destination,
    /// How they are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Encrypts them before they leave the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// How they are proven to be good.
    #[serde(default)]
    pub verification: Verification,
    /// What becomes of what is stored when a person deletes the object. What retention
    /// takes away is always deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// The Jobs that do the work.
    #[serde(default)]
    pub job: JobSpec,
}

impl BackupTemplateSpec {
    /// The spec of a backup of `cluster`.
    pub fn of(&self, cluster: &ClusterRef) -> EtcdBackupSpec {
        EtcdBackupSpec {
            cluster_ref: cluster.clone(),
            destination: self.destination.clone(),
            compression: self.compression,
            encryption: self.encryption.clone(),
            verification: self.verification,
            deletion_policy: self.deletion_policy,
            job: self.job.clone(),
        }
    }
}

/// State of a schedule. None of it is memory: it follows from the backups there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupScheduleStatus {
    /// Generation of the spec this status speaks of; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,
    /// The time the last backup was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the newest good backup was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Backups that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub active: Vec<String>,
    /// Good backups that are kept.
    #[serde(default)]
    pub kept: i32,
    /// The stream of changes between backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increments: Option<IncrementsStatus>,
    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for EtcdBackupScheduleStatus {
    fn default() -> Self {
        EtcdBackupScheduleStatus {
            observed_generation: super::never_observed(),
            last_schedule_time: None,
            last_success_time: None,
            next_schedule_time: None,
            active: Vec::new(),
            kept: 0,
            increments: None,
            conditions: Vec::new(),
        }
    }
}

/// How far the increments are. The figures are as of the last change of status; they
/// alone are no reason to write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncrementsStatus {
    /// Revision up to which all changes are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Point in time up to which all changes are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// How far that is behind, such as `4s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
}

fn three() -> i32 {
    3
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

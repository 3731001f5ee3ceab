//! What status remembers of the Jobs that carry out a backup or a restore.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Job at work, or the last one. Recorded before it is made, so that no attempt
/// is made twice or forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// What it does.
    pub kind: RunKind,
    /// Which attempt at that it is, from 1.
    pub attempt: i32,
    /// Counts the runs of the object, whatever they do; part of the Job's name.
    pub serial: i32,
    /// Name of the Job.
    pub job: String,
    /// UID of the Job, once it was seen.
    #[serde(default, rename = "jobUID", skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// When it was decided on.
    pub started_at: Time,
    /// When its end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How far it is, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
}

/// What a Job does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RunKind {
    /// Takes a snapshot, stores it, and verifies it.
    Snapshot,
    /// Verifies what is stored.
    Verify,
    /// Deletes what is stored.
    Delete,
}

impl RunKind {
    /// The word in names of Jobs.
    pub fn word(self) -> &'static str {
        match self {
            RunKind::Snapshot => "snapshot",
            RunKind::Verify => "verify",
            RunKind::Delete => "delete",
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// What it is doing, in a word.
    pub stage: String,
    /// Bytes done in this stage.
    pub bytes: i64,
    /// Bytes there are, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// The same in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// Why, from a closed set.
    pub reason: String,
    /// What happened, and what would help.
    pub message: String,
    /// Whether the same may succeed when it is tried again.
    pub transient: bool,
    /// When that was seen.
    pub at: Time,
}

//! How far a run is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Failure;

/// What `GET /progress` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What it does now.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// Bytes done in this stage, of the plain image where there is one.
    pub done_bytes: u64,
    /// Bytes to do in this stage, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// What it is waiting out, if something that passes is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Failure>,
    /// Of `follow` only: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<Following>,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Looks at the store, and at the members.
    Preparing,
    /// Reads from a member and writes to the store.
    Uploading,
    /// Reads from the store.
    Downloading,
    /// Checks what it has.
    Verifying,
    /// Writes the data directory.
    Restoring,
    /// Follows a cluster's changes.
    Following,
    /// Reads or writes keys of a running cluster.
    Copying,
    /// Removes.
    Deleting,
    /// Has ended; the termination message has the answer.
    Done,
}

/// Where `follow` is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Following {
    /// Revision of the cluster, as far as it has been seen.
    pub revision: i64,
    /// Revision up to which everything is stored; 0 if nothing is.
    pub stored_revision: i64,
    /// When that was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<Timestamp>,
    /// Age in seconds of the oldest change that is not stored; 0 if all are.
    pub lag_seconds: u64,
    /// Bytes of changes that wait for the store.
    pub backlog_bytes: u64,
    /// Increments stored since it started.
    pub increments: u64,
    /// Why a new full backup is needed, if one is: until then nothing can be restored
    /// beyond `stored_revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_backup_needed: Option<String>,
}

//! What the operator and `admit` in a member's pod say to each other: tickets one
//! way, reports the other.

use serde::{Deserialize, Serialize};

use crate::{
    api::{Engine, TicketKind},
    backup::run::Failure,
};

/// Path on the metrics port where `admit` tells what it found.
pub const REPORT_PATH: &str = "/admission";

/// A ticket as it is written onto the pod: all that etcd must be told to start on
/// an empty disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketPaper {
    /// Form a cluster, or join one.
    pub kind: TicketKind,
    /// UID of the pod it is for; any other refuses it.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Member ID it is for, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// Cluster ID it is for, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--initial-cluster`: `name=url` of every member, this one included.
    pub initial_cluster: Vec<String>,
    /// How much the revision is raised when a cluster is made of a survivor's data.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bump_revision: i64,
}

fn is_zero(bump: &i64) -> bool {
    *bump == 0
}

impl TicketPaper {
    /// The flags this ticket adds to etcd's command line.
    pub fn flags(&self) -> Vec<String> {
        let state = match self.kind {
            TicketKind::Bootstrap | TicketKind::Restore | TicketKind::Revive => "new",
            TicketKind::Join => "existing",
        };
        vec![
            format!("--initial-cluster-state={state}"),
            format!("--initial-cluster-token={}", self.token),
            format!("--initial-cluster={}", self.initial_cluster.join(",")),
        ]
    }
}

/// What `admit` found when the pod started, while it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// UID of the pod that speaks.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// What was found.
    pub found: Found,
    /// Version the image's etcd names itself by. Absent: the pod is not fit for a
    /// ticket, and `message` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which server the image holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Which server the data is of that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Engine>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the pod is there for in a restore, as its annotation `etcd-core.io/start`
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// What the log holds of a member that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFacts>,
    /// How the last attempt failed to make its data directory of a backup, or a new
    /// cluster of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Report {
    /// A report that tells nothing more yet.
    pub fn new(pod_uid: impl Into<String>, found: Found) -> Report {
        Report {
            pod_uid: pod_uid.into(),
            found,
            version: None,
            engine: None,
            data: None,
            message: None,
            start: None,
            log: None,
            failure: None,
        }
    }
}

/// What lies in the log of a member that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFacts {
    /// Its cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Its own, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// The highest term it has heard of.
    pub term: u64,
    /// Term of its last entry.
    pub last_term: u64,
    /// Index of its last entry.
    pub last_index: u64,
    /// Index up to which it knows entries to be committed.
    pub commit: u64,
}

/// What lies in the data directory, as far as a start is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// No log, and no ticket was used in this pod: waits for one.
    Empty,
    /// A ticket was used in this pod, and yet there is no log.
    Spent,
    /// The disk could not be read, or takes no files.
    Unknown,
    /// There is a log, with the store of a server that the image does not hold.
    OtherEngine,
    /// There is a log, and the pod is held: it only tells what is in it.
    Held,
}

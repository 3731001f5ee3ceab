//! What a cluster's status remembers of restores: the one under way, and who it was
//! before.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cluster ID this cluster had before it was restored, for ever named as replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ancestor {
    /// The ID in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// When it was given up.
    pub until: Time,
    /// Newest revision it was seen to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_revision: Option<i64>,
    /// Revision its successor began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_revision: Option<i64>,
    /// Revision of what a survivor had when its successor was made of it, before it was
    /// raised. What clients wrote before the operator first asked counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_revision: Option<i64>,
    /// Revisions that were lost with it, where its successor was made of a survivor and
    /// that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_revisions: Option<i64>,
    /// What tells the restore that replaced it from any other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restore: String,
    /// Claims of its members. They are kept with all their data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volumes: Vec<String>,
}

/// A restore of the cluster: recorded before anything is done for it, and until it is
/// over nothing else is done to the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRestore {
    /// What tells it from any other: the UID of the EtcdRestore, or of what else it was
    /// done for.
    pub id: String,
    /// Name of the EtcdRestore, if it is done for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the new cluster is made of.
    pub kind: RestoreKind,
    /// How far it is.
    pub stage: RestoreStage,
    /// Counts the members that were chosen to found the new cluster.
    #[serde(default)]
    pub attempt: i32,
    /// The cluster ID that is given up, in hex; none, if the cluster begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Members that are replaced. Their claims are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub members: Vec<String>,
    /// The first member of the new cluster, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The new cluster's ID in hex, once its first member is known.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// When it was begun.
    pub started_at: Time,
    /// Newest revision of the cluster that was known when it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_revision: Option<i64>,
    /// How much the revision of a survivor is raised, once it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bump_revision: Option<i64>,
    /// Revisions that are lost with the members that are not left, once a survivor is
    /// chosen and where that is known; `message` says why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_revisions: Option<i64>,
    /// What came of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a restored cluster is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreKind {
    /// A backup, or a snapshot file.
    Backup,
    /// The most advanced of its members that are left, because a person says so.
    Survivor,
    /// The same, by `recovery.quorumLoss.policy`.
    QuorumLoss,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreStage {
    /// The members are stopped.
    Stopping,
    /// Those that are left are held and compared.
    Comparing,
    /// The first member of the new cluster is made.
    Founding,
    /// It is taken back: the members that were stopped start again.
    TakingBack,
    /// The new cluster serves.
    Done,
    /// It was taken back.
    TakenBack,
}

impl RestoreStage {
    /// Whether nothing is left to do for it.
    pub fn is_over(self) -> bool {
        matches!(self, RestoreStage::Done | RestoreStage::TakenBack)
    }
}

/// Who was last seen to lead, and in which term: after a loss it tells whose log is
/// whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastLeader {
    /// The member.
    pub member: String,
    /// Its Raft term.
    pub term: i64,
}

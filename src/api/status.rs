//! What the operator found and did.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ancestor, ClusterRestore, LastLeader, TlsStatus};

/// State of a cluster. Some of it is memory, not a mirror: `clusterID`,
/// `nextSerial`, `bootstrap` and the members' tickets are recorded before the act
/// they speak of, and never taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// Generation of the spec this status speaks of; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,
    /// What is going on, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// etcd's cluster ID in hex, fixed once the cluster has formed; only a restore that
    /// names it gives it up.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Cluster IDs it had before, oldest first. The oldest are dropped after sixteen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub lineage: Vec<Ancestor>,
    /// The restore under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<ClusterRestore>,
    /// Who was last seen to lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_leader: Option<LastLeader>,
    /// Member that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Version of etcd the cluster runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Image the members are to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The operator's default image when the spec first left the choice to it; kept
    /// when the default changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_image: Option<String>,
    /// What `image` was found to be, by a pod that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_engine: Option<ImageEngine>,
    /// Size all volumes were last grown to; absent while they are as they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,
    /// A growth of the volumes that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_resize: Option<RefusedResize>,
    /// How far history will be compacted, once it is old enough. Only there while
    /// the store is nearly full and etcd does not compact by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryMark>,
    /// Members there are, or 0 when asleep.
    #[serde(default)]
    pub replicas: i32,
    /// Members that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selector of the members' pods, for /scale.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Serial of the next member to be made. A serial is never used twice.
    #[serde(default)]
    pub next_serial: i64,
    /// The one bootstrap of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// The members, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<MemberStatus>,
    /// TLS in effect. Absent: all is plain, or nothing was decided yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
    /// What is done next, and what is not being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// Conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for EtcdClusterStatus {
    fn default() -> Self {
        EtcdClusterStatus {
            observed_generation: super::never_observed(),
            phase: None,
            cluster_id: None,
            lineage: Vec::new(),
            restore: None,
            last_leader: None,
            leader: None,
            version: None,
            image: None,
            default_image: None,
            image_engine: None,
            volume_size: None,
            refused_resize: None,
            history: None,
            replicas: 0,
            ready_replicas: 0,
            selector: String::new(),
            next_serial: 0,
            bootstrap: None,
            members: Vec::new(),
            tls: None,
            plan: None,
            conditions: Vec::new(),
        }
    }
}

impl EtcdClusterStatus {
    /// The line of that member, made if there is none.
    pub fn member_mut(&mut self, name: &str) -> &mut MemberStatus {
        let at = match self.members.iter().position(|member| member.name == name) {
            Some(at) => at,
            None => {
                self.members.push(MemberStatus {
                    name: name.to_owned(),
                    ..MemberStatus::default()
                });
                self.members.len() - 1
            }
        };
        &mut self.members[at]
    }
}

/// What is going on, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Being made for the first time.
    Creating,
    /// As the spec says.
    Running,
    /// Members are joining or leaving.
    Scaling,
    /// Members are restarted with a new template.
    Updating,
    /// A member is being replaced or is not well; the cluster serves.
    Degraded,
    /// No quorum: the cluster does not serve.
    Unavailable,
    /// Replicas 0: nothing runs, the data is kept.
    Asleep,
    /// It is being given the data of a backup, or of a member that is left.
    Restoring,
    /// Waits for a human; see the condition Stalled.
    Stalled,
}

/// The bootstrap of a cluster, recorded before any ticket of it is issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Counts attempts from 1; an attempt is given up only while fewer tickets
    /// than a quorum were issued.
    pub attempt: i32,
    /// `--initial-cluster-token` of the attempt.
    pub token: String,
    /// The cluster ID that token and list amount to, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Names of the members on the list.
    #[schemars(length(max = 7))]
    pub members: Vec<String>,
    /// Whether the list names https URLs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure: bool,
}

/// What is known of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// `<cluster>-<serial>`, also its name in etcd.
    pub name: String,
    /// etcd's member ID in hex, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it is to the cluster.
    #[serde(default)]
    pub role: MemberRole,
    /// Whether it answers and serves.
    #[serde(default)]
    pub healthy: bool,
    /// Version it reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which server its data belongs to, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Its Raft term. This and the figures below are as of the last change of
    /// status; they alone are no reason to write it until they are 10 % off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_term: Option<i64>,
    /// Index of its last log entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_index: Option<i64>,
    /// Bytes its store takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size: Option<i64>,
    /// Bytes of them that are in use; the rest is what defragmentation would free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_in_use: Option<i64>,
    /// Alarms it has raised: `NOSPACE`, `CORRUPT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub alarms: Vec<String>,
    /// When the operator last defragmented it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragmented_at: Option<Time>,
    /// Node its pod was last on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The ticket it was admitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// Why it is not well, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when it has not served, while a quorum did. See
    /// `recovery.replaceMemberAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_since: Option<Time>,
    /// Why it left, recorded before it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departure: Option<Departure>,
}

/// Why a member left, or is about to: it decides what becomes of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Departure {
    /// The cluster was scaled in.
    Scaled,
    /// It was lost, and another takes its place.
    Replaced,
    /// It was added and never became a voter.
    RolledBack,
    /// The cluster was restored without it. Its claim is kept, whatever the policies.
    Restored,
}

/// Which server wrote a data directory, or an image holds. Both follow the same leader;
/// etcd-core takes a data directory of stock etcd over, the other way there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Engine {
    /// Stock etcd.
    Etcd,
    /// etcd-core.
    EtcdCore,
}

impl Engine {
    /// Its name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Etcd => "stock etcd",
            Engine::EtcdCore => "etcd-core",
        }
    }

    /// Whether it starts on a data directory of `data`.
    pub fn reads(self, data: Engine) -> bool {
        self == data || self == Engine::EtcdCore
    }
}

/// What an image was found to be, by a pod that ran it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageEngine {
    /// The image.
    pub image: String,
    /// Which server it holds.
    pub engine: Engine,
    /// Version of etcd it names itself by.
    pub version: String,
}

/// A growth of the volumes that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedResize {
    /// The size that was asked for.
    pub size: String,
    /// When it was last refused.
    pub at: Time,
    /// Why.
    pub message: String,
}

/// A revision, and when it was the newest one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryMark {
    /// The revision.
    pub revision: i64,
    /// When it was the newest.
    pub at: Time,
    /// Whether history was compacted up to it.
    #[serde(default)]
    pub compacted: bool,
}

/// What a member is to the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// Not a member yet: its pod is being made, or waits for its ticket.
    #[default]
    Candidate,
    /// Receives the log, does not vote.
    Learner,
    /// Votes.
    Voter,
    /// No longer a member; what is left of it is being cleared away.
    Removed,
}

/// A permission to start on an empty disk, recorded before it is handed out. A
/// member ID gets one, ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Which kind.
    pub kind: TicketKind,
    /// UID of the pod it was made out to.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Member ID it was made out for, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// How often it was about to be put onto that pod. Who is about to counts first, so
    /// that nobody takes it back after someone else may have handed it out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub handed: i32,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}

impl Ticket {
    /// Whether it is made out to the same pod, for the same.
    pub fn is_same(&self, other: &Ticket) -> bool {
        let of = |it: &Ticket| (it.kind, it.pod_uid.clone(), it.member_id.clone());
        of(self) == of(other)
    }
}

/// Kinds of tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TicketKind {
    /// Form a new cluster together with the others on the list.
    Bootstrap,
    /// Join the cluster as the member that was added.
    Join,
    /// Become the first member of a cluster that is made of a backup.
    Restore,
    /// Become the first member of a cluster that is made of the data on its own disk.
    Revive,
}

/// What is done next, and what is not being done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// The next step, from a closed set; `None` when there is nothing to do.
    pub step: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is not being done, and which guard holds it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["guard".into()]))]
    pub blocked_by: Vec<BlockedBy>,
}

/// A guard and what it holds back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedBy {
    /// The guard, from a closed set.
    pub guard: String,
    /// What it holds back and what would lift it.
    pub message: String,
}

/// Types of conditions. The first three are what kstatus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The cluster is as the spec says.
    Ready,
    /// The operator is working towards that.
    Reconciling,
    /// It cannot go on without a human.
    Stalled,
    /// A quorum serves.
    Available,
    /// It serves with a member missing or not well.
    Degraded,
    /// So many members lost their data that a quorum cannot come back.
    QuorumLost,
    /// It has a backup that was proven, as recent as its schedules want it.
    BackedUp,
    /// A newer operator would render the pods differently; taken with the next
    /// planned restart.
    UpdatePending,
    /// The store of a member is nearly full, or full.
    SpaceLow,
    /// Volumes are being grown, or cannot be.
    Resizing,
    /// A maintenance window is open.
    MaintenanceWindow,
    /// `spec.paused` is set.
    Paused,
    /// TLS is in effect as the spec says, and its certificates are in order.
    TLSReady,
}

impl ConditionType {
    /// Every type, in the order they are listed in status.
    pub const ALL: [ConditionType; 13] = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
        ConditionType::Available,
        ConditionType::Degraded,
        ConditionType::QuorumLost,
        ConditionType::BackedUp,
        ConditionType::UpdatePending,
        ConditionType::SpaceLow,
        ConditionType::Resizing,
        ConditionType::MaintenanceWindow,
        ConditionType::Paused,
        ConditionType::TLSReady,
    ];

    /// The condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Ready => "Ready",
            ConditionType::Reconciling => "Reconciling",
            ConditionType::Stalled => "Stalled",
            ConditionType::Available => "Available",
            ConditionType::Degraded => "Degraded",
            ConditionType::QuorumLost => "QuorumLost",
            ConditionType::BackedUp => "BackedUp",
            ConditionType::UpdatePending => "UpdatePending",
            ConditionType::SpaceLow => "SpaceLow",
            ConditionType::Resizing => "Resizing",
            ConditionType::MaintenanceWindow => "MaintenanceWindow",
            ConditionType::Paused => "Paused",
            ConditionType::TLSReady => "TLSReady",
        }
    }
}

//! The steps there are. Each is small, safe to repeat and safe to be cut off.

use jiff::Timestamp;

use crate::{
    admission::TicketPaper,
    api::{
        Bootstrap, ClusterRestore, Departure, HistoryMark, RestoreStage, RetentionPolicy, TlsStatus,
    },
    certificates::{Phase, Purpose, Requested},
};

use super::Grant;

/// Why a member that is left was chosen to make the new cluster, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// In words.
    pub message: String,
    /// Revisions that are lost, if that is known.
    pub lost_revisions: Option<i64>,
    /// How much its revision is raised.
    pub bump_revision: i64,
}

/// One step of a plan. `apply` carries it out.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Step {
    /// Nothing to do now.
    #[default]
    None,
    /// Bring the Services and the PodDisruptionBudget to what they should be.
    ApplyShared,
    /// Take over a cluster whose volumes or members were found: latch its ID.
    Adopt {
        /// The ID that claims and members agree on.
        cluster_id: u64,
        /// Members found, with their member IDs.
        members: Vec<(String, u64)>,
    },
    /// Make a new member's claim and StatefulSet, after its serial was recorded.
    CreateMember {
        /// The member.
        member: String,
        /// Its serial.
        serial: i64,
    },
    /// Make again the StatefulSet (and a blank member's claim) of a known member.
    EnsureMember {
        /// The member.
        member: String,
    },
    /// Record who bootstraps, before any ticket is issued.
    BeginBootstrap {
        /// The record.
        bootstrap: Bootstrap,
    },
    /// Give up an attempt of which fewer tickets than a quorum were issued.
    AbandonBootstrap {
        /// Members that hold a ticket of it; they are never started again.
        members: Vec<String>,
    },
    /// Record a ticket, then write it onto its pod.
    IssueTicket {
        /// The member.
        member: String,
        /// The ticket.
        ticket: TicketPaper,
    },
    /// Give up a member that never held a ticket; it is cleared away next.
    DiscardCandidate {
        /// The member.
        member: String,
    },
    /// Add a member to etcd, as a learner.
    AddMember {
        /// The member.
        member: String,
        /// Its peer URL.
        peer_url: String,
    },
    /// Make a learner a voter.
    PromoteMember {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
    },
    /// Move leadership, before the leader is disrupted.
    MoveLeader {
        /// Member that leads.
        from: String,
        /// Member that shall lead.
        to: String,
        /// Its ID.
        to_id: u64,
    },
    /// Remove a member from etcd, after the reason was recorded.
    RemoveMember {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
        /// Why it leaves.
        departure: Departure,
    },
    /// Delete the StatefulSet of a member that has left.
    DeleteStatefulSet {
        /// The member.
        member: String,
        /// UID of the StatefulSet.
        uid: String,
    },
    /// Retire or delete the claim of a member that has left.
    ReleaseClaim {
        /// The member.
        member: String,
        /// UID of the claim.
        uid: String,
        /// Which of the two.
        policy: RetentionPolicy,
        /// Why the member left, for the annotation.
        why: String,
    },
    /// Strike a member of which nothing is left off the roster.
    ForgetMember {
        /// The member.
        member: String,
    },
    /// Write role, IDs and ownership onto a member's objects, where they differ.
    TagMember {
        /// The member.
        member: String,
    },
    /// Ask for a larger volume.
    GrowClaim {
        /// The member.
        member: String,
        /// The size, as the spec writes it.
        size: String,
    },
    /// Remember, or forget, how far history will be compacted.
    MarkHistory {
        /// The mark.
        mark: Option<HistoryMark>,
    },
    /// Drop history up to a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
    /// Have a member give back what its store does not use.
    Defragment {
        /// The member.
        member: String,
        /// When this was decided.
        at: Timestamp,
    },
    /// Disarm the alarm NOSPACE.
    DisarmNoSpace {
        /// IDs of the members that raised it.
        ids: Vec<u64>,
    },
    /// Record a restore, before anything is done for it.
    BeginRestore {
        /// The record.
        restore: ClusterRestore,
    },
    /// Go on to the next stage of a restore.
    AdvanceRestore {
        /// The stage.
        stage: RestoreStage,
        /// What came of it so far.
        message: String,
    },
    /// Hold members: their pods tell what lies on their disks, and start nothing.
    HoldMembers {
        /// The members.
        members: Vec<String>,
    },
    /// Make the member that founds a cluster out of a backup.
    CreateFounder {
        /// The member.
        member: String,
        /// Its serial.
        serial: i64,
        /// The new cluster's ID.
        cluster_id: u64,
    },
    /// Name the member whose data the new cluster is made of.
    ChooseSurvivor {
        /// The member.
        member: String,
        /// The new cluster's ID.
        cluster_id: u64,
        /// Why it is the one, and what comes of that.
        choice: Choice,
    },
    /// Strike a founder that cannot be, or need not be, any more.
    GiveUpFounder {
        /// The member.
        member: String,
    },
    /// Latch the ID of a cluster that was made anew, in place of the one before.
    Succeed {
        /// Its first member.
        member: String,
        /// That member's ID.
        id: u64,
        /// The cluster's ID.
        cluster_id: u64,
        /// Cluster whose backup it was made of, in hex, if that is known.
        source: Option<String>,
        /// Claims of the members before.
        volumes: Vec<String>,
        /// Revision it begins with.
        revision: i64,
        /// Revision of the survivor it was made of, before it was raised.
        restored: Option<i64>,
        /// When.
        at: Timestamp,
    },
    /// Stop (0) or start (1) the pods of members.
    SetReplicas {
        /// The members.
        members: Vec<String>,
        /// 0 or 1.
        replicas: i32,
    },
    /// Give a member's StatefulSet the new template. No pod restarts by that.
    UpdateMember {
        /// The member.
        member: String,
    },
    /// Delete a pod, for its StatefulSet to make it again from the new template.
    RestartPod {
        /// The member.
        member: String,
        /// UID of the pod.
        pod_uid: String,
        /// resourceVersion it was judged by.
        resource_version: String,
    },
    /// Record how clients and members are to talk; pods follow, one at a time.
    SetTransport {
        /// What is in effect from now on.
        tls: TlsStatus,
    },
    /// Make a CA of the cluster's own.
    MakeAuthority {
        /// What for.
        purpose: Purpose,
    },
    /// Go on with the replacement of a CA.
    RotateAuthority {
        /// Which one.
        purpose: Purpose,
        /// The phase that begins.
        to: Phase,
        /// The request it answers.
        request: String,
    },
    /// Ask cert-manager for a certificate.
    RequestCertificate {
        /// Which one.
        request: Requested,
    },
    /// Bring the Secret of a member's certificates to what it should be.
    CertifyMember {
        /// The member.
        member: String,
        /// What it may be given.
        grants: Vec<Grant>,
    },
    /// Bring the Secret for clients to what it should be.
    CertifyClients {
        /// What it may be given.
        grant: Grant,
        /// Where clients are to go.
        endpoints: String,
    },
    /// Tell etcd the URL under which a member listens to its peers.
    UpdatePeerUrl {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
        /// The URL.
        peer_url: String,
    },
}

impl Step {
    /// The step's name, as in `status.plan.step`, events and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Step::None => "None",
            Step::ApplyShared => "ApplyShared",
            Step::Adopt { .. } => "Adopt",
            Step::CreateMember { .. } => "CreateMember",
            Step::EnsureMember { .. } => "EnsureMember",
            Step::BeginBootstrap { .. } => "BeginBootstrap",
            Step::AbandonBootstrap { .. } => "AbandonBootstrap",
            Step::IssueTicket { .. } => "IssueTicket",
            Step::DiscardCandidate { .. } => "DiscardCandidate",
            Step::AddMember { .. } => "AddMember",
            Step::PromoteMember { .. } => "PromoteMember",
            Step::MoveLeader { .. } => "MoveLeader",
            Step::RemoveMember { .. } => "RemoveMember",
            Step::DeleteStatefulSet { .. } => "DeleteStatefulSet",
            Step::ReleaseClaim { .. } => "ReleaseClaim",
            Step::ForgetMember { .. } => "ForgetMember",
            Step::TagMember { .. } => "TagMember",
            Step::GrowClaim { .. } => "GrowClaim",
            Step::MarkHistory { .. } => "MarkHistory",
            Step::Compact { .. } => "Compact",
            Step::Defragment { .. } => "Defragment",
            Step::DisarmNoSpace { .. } => "DisarmNoSpace",
            Step::BeginRestore { .. } => "BeginRestore",
            Step::AdvanceRestore { .. } => "AdvanceRestore",
            Step::HoldMembers { .. } => "HoldMembers",
            Step::CreateFounder { .. } => "CreateFounder",
            Step::ChooseSurvivor { .. } => "ChooseSurvivor",
            Step::GiveUpFounder { .. } => "GiveUpFounder",
            Step::Succeed { .. } => "Succeed",
            Step::SetReplicas { .. } => "SetReplicas",
            Step::UpdateMember { .. } => "UpdateMember",
            Step::RestartPod { .. } => "RestartPod",
            Step::SetTransport { .. } => "SetTransport",
            Step::MakeAuthority { .. } => "MakeAuthority",
            Step::RotateAuthority { .. } => "RotateAuthority",
            Step::CertifyMember { .. } => "CertifyMember",
            Step::RequestCertificate { .. } => "RequestCertificate",
            Step::CertifyClients { .. } => "CertifyClients",
            Step::UpdatePeerUrl { .. } => "UpdatePeerUrl",
        }
    }

    /// The member it is about, if it is about one.
    pub fn member(&self) -> Option<&str> {
        match self {
            Step::None
            | Step::ApplyShared
            | Step::Adopt { .. }
            | Step::BeginBootstrap { .. }
            | Step::AbandonBootstrap { .. }
            | Step::MarkHistory { .. }
            | Step::Compact { .. }
            | Step::DisarmNoSpace { .. }
            | Step::SetTransport { .. }
            | Step::MakeAuthority { .. }
            | Step::RotateAuthority { .. }
            | Step::RequestCertificate { .. }
            | Step::CertifyClients { .. }
            | Step::BeginRestore { .. }
            | Step::AdvanceRestore { .. }
            | Step::HoldMembers { .. }
            | Step::SetReplicas { .. } => None,
            Step::MoveLeader { from, .. } => Some(from),
            Step::EnsureMember { member }
            | Step::CreateMember { member, .. }
            | Step::CreateFounder { member, .. }
            | Step::ChooseSurvivor { member, .. }
            | Step::GiveUpFounder { member }
            | Step::Succeed { member, .. }
            | Step::IssueTicket { member, .. }
            | Step::DiscardCandidate { member }
            | Step::AddMember { member, .. }
            | Step::PromoteMember { member, .. }
            | Step::RemoveMember { member, .. }
            | Step::DeleteStatefulSet { member, .. }
            | Step::ReleaseClaim { member, .. }
            | Step::ForgetMember { member }
            | Step::TagMember { member }
            | Step::GrowClaim { member, .. }
            | Step::Defragment { member, .. }
            | Step::UpdateMember { member }
            | Step::CertifyMember { member, .. }
            | Step::UpdatePeerUrl { member, .. }
            | Step::RestartPod { member, .. } => Some(member),
        }
    }

    /// Whether it takes a voter out of service or out of the cluster.
    pub fn is_disruptive(&self) -> bool {
        matches!(self, Step::RemoveMember { .. } | Step::RestartPod { .. })
            || matches!(self, Step::SetReplicas { replicas: 0, .. })
    }
}

//! A cluster that is made anew: of a backup, or of the most advanced of its own members
//! after its quorum was lost.
//!
//! ```text
//! begin     who asks for it: an EtcdRestore that was verified and names this cluster's
//!           ID, spec.bootstrap, or recovery.quorumLoss.policy  -> recorded, first
//! stop      every member's pod is gone, by its kubelet's word
//! compare   of survivors: those that are left are held, and say how far their logs go
//! found     one member makes the new cluster: of a backup under a new serial, in its
//!           pod's init container; of a survivor on its own disk
//! succeed   it serves: its ID is latched, the ID before becomes an ancestor, the members
//!           before are cleared away, their claims kept
//! back      the EtcdRestore was deleted before that: what was stopped starts again
//! ```
//!
//! From the record to its end nothing else is planned for the members. What a step needs
//! to know is in the record, so it may be cut off anywhere and done again.

mod back;
mod begin;
mod certain;
mod compare;
mod found;
mod stop;

pub(in crate::plan) use certain::loss as certain_loss;
pub(crate) use found::init;

use jiff::Timestamp;

use crate::{
    api::{ClusterRestore, EtcdCluster, RestoreKind, RestoreStage},
    identity,
    observe::Observed,
    render::Settings,
};

use super::{Plan, Roster, objects};

/// What becomes of a member while a restore is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its pod is stopped.
    Stopped,
    /// Its pod runs, and only tells what lies on its disk.
    Held,
    /// It is made of a backup.
    Founder,
    /// Nothing in particular.
    Free,
}

/// The restore under way, if there is one.
pub(crate) fn under_way(cluster: &EtcdCluster) -> Option<&ClusterRestore> {
    let record = cluster.status.as_ref()?.restore.as_ref()?;
    (!record.stage.is_over()).then_some(record)
}

/// The part a member has in the restore under way.
pub(crate) fn part(cluster: &EtcdCluster, member: &str) -> Part {
    let Some(record) = under_way(cluster) else {
        return Part::Free;
    };
    let founder = record.member.as_deref() == Some(member);
    let replaced = record.members.iter().any(|name| name == member);
    let of_backup = record.kind == RestoreKind::Backup;
    match record.stage {
        RestoreStage::Founding if of_backup && founder => Part::Founder,
        _ if !founder && !replaced => Part::Free,
        RestoreStage::Comparing | RestoreStage::Founding if !of_backup => Part::Held,
        RestoreStage::TakingBack if !of_backup => Part::Free,
        _ => Part::Stopped,
    }
}

/// What an annotation on a StatefulSet and its pod says of their part; `None` for none
/// in particular.
pub(crate) fn start(cluster: &EtcdCluster, member: &str) -> Option<String> {
    let record = under_way(cluster)?;
    match part(cluster, member) {
        Part::Held => Some(format!("held:{}", record.id)),
        Part::Founder => Some(format!("restored:{}", token(record, member))),
        Part::Stopped | Part::Free => None,
    }
}

/// `--initial-cluster-token` of the new cluster. Another attempt has another one.
pub(crate) fn token(record: &ClusterRestore, member: &str) -> String {
    format!("{}-{}-{member}", record.id, record.attempt)
}

/// The IDs that a founder's member and cluster will have.
pub(super) fn ids(roster: &Roster<'_>, record: &ClusterRestore, member: &str) -> (u64, u64) {
    let url = identity::peer_url(
        roster.cluster,
        roster.namespace,
        member,
        roster.secure_peers,
    );
    let id = identity::member_id(&url, &token(record, member));
    (id, identity::cluster_id(&[id]))
}

/// What is next for a restore that is under way, or that begins now.
pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Option<Plan> {
    let Some(record) = under_way(cluster) else {
        return begin::plan(cluster, roster, observed, now);
    };
    if let Some(plan) = objects::shared(cluster, roster, observed) {
        return Some(plan);
    }
    let case = Case {
        cluster,
        roster,
        observed,
        settings,
        record,
        now,
    };
    Some(case.carry_on())
}

/// A restore under way, and what is around it.
struct Case<'a> {
    cluster: &'a EtcdCluster,
    roster: &'a Roster<'a>,
    observed: &'a Observed,
    settings: &'a Settings,
    record: &'a ClusterRestore,
    now: Timestamp,
}

impl Case<'_> {
    fn carry_on(&self) -> Plan {
        if let Some(plan) = self.take_back() {
            return plan;
        }
        match self.record.stage {
            RestoreStage::Stopping => self.stop(),
            RestoreStage::Comparing => self.compare(),
            RestoreStage::Founding if self.record.kind == RestoreKind::Backup => self.found(),
            RestoreStage::Founding => self.revive(),
            RestoreStage::TakingBack => self.go_back(),
            RestoreStage::Done | RestoreStage::TakenBack => Plan::idle(),
        }
    }

    /// The EtcdRestore it is done for, in words.
    fn whom(&self) -> String {
        match &self.record.name {
            Some(name) => format!("EtcdRestore {name}"),
            None if self.record.kind == RestoreKind::QuorumLoss => {
                "recovery.quorumLoss.policy".to_owned()
            }
            None => "spec.bootstrap.restore".to_owned(),
        }
    }
}

/// What a cluster that has not formed begins with, if not empty.
pub(super) fn bootstrap(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Option<Plan> {
    begin::bootstrap(cluster, roster, observed, now)
}

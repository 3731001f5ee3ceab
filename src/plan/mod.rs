//! What to do next: pure, one step at a time.
//!
//! ```text
//! EtcdCluster + Observed + now -> Roster -> the first part that has something to say:
//!   restore      a cluster that is made anew; nothing else meanwhile
//!   objects      Services and budget, what is missing of members, labels, claims
//!   tls          certificates, how members and clients talk, replacement of CAs
//!   bootstrap    until the cluster has formed
//!   volume       claims that grow
//!   membership   learners, scale, members that are replaced
//!   repair       who is lost, and when another takes its place
//!   quota        stores that fill up
//!   volume       file systems that grow only when they are mounted anew
//!   update       templates, one member at a time
//!              -> Plan { step, reason, blocked, stalled }
//!   calls      Step -> Calls, in the order `apply` makes them
//! ```

mod bootstrap;
mod call;
mod calls;
mod membership;
mod objects;
mod quota;
mod repair;
pub(crate) mod restore;
mod roster;
mod step;
mod tls;
mod update;
mod upgrade;
mod volume;
mod windows;

pub use call::{Call, CertificateCall, EtcdCall, Kind, Manifest, Record, Reply};
pub use calls::calls;
pub use quota::{Space, space};
pub use repair::Loss;
pub(crate) use roster::quorum;
pub use roster::{Member, Roster};
pub use step::{Choice, Step};
pub use tls::TlsVerdict;
pub(crate) use tls::wanting;
pub use tls::wanting::{Exchange, Grant};
pub use upgrade::Outgoing;
pub use volume::{Volumes, have_grown, volumes};
pub use windows::{WindowState, Windows, windows};

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{BlockedBy, EtcdCluster},
    observe::Observed,
    render::{self, Settings},
};

/// What is done next, and as important, what is not, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The step; [`Step::None`] when there is nothing to do now.
    pub step: Step,
    /// Why this step, or what is waited for; empty when all is as it should be.
    pub reason: String,
    /// What is held back, and by which guard.
    pub blocked: Vec<BlockedBy>,
    /// Set when only a human can help.
    pub stalled: Option<Stalled>,
    /// Set when members' templates differ only because the operator changed.
    pub update_pending: bool,
    /// Set when nobody asked for the step: the operator wants it, in a window.
    pub voluntary: bool,
    /// What to say of TLS.
    pub tls: TlsVerdict,
}

/// Why only a human can help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Reason of the condition, from a closed set.
    pub reason: StalledReason,
    /// What has happened, and the ways out.
    pub message: String,
}

/// Reasons of the condition Stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StalledReason {
    /// Claims were found that do not agree on one cluster.
    VolumesFound,
    /// A bootstrap whose tickets reached a quorum cannot be completed.
    BootstrapFailed,
    /// A member answers with another cluster ID than the one latched.
    ForeignCluster,
    /// More members lost their data than a quorum survives.
    QuorumLost,
    /// The image brings another version than the spec asks for.
    VersionMismatch,
    /// The image's server cannot read the data of so many members that none serves.
    UnreadableData,
    /// What the cluster is to be made of cannot be restored.
    RestoreFailed,
}

impl StalledReason {
    /// The reason as it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            StalledReason::VolumesFound => "VolumesFound",
            StalledReason::BootstrapFailed => "BootstrapFailed",
            StalledReason::ForeignCluster => "ForeignCluster",
            StalledReason::QuorumLost => "QuorumLost",
            StalledReason::VersionMismatch => "VersionMismatch",
            StalledReason::UnreadableData => "UnreadableData",
            StalledReason::RestoreFailed => "RestoreFailed",
        }
    }
}

impl Plan {
    fn step(step: Step, reason: impl Into<String>) -> Plan {
        Plan {
            step,
            reason: reason.into(),
            ..Plan::idle()
        }
    }

    fn wait(reason: impl Into<String>) -> Plan {
        Plan::step(Step::None, reason)
    }

    fn stalled(reason: StalledReason, message: impl Into<String>) -> Plan {
        let message = message.into();
        Plan {
            reason: message.clone(),
            stalled: Some(Stalled { reason, message }),
            ..Plan::idle()
        }
    }

    fn idle() -> Plan {
        Plan::default()
    }

    /// The plan while too many other clusters are being restarted for the operator's
    /// own sake: nothing, for now.
    pub fn held_back(self) -> Plan {
        let message = "other clusters have their turn to be restarted for what this operator renders differently";
        let mut blocked_by = self.blocked;
        blocked_by.push(blocked("Turn", message));
        Plan {
            blocked: blocked_by,
            update_pending: self.update_pending,
            ..Plan::idle()
        }
    }

    /// Whether all is as the spec says.
    pub fn is_settled(&self) -> bool {
        self.step == Step::None && self.reason.is_empty() && self.stalled.is_none()
    }

    /// How long until the next look, if nothing happens before.
    pub fn patience(&self) -> Duration {
        match (&self.step, self.is_settled()) {
            (Step::None, true) if !self.tls.busy => Duration::from_secs(15),
            (Step::None, _) => Duration::from_secs(2),
            (_, _) => Duration::from_millis(200),
        }
    }
}

/// Guards that hold something back, for `status.plan.blockedBy`.
pub(crate) fn blocked(guard: &str, message: impl Into<String>) -> BlockedBy {
    BlockedBy {
        guard: guard.to_owned(),
        message: message.into(),
    }
}

/// Decides what to do next.
///
/// `now` is only compared with times read from the world. The returned step is safe
/// to repeat, and safe to be cut off at any call it makes.
pub fn plan(
    cluster: &EtcdCluster,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan {
    let mut roster = Roster::new(cluster, observed);
    if cluster.metadata.deletion_timestamp.is_some() {
        return Plan::wait("the EtcdCluster is being deleted; Kubernetes clears away what it owns");
    }
    if cluster.spec.paused {
        return Plan {
            blocked: vec![blocked(
                "Paused",
                "spec.paused is set; nothing is changed until it is cleared",
            )],
            ..Plan::idle()
        };
    }
    if !observed.foreign.is_empty() {
        let names = observed.foreign.join(", ");
        return Plan {
            blocked: vec![blocked(
                "NameTaken",
                format!("these must go first: {names}"),
            )],
            ..Plan::wait(format!(
                "waits until objects of a former EtcdCluster of this name are gone: {names}"
            ))
        };
    }
    if let Some(mut plan) = restore::plan(cluster, &roster, observed, settings, now) {
        let tls = tls::upkeep(cluster, &roster, observed, now);
        plan = tls.step.unwrap_or(plan);
        plan.tls = tls.verdict;
        return plan;
    }
    if let Some(stalled) = roster.foreign_cluster() {
        return stalled;
    }
    let pod_spec = render::pod_spec_digest(cluster);
    let windows = windows(cluster.spec.maintenance.as_ref(), now).state;
    roster.outgoing = upgrade::outgoing(cluster, &roster, settings, &pod_spec, windows);
    let tls = tls::decide(cluster, &roster, observed, now);
    let mut plan = objects::shared(cluster, &roster, observed)
        .or_else(|| tls.step.clone())
        // A cluster is not made without what the spec asks for.
        .or_else(|| tls.waits.clone().filter(|_| tls.holds).map(Plan::wait))
        .or_else(|| {
            if roster.formed() {
                None
            } else {
                Some(bootstrap::plan(cluster, &roster, observed, settings, now))
            }
        })
        .or_else(|| objects::members(cluster, &roster))
        .or_else(|| update::refresh(cluster, &roster, settings))
        .or_else(|| volume::plan(cluster, &roster, now))
        .or_else(|| upgrade::unreadable(&roster))
        .or_else(|| membership::plan(cluster, &roster, now))
        .or_else(|| quota::plan(cluster, &roster, windows, now))
        .or_else(|| volume::remount(&roster, &pod_spec, now))
        .or_else(|| update::plan(cluster, &roster, settings, &pod_spec, windows))
        .or_else(|| volume::waits(cluster, &roster))
        .or_else(|| tls.waits.map(Plan::wait))
        .unwrap_or_else(Plan::idle);
    plan.tls = tls.verdict;
    let notes = objects::lingering(&roster)
        .into_iter()
        .chain(repair::notes(cluster, &roster, now))
        .chain(quota::held(cluster, &roster, windows));
    for note in notes {
        // A guard is told once.
        if !plan.blocked.iter().any(|told| told.guard == note.guard) {
            plan.blocked.push(note);
        }
    }
    plan.update_pending = roster.formed() && update::pending(cluster, &roster, settings, &pod_spec);
    plan
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

//! Conditions and the phase: what a person is told first.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{ConditionType, EtcdCluster, Phase},
    plan::{
        Member, Plan, Roster, StalledReason, Step, Volumes, WindowState, Windows, restore, space,
        volumes,
    },
};

use super::{
    AvailableReason, DegradedReason, MaintenanceWindowReason, NotStalledReason, Outcome,
    PausedReason, QuorumLostReason, ReadyReason, ReconcilingReason, ResizingReason, SpaceLowReason,
    UpdatePendingReason, ready,
};

/// A condition that is not so, with nothing to say about it.
fn no(reason: &'static str) -> (bool, &'static str, String) {
    (false, reason, String::new())
}

/// Why Kubernetes cannot start a pod, as far as a person can mend it.
enum PodTrouble {
    /// Its image.
    Image,
    /// No node takes it.
    Place,
}

fn pod_trouble(member: &Member<'_>) -> Option<(PodTrouble, String)> {
    const IMAGE: [&str; 5] = [
        "ImageUnavailable",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
    ];
    let trouble = member.pod()?.trouble.as_deref()?;
    let reason = trouble.split(':').next().unwrap_or_default();
    let kind = if IMAGE.contains(&reason) {
        PodTrouble::Image
    } else if reason == "Unschedulable" {
        PodTrouble::Place
    } else {
        return None;
    };
    Some((kind, format!("{}: {trouble}", member.name)))
}

pub(super) struct Facts<'a> {
    pub(super) cluster: &'a EtcdCluster,
    pub(super) roster: &'a Roster<'a>,
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    pub(super) windows: Windows,
    pub(super) asleep: bool,
    pub(super) backed_up: (bool, &'static str, String),
}

impl Facts<'_> {
    fn available(&self) -> bool {
        self.roster.formed() && self.roster.quorum
    }

    fn settled(&self) -> bool {
        self.plan.is_settled() && self.outcome.error.is_none()
    }

    fn voters(&self) -> (usize, usize) {
        (self.roster.serving(), self.roster.voters().count())
    }

    fn ready(&self) -> bool {
        let wanted = usize::try_from(self.cluster.spec.replicas).unwrap_or(0);
        let whole = self.available() && self.voters().1 == wanted && ready(self.roster) == wanted;
        self.settled() && (whole || self.asleep)
    }

    pub(super) fn phase(&self) -> Phase {
        if self.plan.stalled.is_some() {
            return Phase::Stalled;
        }
        if restore::under_way(self.cluster).is_some() {
            return Phase::Restoring;
        }
        if self.asleep {
            return Phase::Asleep;
        }
        if !self.roster.formed() {
            return Phase::Creating;
        }
        if !self.available() {
            return Phase::Unavailable;
        }
        let wanted = usize::try_from(self.cluster.spec.replicas).unwrap_or(0);
        let (serving, voters) = self.voters();
        match self.plan.step {
            Step::UpdateMember { .. } | Step::RestartPod { .. } | Step::MoveLeader { .. } => {
                Phase::Updating
            }
            _ if voters != wanted || self.roster.learner().is_some() => Phase::Scaling,
            _ if serving < voters => Phase::Degraded,
            _ => Phase::Running,
        }
    }

    pub(super) fn condition(
        &self,
        type_: ConditionType,
        before: &[Condition],
        now: Timestamp,
    ) -> Condition {
        let (status, reason, message) = self.judge(type_);
        let status = if status { "True" } else { "False" };
        let previous = before
            .iter()
            .find(|condition| condition.type_ == type_.as_str());
        let since = previous
            .filter(|previous| previous.status == status)
            .map_or(Time(now), |previous| previous.last_transition_time.clone());
        Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: self.cluster.metadata.generation,
        }
    }

    /// (status, reason from a closed set, message).
    fn judge(&self, type_: ConditionType) -> (bool, &'static str, String) {
        match type_ {
            ConditionType::Ready => self.judge_ready(),
            ConditionType::Reconciling => self.judge_reconciling(),
            ConditionType::Stalled => match &self.plan.stalled {
                Some(stalled) => (true, stalled.reason.as_str(), stalled.message.clone()),
                None => no(NotStalledReason::NotStalled.as_str()),
            },
            ConditionType::Available => self.judge_available(),
            ConditionType::Degraded => self.judge_degraded(),
            ConditionType::QuorumLost => match &self.plan.stalled {
                Some(s) if s.reason == StalledReason::QuorumLost => (
                    true,
                    QuorumLostReason::VotersLost.as_str(),
                    s.message.clone(),
                ),
                _ => no(QuorumLostReason::NotLost.as_str()),
            },
            ConditionType::BackedUp => self.backed_up.clone(),
            ConditionType::UpdatePending => self.judge_update_pending(),
            ConditionType::SpaceLow => self.judge_space(),
            ConditionType::Resizing => match volumes(self.cluster, self.roster) {
                Volumes::Growing(what) => (true, ResizingReason::Growing.as_str(), what),
                Volumes::Refused(why) => (true, ResizingReason::Refused.as_str(), why),
                Volumes::AsSpecified => no(ResizingReason::AsSpecified.as_str()),
                Volumes::None => no(ResizingReason::NoVolumes.as_str()),
            },
            ConditionType::MaintenanceWindow => self.judge_window(),
            ConditionType::Paused if self.cluster.spec.paused => (
                true,
                PausedReason::SpecPaused.as_str(),
                "spec.paused is set; nothing is changed".to_owned(),
            ),
            ConditionType::Paused => no(PausedReason::NotPaused.as_str()),
            ConditionType::TLSReady => {
                let tls = &self.plan.tls;
                (tls.ready, tls.reason.as_str(), tls.message.clone())
            }
        }
    }

    fn counted(&self) -> String {
        let (serving, voters) = self.voters();
        format!("{serving} of {voters} voters serve")
    }

    fn judge_ready(&self) -> (bool, &'static str, String) {
        let counted = self.counted();
        if self.ready() {
            return if self.asleep {
                (
                    true,
                    ReadyReason::Asleep.as_str(),
                    "replicas is 0: the pods have stopped, members and data are kept".to_owned(),
                )
            } else {
                (true, ReadyReason::AsSpecified.as_str(), counted)
            };
        }
        if let Some(stalled) = &self.plan.stalled {
            return (false, stalled.reason.as_str(), stalled.message.clone());
        }
        let (reason, message) = match self.pod_trouble() {
            Some((PodTrouble::Image, message)) => (ReadyReason::ImageUnavailable, message),
            Some((PodTrouble::Place, message)) => (ReadyReason::Unschedulable, message),
            None if !self.roster.formed() => (ReadyReason::Creating, self.plan.reason.clone()),
            None if !self.available() => (ReadyReason::NoQuorum, counted),
            None if self.settled() => {
                let ready = ready(self.roster);
                let message = format!("{ready} of {} pods are ready", self.voters().1);
                (ReadyReason::PodsNotReady, message)
            }
            None => (ReadyReason::Reconciling, self.progress(&counted)),
        };
        (false, reason.as_str(), message)
    }

    fn judge_reconciling(&self) -> (bool, &'static str, String) {
        if self.plan.stalled.is_some() {
            return no(ReconcilingReason::Stalled.as_str());
        }
        if self.settled() {
            return no(ReconcilingReason::Settled.as_str());
        }
        let reason = match &self.outcome.error {
            Some(error) => {
                return (true, ReconcilingReason::StepFailed.as_str(), error.clone());
            }
            None if self.plan.step != Step::None => self.plan.step.name(),
            None => match self.pod_trouble() {
                Some((PodTrouble::Image, _)) => ReconcilingReason::ImageUnavailable.as_str(),
                Some((PodTrouble::Place, _)) => ReconcilingReason::Unschedulable.as_str(),
                None => ReconcilingReason::Waiting.as_str(),
            },
        };
        (true, reason, self.plan.reason.clone())
    }

    fn judge_available(&self) -> (bool, &'static str, String) {
        if self.available() {
            (true, AvailableReason::Quorum.as_str(), String::new())
        } else if self.asleep {
            no(AvailableReason::Asleep.as_str())
        } else if !self.roster.formed() {
            no(AvailableReason::Creating.as_str())
        } else {
            (false, AvailableReason::NoQuorum.as_str(), self.counted())
        }
    }

    fn judge_degraded(&self) -> (bool, &'static str, String) {
        if !self.available() {
            return no(DegradedReason::NotServing.as_str());
        }
        let (serving, voters) = self.voters();
        if serving < voters {
            let ill = |member: &&Member<'_>| member.is_voter() && !member.is_serving();
            let trouble = self.roster.members.iter().filter(ill).find_map(pod_trouble);
            let (reason, message) = match trouble {
                Some((PodTrouble::Image, text)) => (DegradedReason::ImageUnavailable, text),
                Some((PodTrouble::Place, text)) => (DegradedReason::Unschedulable, text),
                None => (DegradedReason::MembersNotServing, self.counted()),
            };
            return (true, reason.as_str(), message);
        }
        let seen = self.roster.members.iter().filter_map(Member::etcd_seen);
        if seen
            .flat_map(|seen| &seen.alarms)
            .any(|a| a.kind == "CORRUPT")
        {
            let message = "the alarm CORRUPT stands: members do not hold the same data; nothing is restarted until it is disarmed";
            return (true, DegradedReason::Corrupt.as_str(), message.to_owned());
        }
        no(DegradedReason::Whole.as_str())
    }

    fn judge_update_pending(&self) -> (bool, &'static str, String) {
        if !self.plan.update_pending {
            return no(UpdatePendingReason::UpToDate.as_str());
        }
        let what = "this operator renders the pods differently";
        let (reason, message) = match self.windows.state {
            WindowState::Unset => (
                UpdatePendingReason::OperatorChanged,
                format!("{what}; taken with the next planned restart"),
            ),
            WindowState::Open => (
                UpdatePendingReason::InWindow,
                format!("{what}; a maintenance window is open"),
            ),
            WindowState::Closed(_) => (
                UpdatePendingReason::WaitsForWindow,
                format!(
                    "{what}; taken with the next planned restart, or once {}",
                    self.windows.state.opens()
                ),
            ),
        };
        (true, reason.as_str(), message)
    }

    fn judge_space(&self) -> (bool, &'static str, String) {
        let space = space(self.cluster, self.roster);
        if space.no_space {
            let message = "the alarm NOSPACE stands: writes are refused until there is room. Delete keys, or raise options.quotaBackendBytes or the size of the volumes";
            return (true, SpaceLowReason::NoSpace.as_str(), message.to_owned());
        }
        if space.near.is_empty() {
            return no(SpaceLowReason::Plenty.as_str());
        }
        let message = format!(
            "{} fill 80 % of the quota or more; at 100 % writes are refused",
            space.near.join(", ")
        );
        (true, SpaceLowReason::NearQuota.as_str(), message)
    }

    fn judge_window(&self) -> (bool, &'static str, String) {
        let invalid = self.windows.invalid.join("; ");
        let (open, reason) = match self.windows.state {
            WindowState::Unset => (false, MaintenanceWindowReason::NoWindows),
            WindowState::Open => (true, MaintenanceWindowReason::Open),
            WindowState::Closed(_) if !invalid.is_empty() => {
                (false, MaintenanceWindowReason::InvalidWindow)
            }
            WindowState::Closed(_) => (false, MaintenanceWindowReason::Closed),
        };
        let message = match self.windows.state {
            WindowState::Closed(Some(at)) if invalid.is_empty() => {
                format!("the next one opens at {at}")
            }
            WindowState::Closed(Some(at)) => format!("{invalid}; the next one opens at {at}"),
            _ => invalid,
        };
        (open, reason.as_str(), message)
    }

    /// The first pod that Kubernetes cannot start, and why.
    fn pod_trouble(&self) -> Option<(PodTrouble, String)> {
        self.roster.members.iter().find_map(pod_trouble)
    }

    fn progress(&self, counted: &str) -> String {
        match (&self.outcome.error, self.plan.reason.as_str()) {
            (Some(error), _) => error.clone(),
            (None, "") => counted.to_owned(),
            (None, reason) => reason.to_owned(),
        }
    }
}

//! What to tell: pure, from what was observed and planned and how the step went.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        ConditionType, EtcdCluster, EtcdClusterStatus, LABEL_CLUSTER, MemberRole, MemberStatus,
        Phase, PlanStatus,
    },
    identity,
    observe::Observed,
    plan::{Member, Plan, Roster, StalledReason, Step},
    render::{self, Settings},
};

/// What joins a step's reason and how it failed, in `status.plan.reason`.
pub(crate) const LAST_ATTEMPT: &str = "; the last attempt failed: ";

/// How the plan's step went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What failed, in words; `None` if nothing did.
    pub error: Option<String>,
}

/// The status to write.
///
/// What status remembers (IDs, serials, tickets, the bootstrap) is carried over; the
/// cluster ID is latched here, the first time a quorum answers for it. A healthy
/// cluster's status is equal to the one before, so nothing is written.
pub fn status(
    cluster: &EtcdCluster,
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    settings: &Settings,
    now: Timestamp,
) -> EtcdClusterStatus {
    let roster = Roster::new(cluster, observed);
    let before = cluster.status.clone().unwrap_or_default();
    let mut status = EtcdClusterStatus {
        observed_generation: cluster.metadata.generation.unwrap_or_default(),
        ..before.clone()
    };
    let bootstrap = before
        .bootstrap
        .as_ref()
        .and_then(|b| identity::parse_hex(&b.cluster_id));
    if let Some(list) = &observed.membership
        && status.cluster_id.is_none()
        && bootstrap == Some(list.cluster_id)
    {
        status.cluster_id = Some(identity::hex(list.cluster_id));
    }
    status.next_serial = before.next_serial.max(roster.next_serial);
    status.members = roster
        .members
        .iter()
        .map(|known| member(cluster, &roster, known, now))
        .collect();
    status.leader = roster.leader().map(|member| member.name.clone());
    let reported = status.members.iter().filter(|member| member.healthy);
    if let Some(version) = reported
        .filter_map(|m| m.version.clone())
        .min_by_key(|v| numbers(v))
    {
        status.version = Some(version);
    }
    status.image = Some(render::image(cluster, settings));
    if render::image_of_spec(cluster).is_none() {
        status
            .default_image
            .get_or_insert_with(|| settings.default_image.clone());
    }
    let asleep = is_asleep(cluster, &roster);
    let made = roster
        .members
        .iter()
        .filter(|member| !member.removed)
        .count();
    let members = if roster.formed() {
        roster.joined()
    } else {
        made
    };
    status.replicas = if asleep { 0 } else { count(members) };
    status.ready_replicas = count(ready(&roster));
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    status.selector = format!("{LABEL_CLUSTER}={name}");
    status.plan = Some(plan_status(plan, outcome));
    let facts = Facts {
        cluster,
        roster: &roster,
        plan,
        outcome,
        asleep,
    };
    status.phase = Some(facts.phase());
    status.conditions = ConditionType::ALL
        .into_iter()
        .map(|type_| facts.condition(type_, &before.conditions, now))
        .collect();
    status
}

/// Voters that serve by their own word and by the kubelet's, so that clients are
/// sent to them.
fn ready(roster: &Roster<'_>) -> usize {
    let ready = |member: &&Member<'_>| member.pod().is_some_and(|pod| pod.ready);
    roster
        .voters()
        .filter(|member| member.is_serving())
        .filter(ready)
        .count()
}

fn count(members: usize) -> i32 {
    i32::try_from(members).unwrap_or(i32::MAX)
}

/// Version numbers, for comparing.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

fn is_asleep(cluster: &EtcdCluster, roster: &Roster<'_>) -> bool {
    cluster.spec.replicas == 0 && roster.members.iter().all(|m| m.objects.pod.is_none())
}

fn member(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    member: &Member<'_>,
    now: Timestamp,
) -> MemberStatus {
    let before = member.status.cloned().unwrap_or_default();
    let seen = member.etcd_seen();
    let role = if member.removed {
        MemberRole::Removed
    } else if member.is_voter() {
        MemberRole::Voter
    } else if member.is_learner() {
        MemberRole::Learner
    } else {
        MemberRole::Candidate
    };
    let healthy = member.is_serving();
    // Time counts against it only while the others serve: what keeps all of them from
    // serving says nothing about one.
    let joined = matches!(role, MemberRole::Voter | MemberRole::Learner);
    let counts = joined && !healthy && roster.quorum && cluster.spec.replicas > 0;
    let unhealthy_since = counts.then(|| before.unhealthy_since.unwrap_or(Time(now)));
    // Still a member, for certain: it was not removed after all.
    let stays = member.etcd.is_some();
    MemberStatus {
        name: member.name.clone(),
        id: member.id.map(identity::hex),
        role,
        healthy,
        version: seen.map(|seen| seen.version.clone()).or(before.version),
        ticket: before.ticket,
        message: (!healthy && !member.removed).then(|| member.trouble()),
        unhealthy_since,
        departure: before.departure.filter(|_| !stays),
    }
}

fn plan_status(plan: &Plan, outcome: &Outcome) -> PlanStatus {
    let reason = match &outcome.error {
        Some(error) => format!("{}{LAST_ATTEMPT}{error}", plan.reason),
        None => plan.reason.clone(),
    };
    PlanStatus {
        step: plan.step.name().to_owned(),
        reason,
        blocked_by: plan.blocked.clone(),
    }
}

struct Facts<'a> {
    cluster: &'a EtcdCluster,
    roster: &'a Roster<'a>,
    plan: &'a Plan,
    outcome: &'a Outcome,
    asleep: bool,
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

    fn phase(&self) -> Phase {
        if self.plan.stalled.is_some() {
            return Phase::Stalled;
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

    fn condition(&self, type_: ConditionType, before: &[Condition], now: Timestamp) -> Condition {
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
        let (serving, voters) = self.voters();
        let stalled = self.plan.stalled.as_ref();
        let counted = format!("{serving} of {voters} voters serve");
        match type_ {
            ConditionType::Ready if self.ready() && self.asleep => (
                true,
                "Asleep",
                "replicas is 0: the pods have stopped, members and data are kept".to_owned(),
            ),
            ConditionType::Ready if self.ready() => (true, "AsSpecified", counted),
            ConditionType::Ready => match stalled {
                Some(stalled) => (false, stalled.reason.as_str(), stalled.message.clone()),
                None if !self.roster.formed() => (false, "Creating", self.plan.reason.clone()),
                None if !self.available() => (false, "NoQuorum", counted),
                None if self.settled() => {
                    let ready = ready(self.roster);
                    (
                        false,
                        "PodsNotReady",
                        format!("{ready} of {voters} pods are ready"),
                    )
                }
                None => (false, "Reconciling", self.progress(&counted)),
            },
            ConditionType::Reconciling if stalled.is_some() || self.settled() => (
                false,
                if stalled.is_some() {
                    "Stalled"
                } else {
                    "Settled"
                },
                String::new(),
            ),
            ConditionType::Reconciling => match &self.outcome.error {
                Some(error) => (true, "StepFailed", error.clone()),
                None if self.plan.step == Step::None => (true, "Waiting", self.plan.reason.clone()),
                None => (true, self.plan.step.name(), self.plan.reason.clone()),
            },
            ConditionType::Stalled => match stalled {
                Some(stalled) => (true, stalled.reason.as_str(), stalled.message.clone()),
                None => (false, "NotStalled", String::new()),
            },
            ConditionType::Available if self.available() => (true, "Quorum", String::new()),
            ConditionType::Available if self.asleep => (false, "Asleep", String::new()),
            ConditionType::Available if !self.roster.formed() => (false, "Creating", String::new()),
            ConditionType::Available => (false, "NoQuorum", counted),
            ConditionType::Degraded if self.available() && serving < voters => {
                (true, "MembersNotServing", counted)
            }
            ConditionType::Degraded if self.available() => (false, "Whole", String::new()),
            ConditionType::Degraded => (false, "NotServing", String::new()),
            ConditionType::QuorumLost => match stalled {
                Some(s) if s.reason == StalledReason::QuorumLost => {
                    (true, "VotersLost", s.message.clone())
                }
                _ => (false, "NotLost", String::new()),
            },
            ConditionType::UpdatePending if self.plan.update_pending => (
                true,
                "OperatorChanged",
                "this operator renders the pods differently; taken with the next planned restart"
                    .to_owned(),
            ),
            ConditionType::UpdatePending => (false, "UpToDate", String::new()),
            ConditionType::Paused if self.cluster.spec.paused => (
                true,
                "SpecPaused",
                "spec.paused is set; nothing is changed".to_owned(),
            ),
            ConditionType::Paused => (false, "NotPaused", String::new()),
        }
    }

    fn progress(&self, counted: &str) -> String {
        match (&self.outcome.error, self.plan.reason.as_str()) {
            (Some(error), _) => error.clone(),
            (None, "") => counted.to_owned(),
            (None, reason) => reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

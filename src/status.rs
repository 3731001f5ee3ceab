//! What to tell: pure, from what was observed and planned and how the step went.

mod backed_up;
mod conditions;
mod members;
mod news;
mod reason;

pub use news::{News, news};
pub use reason::*;

use jiff::Timestamp;

use crate::{
    api::{
        ConditionType, EtcdCluster, EtcdClusterStatus, ImageEngine, LABEL_CLUSTER, LastLeader,
        PlanStatus,
    },
    identity,
    observe::Observed,
    plan::{Member, Plan, Roster, have_grown, windows},
    render::{self, Settings},
};

use conditions::Facts;

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
    status.image = Some(render::image(cluster, settings));
    status.image_engine = image_engine(&status, &roster);
    let image = status.image_engine.as_ref();
    let around = members::Around {
        cluster,
        roster: &roster,
        image,
        now,
    };
    let lines = roster.members.iter();
    status.members = lines.map(|member| around.line(member)).collect();
    status.leader = roster.leader().map(|member| member.name.clone());
    if let Some(leader) = last_leader(&roster) {
        status.last_leader = Some(leader);
    }
    let reported = status.members.iter().filter(|member| member.healthy);
    if let Some(version) = reported
        .filter_map(|m| m.version.clone())
        .min_by_key(|v| numbers(v))
    {
        status.version = Some(version);
    }
    if render::image_of_spec(cluster).is_none() {
        status
            .default_image
            .get_or_insert_with(|| settings.default_image.clone());
    }
    if let Some(claim) = &cluster.spec.storage.persistent_volume_claim
        && status.volume_size.is_some()
        && have_grown(cluster, &roster)
    {
        status.volume_size = Some(claim.size.clone());
        status.refused_resize = None;
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
        windows: windows(cluster.spec.maintenance.as_ref(), now),
        asleep,
        backed_up: backed_up::judge(cluster, observed, now),
    };
    status.phase = Some(facts.phase());
    status.conditions = ConditionType::ALL
        .into_iter()
        .map(|type_| facts.condition(type_, &before.conditions, now))
        .collect();
    members::settle_figures(&mut status, &before);
    status
}

/// Who leads, and in which term, by whoever knows the highest one.
fn last_leader(roster: &Roster<'_>) -> Option<LastLeader> {
    let leader = roster.leader()?;
    let seen = roster.members.iter().filter_map(Member::etcd_seen);
    let term = seen
        .filter(|seen| seen.leader != 0)
        .map(|seen| seen.raft_term)
        .max()?;
    Some(LastLeader {
        member: leader.name.clone(),
        term: i64::try_from(term).unwrap_or(i64::MAX),
    })
}

/// What the image is known to hold: by a pod that runs it and waits, from before, or by
/// a member that was made with it.
fn image_engine(status: &EtcdClusterStatus, roster: &Roster<'_>) -> Option<ImageEngine> {
    let image = status.image.as_ref()?;
    let of = |engine, version| ImageEngine {
        image: image.clone(),
        engine,
        version,
    };
    let running = || {
        let members = roster.members.iter();
        members.filter(|member| member.pod().is_some_and(|pod| pod.image == *image))
    };
    let reported = running().find_map(|member| {
        let report = member.pod()?.report.as_ref()?;
        Some(of(report.engine?, report.version.clone()?))
    });
    let before = status.image_engine.clone().filter(|e| e.image == *image);
    reported.or(before).or_else(|| {
        running().find_map(|member| {
            let seen = member.etcd_seen()?;
            Some(of(member.status?.engine?, seen.version.clone()))
        })
    })
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

#[cfg(test)]
mod tests;

//! Until the cluster has formed: find what is there, else form it, once.

use jiff::{SignedDuration, Timestamp};

use crate::{
    admission::TicketPaper,
    api::{Bootstrap, EtcdCluster, TicketKind},
    identity,
    observe::Observed,
    render::Settings,
};

use super::{
    Plan, Roster, StalledReason, Step, restore,
    roster::{Member, quorum},
    update,
};

/// How long pods that wait let the others catch up before a quorum starts without
/// them; the late ones join as learners.
const LATE: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan {
    let bootstrap = cluster
        .status
        .as_ref()
        .and_then(|status| status.bootstrap.as_ref());
    if let Some(plan) = found(roster, bootstrap) {
        return plan;
    }
    if let Some(plan) = clear_away(cluster, roster) {
        return plan;
    }
    if let Some(plan) = restore::bootstrap(cluster, roster, observed, now) {
        return plan;
    }
    if let Some(plan) = update::refresh(cluster, roster, settings) {
        return plan;
    }
    if let Some(bootstrap) = bootstrap.filter(|record| !given_up(roster, record)) {
        return carry_on(roster, bootstrap);
    }
    let wanted = usize::try_from(cluster.spec.replicas).unwrap_or(0);
    let candidates: Vec<&Member<'_>> = roster.candidates().collect();
    if candidates.len() > wanted {
        let last = candidates[candidates.len() - 1];
        return Plan::step(
            Step::DiscardCandidate {
                member: last.name.clone(),
            },
            format!(
                "{} is one more than the {wanted} wanted, and never started",
                last.name
            ),
        );
    }
    if wanted == 0 {
        return Plan::idle();
    }
    if candidates.len() < wanted {
        let serial = roster.next_serial;
        let member = identity::member_name(roster.cluster, serial);
        let reason = format!(
            "makes {member}, member {} of {wanted}",
            candidates.len() + 1
        );
        return Plan::step(Step::CreateMember { member, serial }, reason);
    }
    if let Some(bare) = candidates
        .iter()
        .find(|member| lacks_objects(member, roster.persistent))
    {
        return Plan::step(
            Step::EnsureMember {
                member: bare.name.clone(),
            },
            format!("{} lacks its StatefulSet or its claim", bare.name),
        );
    }
    if let Some(stalled) = version_mismatch(cluster, &candidates) {
        return stalled;
    }
    begin(cluster, roster, &candidates, now)
}

/// Volumes or members of a cluster that has formed before are taken over, never
/// bootstrapped beside.
fn found(roster: &Roster<'_>, bootstrap: Option<&Bootstrap>) -> Option<Plan> {
    let own = bootstrap.and_then(|record| identity::parse_hex(&record.cluster_id));
    let mut ids: Vec<(u64, String)> = Vec::new();
    for member in roster.members.iter().filter(|member| !member.removed) {
        let claim = member
            .objects
            .claim
            .as_ref()
            .and_then(|claim| claim.cluster_id);
        let etcd = member
            .pod()
            .and_then(|pod| pod.etcd.as_ref())
            .map(|seen| seen.cluster_id);
        for id in [claim, etcd]
            .into_iter()
            .flatten()
            .filter(|id| Some(*id) != own)
        {
            ids.push((id, member.name.clone()));
        }
    }
    let (first, _) = ids.first()?.clone();
    let listed = || {
        let lines: Vec<String> = ids
            .iter()
            .map(|(id, name)| format!("{name}: {}", identity::hex(*id)))
            .collect();
        lines.join(", ")
    };
    if own.is_some() || ids.iter().any(|(id, _)| *id != first) {
        return Some(Plan::stalled(
            StalledReason::VolumesFound,
            format!(
                "volumes of more than one cluster were found ({}). Nothing is bootstrapped beside them: delete the claims that are not wanted, or give this EtcdCluster another name.",
                listed()
            ),
        ));
    }
    let members = roster
        .members
        .iter()
        .filter(|member| ids.iter().any(|(_, name)| *name == member.name))
        .filter_map(|member| {
            let seen = member
                .pod()
                .and_then(|pod| pod.etcd.as_ref())
                .map(|seen| seen.member_id);
            Some((member.name.clone(), seen.or(member.id)?))
        })
        .collect();
    Some(Plan::step(
        Step::Adopt {
            cluster_id: first,
            members,
        },
        format!("takes over the cluster that was found ({})", listed()),
    ))
}

/// Members of an attempt that was given up are cleared away first.
fn clear_away(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    roster
        .members
        .iter()
        .find(|member| member.removed)
        .map(|member| {
            let why = "its bootstrap was given up";
            super::objects::clear_away(cluster, member, why).unwrap_or_else(Plan::wait)
        })
}

fn given_up(roster: &Roster<'_>, record: &Bootstrap) -> bool {
    // A record stands until a ticketed member of it was struck: see AbandonBootstrap.
    record
        .members
        .iter()
        .any(|name| roster.get(name).is_none_or(|member| member.removed))
}

/// Hands out the tickets of the bootstrap on record, and waits for its quorum.
fn carry_on(roster: &Roster<'_>, record: &Bootstrap) -> Plan {
    let members: Vec<&Member<'_>> = record
        .members
        .iter()
        .filter_map(|name| roster.get(name))
        .collect();
    let needed = quorum(members.len());
    let issued = members.iter().filter(|member| member.has_ticket()).count();
    let lost: Vec<&str> = members
        .iter()
        .filter(|member| member.lost_data(roster.persistent))
        .map(|member| member.name.as_str())
        .collect();
    if !lost.is_empty() && issued < needed {
        let holders = members
            .iter()
            .filter(|m| m.has_ticket())
            .map(|m| m.name.clone())
            .collect();
        return Plan::step(
            Step::AbandonBootstrap { members: holders },
            format!(
                "{} was gone before a quorum had its tickets; bootstraps anew",
                lost.join(", ")
            ),
        );
    }
    if members.len() - lost.len() < needed {
        return Plan::stalled(
            StalledReason::BootstrapFailed,
            format!(
                "{} lost their disks after a quorum was admitted, so cluster {} cannot be completed, and it may have held data. Delete this EtcdCluster and its claims, and create it again.",
                lost.join(", "),
                record.cluster_id
            ),
        );
    }
    for member in &members {
        if let Some(plan) = deliver(roster, member, Some(record)) {
            return plan;
        }
    }
    if let Some(bare) = members
        .iter()
        .find(|member| lacks_objects(member, roster.persistent))
    {
        return Plan::step(
            Step::EnsureMember {
                member: bare.name.clone(),
            },
            format!("{} lacks its StatefulSet or its claim", bare.name),
        );
    }
    let waiting: Vec<String> = members
        .iter()
        .filter(|member| !member.is_serving())
        .map(|member| format!("{} ({})", member.name, member.trouble()))
        .collect();
    Plan::wait(format!(
        "waits for the bootstrap to complete: {}",
        waiting.join(", ")
    ))
}

/// Writes a bootstrap ticket to a pod that may have it and does not bear it yet.
pub(super) fn deliver(
    roster: &Roster<'_>,
    member: &Member<'_>,
    record: Option<&Bootstrap>,
) -> Option<Plan> {
    let record = record.filter(|record| record.members.contains(&member.name))?;
    if roster.formed() && !member.is_voter() {
        return None; // no longer, or not yet again, on etcd's list: it has to join
    }
    let pod = member
        .pod()
        .filter(|pod| !pod.ticketed && member.may_get_ticket())?;
    let url =
        |name: &str| identity::peer_url(roster.cluster, roster.namespace, name, record.secure);
    let ticket = TicketPaper {
        kind: TicketKind::Bootstrap,
        pod_uid: pod.uid.clone(),
        member_id: identity::hex(identity::member_id(&url(&member.name), &record.token)),
        cluster_id: record.cluster_id.clone(),
        token: record.token.clone(),
        initial_cluster: record
            .members
            .iter()
            .map(|name| format!("{name}={}", url(name)))
            .collect(),
        bump_revision: 0,
    };
    Some(Plan::step(
        Step::IssueTicket {
            member: member.name.clone(),
            ticket,
        },
        format!(
            "admits {} to the bootstrap of cluster {}",
            member.name, record.cluster_id
        ),
    ))
}

fn begin(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    candidates: &[&Member<'_>],
    now: Timestamp,
) -> Plan {
    let waiting: Vec<&&Member<'_>> = candidates.iter().filter(|member| member.waits()).collect();
    let late: Vec<String> = candidates
        .iter()
        .filter(|member| !member.waits())
        .map(|member| format!("{} ({})", member.name, member.trouble()))
        .collect();
    let patient = |member: &&&Member<'_>| {
        let created = member.pod().and_then(|pod| pod.created);
        created.is_some_and(|created| now.duration_since(created) >= LATE)
    };
    let enough = waiting.len() >= quorum(candidates.len()) && waiting.iter().all(patient);
    if !late.is_empty() && !enough {
        return Plan::wait(format!(
            "{} of {} members wait to be admitted; not yet: {}",
            waiting.len(),
            candidates.len(),
            late.join(", ")
        ));
    }
    let attempt = cluster
        .status
        .as_ref()
        .and_then(|status| status.bootstrap.as_ref())
        .map_or(1, |record| record.attempt + 1);
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let token = format!("{uid}-{attempt}");
    let ids: Vec<u64> = waiting
        .iter()
        .map(|member| {
            let url = identity::peer_url(
                roster.cluster,
                roster.namespace,
                &member.name,
                roster.secure_peers,
            );
            identity::member_id(&url, &token)
        })
        .collect();
    let bootstrap = Bootstrap {
        attempt,
        cluster_id: identity::hex(identity::cluster_id(&ids)),
        token,
        members: waiting.iter().map(|member| member.name.clone()).collect(),
        secure: roster.secure_peers,
    };
    let reason = if late.is_empty() {
        format!("all {} members wait to be admitted", waiting.len())
    } else {
        format!(
            "{} of {} members wait long enough; late ones will join",
            waiting.len(),
            candidates.len()
        )
    };
    Plan::step(Step::BeginBootstrap { bootstrap }, reason)
}

/// Refuses to start an image that is not of the version asked for.
pub(super) fn version_mismatch(cluster: &EtcdCluster, candidates: &[&Member<'_>]) -> Option<Plan> {
    let wanted = cluster.spec.version.as_deref()?;
    let (member, brings) = candidates.iter().find_map(|member| {
        let version = member.pod()?.report.as_ref()?.version.clone()?;
        (version != wanted).then_some((member, version))
    })?;
    Some(Plan::stalled(
        StalledReason::VersionMismatch,
        format!(
            "the image of {} brings etcd {brings}, but spec.version asks for {wanted}; correct one of them",
            member.name
        ),
    ))
}

/// Whether a member that is to run lacks what it runs from.
pub(super) fn lacks_objects(member: &Member<'_>, persistent: bool) -> bool {
    member.objects.stateful_set.is_none() || (persistent && member.objects.claim.is_none())
}

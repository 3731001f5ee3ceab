//! Who belongs to the cluster: one change at a time, each finished or rolled back
//! before the next.

use jiff::{SignedDuration, Timestamp};

use crate::{
    admission::TicketPaper,
    api::{Departure, EtcdCluster, QuorumLossPolicy, TicketKind},
    identity,
    plan::blocked,
};

use super::{
    Plan, Roster, StalledReason, Step, bootstrap, repair, restore,
    roster::{Member, quorum},
    upgrade,
};

/// How long a learner may take from its admission to its first sign of life.
const LEARNER_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn plan(cluster: &EtcdCluster, roster: &Roster<'_>, now: Timestamp) -> Option<Plan> {
    if !roster.quorum {
        return Some(unknown_volume(roster).unwrap_or_else(|| no_quorum(cluster, roster)));
    }
    if let Some(learner) = roster.learner() {
        return Some(bring_in(cluster, roster, learner, now));
    }
    if !roster.strangers.is_empty() {
        let names: Vec<String> = roster
            .strangers
            .iter()
            .map(|line| format!("{} {}", identity::hex(line.id), line.peer_urls.join(",")))
            .collect();
        let message = format!(
            "etcd lists members that are not of this EtcdCluster: {}; membership is left alone until they are removed",
            names.join("; ")
        );
        return Some(Plan {
            blocked: vec![blocked("UnknownMember", &message)],
            ..Plan::wait(message)
        });
    }
    if let Some(other) = roster.voters().find(|member| member.holds_other_data()) {
        let why = format!(
            "{} holds data that its image cannot read; removes it, and a new member takes its place",
            other.name
        );
        return Some(repair::remove(roster, other, why));
    }
    repair::plan(cluster, roster, now).or_else(|| scale(cluster, roster, now))
}

/// A claim that nobody knows may be the one of a voter: where status was lost before the
/// claim was marked, its pod finds the log and starts.
fn unknown_volume(roster: &Roster<'_>) -> Option<Plan> {
    let bare = roster.candidates().find(|member| {
        let claim = member.objects.claim.as_ref();
        claim.is_some_and(|claim| !claim.deleting) && member.objects.stateful_set.is_none()
    })?;
    Some(Plan::step(
        Step::EnsureMember {
            member: bare.name.clone(),
        },
        format!(
            "no quorum answers, and the claim of {} may hold a voter",
            bare.name
        ),
    ))
}

/// Nothing can be changed; says who is missing, and whether they can come back.
fn no_quorum(cluster: &EtcdCluster, roster: &Roster<'_>) -> Plan {
    let (lost, toll) = repair::toll(roster);
    let voters = roster.voters().count();
    if !lost {
        return Plan::wait(format!(
            "no quorum of {voters} voters answers; {toll}. Waits for {} of them to serve",
            quorum(voters)
        ));
    }
    let policy = match restore::certain_loss(cluster, roster) {
        Err(why) if cluster.spec.recovery.quorum_loss.policy == QuorumLossPolicy::Automatic => {
            format!(" recovery.quorumLoss.policy does nothing yet: {why}.")
        }
        _ => String::new(),
    };
    let id = roster.cluster_id.map(identity::hex).unwrap_or_default();
    Plan::stalled(
        StalledReason::QuorumLost,
        format!(
            "a quorum of the {voters} voters is lost. {toll}. What is left is kept, and nothing is changed.{policy} The ways out: bring a lost volume back, with the data it had, and the cluster goes on by itself; or an EtcdRestore that replaces {id}, of source.survivor, which makes a new cluster of the most advanced member that is left, or of a backup."
        ),
    )
}

/// A learner gets its ticket, then its vote; one that cannot start is rolled back.
fn bring_in(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    learner: &Member<'_>,
    now: Timestamp,
) -> Plan {
    let name = &learner.name;
    let Some(id) = learner.id else {
        return Plan::wait(format!("waits for the member ID of {name}"));
    };
    let remove = |why: String| {
        Plan::step(
            Step::RemoveMember {
                member: name.clone(),
                id,
                departure: Departure::RolledBack,
            },
            why,
        )
    };
    if roster.voters().count() >= repair::voters_wanted(cluster, roster) {
        return remove(format!(
            "{name} is not needed any more; rolls its admission back"
        ));
    }
    if roster.persistent && learner.objects.claim.is_none() && learner.pod().is_none() {
        return remove(format!(
            "{name} was added but has no volume to start from; rolls its admission back"
        ));
    }
    if learner.lost_data(roster.persistent) {
        return remove(format!(
            "{name} lost its disk before it could vote; a new member will take its place"
        ));
    }
    if let Some(pod) = learner
        .pod()
        .filter(|pod| !pod.ticketed && learner.may_get_ticket())
    {
        return Plan::step(
            Step::IssueTicket {
                member: name.clone(),
                ticket: join_ticket(cluster, roster, id, &pod.uid),
            },
            format!("admits {name} as learner {}", identity::hex(id)),
        );
    }
    if learner.is_serving() {
        return Plan::step(
            Step::PromoteMember {
                member: name.clone(),
                id,
            },
            format!("{name} follows the log; gives it a vote"),
        );
    }
    let since = learner
        .status
        .and_then(|status| status.unhealthy_since.as_ref());
    let overdue = since.is_some_and(|since| now.duration_since(since.0) > LEARNER_PATIENCE);
    if overdue && learner.etcd_seen().is_none() {
        return remove(format!(
            "{name} did not start within 5 minutes ({}); rolls its admission back",
            learner.trouble()
        ));
    }
    Plan::wait(format!("waits for learner {name}: {}", learner.trouble()))
}

fn join_ticket(cluster: &EtcdCluster, roster: &Roster<'_>, id: u64, pod_uid: &str) -> TicketPaper {
    let url = |name: &str| {
        identity::peer_url(roster.cluster, roster.namespace, name, roster.secure_peers)
    };
    let members = roster.members.iter().filter(|member| member.etcd.is_some());
    TicketPaper {
        kind: TicketKind::Join,
        pod_uid: pod_uid.to_owned(),
        member_id: identity::hex(id),
        cluster_id: roster.cluster_id.map(identity::hex).unwrap_or_default(),
        token: cluster.metadata.uid.clone().unwrap_or_default(),
        initial_cluster: members
            .map(|member| match member.etcd {
                Some(line) if !line.peer_urls.is_empty() => line
                    .peer_urls
                    .iter()
                    .map(|url| format!("{}={url}", member.name))
                    .collect::<Vec<_>>()
                    .join(","),
                _ => format!("{}={}", member.name, url(&member.name)),
            })
            .collect(),
        bump_revision: 0,
    }
}

fn scale(cluster: &EtcdCluster, roster: &Roster<'_>, now: Timestamp) -> Option<Plan> {
    let wanted = usize::try_from(cluster.spec.replicas).unwrap_or(0);
    let needed = repair::voters_wanted(cluster, roster);
    let voters = roster.voters().count();
    let candidates: Vec<&Member<'_>> = roster.candidates().collect();
    if voters >= needed {
        let spares = usize::from(repair::wants_spare(cluster, roster, now));
        if let Some(candidate) = candidates.get(spares..).and_then(|more| more.last()) {
            return Some(Plan::step(
                Step::DiscardCandidate {
                    member: candidate.name.clone(),
                },
                format!(
                    "{} is not needed any more, and never started",
                    candidate.name
                ),
            ));
        }
        return (voters > wanted).then(|| shrink(roster, wanted));
    }
    Some(grow(cluster, roster, &candidates, needed))
}

fn grow(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    candidates: &[&Member<'_>],
    wanted: usize,
) -> Plan {
    let voters = roster.voters().count();
    let Some(candidate) = candidates.first() else {
        let serial = roster.next_serial;
        let name = identity::member_name(roster.cluster, serial);
        let reason = match &roster.outgoing {
            Some(outgoing) if voters + 1 == wanted => format!(
                "{}; makes {name}, which may replace {}",
                outgoing.why, outgoing.member
            ),
            _ => format!("{voters} members, {wanted} wanted; makes {name}"),
        };
        return Plan::step(
            Step::CreateMember {
                member: name,
                serial,
            },
            reason,
        );
    };
    let name = &candidate.name;
    if bootstrap::lacks_objects(candidate, roster.persistent) {
        return Plan::step(
            Step::EnsureMember {
                member: name.clone(),
            },
            format!("{name} lacks its StatefulSet or its claim"),
        );
    }
    if let Some(stalled) = bootstrap::version_mismatch(cluster, candidates) {
        return stalled;
    }
    if !candidate.waits() {
        return Plan::wait(format!("waits for {name}: {}", candidate.trouble()));
    }
    if let Some(outgoing) = roster.outgoing.as_ref().filter(|outgoing| outgoing.proof) {
        return Plan::wait(format!("waits for {name}: {}", outgoing.why));
    }
    let serving = roster.serving();
    if serving < voters {
        return guarded(
            "Unhealthy",
            format!("{name} is added once every voter serves ({serving} of {voters} do)"),
        );
    }
    Plan::step(
        Step::AddMember {
            member: name.clone(),
            peer_url: identity::peer_url(
                roster.cluster,
                roster.namespace,
                name,
                roster.secure_peers,
            ),
        },
        format!("{voters} members, {wanted} wanted; adds {name} as a learner"),
    )
}

/// Removes one voter: unhealthy first, then one whose claim is going, then the
/// youngest; the leader stays, or hands over first.
fn shrink(roster: &Roster<'_>, wanted: usize) -> Plan {
    let voters = roster.voters().count();
    let leader = roster.leader().map(|member| member.serial);
    let outgoing = roster.outgoing.as_ref().map(|outgoing| &outgoing.member);
    let victim = roster.voters().max_by_key(|member| {
        (
            !member.is_serving(),
            outgoing == Some(&member.name),
            repair::is_doomed(member),
            leader != Some(member.serial),
            member.serial,
        )
    });
    let Some((victim, id)) = victim.and_then(|victim| Some((victim, victim.id?))) else {
        return Plan::wait("waits for the members' IDs");
    };
    // One that is replaced goes only while all the others are well; with a voter too
    // many there is no hurry.
    if let Some(member) = outgoing.and_then(|name| roster.get(name))
        && let Some(held) = upgrade::others_unfit(roster, member, "removed")
    {
        return held;
    }
    let left = roster
        .voters()
        .filter(|m| m.name != victim.name && m.is_serving())
        .count();
    if left < quorum(voters - 1) {
        return guarded(
            "Quorum",
            format!(
                "{} is removed once {} of the others serve ({left} do)",
                victim.name,
                quorum(voters - 1)
            ),
        );
    }
    if leader == Some(victim.serial) {
        return match successor(roster, victim) {
            Some(plan) => plan,
            None => guarded(
                "Leader",
                format!("{} leads, and no other voter can", victim.name),
            ),
        };
    }
    let replaced = repair::is_doomed(victim) || outgoing == Some(&victim.name);
    let departure = if victim.is_serving() && !replaced {
        Departure::Scaled
    } else {
        Departure::Replaced
    };
    Plan::step(
        Step::RemoveMember {
            member: victim.name.clone(),
            id,
            departure,
        },
        match &roster.outgoing {
            Some(outgoing) if outgoing.member == victim.name => {
                format!(
                    "{}; a new member has taken its place: removes {}",
                    outgoing.why, victim.name
                )
            }
            _ => format!("{voters} members, {wanted} wanted; removes {}", victim.name),
        },
    )
}

/// Moves leadership to the voter that is furthest, so `leader` can be disrupted.
pub(super) fn successor(roster: &Roster<'_>, leader: &Member<'_>) -> Option<Plan> {
    let heir = roster
        .voters()
        .filter(|member| member.name != leader.name && member.is_serving())
        .max_by_key(|member| member.etcd_seen().map_or(0, |seen| seen.raft_applied))?;
    Some(Plan::step(
        Step::MoveLeader {
            from: leader.name.clone(),
            to: heir.name.clone(),
            to_id: heir.id?,
        },
        format!("moves leadership from {} to {}", leader.name, heir.name),
    ))
}

/// A plan that waits for a guard.
pub(super) fn guarded(guard: &str, message: String) -> Plan {
    Plan {
        blocked: vec![blocked(guard, &message)],
        ..Plan::wait(message)
    }
}

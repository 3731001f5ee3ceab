//! What the cluster's objects lack, none of it disruptive: Services and budget,
//! StatefulSets that vanished, labels and annotations, remains of former members.

use crate::{
    api::{BlockedBy, Departure, EtcdCluster, RetentionPolicy},
    observe::Observed,
    render,
};

use super::{Plan, Roster, Step, blocked, bootstrap, roster::Member};

/// Services and PodDisruptionBudget as they should be.
pub(super) fn shared(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
) -> Option<Plan> {
    let wanted = render::Shared::of(cluster, roster.voters().count());
    let differs = wanted.differs_from(observed)?;
    Some(Plan::step(Step::ApplyShared, differs))
}

/// What members' objects lack, once the cluster has formed.
pub(super) fn members(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    let record = cluster
        .status
        .as_ref()
        .and_then(|status| status.bootstrap.as_ref());
    for member in roster.members.iter().filter(|member| !member.removed) {
        // A bootstrap ticket is redelivered, and a late pod of the list may still
        // have its first; a claim that was adopted never gets one.
        if let Some(plan) = bootstrap::deliver(roster, member, record) {
            return Some(plan);
        }
        // A claim that is gone is never made again under the same member: its data
        // is gone as well, and membership replaces it.
        let whole = !roster.persistent || member.objects.claim.is_some();
        if member.id.is_some() && member.objects.stateful_set.is_none() && whole {
            return Some(Plan::step(
                Step::EnsureMember {
                    member: member.name.clone(),
                },
                format!("the StatefulSet of {} is gone; makes it again", member.name),
            ));
        }
        if let Some(plan) = plain(member) {
            return Some(plan);
        }
        if let Some(reason) = untagged(cluster, roster, member) {
            return Some(Plan::step(
                Step::TagMember {
                    member: member.name.clone(),
                },
                reason,
            ));
        }
    }
    if roster.quorum {
        // One that cannot be cleared away yet, as on a dead node, holds nothing up.
        let mut removed = roster.members.iter().filter(|member| member.removed);
        let step = removed.find_map(|m| clear_away(cluster, m, "it left the cluster").ok());
        if step.is_some() {
            return step;
        }
    }
    sleep_or_wake(cluster, roster)
}

/// Takes out of a template what a restore that is over has put in.
fn plain(member: &Member<'_>) -> Option<Plan> {
    let set = member.objects.stateful_set.as_ref()?;
    set.start.as_ref()?;
    let name = &member.name;
    Some(Plan::step(
        Step::UpdateMember {
            member: name.clone(),
        },
        format!("the template of {name} is as ever again; nothing restarts for that"),
    ))
}

/// What TagMember would mend: the voter's label, IDs and owner of the claim.
fn untagged(cluster: &EtcdCluster, roster: &Roster<'_>, member: &Member<'_>) -> Option<String> {
    let name = &member.name;
    if roster.quorum && member.etcd.is_some() {
        let voter = member.is_voter();
        let set = member
            .objects
            .stateful_set
            .as_ref()
            .is_some_and(|set| set.voter != voter);
        let pod = member.pod().is_some_and(|pod| pod.voter != voter);
        if set || pod {
            return Some(format!(
                "marks {name} as {}",
                if voter { "a voter" } else { "no voter" }
            ));
        }
    }
    let claim = member
        .objects
        .claim
        .as_ref()
        .filter(|claim| !claim.deleting)?;
    if member.etcd.is_some()
        && member.is_serving()
        && (claim.cluster_id, claim.member_id) != (roster.cluster_id, member.id)
    {
        return Some(format!(
            "writes the cluster ID and the member ID of {name} on its claim"
        ));
    }
    if claim.cluster_id.is_some() && claim.secure_peers != roster.secure_peers {
        return Some(format!(
            "writes on the claim of {name} by which scheme its log names peers"
        ));
    }
    let spec = &cluster.spec.storage;
    let owned = spec.when_deleted == RetentionPolicy::Delete;
    if claim.owned != owned {
        let what = if owned {
            "makes the cluster own"
        } else {
            "lets go of"
        };
        return Some(format!(
            "{what} the claim of {name}, as storage.whenDeleted says"
        ));
    }
    None
}

/// Who has left and is not gone yet, for `status.plan.blockedBy`.
pub(super) fn lingering(roster: &Roster<'_>) -> Option<BlockedBy> {
    let mut left = roster.members.iter().filter(|member| member.removed);
    let member = left.find(|member| member.objects.pod.is_some())?;
    Some(blocked(
        "Lingering",
        format!(
            "{} has left the cluster; its claim is kept back until its pod is gone ({})",
            member.name,
            member.trouble()
        ),
    ))
}

/// Clears away what is left of a member: StatefulSet, then claim, then its name. An
/// error is what has to happen first.
pub(super) fn clear_away(
    cluster: &EtcdCluster,
    member: &Member<'_>,
    why: &str,
) -> Result<Plan, String> {
    let name = &member.name;
    if let Some(set) = &member.objects.stateful_set {
        if set.deleting {
            return Err(format!("waits until the StatefulSet of {name} is gone"));
        }
        return Ok(Plan::step(
            Step::DeleteStatefulSet {
                member: name.clone(),
                uid: set.uid.clone(),
            },
            format!("clears away {name}: {why}"),
        ));
    }
    if member.objects.pod.is_some() {
        return Err(format!("waits until the pod of {name} is gone"));
    }
    if let Some(claim) = &member.objects.claim {
        if claim.deleting {
            return Err(format!("waits until the claim of {name} is gone"));
        }
        let policy = policy(cluster, member);
        let verb = if policy == RetentionPolicy::Delete {
            "deletes"
        } else {
            "keeps and retires"
        };
        return Ok(Plan::step(
            Step::ReleaseClaim {
                member: name.clone(),
                uid: claim.uid.clone(),
                policy,
                why: why.to_owned(),
            },
            format!("{verb} the claim of {name}: {why}"),
        ));
    }
    Ok(Plan::step(
        Step::ForgetMember {
            member: name.clone(),
        },
        format!("nothing is left of {name}"),
    ))
}

/// What becomes of the claim of a member that has left.
fn policy(cluster: &EtcdCluster, member: &Member<'_>) -> RetentionPolicy {
    let storage = &cluster.spec.storage;
    let written = member
        .objects
        .claim
        .as_ref()
        .is_some_and(|claim| claim.cluster_id.is_some());
    match member.status.and_then(|status| status.departure) {
        _ if !written && !member.has_ticket() => RetentionPolicy::Delete, // blank: nothing to keep
        Some(Departure::Scaled) => storage.when_scaled,
        Some(Departure::Replaced | Departure::RolledBack) => storage.when_replaced,
        // What was replaced by a restore is kept until someone deletes it.
        Some(Departure::Restored) => RetentionPolicy::Retain,
        // Removed by someone else: deleted only if that is what is always asked for.
        None if storage.when_scaled == storage.when_replaced => storage.when_scaled,
        None => RetentionPolicy::Retain,
    }
}

fn sleep_or_wake(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    let asleep = cluster.spec.replicas == 0;
    let replicas = i32::from(!asleep);
    let members: Vec<String> = roster
        .members
        .iter()
        .filter(|member| !member.removed)
        .filter(|member| {
            member
                .objects
                .stateful_set
                .as_ref()
                .is_some_and(|set| set.replicas != replicas)
        })
        .map(|member| member.name.clone())
        .collect();
    if !members.is_empty() {
        let what = if asleep { "puts to sleep" } else { "wakes" };
        let reason = format!("{what} {}", members.join(", "));
        return Some(Plan::step(Step::SetReplicas { members, replicas }, reason));
    }
    if !asleep {
        return None;
    }
    let still: Vec<&str> = roster
        .members
        .iter()
        .filter(|member| member.objects.pod.is_some())
        .map(|member| member.name.as_str())
        .collect();
    Some(if still.is_empty() {
        Plan::idle()
    } else {
        Plan::wait(format!(
            "waits until the pods of {} have stopped",
            still.join(", ")
        ))
    })
}

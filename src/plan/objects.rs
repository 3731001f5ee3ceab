//! What the cluster's objects lack, none of it disruptive: Services and budget,
//! StatefulSets that vanished, labels and annotations, remains of former members.

use crate::{
    api::{EtcdCluster, Quantity, RetentionPolicy},
    observe::Observed,
    render,
};

use super::{Plan, Roster, Step, bootstrap, roster::Member};

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
        if let Some(reason) = untagged(cluster, roster, member) {
            return Some(Plan::step(
                Step::TagMember {
                    member: member.name.clone(),
                },
                reason,
            ));
        }
    }
    if roster.quorum
        && let Some(member) = roster.members.iter().find(|member| member.removed)
    {
        return Some(clear_away(cluster, member, "it left the cluster"));
    }
    sleep_or_wake(cluster, roster)
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

/// A claim that is smaller than the spec asks for. It comes last: a class that does
/// not let volumes grow must not hold anything else up.
pub(super) fn grow_claim(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    let wanted = cluster.spec.storage.persistent_volume_claim.as_ref()?;
    let millis = |text: &str| Quantity(text.to_owned()).millis().ok();
    let (member, claim) = roster
        .members
        .iter()
        .filter(|m| !m.removed)
        .find_map(|member| {
            let claim = member
                .objects
                .claim
                .as_ref()
                .filter(|claim| !claim.deleting)?;
            (millis(&wanted.size)? > millis(&claim.size)?).then_some((member, claim))
        })?;
    Some(Plan::step(
        Step::GrowClaim {
            member: member.name.clone(),
            size: wanted.size.clone(),
        },
        format!(
            "grows the claim of {} from {} to {}",
            member.name, claim.size, wanted.size
        ),
    ))
}

/// Clears away what is left of a member: StatefulSet, then claim, then its name.
pub(super) fn clear_away(cluster: &EtcdCluster, member: &Member<'_>, why: &str) -> Plan {
    let name = &member.name;
    if let Some(set) = &member.objects.stateful_set {
        if set.deleting {
            return Plan::wait(format!("waits until the StatefulSet of {name} is gone"));
        }
        return Plan::step(
            Step::DeleteStatefulSet {
                member: name.clone(),
                uid: set.uid.clone(),
            },
            format!("clears away {name}: {why}"),
        );
    }
    if member.objects.pod.is_some() {
        return Plan::wait(format!("waits until the pod of {name} is gone"));
    }
    if let Some(claim) = &member.objects.claim {
        if claim.deleting {
            return Plan::wait(format!("waits until the claim of {name} is gone"));
        }
        let storage = &cluster.spec.storage;
        let policy = match claim.cluster_id {
            None if !member.has_ticket() => RetentionPolicy::Delete, // blank: nothing to keep
            // It was replaced if it was not well when it left.
            _ if member.status.is_some_and(|status| !status.healthy) => storage.when_replaced,
            _ => storage.when_scaled,
        };
        let verb = if policy == RetentionPolicy::Delete {
            "deletes"
        } else {
            "keeps and retires"
        };
        return Plan::step(
            Step::ReleaseClaim {
                member: name.clone(),
                uid: claim.uid.clone(),
                policy,
                why: why.to_owned(),
            },
            format!("{verb} the claim of {name}: {why}"),
        );
    }
    Plan::step(
        Step::ForgetMember {
            member: name.clone(),
        },
        format!("nothing is left of {name}"),
    )
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

//! New templates, one member at a time: unhealthy first, the leader last and only
//! after leadership has moved.

use crate::{
    api::EtcdCluster,
    render::{self, Settings},
};

use super::{
    Plan, Roster, Step,
    membership::{guarded, successor},
    roster::{Member, quorum},
};

pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
) -> Option<Plan> {
    let leader = roster.leader().map(|member| member.serial);
    let outdated = |member: &&Member<'_>| out_of_date(member, pod_spec);
    let next = roster.voters().filter(outdated).max_by_key(|member| {
        (
            !member.is_serving(),
            leader != Some(member.serial),
            -member.serial,
        )
    });
    let Some(member) = next else {
        // All are up to date: is one not well?
        let ill = roster.voters().find(|member| !member.is_serving())?;
        return Some(Plan::wait(format!(
            "waits for {}: {}",
            ill.name,
            ill.trouble()
        )));
    };
    if let Some(refused) = unsafe_version(cluster) {
        return Some(refused);
    }
    let name = &member.name;
    let voters = roster.voters().count();
    let others = roster
        .voters()
        .filter(|m| m.name != *name && m.is_serving())
        .count();
    if others + 1 < voters {
        let ill = roster.voters().find(|m| m.name != *name && !m.is_serving());
        let (ill, why) = ill.map_or(("", String::new()), |ill| {
            (ill.name.as_str(), ill.trouble())
        });
        return Some(guarded(
            "Unhealthy",
            format!("{name} is restarted once {ill} serves ({why})"),
        ));
    }
    if member.is_serving() && voters > 1 && others < quorum(voters) {
        return Some(guarded(
            "TwoVoters",
            format!("{name} is not restarted: of {voters} voters none can be spared"),
        ));
    }
    if leader == Some(member.serial) && voters > 1 {
        return Some(successor(roster, member).unwrap_or_else(|| {
            guarded("Leader", format!("{name} leads, and no other voter can"))
        }));
    }
    let set = member.objects.stateful_set.as_ref()?;
    let desired = render::template_digest(cluster, name, settings);
    if set.pod_spec != pod_spec || set.template != desired {
        return Some(Plan::step(
            Step::UpdateMember {
                member: name.clone(),
            },
            format!("the spec has changed; gives {name} its new template"),
        ));
    }
    let Some(pod) = member.pod() else {
        return Some(Plan::wait(format!(
            "waits for {name}: {}",
            member.trouble()
        )));
    };
    Some(Plan::step(
        Step::RestartPod {
            member: name.clone(),
            pod_uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
        },
        if voters == 1 {
            format!("restarts {name}, the only member: a moment without service")
        } else {
            format!("restarts {name} with its new template")
        },
    ))
}

/// New templates for members that run nothing anyway: candidates, and pods that
/// Kubernetes itself says it cannot start. So a wrong image or a node selector that
/// fits no node is mended by mending the spec, quorum or not.
pub(super) fn refresh(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
) -> Option<Plan> {
    roster
        .members
        .iter()
        .filter(|member| !member.removed)
        .filter(|member| member.is_candidate() || is_stuck(member))
        .find_map(|member| {
            let name = &member.name;
            let set = member
                .objects
                .stateful_set
                .as_ref()
                .filter(|set| !set.deleting)?;
            if set.template != render::template_digest(cluster, name, settings) {
                return Some(Plan::step(
                    Step::UpdateMember {
                        member: name.clone(),
                    },
                    format!("{name} does not run; gives it its new template"),
                ));
            }
            let pod = member.pod().filter(|pod| pod.template != set.template)?;
            Some(Plan::step(
                Step::RestartPod {
                    member: name.clone(),
                    pod_uid: pod.uid.clone(),
                    resource_version: pod.resource_version.clone(),
                },
                format!("{name} does not run; starts it with its new template"),
            ))
        })
}

/// Whether Kubernetes says the pod does not run, and nothing says that it does.
fn is_stuck(member: &Member<'_>) -> bool {
    member
        .pod()
        .is_some_and(|pod| pod.trouble.is_some() && !pod.ready && pod.etcd.is_none())
}

/// Whether the spec asks for a template that the member's pod does not have.
fn out_of_date(member: &Member<'_>, pod_spec: &str) -> bool {
    let Some(set) = &member.objects.stateful_set else {
        return false;
    };
    let pod = member.pod().is_some_and(|pod| pod.template != set.template);
    set.pod_spec != pod_spec || pod
}

/// Whether templates differ although the spec is the same: a newer operator, which
/// restarts nothing by itself.
pub(super) fn pending(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
) -> bool {
    roster
        .members
        .iter()
        .filter(|member| !member.removed)
        .any(|member| {
            member.objects.stateful_set.as_ref().is_some_and(|set| {
                set.pod_spec == pod_spec
                    && set.template != render::template_digest(cluster, &member.name, settings)
            })
        })
}

/// Refuses version changes that etcd does not survive: down, or over a minor version.
fn unsafe_version(cluster: &EtcdCluster) -> Option<Plan> {
    let runs = cluster.status.as_ref()?.version.as_deref()?;
    let wanted = cluster.spec.version.as_deref()?;
    let (from, to) = (minor(runs)?, minor(wanted)?);
    if to < from {
        let message = format!(
            "spec.version {wanted} is older than {runs}, which runs; etcd cannot go back by a restart. Set it to {runs} or later"
        );
        return Some(guarded("Downgrade", message));
    }
    if to > from + 1 {
        let message = format!(
            "from {runs} to {wanted} skips a minor version; go to 3.{} first",
            from + 1
        );
        return Some(guarded("VersionSkip", message));
    }
    None
}

fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

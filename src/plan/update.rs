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
    upgrade,
    windows::WindowState,
};

pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
    windows: WindowState,
) -> Option<Plan> {
    if let Some(stalled) = upgrade::wrong_version(cluster, roster, pod_spec) {
        return Some(stalled);
    }
    let Some(due) = upgrade::next(cluster, roster, settings, pod_spec, windows) else {
        // All are up to date: is one not well?
        let ill = roster.voters().find(|member| !member.is_serving())?;
        return Some(Plan::wait(format!(
            "waits for {}: {}",
            ill.name,
            ill.trouble()
        )));
    };
    let step = restart(cluster, roster, settings, pod_spec, due.member)?;
    Some(Plan {
        voluntary: due.voluntary,
        ..step
    })
}

/// What is next to give `member` its new template, or what keeps it from that.
fn restart(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
    member: &Member<'_>,
) -> Option<Plan> {
    if let Some(refused) = upgrade::unsafe_version(cluster, settings) {
        return Some(refused);
    }
    if let Some(first) = before_restart(roster, member) {
        return Some(first);
    }
    let name = &member.name;
    let voters = roster.voters().count();
    let set = member.objects.stateful_set.as_ref()?;
    let desired = render::template_digest(cluster, name, settings);
    if set.pod_spec != pod_spec || set.template != desired {
        return Some(Plan::step(
            Step::UpdateMember {
                member: name.clone(),
            },
            format!("gives {name} its new template"),
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

/// What comes before a voter's pod may be ended: another voter that is not fit, or
/// leadership that moves. `None`: it can be spared now.
pub(super) fn before_restart(roster: &Roster<'_>, member: &Member<'_>) -> Option<Plan> {
    if let Some(held) = upgrade::others_unfit(roster, member, "restarted") {
        return Some(held);
    }
    let name = &member.name;
    let voters = roster.voters().count();
    if member.is_serving() && voters > 1 && voters - 1 < quorum(voters) {
        return Some(guarded(
            "TwoVoters",
            format!("{name} is not restarted: of {voters} voters none can be spared"),
        ));
    }
    let leads = roster.leader().map(|leader| leader.serial) == Some(member.serial);
    if leads && voters > 1 {
        return Some(successor(roster, member).unwrap_or_else(|| {
            guarded("Leader", format!("{name} leads, and no other voter can"))
        }));
    }
    None
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

/// Whether Kubernetes says the pod does not run, and nothing says that it does, or
/// etcd was not started because its image cannot read the data.
fn is_stuck(member: &Member<'_>) -> bool {
    member.holds_other_data()
        || member
            .pod()
            .is_some_and(|pod| pod.trouble.is_some() && !pod.ready && pod.etcd.is_none())
}

/// Whether the spec asks for a template that the member's pod does not have.
pub(super) fn is_asked(member: &Member<'_>, pod_spec: &str) -> bool {
    let Some(set) = &member.objects.stateful_set else {
        return false;
    };
    let pod = member.pod().is_some_and(|pod| pod.template != set.template);
    set.pod_spec != pod_spec || pod
}

/// Whether the member's template differs although the spec is the same: a newer
/// operator, which restarts nothing by itself.
pub(super) fn is_pending(
    cluster: &EtcdCluster,
    member: &Member<'_>,
    settings: &Settings,
    pod_spec: &str,
) -> bool {
    member.objects.stateful_set.as_ref().is_some_and(|set| {
        set.pod_spec == pod_spec
            && set.template != render::template_digest(cluster, &member.name, settings)
    })
}

/// Whether that is so of any member.
pub(super) fn pending(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
) -> bool {
    let mut members = roster.members.iter().filter(|member| !member.removed);
    members.any(|member| is_pending(cluster, member, settings, pod_spec))
}

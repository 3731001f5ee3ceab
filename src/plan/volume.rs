//! Volumes that grow with the spec: one claim after the other, each until Kubernetes
//! says that its file system has grown. Where a file system grows only when it is
//! mounted, its member is restarted for it.

use jiff::{SignedDuration, Timestamp};

use crate::api::{EtcdCluster, Quantity};
use crate::observe::ClaimSeen;

use super::{Plan, Roster, Step, roster::Member, update};

/// How long after a refusal it is tried again: the class may have been changed.
const AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// How long a file system that can grow while it is mounted may take for it. Kubelets
/// look at a pod's claims about once a minute.
const MOUNTED: SignedDuration = SignedDuration::from_mins(5);

/// How the volumes stand to the size in the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// There are none.
    None,
    /// All are as large as the spec says.
    AsSpecified,
    /// This is being grown, or is next.
    Growing(String),
    /// Kubernetes refused.
    Refused(String),
}

fn millis(size: &str) -> Option<i128> {
    Quantity(size.to_owned()).millis().ok()
}

/// Members with claims that are not as large as the spec says, in any sense.
fn behind<'r, 'a>(
    cluster: &EtcdCluster,
    roster: &'r Roster<'a>,
) -> Vec<(&'r Member<'a>, &'a ClaimSeen)> {
    let wanted = cluster.spec.storage.persistent_volume_claim.as_ref();
    let Some(wanted) = wanted.and_then(|claim| millis(&claim.size)) else {
        return Vec::new();
    };
    let members = roster.members.iter().filter(|member| !member.removed);
    members
        .filter_map(|member| Some((member, member.objects.claim.as_ref()?)))
        .filter(|(_, claim)| !claim.deleting)
        .filter(|(_, claim)| !is_asked(claim, wanted) || is_growing(claim, wanted))
        .collect()
}

/// Whether the claim asks for as much as is wanted.
fn is_asked(claim: &ClaimSeen, wanted: i128) -> bool {
    millis(&claim.size).is_some_and(|size| size >= wanted)
}

/// Whether the claim asks for it, is bound, and has not got it yet.
fn is_growing(claim: &ClaimSeen, wanted: i128) -> bool {
    let has = claim.capacity.as_deref().and_then(millis);
    is_asked(claim, wanted) && (claim.resizing.is_some() || has.is_some_and(|has| has < wanted))
}

/// How the volumes stand.
pub fn volumes(cluster: &EtcdCluster, roster: &Roster<'_>) -> Volumes {
    let Some(spec) = &cluster.spec.storage.persistent_volume_claim else {
        return Volumes::None;
    };
    let behind = behind(cluster, roster);
    let Some((member, claim)) = behind.first() else {
        return Volumes::AsSpecified;
    };
    let refused = cluster
        .status
        .as_ref()
        .and_then(|s| s.refused_resize.as_ref());
    if let Some(refused) = refused.filter(|refused| refused.size == spec.size) {
        let class = claim.class.as_deref().unwrap_or("the default one");
        return Volumes::Refused(format!(
            "the volumes cannot grow from {} to {}; storage class {class}: {}",
            claim.size, spec.size, refused.message
        ));
    }
    let names: Vec<&str> = behind
        .iter()
        .map(|(member, _)| member.name.as_str())
        .collect();
    let why = match &claim.resizing {
        Some(resizing) => format!(" ({}: {resizing})", member.name),
        None => String::new(),
    };
    Volumes::Growing(format!(
        "the volumes of {} grow to {}{why}",
        names.join(", "),
        spec.size
    ))
}

/// Whether all volumes have grown to what the spec says.
pub fn have_grown(cluster: &EtcdCluster, roster: &Roster<'_>) -> bool {
    let claims = roster.members.iter().filter(|member| !member.removed);
    let mut claims = claims.filter_map(|member| member.objects.claim.as_ref());
    behind(cluster, roster).is_empty() && claims.all(|claim| claim.capacity.is_some())
}

fn leads(roster: &Roster<'_>, member: &Member<'_>) -> bool {
    roster.leader().map(|leader| leader.serial) == Some(member.serial)
}

/// Asks for the next larger volume, the leader's last. It waits for nothing but the
/// volume before it, so a full volume grows although its member is down.
pub(super) fn plan(cluster: &EtcdCluster, roster: &Roster<'_>, now: Timestamp) -> Option<Plan> {
    let spec = cluster.spec.storage.persistent_volume_claim.as_ref()?;
    let wanted = millis(&spec.size)?;
    let refused = cluster
        .status
        .as_ref()
        .and_then(|s| s.refused_resize.as_ref());
    if refused.is_some_and(|r| r.size == spec.size && now.duration_since(r.at.0) < AGAIN) {
        return None;
    }
    let behind = behind(cluster, roster);
    if behind.iter().any(|(_, claim)| is_growing(claim, wanted)) {
        return None;
    }
    let (member, claim) = behind.iter().min_by_key(|(m, _)| leads(roster, m))?;
    Some(Plan::step(
        Step::GrowClaim {
            member: member.name.clone(),
            size: spec.size.clone(),
        },
        format!(
            "grows the claim of {} from {} to {}",
            member.name, claim.size, spec.size
        ),
    ))
}

/// Restarts the voter whose volume has grown, and whose file system waits for a pod
/// that mounts it: one at a time, the leader last. A pod made after the volume had
/// grown has mounted it since, and another restart would change nothing.
pub(super) fn remount(roster: &Roster<'_>, pod_spec: &str, now: Timestamp) -> Option<Plan> {
    let due = roster
        .voters()
        .filter(|member| waits_for_mount(member, now))
        // A new template brings a new pod anyway.
        .filter(|member| !update::is_asked(member, pod_spec));
    let member = due.min_by_key(|member| (leads(roster, member), member.is_serving()))?;
    if let Some(first) = update::before_restart(roster, member) {
        return Some(first);
    }
    let (name, pod) = (&member.name, member.pod()?);
    let why = format!("restarts {name}: its file system grows only when it is mounted");
    Some(Plan::step(
        Step::RestartPod {
            member: name.clone(),
            pod_uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
        },
        match roster.voters().count() {
            1 => format!("{why}; it is the only member: a moment without service"),
            _ => why,
        },
    ))
}

/// Whether the file system has had its time to grow under the pod that is there, which
/// mounted it before the volume grew. Kubernetes tells whole seconds: a pod of the same
/// second may have been before it.
fn waits_for_mount(member: &Member<'_>, now: Timestamp) -> bool {
    let claim = member.objects.claim.as_ref().filter(|c| !c.deleting);
    let since = claim.and_then(|claim| claim.remount_since);
    let made = member.pod().and_then(|pod| pod.created);
    since
        .zip(made)
        .is_some_and(|(since, made)| made <= since && now.duration_since(since) >= MOUNTED)
}

/// What is waited for when nothing else is to be done. A refusal is told by its
/// condition, and waits for a human.
pub(super) fn waits(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    match volumes(cluster, roster) {
        Volumes::Growing(what) => Some(Plan::wait(format!("waits until {what}"))),
        Volumes::None | Volumes::AsSpecified | Volumes::Refused(_) => None,
    }
}

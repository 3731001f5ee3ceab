//! Volumes that grow with the spec: one claim after the other, each until Kubernetes
//! says that its file system has grown.

use jiff::{SignedDuration, Timestamp};

use crate::api::{EtcdCluster, Quantity};
use crate::observe::ClaimSeen;

use super::{Plan, Roster, Step, roster::Member};

/// How long after a refusal it is tried again: the class may have been changed.
const AGAIN: SignedDuration = SignedDuration::from_mins(10);

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

/// Asks for the next larger volume. It waits for nothing but the volume before it, so
/// a full volume grows although its member is down.
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
    let (member, claim) = behind.first()?;
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

/// What is waited for when nothing else is to be done. A refusal is told by its
/// condition, and waits for a human.
pub(super) fn waits(cluster: &EtcdCluster, roster: &Roster<'_>) -> Option<Plan> {
    match volumes(cluster, roster) {
        Volumes::Growing(what) => Some(Plan::wait(format!("waits until {what}"))),
        Volumes::None | Volumes::AsSpecified | Volumes::Refused(_) => None,
    }
}

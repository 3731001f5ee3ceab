//! Members that are not well: which of them will come back, which are lost, and when
//! another takes their place.
//!
//! ```text
//! lost for certain    the member's own pod found its disk empty, its claim is gone, or
//!                     its etcd ends time and again over damaged files
//!                     -> removed at once, if the others are a quorum
//! lost by all signs   it neither answers the operator nor is ready by its kubelet's
//!                     word, for longer than recovery.replaceMemberAfter, while a
//!                     quorum served
//!                     -> a new member waits first, then it is removed
//! doomed              it serves, but its claim is being deleted: its data goes with
//!                     its pod -> a new member votes first, then it is removed
//! anything else       comes back by itself, and is left alone
//! ```

use jiff::{SignedDuration, Timestamp};

use crate::{
    admission::Found,
    api::{BlockedBy, Departure, EtcdCluster},
    identity,
};

use super::{
    Plan, Roster, Step, blocked, bootstrap,
    membership::guarded,
    roster::{Member, quorum},
};

/// Why a member's data is gone for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its own pod found the disk empty, though it has held data.
    Emptied,
    /// A ticket was used in this pod, and yet there is no log.
    Spent,
    /// Its claim is gone, and its pod cannot start for want of it.
    ClaimGone,
    /// Its etcd ends time and again, over damaged files.
    Damaged(String),
}

impl Loss {
    /// In words, after the member's name.
    pub fn words(&self) -> String {
        match self {
            Loss::Emptied => "found its volume empty".to_owned(),
            Loss::Spent => "was admitted and has no log".to_owned(),
            Loss::ClaimGone => "has lost its claim".to_owned(),
            Loss::Damaged(line) => format!("cannot start on its data ({line})"),
        }
    }
}

/// Whether a member's data is gone for certain, and why.
pub(super) fn loss(member: &Member<'_>, persistent: bool) -> Option<Loss> {
    let claim = member.objects.claim.as_ref();
    let written = claim.is_some_and(|claim| claim.cluster_id.is_some());
    if !(member.has_ticket() || written) || member.removed {
        return None;
    }
    let pod = member.pod();
    if persistent && claim.is_none() && member.etcd_seen().is_none() {
        // The claim's absence alone is one signal: that nothing can run without it is
        // another.
        let cannot_start = pod.is_some_and(|pod| pod.ip.is_none() && pod.trouble.is_some());
        if cannot_start || member.objects.stateful_set.is_none() {
            return Some(Loss::ClaimGone);
        }
    }
    match member.found() {
        Some(Found::Spent) => return Some(Loss::Spent),
        Some(Found::Empty) if !member.ticket_is_current() => return Some(Loss::Emptied),
        _ => {}
    }
    let damage = pod.and_then(|pod| pod.damage.clone());
    damage
        .filter(|_| member.etcd_seen().is_none())
        .map(Loss::Damaged)
}

/// Whether a member serves on a claim that is being deleted.
pub(super) fn is_doomed(member: &Member<'_>) -> bool {
    let claim = member.objects.claim.as_ref();
    member.is_serving() && claim.is_some_and(|claim| claim.deleting)
}

/// Voters wanted now: one more while a doomed one, or one that cannot be restarted
/// where it is, is being replaced.
pub(super) fn voters_wanted(cluster: &EtcdCluster, roster: &Roster<'_>) -> usize {
    let wanted = usize::try_from(cluster.spec.replicas).unwrap_or(0);
    wanted + usize::from(roster.outgoing.is_some() || roster.voters().any(is_doomed))
}

/// What keeps a member that does not serve from being replaced, or that nothing does.
#[derive(Debug, PartialEq, Eq)]
enum Away {
    /// It may come back: not long enough away.
    Recent,
    /// The operator does not hear it, its kubelet calls it ready.
    OneSignal,
    /// What keeps it from starting would keep another from starting as well.
    Misconfigured,
    /// It has been away for too long.
    Overdue,
}

/// Troubles that lie in the spec, not in the member.
const SPEC_TROUBLES: [&str; 7] = [
    "ImageUnavailable",
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

fn away(cluster: &EtcdCluster, member: &Member<'_>, now: Timestamp) -> Option<Away> {
    if member.is_serving() || cluster.spec.replicas == 0 {
        return None;
    }
    let since = member
        .status
        .and_then(|status| status.unhealthy_since.as_ref());
    let limit = cluster.spec.recovery.replace_member_after();
    if since.is_none_or(|since| now.duration_since(since.0) < limit) {
        return Some(Away::Recent);
    }
    let Some(pod) = member.pod() else {
        return Some(Away::Overdue);
    };
    if pod.ready {
        return Some(Away::OneSignal);
    }
    let trouble = pod.trouble.as_deref().unwrap_or_default();
    if SPEC_TROUBLES.iter().any(|word| trouble.starts_with(word)) {
        return Some(Away::Misconfigured);
    }
    Some(Away::Overdue)
}

/// The voter that has been away for too long, if no member is one too many anyway.
fn overdue<'a, 'b>(
    cluster: &EtcdCluster,
    roster: &'b Roster<'a>,
    now: Timestamp,
) -> Option<&'b Member<'a>> {
    if roster.voters().count() > voters_wanted(cluster, roster) {
        return None;
    }
    let mut voters = roster.voters();
    voters.find(|member| away(cluster, member, now) == Some(Away::Overdue))
}

/// Whether a member-to-be is kept although no voter is missing.
pub(super) fn wants_spare(cluster: &EtcdCluster, roster: &Roster<'_>, now: Timestamp) -> bool {
    overdue(cluster, roster, now).is_some()
}

/// Removes a voter that is lost, or brings in who will take its place.
pub(super) fn plan(cluster: &EtcdCluster, roster: &Roster<'_>, now: Timestamp) -> Option<Plan> {
    let lost = |member: &&Member<'_>| loss(member, roster.persistent).is_some();
    if let Some(member) = roster.voters().find(lost) {
        let loss = loss(member, roster.persistent)?;
        let why = format!(
            "{} {}; removes it, and a new member takes its place",
            member.name,
            loss.words()
        );
        return Some(remove(roster, member, why));
    }
    let member = overdue(cluster, roster, now)?;
    if let Some(hindrance) = quorum_without(roster, member) {
        return Some(guarded("Quorum", hindrance));
    }
    // Whoever is only lost by all signs goes once another is ready to take its place:
    // where none could run either, nothing would be won.
    let candidates: Vec<&Member<'_>> = roster.candidates().collect();
    let Some(candidate) = candidates.first() else {
        let name = identity::member_name(roster.cluster, roster.next_serial);
        let reason = format!(
            "{} has been away for {}; makes {name} to take its place",
            member.name,
            duration(member, now)
        );
        return Some(Plan::step(
            Step::CreateMember {
                member: name,
                serial: roster.next_serial,
            },
            reason,
        ));
    };
    if bootstrap::lacks_objects(candidate, roster.persistent) {
        return Some(Plan::step(
            Step::EnsureMember {
                member: candidate.name.clone(),
            },
            format!("{} lacks its StatefulSet or its claim", candidate.name),
        ));
    }
    if let Some(stalled) = bootstrap::version_mismatch(cluster, &candidates) {
        return Some(stalled);
    }
    if !candidate.waits() {
        return None; // told by `notes`; the spec may be mended meanwhile
    }
    let why = format!(
        "{} has been away for {} ({}); removes it, and {} takes its place",
        member.name,
        duration(member, now),
        member.trouble(),
        candidate.name
    );
    Some(remove(roster, member, why))
}

fn duration(member: &Member<'_>, now: Timestamp) -> String {
    let since = member
        .status
        .and_then(|status| status.unhealthy_since.as_ref());
    let away = since.map_or(SignedDuration::ZERO, |since| now.duration_since(since.0));
    format!("{} s", away.as_secs())
}

/// What is missing for the others to be a quorum without `member`.
fn quorum_without(roster: &Roster<'_>, member: &Member<'_>) -> Option<String> {
    let voters = roster.voters().count();
    let others = roster.voters().filter(|m| m.name != member.name);
    let serving = others.filter(|m| m.is_serving()).count();
    let needed = quorum(voters);
    (serving < needed).then(|| {
        format!(
            "{} is removed once {needed} of the {voters} voters serve ({serving} do)",
            member.name
        )
    })
}

pub(super) fn remove(roster: &Roster<'_>, member: &Member<'_>, why: String) -> Plan {
    if let Some(hindrance) = quorum_without(roster, member) {
        return guarded("Quorum", hindrance);
    }
    match member.id {
        Some(id) => Plan::step(
            Step::RemoveMember {
                member: member.name.clone(),
                id,
                departure: Departure::Replaced,
            },
            why,
        ),
        None => Plan::wait(format!("waits for the member ID of {}", member.name)),
    }
}

/// Why voters that do not serve are not replaced, for `status.plan.blockedBy`.
pub(super) fn notes(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    now: Timestamp,
) -> Option<BlockedBy> {
    if !roster.quorum {
        return None;
    }
    roster.voters().find_map(|member| {
        let (name, trouble) = (&member.name, member.trouble());
        let why = match away(cluster, member, now)? {
            Away::Recent => return None,
            Away::OneSignal => {
                format!("{name} does not answer the operator, but its kubelet calls it ready")
            }
            Away::Misconfigured => {
                format!("what keeps {name} from starting would keep another as well: {trouble}")
            }
            Away::Overdue => {
                let spare = roster.candidates().find(|spare| !spare.waits())?;
                format!(
                    "{name} ({trouble}) is replaced once {} is ready to take its place: {}",
                    spare.name,
                    spare.trouble()
                )
            }
        };
        Some(blocked("Replacement", format!("not replaced: {why}")))
    })
}

/// Which voters are lost, and how certain that is; for a cluster without a quorum.
/// `true`: so many are lost for certain that no quorum can come back.
pub(super) fn toll(roster: &Roster<'_>) -> (bool, String) {
    let voters: Vec<&Member<'_>> = roster.voters().collect();
    let mut certain = Vec::new();
    let mut uncertain = Vec::new();
    let mut left = Vec::new();
    for member in &voters {
        match loss(member, roster.persistent) {
            Some(loss) => certain.push(format!("{} {}", member.name, loss.words())),
            None if member.etcd_seen().is_some() => left.push(member.name.clone()),
            None => uncertain.push(format!("{} ({})", member.name, member.trouble())),
        }
    }
    let lost = !voters.is_empty() && voters.len() - certain.len() < quorum(voters.len());
    let mut parts = Vec::new();
    if !certain.is_empty() {
        parts.push(format!("lost for certain: {}", certain.join("; ")));
    }
    if !uncertain.is_empty() {
        parts.push(format!(
            "away, and not certain to be lost: {}",
            uncertain.join(", ")
        ));
    }
    if !left.is_empty() {
        parts.push(format!("left: {}", left.join(", ")));
    }
    (lost, parts.join(". "))
}

#[cfg(test)]
mod tests;

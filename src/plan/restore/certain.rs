//! Whether a quorum is lost for certain and for ever, and what is lost with it: what
//! `recovery.quorumLoss.policy: Automatic` acts on, and what it waits for.
//!
//! A voter is lost if its own pod found its volume empty or without its claim, or if the
//! node it was on bears the taint out-of-service, which a person or a cloud sets when
//! the machine is off for ever. A pod or node that is merely gone proves nothing: two
//! voters that cannot be reached may still commit.

use jiff::SignedDuration;

use crate::api::{EtcdCluster, LastLeader, QuorumLossPolicy};

use super::{
    super::{
        Loss, Roster, repair,
        roster::{Member, quorum},
    },
    compare::Held,
};

/// How long after an attempt that was taken back the next one begins.
pub(super) const PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// Log entries that a member may have written beyond what status says it had, however
/// few that are: so much is no reason to write status.
const DRIFT_MIN: i64 = 1_000;

/// Whether the policy may act; in words, what is known to be lost.
///
/// # Errors
/// What it waits for.
pub(in crate::plan) fn loss(cluster: &EtcdCluster, roster: &Roster<'_>) -> Result<String, String> {
    let spec = &cluster.spec.recovery.quorum_loss;
    if spec.policy != QuorumLossPolicy::Automatic {
        return Err("recovery.quorumLoss.policy is Manual".to_owned());
    }
    if !roster.formed() || roster.quorum || cluster.spec.replicas == 0 {
        return Err("the quorum is not lost".to_owned());
    }
    if !roster.persistent {
        return Err("members that keep their data in their pods cannot be held".to_owned());
    }
    let lost = fenced(roster)?;
    let left: Vec<&Member<'_>> = roster
        .voters()
        .filter(|member| !lost.contains(&member.name))
        .collect();
    // Judged by what runs; once they are held it is judged again, by their logs.
    let best = left
        .iter()
        .filter_map(|member| Some((member, member.etcd_seen()?)))
        .max_by_key(|(_, seen)| (seen.raft_term, seen.raft_index));
    let Some((best, seen)) = best else {
        return Err("no member that is left answers".to_owned());
    };
    let terms = left.iter().filter_map(|member| member.etcd_seen());
    let term = terms.map(|seen| seen.raft_term).max().unwrap_or(0);
    let known = within(cluster, roster, &lost, best, term, seen.raft_index)?;
    Ok(format!("{} are lost; {known}", lost.join(", ")))
}

/// The same of the one that was found to be the most advanced, once all are held.
pub(super) fn held(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    best: &Held<'_, '_>,
) -> Result<String, String> {
    let lost = fenced(roster)?;
    within(
        cluster,
        roster,
        &lost,
        best.member,
        best.log.term,
        best.log.last_index,
    )
}

/// The voters that are lost, if every voter is either lost or tells what it has, and so
/// many are lost that no quorum can come back.
fn fenced(roster: &Roster<'_>) -> Result<Vec<String>, String> {
    let mut lost = Vec::new();
    let mut uncertain = Vec::new();
    let voters: Vec<&Member<'_>> = roster.voters().collect();
    for member in &voters {
        if is_lost(roster, member) {
            lost.push(member.name.clone());
        } else if member.etcd_seen().is_none() && !is_held(member) {
            uncertain.push(format!("{} ({})", member.name, member.trouble()));
        }
    }
    if voters.is_empty() || voters.len() - lost.len() >= quorum(voters.len()) {
        return Err(format!(
            "{} of {} voters are lost for certain, which a quorum survives",
            lost.len(),
            voters.len()
        ));
    }
    if !uncertain.is_empty() {
        return Err(format!(
            "it is not certain that these are lost, and they may still commit: {}. A node that is gone for ever is told by the taint node.kubernetes.io/out-of-service",
            uncertain.join(", ")
        ));
    }
    Ok(lost)
}

fn is_held(member: &Member<'_>) -> bool {
    member.found() == Some(crate::admission::Found::Held)
}

/// Whether a voter's data cannot come back.
pub(super) fn is_lost(roster: &Roster<'_>, member: &Member<'_>) -> bool {
    match repair::loss(member, roster.persistent) {
        Some(Loss::Emptied | Loss::Spent | Loss::ClaimGone) => return true,
        // What is damaged is still there, for a person to look at.
        Some(Loss::Damaged(_)) => return false,
        None => {}
    }
    let node = member.status.and_then(|status| status.node.as_ref());
    let off = node.is_some_and(|node| roster.out_of_service.contains(node));
    off && member.etcd_seen().is_none() && member.pod().is_none_or(|pod| pod.ip.is_none())
}

/// How much is lost, if that is known and allowed.
fn within(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    lost: &[String],
    best: &Member<'_>,
    term: u64,
    index: u64,
) -> Result<String, String> {
    let status = cluster.status.as_ref();
    let leader = status.and_then(|status| status.last_leader.as_ref());
    if led(leader, roster, best, term) {
        return Ok(format!(
            "{} led last, and has all that was acknowledged",
            best.name
        ));
    }
    let allowed = cluster.spec.recovery.quorum_loss.max_lost_revisions;
    let who = leader.map_or("nobody was seen to lead".to_owned(), |leader| {
        format!("{} led last, in term {}", leader.member, leader.term)
    });
    let expected = expected(roster, lost, index);
    match expected {
        Some(expected) if allowed > 0 && expected <= allowed => Ok(format!(
            "{who}; by the last look at those that are lost, at most {expected} revisions are"
        )),
        _ if allowed == 0 => Err(format!(
            "what is lost is not known: {who}, and not {}. Decide by an EtcdRestore with source.survivor",
            best.name
        )),
        Some(expected) => Err(format!(
            "up to {expected} revisions may be lost ({who}), and maxLostRevisions is {allowed}"
        )),
        None => Err(format!(
            "what is lost is not known: {who}, and how far it was is not"
        )),
    }
}

/// What is lost when a cluster is made of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toll {
    /// Revisions, if that is known: 0.
    pub(super) lost: Option<i64>,
    /// The same in words; if it is not known, why, and who may have had more.
    pub(super) words: String,
}

/// What is lost when the cluster is made of `best`. Known it is only if that one led the
/// highest term seen, and no other voter can have gone on since: each is lost for certain
/// or held.
pub(super) fn toll(cluster: &EtcdCluster, roster: &Roster<'_>, best: &Held<'_, '_>) -> Toll {
    let name = &best.member.name;
    let leader = cluster
        .status
        .as_ref()
        .and_then(|status| status.last_leader.as_ref());
    let others = || roster.voters().filter(|member| member.name != *name);
    let loose: Vec<String> = others()
        .filter(|member| !is_lost(roster, member) && !is_held(member))
        .map(|member| format!("{} ({})", member.name, member.trouble()))
        .collect();
    let led = led(leader, roster, best.member, best.log.term);
    if led && loose.is_empty() {
        return Toll {
            lost: Some(0),
            words: "it led last, and has all that was acknowledged: no revision is lost".to_owned(),
        };
    }
    let mut words = "how many revisions are lost is not known: ".to_owned();
    words.push_str(&match leader {
        _ if led => format!("these may have gone on: {}", loose.join(", ")),
        Some(leader) => format!("{} led last, in term {}", leader.member, leader.term),
        None => "nobody was seen to lead".to_owned(),
    });
    let more: Vec<String> = others()
        .filter(|member| !is_held(member))
        .map(|member| {
            let told = member.status;
            let term = told.and_then(|told| told.raft_term);
            match (told.and_then(|told| told.raft_index), term) {
                (Some(index), Some(term)) => {
                    format!(
                        "{} (when last told, at index {index} of term {term})",
                        member.name
                    )
                }
                _ => format!("{} (how far it was is not known)", member.name),
            }
        })
        .collect();
    if !more.is_empty() {
        words.push_str(&format!("; more may have been on {}", more.join(" and ")));
    }
    let lost: Vec<String> = others()
        .filter(|member| is_lost(roster, member))
        .map(|member| member.name.clone())
        .collect();
    let most = expected(roster, &lost, best.log.last_index).filter(|_| loose.is_empty());
    if let Some(most) = most {
        words.push_str(&format!("; by that look at most {most} revisions"));
    }
    Toll { lost: None, words }
}

/// Whether the last leader that was seen is this member, in the highest term of all.
fn led(leader: Option<&LastLeader>, roster: &Roster<'_>, best: &Member<'_>, term: u64) -> bool {
    let told = roster
        .voters()
        .filter_map(|member| member.status?.raft_term);
    let highest = told
        .max()
        .unwrap_or(0)
        .max(i64::try_from(term).unwrap_or(i64::MAX));
    leader.is_some_and(|leader| leader.member == best.name && leader.term >= highest)
}

/// Log entries, and so at most as many revisions, that the lost ones may have beyond
/// `index`: what status says they had, and what it leaves out.
fn expected(roster: &Roster<'_>, lost: &[String], index: u64) -> Option<i64> {
    let had = roster
        .voters()
        .filter(|member| lost.contains(&member.name))
        .map(|member| member.status?.raft_index)
        .collect::<Option<Vec<i64>>>()?;
    let most = had.into_iter().max()?;
    let most = most + (most / 10).max(DRIFT_MIN);
    Some((most - i64::try_from(index).unwrap_or(i64::MAX)).max(0))
}

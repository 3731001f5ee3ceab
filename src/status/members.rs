//! A member's line in status, and when its figures are worth a write.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    admission::Found,
    api::{Engine, EtcdCluster, EtcdClusterStatus, ImageEngine, MemberRole, MemberStatus},
    identity,
    plan::{Member, Roster},
};

/// Bytes a store may change by without that being news, however small it is.
const STORE_DRIFT_MIN: i64 = 1 << 20;
/// Log entries a member may write without that being news, however few there are.
const INDEX_DRIFT_MIN: i64 = 1_000;

/// What a member's line is told by.
pub(super) struct Around<'a> {
    pub(super) cluster: &'a EtcdCluster,
    pub(super) roster: &'a Roster<'a>,
    /// What the image of the spec was found to hold.
    pub(super) image: Option<&'a ImageEngine>,
    pub(super) now: Timestamp,
}

impl Around<'_> {
    /// What is told of a member.
    pub(super) fn line(&self, member: &Member<'_>) -> MemberStatus {
        line(self, member)
    }
}

fn line(around: &Around<'_>, member: &Member<'_>) -> MemberStatus {
    let before = member.status.cloned().unwrap_or_default();
    let seen = member.etcd_seen();
    let role = if member.removed {
        MemberRole::Removed
    } else if member.is_voter() {
        MemberRole::Voter
    } else if member.is_learner() {
        MemberRole::Learner
    } else {
        MemberRole::Candidate
    };
    let healthy = member.is_serving();
    let figure = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut alarms: Vec<String> = seen
        .map(|seen| seen.alarms.as_slice())
        .unwrap_or_default()
        .iter()
        .filter(|alarm| Some(alarm.member_id) == member.id)
        .map(|alarm| alarm.kind.clone())
        .collect();
    alarms.sort();
    // Time counts against it only while the others serve: what keeps all of them from
    // serving says nothing about one.
    let joined = matches!(role, MemberRole::Voter | MemberRole::Learner);
    let awake = around.cluster.spec.replicas > 0;
    let counts = joined && !healthy && around.roster.quorum && awake;
    let unhealthy_since = counts.then(|| before.unhealthy_since.unwrap_or(Time(around.now)));
    // Still a member, for certain: it was not removed after all.
    let stays = member.etcd.is_some();
    MemberStatus {
        name: member.name.clone(),
        id: member.id.map(identity::hex),
        role,
        healthy,
        version: seen.map(|seen| seen.version.clone()).or(before.version),
        engine: engine(member, around.image).or(before.engine),
        // Kept when it is away: what is lost with it is judged by that.
        raft_term: seen.map(|seen| figure(seen.raft_term)).or(before.raft_term),
        raft_index: seen
            .map(|seen| figure(seen.raft_index))
            .or(before.raft_index),
        db_size: seen.map(|seen| seen.db_size),
        db_size_in_use: seen.map(|seen| seen.db_size_in_use),
        alarms,
        defragmented_at: before.defragmented_at,
        node: member
            .pod()
            .and_then(|pod| pod.node.clone())
            .or(before.node),
        ticket: before.ticket,
        message: (!healthy && !member.removed).then(|| member.trouble()),
        unhealthy_since,
        departure: before.departure.filter(|_| !stays),
    }
}

/// Which server a member's data is of, or will be once it gets its ticket, if its
/// pod says so now: while it waits, or by running an image that is known, for a server
/// that took another's data over has made it its own.
fn engine(member: &Member<'_>, image: Option<&ImageEngine>) -> Option<Engine> {
    let pod = member.pod()?;
    if member.is_serving() {
        let image = image.filter(|image| image.image == pod.image)?;
        return Some(image.engine);
    }
    let report = pod.report.as_ref()?;
    match report.found {
        Found::OtherEngine => report.data,
        Found::Empty => report.engine,
        Found::Spent | Found::Unknown | Found::Held => None,
    }
}

/// Takes the figures of `before` where nothing but figures has changed, and none of
/// them by much: so a healthy cluster's status is not written again and again.
pub(super) fn settle_figures(status: &mut EtcdClusterStatus, before: &EtcdClusterStatus) {
    let mut settled = status.clone();
    if settled.members.len() != before.members.len() {
        return;
    }
    for (member, before) in settled.members.iter_mut().zip(&before.members) {
        let still = near(member.raft_index, before.raft_index, INDEX_DRIFT_MIN)
            && near(member.db_size, before.db_size, STORE_DRIFT_MIN)
            && near(
                member.db_size_in_use,
                before.db_size_in_use,
                STORE_DRIFT_MIN,
            );
        if !still {
            return;
        }
        member.raft_index = before.raft_index;
        member.db_size = before.db_size;
        member.db_size_in_use = before.db_size_in_use;
    }
    if settled == *before {
        *status = settled;
    }
}

fn near(now: Option<i64>, before: Option<i64>, floor: i64) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.abs_diff(before) <= floor.max(before / 10).unsigned_abs(),
        (now, before) => now == before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_alone_are_written_when_they_are_ten_percent_off() {
        let member = |index, size| MemberStatus {
            name: "demo-0".to_owned(),
            raft_index: Some(index),
            db_size: Some(size),
            ..MemberStatus::default()
        };
        let status = |member| EtcdClusterStatus {
            members: vec![member],
            ..EtcdClusterStatus::default()
        };
        let before = status(member(100_000, 100 << 20));
        for (index, size, kept) in [
            (100_000, 100 << 20, true),
            (110_000, 100 << 20, true),
            (110_001, 100 << 20, false),
            (100_000, 91 << 20, true),
            (100_000, 89 << 20, false),
        ] {
            let mut now = status(member(index, size));
            settle_figures(&mut now, &before);
            assert_eq!(now == before, kept, "{index} {size}");
        }
        // With any other change all figures are as they are now.
        let mut now = status(member(100_001, 100 << 20));
        now.leader = Some("demo-0".to_owned());
        settle_figures(&mut now, &before);
        assert_eq!(now.members[0].raft_index, Some(100_001));
    }
}

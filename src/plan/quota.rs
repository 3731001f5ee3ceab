//! Room in the stores: history compacted, stores defragmented and the alarm disarmed
//! before a full store refuses writes, or after it has.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{EtcdCluster, HistoryMark},
    observe::EtcdSeen,
    plan::blocked,
    render,
};

use super::{
    Plan, Roster, Step, membership::successor, roster::Member, upgrade, windows::WindowState,
};

/// Percent of its quota at which a store is nearly full.
const NEAR: i64 = 80;
/// Percent of its quota at which defragmentation waits for no window.
const URGENT: i64 = 95;
/// Percent of its quota below which a store must be for the alarm to be disarmed.
const ROOM: i64 = 90;
/// Percent of its quota that a defragmentation must free to be worth it.
const WORTH: i64 = 10;
/// How old history is before the operator compacts it.
const HISTORY: SignedDuration = SignedDuration::from_mins(5);
/// Time between two defragmentations of a member.
const REST: SignedDuration = SignedDuration::from_mins(30);
/// etcd's quota when none is set.
const DEFAULT_QUOTA: i64 = 2 << 30;

/// How full the stores are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Members whose store is nearly full.
    pub near: Vec<String>,
    /// Whether the alarm NOSPACE stands.
    pub no_space: bool,
}

/// How full the stores are.
pub fn space(cluster: &EtcdCluster, roster: &Roster<'_>) -> Space {
    let near = roster.members.iter().filter(|m| {
        m.etcd_seen()
            .is_some_and(|seen| part(cluster, seen, seen.db_size) >= NEAR)
    });
    Space {
        near: near.map(|member| member.name.clone()).collect(),
        no_space: !no_space(roster).is_empty(),
    }
}

/// The IDs of the members that raised NOSPACE, as any member tells.
fn no_space(roster: &Roster<'_>) -> Vec<u64> {
    let seen = roster.members.iter().filter_map(Member::etcd_seen);
    let alarms = seen.flat_map(|seen| seen.alarms.iter());
    let mut ids: Vec<u64> = alarms
        .filter(|alarm| alarm.kind == "NOSPACE")
        .map(|alarm| alarm.member_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// `bytes` in percent of the member's quota.
fn part(cluster: &EtcdCluster, seen: &EtcdSeen, bytes: i64) -> i64 {
    let set = render::quota(cluster).filter(|quota| *quota > 0);
    let quota = if seen.quota > 0 {
        seen.quota
    } else {
        set.unwrap_or(DEFAULT_QUOTA)
    };
    i64::try_from(i128::from(bytes) * 100 / i128::from(quota)).unwrap_or(i64::MAX)
}

/// Whether etcd compacts by itself, or was told that nobody shall.
fn history_is_kept(cluster: &EtcdCluster) -> bool {
    cluster.spec.options.auto_compaction_retention.is_some()
}

/// The next step towards room, if one helps and every voter is well. It never waits:
/// what else is to be done goes on.
pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    windows: WindowState,
    now: Timestamp,
) -> Option<Plan> {
    if !roster.quorum || roster.voters().any(|m| upgrade::unfit(roster, m).is_some()) {
        return None;
    }
    let stores: Vec<(&Member<'_>, &EtcdSeen)> = roster
        .voters()
        .filter_map(|member| Some((member, member.etcd_seen()?)))
        .collect();
    let alarmed = no_space(roster);
    let full = |seen: &EtcdSeen| part(cluster, seen, seen.db_size);
    if !alarmed.is_empty() && stores.iter().all(|(_, seen)| full(seen) < ROOM) {
        return Some(Plan::step(
            Step::DisarmNoSpace { ids: alarmed },
            "there is room in every store again; disarms the alarm NOSPACE",
        ));
    }
    let crowded = |seen: &EtcdSeen| full(seen) >= NEAR || !alarmed.is_empty();
    if !stores.iter().any(|(_, seen)| crowded(seen)) {
        return forget_mark(cluster);
    }
    let leader = roster.leader().map(|member| member.serial);
    let rested = |member: &Member<'_>| {
        let last = member
            .status
            .and_then(|status| status.defragmented_at.as_ref());
        last.is_none_or(|last| now.duration_since(last.0) >= REST)
    };
    let worth = |seen: &EtcdSeen| part(cluster, seen, seen.db_size - seen.db_size_in_use) >= WORTH;
    let next = stores
        .iter()
        .filter(|(member, seen)| crowded(seen) && worth(seen) && rested(member))
        .min_by_key(|(member, _)| (leader == Some(member.serial), member.serial));
    if let Some((member, seen)) = next {
        let urgent = !alarmed.is_empty() || full(seen) >= URGENT;
        if let (WindowState::Closed(_), false) = (windows, urgent) {
            return None; // told by `held`
        }
        if leader == Some(member.serial)
            && stores.len() > 1
            && let Some(plan) = successor(roster, member)
        {
            return Some(plan);
        }
        return Some(Plan::step(
            Step::Defragment {
                member: member.name.clone(),
                at: now,
            },
            format!(
                "the store of {} is nearly full; defragments it",
                member.name
            ),
        ));
    }
    compact(cluster, &stores, !alarmed.is_empty(), now)
}

/// Defragmentation that waits for a window.
pub(super) fn held(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    windows: WindowState,
) -> Option<crate::api::BlockedBy> {
    let WindowState::Closed(_) = windows else {
        return None;
    };
    let space = space(cluster, roster);
    (!space.near.is_empty() && !space.no_space).then(|| {
        let names = space.near.join(", ");
        blocked(
            "MaintenanceWindow",
            format!("{names} would be defragmented once {}", windows.opens()),
        )
    })
}

/// Compacts what was history five minutes ago: for clusters in which nobody does.
fn compact(
    cluster: &EtcdCluster,
    stores: &[(&Member<'_>, &EtcdSeen)],
    alarmed: bool,
    now: Timestamp,
) -> Option<Plan> {
    if history_is_kept(cluster) {
        return None;
    }
    let newest = stores.iter().map(|(_, seen)| seen.revision).min()?;
    let mark = cluster.status.as_ref()?.history.as_ref();
    let old = |mark: &HistoryMark| now.duration_since(mark.at.0) >= HISTORY;
    const WHY: &str = "a store is nearly full and autoCompactionRetention is not set";
    match mark {
        Some(mark) if !mark.compacted && (old(mark) || alarmed) => Some(Plan::step(
            Step::Compact {
                revision: mark.revision,
            },
            format!("{WHY}; compacts history up to revision {}", mark.revision),
        )),
        Some(mark) if !mark.compacted || !old(mark) || newest <= mark.revision => None,
        _ => Some(Plan::step(
            Step::MarkHistory {
                mark: Some(HistoryMark {
                    revision: newest,
                    at: Time(now),
                    compacted: false,
                }),
            },
            format!(
                "{WHY}; will compact history up to revision {newest}, in 5 minutes or when writes are refused"
            ),
        )),
    }
}

/// Drops a mark that is not needed any more.
fn forget_mark(cluster: &EtcdCluster) -> Option<Plan> {
    cluster.status.as_ref()?.history.as_ref()?;
    Some(Plan::step(
        Step::MarkHistory { mark: None },
        "there is room in every store; history is left alone",
    ))
}

//! What holds of leases, by the numbers of `behaviours.md` and `faults.md`.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_mvcc::{Record, Revision};
use proptest::prelude::*;

use super::*;

const EXTEND_MS: u64 = 1000;

fn lessor() -> Lessor {
    Lessor::new(LeaseConfig::default())
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn keys(lessor: &Lessor, id: i64) -> Vec<Bytes> {
    lessor.keys(id).unwrap().cloned().collect()
}

fn put(text: &str, lease: i64) -> Record {
    Record {
        rev: Revision::new(2, 0),
        tombstone: false,
        key: key(text),
        value: Bytes::new(),
        create_revision: 2,
        version: 1,
        lease,
        replaces: None,
    }
}

#[test]
fn b063_a_duplicate_id_is_refused() {
    let mut lessor = lessor();
    assert_eq!(lessor.grant(7, 10), Ok(10));
    assert_eq!(lessor.grant(7, 20), Err(LeaseError::Exists));
    assert_eq!(lessor.grant(0, 20), Err(LeaseError::NotFound));
    assert_eq!(lessor.time_to_live(7, 0).unwrap().granted_ttl, 10);
}

#[test]
fn b064_a_ttl_above_nine_billion_seconds_is_refused() {
    let mut lessor = lessor();
    assert_eq!(lessor.grant(1, MAX_TTL_SECONDS), Ok(MAX_TTL_SECONDS));
    assert_eq!(
        lessor.grant(2, MAX_TTL_SECONDS + 1),
        Err(LeaseError::TtlTooLarge)
    );
    assert_eq!(lessor.grant(2, i64::MAX), Err(LeaseError::TtlTooLarge));
    lessor.promote(u64::MAX - 1, u64::MAX);
    assert_eq!(lessor.leases(), [1]);
}

#[test]
fn b065_a_small_ttl_is_raised_to_one_and_a_half_election_timeouts() {
    for (election_ms, seconds) in [(1000, 2), (1001, 2), (2000, 3), (100, 1), (50_000, 75)] {
        assert_eq!(min_ttl_seconds(election_ms), seconds, "{election_ms} ms");
    }
    let mut lessor = lessor();
    assert_eq!(lessor.grant(1, 1), Ok(2));
    assert_eq!(lessor.grant(2, -5), Ok(2));
    assert_eq!(min_ttl_seconds(u64::MAX), MAX_TTL_SECONDS);
}

#[test]
fn b067_b068_revoking_gives_the_keys_in_order_and_only_once() {
    let mut lessor = lessor();
    lessor.grant(1, 10).unwrap();
    for name in ["c", "a", "b", "a"] {
        lessor.attach(1, key(name)).unwrap();
    }
    assert_eq!(lessor.revoke(1), Ok(vec![key("a"), key("b"), key("c")]));
    assert_eq!(lessor.revoke(1), Err(LeaseError::NotFound));
    assert_eq!(lessor.lease_of(b"a"), None);
    assert!(lessor.is_empty());
}

#[test]
fn b011_b013_b075_keys_follow_their_latest_put() {
    let mut lessor = lessor();
    lessor.grant(1, 10).unwrap();
    lessor.grant(2, 10).unwrap();
    assert_eq!(lessor.follow(&put("k", 3)), Err(LeaseError::NotFound));
    for record in [
        put("moved", 1),
        put("freed", 1),
        put("gone", 1),
        put("kept", 1),
    ] {
        lessor.follow(&record).unwrap();
    }
    lessor.follow(&put("moved", 2)).unwrap();
    lessor.follow(&put("freed", 0)).unwrap();
    let deleted = Record {
        tombstone: true,
        ..put("gone", 0)
    };
    lessor.follow(&deleted).unwrap();
    assert_eq!(keys(&lessor, 2), [key("moved")]);
    assert_eq!(lessor.revoke(1), Ok(vec![key("kept")]));
    assert_eq!(lessor.lease_of(b"moved"), Some(2));
}

#[test]
fn an_unknown_lease_leaves_the_key_where_it_is() {
    let mut lessor = lessor();
    lessor.grant(1, 10).unwrap();
    lessor.attach(1, key("k")).unwrap();
    assert_eq!(lessor.attach(2, key("k")), Err(LeaseError::NotFound));
    assert_eq!(lessor.lease_of(b"k"), Some(1));
}

#[test]
fn b069_b070_a_lease_expires_unless_it_is_renewed() {
    let mut lessor = lessor();
    lessor.promote(0, EXTEND_MS);
    lessor.grant(1, 10).unwrap();
    lessor.grant(2, 10).unwrap();
    // The TTL of a grant begins with the first time told after it.
    assert!(lessor.expired(500, 10).is_empty());
    assert_eq!(lessor.renew(2, 9_000), Renewal::Renewed { ttl: 10 });
    assert!(lessor.expired(10_499, 10).is_empty());
    assert_eq!(lessor.expired(10_500, 10), [1]);
    assert_eq!(
        lessor.expired(18_999, 10),
        [1],
        "named again, as it was not revoked"
    );
    assert_eq!(lessor.expired(19_000, 10), [2]);
}

#[test]
fn an_expired_lease_is_named_once_per_interval_and_ends_only_by_its_revocation() {
    let mut lessor = lessor();
    lessor.promote(0, 0);
    lessor.grant(1, 10).unwrap();
    lessor.expired(0, 10);
    assert_eq!(lessor.expired(10_000, 10), [1]);
    assert!(lessor.expired(12_999, 10).is_empty());
    assert_eq!(lessor.expired(13_000, 10), [1]);
    assert_eq!(lessor.renew(1, 13_000), Renewal::Expired);
    assert!(lessor.contains(1));
    lessor.revoke(1).unwrap();
    assert!(lessor.expired(20_000, 10).is_empty());
    assert_eq!(lessor.renew(1, 20_000), Renewal::NotFound);
}

#[test]
fn a_limit_leaves_the_rest_for_the_next_time() {
    let mut lessor = lessor();
    for id in 1..=5 {
        lessor.grant(id, 10).unwrap();
    }
    lessor.promote(0, 0);
    assert_eq!(lessor.expired(10_000, 2), [1, 2]);
    assert_eq!(lessor.expired(10_000, 2), [3, 4]);
    assert_eq!(lessor.expired(10_000, 2), [5]);
    assert!(lessor.expired(10_000, 2).is_empty());
}

#[test]
fn b072_b073_time_to_live_tells_what_is_left() {
    let mut lessor = lessor();
    lessor.grant(1, 10).unwrap();
    lessor.attach(1, key("k")).unwrap();
    assert_eq!(lessor.time_to_live(1, 0).unwrap().ttl, 10);
    lessor.promote(0, 0);
    let state = lessor.time_to_live(1, 3_500).unwrap();
    assert_eq!(
        (state.ttl, state.granted_ttl, state.keys),
        (6, 10, vec![key("k")])
    );
    assert_eq!(lessor.time_to_live(1, 99_000).unwrap().ttl, 0);
    assert_eq!(lessor.time_to_live(2, 0), None);
}

#[test]
fn b074_all_leases_are_listed_by_their_end() {
    let mut lessor = lessor();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
        lessor.grant(id, ttl).unwrap();
    }
    assert_eq!(lessor.leases(), [1, 2, 3]);
    lessor.promote(0, 0);
    assert_eq!(lessor.leases(), [2, 3, 1]);
}

#[test]
fn b077_a_new_leader_gives_every_lease_its_full_ttl() {
    let mut lessor = lessor();
    lessor.promote(0, EXTEND_MS);
    lessor.grant(1, 10).unwrap();
    lessor.expired(0, 10);
    lessor.demote();
    assert_eq!(lessor.renew(1, 5_000), Renewal::NotPrimary);
    assert!(lessor.expired(60_000, 10).is_empty(), "no leader, no end");
    lessor.promote(60_000, EXTEND_MS);
    assert!(lessor.expired(70_999, 10).is_empty());
    assert_eq!(lessor.expired(71_000, 10), [1]);
}

#[test]
fn b078_s26_a_checkpoint_keeps_the_remaining_ttl_over_a_change_of_leader() {
    let config = LeaseConfig {
        checkpoint_interval_ms: Some(300_000),
        ..LeaseConfig::default()
    };
    let mut lessor = Lessor::new(config.clone());
    lessor.promote(0, 0);
    lessor.grant(1, 1000).unwrap();
    lessor.grant(2, 200).unwrap();
    assert!(lessor.due_checkpoints(0, 10).is_empty());
    assert!(lessor.due_checkpoints(299_999, 10).is_empty());
    let due = lessor.due_checkpoints(300_000, 10);
    assert_eq!(due.len(), 1, "a lease shorter than the interval has none");
    assert_eq!((due[0].id, due[0].remaining_ttl), (1, 700));
    lessor.checkpoint(due[0].id, due[0].remaining_ttl);
    lessor.checkpoint(9, 5);
    // Restart, and a leader that has been it for no time.
    let mut lessor = Lessor::from_rows(config, &lessor.to_rows()).unwrap();
    lessor.promote(0, EXTEND_MS);
    assert_eq!(lessor.time_to_live(1, 0).unwrap().ttl, 701);
    // A renewal takes the note back first: the next leader would end it too early.
    assert_eq!(lessor.renew(1, 10), Renewal::Checkpointed);
    lessor.checkpoint(1, 0);
    assert_eq!(lessor.renew(1, 20), Renewal::Renewed { ttl: 1000 });
    lessor.promote(50, 0);
    assert_eq!(lessor.time_to_live(1, 50).unwrap().ttl, 1000);
}

#[test]
fn b079_rows_read_back_as_written() {
    let mut lessor = lessor();
    for (id, ttl) in [(5, 10), (-1, 30), (i64::MAX, 20)] {
        lessor.grant(id, ttl).unwrap();
    }
    lessor.checkpoint(5, 4);
    lessor.revoke(i64::MAX).unwrap();
    let rows = lessor.to_rows();
    assert!(rows.is_sorted());
    assert_eq!(rows[0].0, 5i64.to_be_bytes()[..]);
    assert_eq!(rows[0].1[..], [8, 5, 16, 10, 24, 4]);
    let read = Lessor::from_rows(LeaseConfig::default(), &rows).unwrap();
    assert_eq!(read.to_rows(), rows);
    assert_eq!(read.leases(), [-1, 5]);
}

#[test]
fn a_malformed_row_is_named() {
    let read = |key: &'static [u8], value: &'static [u8]| {
        let rows = [(Bytes::from_static(key), Bytes::from_static(value))];
        Lessor::from_rows(LeaseConfig::default(), &rows)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(read(b"short", b""), LeaseRowError::Key(5));
    assert!(matches!(
        read(&[0, 0, 0, 0, 0, 0, 0, 1], b"\x08"),
        LeaseRowError::Value { id: 1, .. }
    ));
    let error = read(&[0, 0, 0, 0, 0, 0, 0, 26], &[8, 2]);
    assert_eq!(error.to_string(), "lease 1a: the row names lease 2");
}

#[test]
fn expiries_are_spread_after_a_change_of_leader() {
    let mut lessor = lessor();
    for id in 1..=5000 {
        lessor.grant(id, 10 + id / 4000).unwrap();
    }
    lessor.promote(0, 0);
    let mut ends = Vec::new();
    for now in (9_000..20_000).step_by(10) {
        ends.extend(
            lessor
                .expired(now, usize::MAX)
                .into_iter()
                .map(|id| (now, id)),
        );
        for (_, id) in ends.iter().rev().take_while(|(at, _)| *at == now) {
            lessor.revoke(*id).unwrap();
        }
    }
    assert_eq!(ends.len(), 5000);
    for (place, (now, id)) in ends.iter().enumerate() {
        let ttl_ms = if *id < 4000 { 10_000 } else { 11_000 };
        assert!(*now >= ttl_ms, "never early");
        if let Some((later, _)) = ends.get(place + 750) {
            assert!(later - now >= 1000);
        }
    }
    assert!(
        ends.last().unwrap().0 <= 17_000,
        "nor later than the rate asks for"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Renew(i64),
    Wait(u64),
    Expired,
    Checkpoint,
    Promote,
    Demote,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1i64..6, 0i64..40).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => (1i64..6).prop_map(Step::Revoke),
        4 => (1i64..6).prop_map(Step::Renew),
        6 => (0u64..15_000).prop_map(Step::Wait),
        6 => Just(Step::Expired),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Promote),
        1 => Just(Step::Demote),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// S26: over grants, renewals, checkpoints, changes of leader and restarts a
    /// lease is never named before its holder has had its TTL since the last
    /// successful renewal, and is named in the end.
    #[test]
    fn s26_no_lease_ends_early(steps in proptest::collection::vec(step(), 1..80)) {
        let config = LeaseConfig {
            checkpoint_interval_ms: Some(5_000),
            ..LeaseConfig::default()
        };
        let mut lessor = Lessor::new(config.clone());
        // Until when each lease's holder may rely on it.
        let mut promised: BTreeMap<i64, u64> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Grant(id, ttl) => {
                    if let Ok(ttl) = lessor.grant(id, ttl) {
                        promised.insert(id, now + ttl as u64 * 1000);
                    }
                }
                Step::Revoke(id) => {
                    prop_assert_eq!(lessor.revoke(id).is_ok(), promised.remove(&id).is_some());
                }
                Step::Renew(id) => {
                    let mut renewal = lessor.renew(id, now);
                    if renewal == Renewal::Checkpointed {
                        lessor.checkpoint(id, 0);
                        renewal = lessor.renew(id, now);
                    }
                    match renewal {
                        Renewal::Renewed { ttl } => {
                            promised.insert(id, now + ttl as u64 * 1000);
                        }
                        Renewal::NotFound => prop_assert!(!promised.contains_key(&id)),
                        Renewal::Expired => prop_assert!(promised[&id] <= now),
                        Renewal::NotPrimary => prop_assert!(!lessor.is_primary()),
                        Renewal::Checkpointed => prop_assert!(false, "the note was taken back"),
                    }
                }
                Step::Wait(ms) => now += ms,
                Step::Expired => for id in lessor.expired(now, 3) {
                    prop_assert!(promised[&id] <= now, "lease {} ends early", id);
                },
                Step::Checkpoint => for due in lessor.due_checkpoints(now, 10) {
                    let left = promised[&due.id].saturating_sub(now);
                    prop_assert!(due.remaining_ttl as u64 * 1000 >= left);
                    lessor.checkpoint(due.id, due.remaining_ttl);
                },
                Step::Promote => lessor.promote(now, EXTEND_MS),
                Step::Demote => lessor.demote(),
                Step::Restart => {
                    lessor = Lessor::from_rows(config.clone(), &lessor.to_rows()).unwrap();
                }
            }
        }
        lessor.promote(now, EXTEND_MS);
        let all: Vec<i64> = promised.keys().copied().collect();
        let mut named = lessor.expired(now + 60_000, usize::MAX);
        named.sort_unstable();
        prop_assert_eq!(named, all);
    }

    /// Members that apply the same entries have the same leases and keys, whichever
    /// of them is primary and whatever its clock says.
    #[test]
    fn applying_does_not_depend_on_a_clock(
        steps in proptest::collection::vec((0u8..5, 1i64..4, 0i64..30), 1..60),
        clocks in proptest::collection::vec((any::<u32>(), any::<bool>()), 60),
    ) {
        let mut plain = lessor();
        let mut primary = lessor();
        for ((kind, id, ttl), (clock, office)) in steps.into_iter().zip(clocks) {
            if office {
                primary.promote(clock.into(), EXTEND_MS);
            } else {
                primary.expired(clock.into(), 10);
                primary.renew(id, clock.into());
            }
            for lessor in [&mut plain, &mut primary] {
                match kind {
                    0 => drop(lessor.grant(id, ttl)),
                    1 => drop(lessor.revoke(id)),
                    2 => lessor.checkpoint(id, ttl),
                    3 => drop(lessor.attach(id, key(&(ttl % 4).to_string()))),
                    _ => lessor.detach((ttl % 4).to_string().as_bytes()),
                }
            }
            prop_assert_eq!(plain.to_rows(), primary.to_rows());
            for id in plain.leases() {
                prop_assert_eq!(keys(&plain, id), keys(&primary, id));
            }
        }
    }
}

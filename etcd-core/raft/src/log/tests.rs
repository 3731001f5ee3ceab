use super::*;
use proptest::prelude::*;

fn entries(after: u64, terms: &[u64]) -> Vec<Entry> {
    terms
        .iter()
        .zip(after + 1..)
        .map(|(term, index)| Entry {
            term: *term,
            index,
            ..Entry::default()
        })
        .collect()
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

fn log(terms: &[u64]) -> Log {
    Log::restore(id(0, 0), entries(0, terms), 0, 0).expect("a sound log")
}

#[test]
fn a_gap_or_a_falling_term_on_disk_is_refused() {
    let mut gap = entries(0, &[1, 1]);
    gap[1].index = 3;
    assert!(matches!(
        Log::restore(id(0, 0), gap, 0, 0),
        Err(ConfigError::LogGap {
            index: 3,
            after: 1,
            ..
        })
    ));
    assert!(matches!(
        Log::restore(id(0, 0), entries(0, &[2, 1]), 0, 0),
        Err(ConfigError::LogGap {
            index: 2,
            term: 1,
            ..
        })
    ));
}

#[test]
fn s10_a_log_shorter_than_its_commit_index_is_refused() {
    assert_eq!(
        Log::restore(id(0, 0), entries(0, &[1]), 2, 0).expect_err("too short"),
        ConfigError::CommitBeyondLog { commit: 2, last: 1 }
    );
    assert!(matches!(
        Log::restore(id(5, 1), vec![], 5, 4),
        Err(ConfigError::AppliedOutsideLog { applied: 4, .. })
    ));
}

#[test]
fn s07_what_was_applied_is_committed_even_if_the_hard_state_lags() {
    let log = Log::restore(id(0, 0), entries(0, &[1, 1, 1]), 1, 3).expect("sound");
    assert_eq!((log.committed(), log.applied()), (3, 3));
    assert!(!log.has_appliable());
}

#[test]
fn entries_that_are_known_are_not_appended_twice() {
    let mut log = log(&[1, 1, 2]);
    assert_eq!(log.try_append(id(1, 1), entries(1, &[1]), 9), Ok(Some(2)));
    assert_eq!(
        (log.last_index(), log.committed()),
        (3, 2),
        "an old message truncates nothing"
    );
}

#[test]
fn a_conflict_replaces_the_tail_and_makes_it_unstable() {
    let mut log = log(&[1, 1, 1]);
    assert_eq!(
        log.try_append(id(1, 1), entries(1, &[2, 2, 2]), 2),
        Ok(Some(4))
    );
    assert_eq!(
        (log.last_id(), log.committed(), log.stable()),
        (id(4, 2), 2, 1)
    );
    assert_eq!(log.take_unpersisted(), entries(1, &[2, 2, 2]));
    assert_eq!(
        log.take_appliable(u64::MAX).len(),
        1,
        "entry 2 is committed but not durable"
    );
    log.stable_to(id(3, 2));
    assert_eq!(log.take_appliable(u64::MAX), entries(1, &[2]));
}

#[test]
fn a_mismatch_before_the_entries_appends_nothing() {
    let mut log = log(&[1, 1]);
    assert_eq!(log.try_append(id(2, 2), entries(2, &[2]), 3), Ok(None));
    assert_eq!(log.try_append(id(7, 1), vec![], 7), Ok(None));
    assert_eq!((log.last_index(), log.committed()), (2, 0));
}

#[test]
fn a_conflict_with_a_committed_entry_is_refused() {
    let mut log = log(&[1, 1]);
    log.commit_to(2);
    assert_eq!(
        log.try_append(id(1, 1), entries(1, &[2]), 2),
        Err(Conflict { index: 2 })
    );
    assert_eq!(log.last_id(), id(2, 1));
}

#[test]
fn completion_for_another_entry_stabilises_nothing() {
    let mut log = log(&[1]);
    log.append(entries(1, &[2, 2]));
    log.stable_to(id(3, 1));
    assert_eq!(log.stable(), 1);
    log.stable_to(id(9, 2));
    assert_eq!(log.stable(), 1);
    log.stable_to(id(2, 2));
    assert_eq!(log.stable(), 2);
}

#[test]
fn the_hint_skips_terms_that_cannot_match() {
    let log = log(&[1, 3, 3, 4, 4, 5, 5, 5, 6]);
    assert_eq!(log.last_at_or_below(8, 3), id(3, 3));
    assert_eq!(log.last_at_or_below(8, 5), id(8, 5));
    assert_eq!(log.last_at_or_below(9, 0), id(0, 0));
    assert_eq!(log.last_at_or_below(12, 5), id(12, 0), "beyond the end");
}

#[test]
fn compaction_keeps_the_term_before_the_first_entry_and_all_that_is_not_applied() {
    let mut log = log(&[1, 2, 3, 4]);
    log.commit_to(3);
    log.applied_to(2);
    log.compact(3);
    assert_eq!(
        (log.first_index(), log.term(2), log.term(1)),
        (3, Some(2), None)
    );
    assert_eq!(
        log.bytes(),
        entries(2, &[3, 4]).iter().map(size).sum::<u64>()
    );
    log.compact(1);
    assert_eq!(log.first_index(), 3, "never backwards");
    assert_eq!(log.last_at_or_below(4, 1), id(1, 0), "not known any more");
}

#[test]
fn entries_are_bounded_in_bytes_but_never_none() {
    let log = log(&[1, 1, 1]);
    let one = size(&entries(0, &[1])[0]);
    assert_eq!(log.entries_from(1, 0).len(), 1);
    assert_eq!(log.entries_from(1, one * 2).len(), 2);
    assert_eq!(log.entries_from(4, u64::MAX).len(), 0);
}

#[test]
fn s06_nothing_is_applied_until_the_newest_snapshot_is_durable() {
    let mut log = log(&[1, 1]);
    let snapshot = |index| SnapshotMetadata {
        index,
        term: 2,
        conf_state: None,
    };
    log.restore_snapshot(snapshot(5));
    assert_eq!(log.take_unpersisted_snapshot(), Some(snapshot(5)));
    log.restore_snapshot(snapshot(9));
    assert_eq!(log.try_append(id(9, 2), entries(9, &[2]), 10), Ok(Some(10)));
    assert_eq!(log.take_unpersisted_snapshot(), Some(snapshot(9)));
    assert_eq!(log.take_unpersisted_snapshot(), None);
    log.take_unpersisted();
    log.stable_to(id(10, 2));
    log.snapshot_stable(5);
    assert!(log.snapshot_pending() && !log.has_appliable());
    log.snapshot_stable(9);
    assert_eq!((log.applied(), log.take_appliable(u64::MAX).len()), (9, 1));
}

proptest! {
    /// Whatever a leader's log and ours are, the hints lead to the last common entry
    /// within one probe per term.
    #[test]
    fn hints_find_the_common_prefix(
        common in proptest::collection::vec(1u64..4, 0..6),
        ours in proptest::collection::vec(0u64..4, 0..8),
        theirs in proptest::collection::vec(0u64..4, 0..8),
    ) {
        let grow = |tail: &[u64], parity: u64| {
            let mut terms: Vec<u64> = Vec::new();
            let mut term = 0;
            for step in &common { term += step; terms.push(term); }
            // Odd and even terms keep the tails apart, as election safety does.
            term = term * 2 + parity;
            let mut all: Vec<u64> = terms.iter().map(|t| t * 2).collect();
            for step in tail { term += step * 2; all.push(term + 2); }
            all
        };
        let (leader, follower) = (log(&grow(&theirs, 1)), log(&grow(&ours, 0)));
        let mut probe = leader.last_index();
        let mut rounds = 0;
        while !follower.matches(id(probe, leader.term(probe).expect("held"))) {
            let term = leader.term(probe).expect("held");
            let hint = follower.last_at_or_below(probe.min(follower.last_index()), term);
            let next = leader.last_at_or_below(hint.index, hint.term).index;
            prop_assert!(next < probe);
            probe = next;
            rounds += 1;
        }
        prop_assert!(probe as usize >= common.len());
        prop_assert!(rounds <= 9);
    }
}

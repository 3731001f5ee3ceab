//! What a majority of voters agrees on.

use std::collections::{BTreeMap, BTreeSet};

/// The outcome of an election so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteResult {
    /// A majority granted its vote.
    Won,
    /// A majority can no longer be reached.
    Lost,
    /// Answers that decide are still missing.
    Pending,
}

/// The smallest number of voters that is a majority of `n`.
pub(crate) fn majority(n: usize) -> usize {
    n / 2 + 1
}

/// The highest value that a majority of the voters has reached; 0 without voters.
pub(crate) fn reached(voters: &BTreeSet<u64>, value: impl Fn(u64) -> u64) -> u64 {
    let mut values: Vec<u64> = voters.iter().map(|id| value(*id)).collect();
    values.sort_unstable();
    match values.len() {
        0 => 0,
        n => values[n - majority(n)],
    }
}

/// Counts the votes of those who are voters.
pub(crate) fn tally(voters: &BTreeSet<u64>, votes: &BTreeMap<u64, bool>) -> VoteResult {
    let (mut granted, mut rejected) = (0, 0);
    for id in voters {
        match votes.get(id) {
            Some(true) => granted += 1,
            Some(false) => rejected += 1,
            None => {}
        }
    }
    let needed = majority(voters.len());
    if granted >= needed {
        VoteResult::Won
    } else if voters.len() - rejected < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nobody_reaches_nothing() {
        assert_eq!(reached(&BTreeSet::new(), |_| 9), 0);
        assert_eq!(tally(&BTreeSet::new(), &BTreeMap::new()), VoteResult::Lost);
    }

    #[test]
    fn the_votes_of_strangers_do_not_count() {
        let voters = BTreeSet::from([1, 2, 3]);
        let votes = BTreeMap::from([(1, true), (4, true), (5, true)]);
        assert_eq!(tally(&voters, &votes), VoteResult::Pending);
    }

    #[test]
    fn an_even_cluster_needs_more_than_half() {
        let voters = BTreeSet::from([1, 2, 3, 4]);
        let mut votes = BTreeMap::from([(1, true), (2, true)]);
        assert_eq!(tally(&voters, &votes), VoteResult::Pending);
        votes.extend([(3, false), (4, false)]);
        assert_eq!(tally(&voters, &votes), VoteResult::Lost);
        votes.insert(3, true);
        assert_eq!(tally(&voters, &votes), VoteResult::Won);
    }

    proptest! {
        #[test]
        fn reached_is_the_highest_value_with_a_majority(values in proptest::collection::vec(0u64..20, 1..8)) {
            let voters: BTreeSet<u64> = (1..=values.len() as u64).collect();
            let got = reached(&voters, |id| values[id as usize - 1]);
            let at_least = |v: u64| values.iter().filter(|x| **x >= v).count();
            prop_assert!(at_least(got) >= majority(values.len()));
            prop_assert!(at_least(got + 1) < majority(values.len()));
        }
    }
}

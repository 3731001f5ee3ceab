//! Linearizability of reads and writes of single keys, by the search of Wing and Gong
//! with Lowe's memory of what was tried. It knows nothing but what clients saw.

use std::collections::{BTreeMap, BTreeSet};

/// What a client did to a key. Values are unique numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(u64),
    /// Whether something was deleted, if known.
    Delete(Option<bool>),
    Get(Option<u64>),
    /// Writes `new` if the key holds `expected`.
    Swap {
        expected: Option<u64>,
        new: u64,
        outcome: Swapped,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    Yes,
    /// The key held this instead.
    No(Option<u64>),
    Unknown,
}

/// An operation with its times.
#[derive(Clone, Copy, Debug)]
struct Timed {
    op: Op,
    called: u64,
    /// `None`: it is not known whether or when it took effect.
    returned: Option<u64>,
}

/// All that clients did.
#[derive(Default)]
pub(crate) struct History {
    keys: BTreeMap<Vec<u8>, Vec<Timed>>,
    operations: usize,
}

/// Steps of the search for one key after which it is given up.
const STEPS_MAX: usize = 2_000_000;

impl History {
    /// Notes an operation that has ended, or of which the end will never be known.
    pub(crate) fn note(&mut self, key: &[u8], op: Op, called: u64, returned: Option<u64>) {
        let timed = Timed {
            op,
            called,
            returned,
        };
        self.keys.entry(key.to_vec()).or_default().push(timed);
        self.operations += 1;
    }

    /// Number of operations, for the report.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    /// Checks every key's history.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, ops) in &self.keys {
            let key = String::from_utf8_lossy(key);
            match is_linearizable(ops) {
                Some(true) => {}
                Some(false) => {
                    return Err(format!(
                        "linearizability: no order explains the history of {key:?}: {:?}",
                        sorted(ops)
                    ));
                }
                None => {
                    return Err(format!(
                        "linearizability: the history of {key:?} is too long to decide"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// In the order of the calls; writes that may never have happened and that nobody can
/// have seen are left out: that they happened explains nothing.
fn sorted(ops: &[Timed]) -> Vec<Timed> {
    let seen: BTreeSet<u64> = ops
        .iter()
        .flat_map(|timed| match timed.op {
            Op::Get(seen) => [seen, None],
            Op::Swap {
                expected,
                outcome: Swapped::No(seen),
                ..
            } => [expected, seen],
            Op::Swap { expected, .. } => [expected, None],
            _ => [None, None],
        })
        .flatten()
        .collect();
    // A deletion that found something saw no value.
    let found = ops
        .iter()
        .filter(|timed| timed.op == Op::Delete(Some(true)))
        .filter_map(|timed| timed.returned)
        .max();
    let mut ops: Vec<Timed> = ops
        .iter()
        .filter(|timed| {
            timed.returned.is_some()
                || found.is_some_and(|found| timed.called <= found)
                || match timed.op {
                    Op::Put(value) | Op::Swap { new: value, .. } => seen.contains(&value),
                    Op::Delete(_) => true,
                    Op::Get(_) => false,
                }
        })
        .copied()
        .collect();
    ops.sort_by_key(|timed| timed.called);
    ops
}

/// `None`: undecided.
fn is_linearizable(ops: &[Timed]) -> Option<bool> {
    let ops = sorted(ops);
    let mut search = Search {
        done: vec![false; ops.len()],
        tried: BTreeSet::new(),
        steps: 0,
        ops: &ops,
    };
    let explained = search.run(0, None);
    (search.steps <= STEPS_MAX).then_some(explained)
}

struct Search<'a> {
    ops: &'a [Timed],
    done: Vec<bool>,
    /// What was done beyond the first that was not, and the state then.
    tried: BTreeSet<(usize, Vec<usize>, Option<u64>)>,
    steps: usize,
}

impl Search<'_> {
    /// Whether the rest can be put in order; everything before `first` is done.
    fn run(&mut self, mut first: usize, state: Option<u64>) -> bool {
        while self.done.get(first) == Some(&true) {
            first += 1;
        }
        let pending = (first..self.ops.len()).filter(|i| !self.done[*i]);
        // Who returned first must come before all that were called later.
        let Some(horizon) = pending.clone().filter_map(|i| self.ops[i].returned).min() else {
            return true;
        };
        let beyond = (first..self.ops.len()).filter(|i| self.done[*i]).collect();
        if !self.tried.insert((first, beyond, state)) {
            return false;
        }
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return true;
        }
        let candidates: Vec<usize> = pending
            .take_while(|i| self.ops[*i].called <= horizon)
            .collect();
        for i in candidates {
            let Some(next) = after(state, self.ops[i].op) else {
                continue;
            };
            self.done[i] = true;
            if self.run(first, next) {
                return true;
            }
            self.done[i] = false;
        }
        false
    }
}

/// The state after an operation, `None` if it cannot have had its outcome there.
fn after(state: Option<u64>, op: Op) -> Option<Option<u64>> {
    match op {
        Op::Put(value) => Some(Some(value)),
        Op::Delete(None) => Some(None),
        Op::Delete(Some(deleted)) => (deleted == state.is_some()).then_some(None),
        Op::Get(seen) => (seen == state).then_some(state),
        Op::Swap {
            expected,
            new,
            outcome,
        } => match outcome {
            Swapped::Yes => (state == expected).then_some(Some(new)),
            Swapped::No(seen) => (state == seen && seen != expected).then_some(state),
            Swapped::Unknown if state == expected => Some(Some(new)),
            Swapped::Unknown => Some(state),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ops: &[(Op, u64, Option<u64>)]) -> bool {
        let timed: Vec<Timed> = ops
            .iter()
            .map(|&(op, called, returned)| Timed {
                op,
                called,
                returned,
            })
            .collect();
        is_linearizable(&timed).expect("decided")
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [
            (Op::Put(1), 0, Some(1)),
            (Op::Put(2), 2, Some(3)),
            (Op::Get(Some(1)), 4, Some(5)),
        ];
        assert!(!check(&history));
        let concurrent = [
            (Op::Put(1), 0, Some(1)),
            (Op::Put(2), 2, Some(6)),
            (Op::Get(Some(1)), 4, Some(5)),
        ];
        assert!(check(&concurrent));
    }

    #[test]
    fn an_unknown_write_may_happen_late_or_never_but_not_twice() {
        let late = [
            (Op::Put(1), 0, None),
            (Op::Put(2), 1, Some(2)),
            (Op::Get(Some(2)), 3, Some(4)),
            (Op::Get(Some(1)), 5, Some(6)),
        ];
        assert!(check(&late));
        let twice = [
            (Op::Put(1), 0, None),
            (Op::Get(Some(1)), 1, Some(2)),
            (Op::Put(2), 3, Some(4)),
            (Op::Get(Some(1)), 5, Some(6)),
        ];
        assert!(!check(&twice));
        let never = [(Op::Put(1), 0, None), (Op::Get(None), 1, Some(2))];
        assert!(check(&never));
    }

    #[test]
    fn swaps_and_deletions_are_reads_too() {
        let swap = |expected, new, outcome| Op::Swap {
            expected,
            new,
            outcome,
        };
        assert!(check(&[
            (swap(None, 1, Swapped::Yes), 0, Some(1)),
            (swap(None, 2, Swapped::No(Some(1))), 2, Some(3)),
            (Op::Delete(Some(true)), 4, Some(5)),
            (Op::Delete(Some(false)), 6, Some(7)),
        ]));
        assert!(!check(&[
            (swap(None, 1, Swapped::Yes), 0, Some(1)),
            (swap(None, 2, Swapped::Yes), 2, Some(3)),
        ]));
        assert!(!check(&[
            (Op::Put(1), 0, Some(1)),
            (Op::Delete(Some(false)), 2, Some(3)),
        ]));
    }

    #[test]
    fn a_deletion_may_find_an_unknown_write() {
        assert!(check(&[
            (Op::Put(1), 0, None),
            (Op::Delete(Some(true)), 1, Some(2)),
            (Op::Get(None), 3, Some(4)),
        ]));
        assert!(!check(&[
            (Op::Delete(Some(true)), 0, Some(1)),
            (Op::Put(1), 2, None),
        ]));
    }

    #[test]
    fn a_chain_of_unknown_swaps_is_followed() {
        let swap = |expected, new| Op::Swap {
            expected: Some(expected),
            new,
            outcome: Swapped::Unknown,
        };
        assert!(check(&[
            (Op::Put(1), 0, None),
            (swap(1, 2), 1, None),
            (Op::Get(Some(2)), 2, Some(3)),
        ]));
    }
}

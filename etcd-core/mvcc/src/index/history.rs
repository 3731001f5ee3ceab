//! What a key was before its newest change: a persistent list of revisions.

use std::sync::Arc;

use crate::record::Revision;

/// Most revisions in one chunk.
const CHUNK: usize = 64;

/// A superseded change of a key. The rest of what it was stands in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    main: i64,
    /// Sub revision shifted left by one; the lowest bit marks a tombstone.
    sub_tombstone: i64,
}

impl Past {
    pub(crate) fn new(rev: Revision, tombstone: bool) -> Past {
        Past {
            main: rev.main,
            sub_tombstone: rev.sub << 1 | i64::from(tombstone),
        }
    }

    pub(crate) fn rev(self) -> Revision {
        Revision {
            main: self.main,
            sub: self.sub_tombstone >> 1,
        }
    }

    pub(crate) fn tombstone(self) -> bool {
        self.sub_tombstone & 1 == 1
    }
}

/// The superseded changes of one key, newest first. Cloning is one reference;
/// pushing copies at most one chunk, never the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Option<Arc<Chunk>>);

#[derive(Debug)]
struct Chunk {
    /// Ascending; never empty.
    items: Vec<Past>,
    older: Option<Arc<Chunk>>,
}

impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        // A copy is made to be pushed to: leave room for that.
        let mut items = Vec::with_capacity((self.items.len() + 1).next_power_of_two().min(CHUNK));
        items.extend_from_slice(&self.items);
        Chunk {
            items,
            older: self.older.clone(),
        }
    }
}

impl Drop for Chunk {
    /// Unlinks the list step by step: the default would recurse once per chunk
    /// and overflow the stack on a key with a very long history.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut chunk) = next.and_then(Arc::into_inner) {
            next = chunk.older.take();
        }
    }
}

impl History {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many share the newest chunk.
    pub(crate) fn references(&self) -> usize {
        self.0.as_ref().map_or(0, Arc::strong_count)
    }

    /// Puts a change in front: it is newer than all in the list.
    pub(crate) fn push(&mut self, past: Past) {
        match &mut self.0 {
            Some(head) if head.items.len() < CHUNK => Arc::make_mut(head).items.push(past),
            head => {
                let items = if head.is_some() { CHUNK / 4 } else { 1 };
                let mut items = Vec::with_capacity(items);
                items.push(past);
                let older = head.take();
                *head = Some(Arc::new(Chunk { items, older }));
            }
        }
    }

    /// The newest change with a main revision of at most `main`.
    pub(crate) fn at(&self, main: i64) -> Option<Past> {
        let mut link = self.0.as_deref();
        while let Some(chunk) = link {
            match chunk.items.partition_point(|p| p.main <= main) {
                0 => link = chunk.older.as_deref(),
                n => return Some(chunk.items[n - 1]),
            }
        }
        None
    }

    /// Drops what a compaction at `main` makes unreachable: whatever is older
    /// than the newest change up to `main`, and that one too if it is a
    /// tombstone from before `main`. `covered` says that a change outside the
    /// list, newer than all in it, is itself not above `main`: then all goes.
    pub(crate) fn compact(&mut self, main: i64, covered: bool) {
        if covered {
            self.0 = None;
            return;
        }
        let mut link = &mut self.0;
        while let Some(chunk) = link.as_deref() {
            let visible = chunk.items.partition_point(|p| p.main <= main);
            if visible == 0 {
                link = &mut Arc::make_mut(link.as_mut().expect("there is a chunk")).older;
                continue;
            }
            let newest = chunk.items[visible - 1];
            let first = if newest.tombstone() && newest.main < main {
                visible
            } else {
                visible - 1
            };
            if first == chunk.items.len() {
                *link = None;
            } else {
                let chunk = Arc::make_mut(link.as_mut().expect("there is a chunk"));
                chunk.items.drain(..first);
                chunk.items.shrink_to_fit();
                chunk.older = None;
            }
            return;
        }
    }

    /// Whether [`History::compact`] would change anything.
    pub(crate) fn compactable(&self, main: i64, covered: bool) -> bool {
        if covered {
            return !self.is_empty();
        }
        let mut link = self.0.as_deref();
        while let Some(chunk) = link {
            match chunk.items.partition_point(|p| p.main <= main) {
                0 => link = chunk.older.as_deref(),
                n => {
                    let newest = chunk.items[n - 1];
                    return n > 1
                        || chunk.older.is_some()
                        || (newest.tombstone() && newest.main < main);
                }
            }
        }
        false
    }

    /// All changes in the list, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Past> + '_ {
        let mut link = self.0.as_deref();
        let mut left = link.map_or(0, |chunk| chunk.items.len());
        std::iter::from_fn(move || {
            let chunk = link?;
            left -= 1;
            let past = chunk.items[left];
            if left == 0 {
                link = chunk.older.as_deref();
                left = link.map_or(0, |chunk| chunk.items.len());
            }
            Some(past)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn past(main: i64, tombstone: bool) -> Past {
        Past::new(Revision::new(main, 0), tombstone)
    }

    proptest! {
        #[test]
        fn behaves_as_a_list(kinds in proptest::collection::vec(any::<bool>(), 0..200), cut in 0i64..210, probe in 0i64..210) {
            let mut list = Vec::new();
            let mut history = History::default();
            let mut shared = Vec::new();
            for (i, tombstone) in kinds.into_iter().enumerate() {
                let item = past(i as i64 + 1, tombstone);
                if i % 7 == 0 {
                    shared.push((history.clone(), list.clone()));
                }
                history.push(item);
                list.push(item);
            }
            shared.push((history.clone(), list.clone()));
            let newest_up_to = |main: i64| list.iter().copied().rfind(|p| p.rev().main <= main);
            prop_assert_eq!(history.at(probe), newest_up_to(probe));
            let kept: Vec<Past> = match newest_up_to(cut) {
                None => list.clone(),
                Some(n) => list.iter().copied().filter(|p| {
                    p.rev() > n.rev() || (*p == n && (!n.tombstone() || n.rev().main == cut))
                }).collect(),
            };
            prop_assert_eq!(history.compactable(cut, false), kept.len() != list.len());
            history.compact(cut, false);
            prop_assert_eq!(history.iter().collect::<Vec<_>>(), kept.into_iter().rev().collect::<Vec<_>>());
            for (history, list) in shared {
                prop_assert_eq!(history.iter().collect::<Vec<_>>(), list.into_iter().rev().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_long_history_drops_without_recursion() {
        let mut history = History::default();
        for main in 0..2_000_000 {
            history.push(past(main, false));
        }
        drop(history);
    }
}

//! The distinct watched ranges, found by a key inside them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::slab::Slab;
use super::watcher::{KeyRange, RangeEnd};

/// No node.
const NIL: u32 = u32::MAX;

/// A watched range and who watches it.
#[derive(Debug)]
pub(super) struct Range {
    span: KeyRange,
    /// Node in the tree; [`NIL`] for a single key.
    node: u32,
    pub(super) synced: Vec<u32>,
    pub(super) lagging: Vec<u32>,
    /// Positions of the records of the revision at hand that lie in the range;
    /// empty between revisions.
    pub(super) hits: Vec<u32>,
}

/// All ranges: single keys in a map, the others in an interval tree, a treap
/// ordered by first key whose nodes know the greatest end below them.
#[derive(Debug, Default)]
pub(super) struct RangeIndex {
    ranges: Slab<Range>,
    single: BTreeMap<Bytes, u32>,
    nodes: Slab<Node>,
    root: Option<u32>,
    /// Distinct ranges ever put into the tree; the source of its priorities.
    inserted: u32,
}

#[derive(Debug)]
struct Node {
    range: u32,
    key: Bytes,
    /// `None`: unbounded.
    end: Option<Bytes>,
    /// Greatest end in the subtree; `None`: unbounded.
    max_end: Option<Bytes>,
    priority: u32,
    left: u32,
    right: u32,
}

impl RangeIndex {
    /// The index of a range, which is added if it is new.
    pub(super) fn insert(&mut self, span: KeyRange) -> u32 {
        let end = match &span.end {
            RangeEnd::Single => {
                if let Some(&range) = self.single.get(&span.key) {
                    return range;
                }
                let key = span.key.clone();
                let range = self.ranges.insert(Range::new(span, NIL));
                self.single.insert(key, range);
                return range;
            }
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        if let Some(range) = self.find(&span.key, &end) {
            return range;
        }
        let key = span.key.clone();
        let range = self.ranges.insert(Range::new(span, NIL));
        self.inserted = self.inserted.wrapping_add(1);
        let node = self.nodes.insert(Node {
            range,
            key,
            max_end: end.clone(),
            end,
            priority: scramble(self.inserted),
            left: NIL,
            right: NIL,
        });
        self.ranges[range].node = node;
        let root = self.insert_below(self.root.unwrap_or(NIL), node);
        self.root = Some(root);
        range
    }

    /// Removes a range that nobody watches any more.
    pub(super) fn remove(&mut self, range: u32) {
        let Some(removed) = self.ranges.remove(range) else {
            return;
        };
        if removed.node == NIL {
            self.single.remove(&removed.span.key);
            return;
        }
        let root = self.remove_below(self.root.unwrap_or(NIL), removed.node);
        self.root = (root != NIL).then_some(root);
        self.nodes.remove(removed.node);
    }

    /// Appends to `hits` all ranges that hold a key.
    pub(super) fn stab(&self, key: &[u8], hits: &mut Vec<u32>) {
        if let Some(&range) = self.single.get(key) {
            hits.push(range);
        }
        if let Some(root) = self.root {
            self.stab_below(root, key, hits);
        }
    }

    /// The indices of all ranges, ascending.
    pub(super) fn indices(&self) -> Vec<u32> {
        self.ranges.indices().collect()
    }

    fn stab_below(&self, at: u32, key: &[u8], hits: &mut Vec<u32>) {
        if at == NIL {
            return;
        }
        let node = &self.nodes[at];
        if !is_before(key, &node.max_end) {
            return;
        }
        self.stab_below(node.left, key, hits);
        if &node.key[..] <= key {
            if is_before(key, &node.end) {
                hits.push(node.range);
            }
            self.stab_below(node.right, key, hits);
        }
    }

    fn find(&self, key: &Bytes, end: &Option<Bytes>) -> Option<u32> {
        let mut at = self.root?;
        while at != NIL {
            let node = &self.nodes[at];
            at = match order(key, end, node) {
                std::cmp::Ordering::Less => node.left,
                std::cmp::Ordering::Greater => node.right,
                std::cmp::Ordering::Equal => return Some(node.range),
            };
        }
        None
    }

    /// Inserts `new` into the subtree at `at`; returns the subtree's new root.
    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        if self.nodes[new].priority > self.nodes[at].priority {
            let (left, right) = self.split(at, new);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.update(new);
            return new;
        }
        let (key, end) = (self.nodes[new].key.clone(), self.nodes[new].end.clone());
        if order(&key, &end, &self.nodes[at]).is_lt() {
            let left = self.insert_below(self.nodes[at].left, new);
            self.nodes[at].left = left;
        } else {
            let right = self.insert_below(self.nodes[at].right, new);
            self.nodes[at].right = right;
        }
        self.update(at);
        at
    }

    /// Splits the subtree at `at` into what is below and what is above `pivot`.
    fn split(&mut self, at: u32, pivot: u32) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let (key, end) = (&self.nodes[pivot].key, &self.nodes[pivot].end);
        if order(key, end, &self.nodes[at]).is_lt() {
            let (below, above) = self.split(self.nodes[at].left, pivot);
            self.nodes[at].left = above;
            self.update(at);
            (below, at)
        } else {
            let (below, above) = self.split(self.nodes[at].right, pivot);
            self.nodes[at].right = below;
            self.update(at);
            (at, above)
        }
    }

    /// Takes the node `gone` out of the subtree at `at`.
    fn remove_below(&mut self, at: u32, gone: u32) -> u32 {
        if at == NIL {
            return NIL;
        }
        if at == gone {
            return self.merge(self.nodes[at].left, self.nodes[at].right);
        }
        let (key, end) = (&self.nodes[gone].key, &self.nodes[gone].end);
        if order(key, end, &self.nodes[at]).is_lt() {
            let left = self.remove_below(self.nodes[at].left, gone);
            self.nodes[at].left = left;
        } else {
            let right = self.remove_below(self.nodes[at].right, gone);
            self.nodes[at].right = right;
        }
        self.update(at);
        at
    }

    /// Joins two subtrees, all of `left` being below all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.nodes[left].priority > self.nodes[right].priority {
            let below = self.merge(self.nodes[left].right, right);
            self.nodes[left].right = below;
            self.update(left);
            left
        } else {
            let below = self.merge(left, self.nodes[right].left);
            self.nodes[right].left = below;
            self.update(right);
            right
        }
    }

    /// Recomputes a node's greatest end from its own and its children's.
    fn update(&mut self, at: u32) {
        let node = &self.nodes[at];
        let mut max_end = node.end.clone();
        for child in [node.left, node.right] {
            if child != NIL
                && let Some(end) = &max_end
                && self.nodes[child]
                    .max_end
                    .as_ref()
                    .is_none_or(|other| other > end)
            {
                max_end = self.nodes[child].max_end.clone();
            }
        }
        self.nodes[at].max_end = max_end;
    }
}

impl std::ops::Index<u32> for RangeIndex {
    type Output = Range;

    fn index(&self, range: u32) -> &Range {
        &self.ranges[range]
    }
}

impl std::ops::IndexMut<u32> for RangeIndex {
    fn index_mut(&mut self, range: u32) -> &mut Range {
        &mut self.ranges[range]
    }
}

impl Range {
    fn new(span: KeyRange, node: u32) -> Range {
        Range {
            span,
            node,
            synced: Vec::new(),
            lagging: Vec::new(),
            hits: Vec::new(),
        }
    }

    pub(super) fn is_unwatched(&self) -> bool {
        self.synced.is_empty() && self.lagging.is_empty()
    }
}

fn is_before(key: &[u8], end: &Option<Bytes>) -> bool {
    end.as_ref().is_none_or(|end| key < &end[..])
}

/// Orders by first key, then by end, the unbounded one last.
fn order(key: &Bytes, end: &Option<Bytes>, node: &Node) -> std::cmp::Ordering {
    key.cmp(&node.key).then_with(|| match (end, &node.end) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some(_), None) => std::cmp::Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    })
}

/// Spreads a counter over all 32 bits, one to one: priorities that look random
/// balance the tree, and the same calls still give the same tree.
fn scramble(counter: u32) -> u32 {
    let mut x = counter.wrapping_mul(0x9e37_79b9);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(97u8..101, 0..4)
    }

    proptest! {
        /// Against a list that is searched in full, through insertions and removals.
        #[test]
        fn stab_finds_what_a_full_search_finds(
            steps in proptest::collection::vec((key(), key(), 0u8..3, any::<bool>()), 1..60),
            probes in proptest::collection::vec(key(), 1..20),
        ) {
            let mut index = RangeIndex::default();
            let mut model: BTreeMap<u32, KeyRange> = BTreeMap::new();
            for (key, end, kind, add) in steps {
                if !add && let Some((&range, _)) = model.iter().next() {
                    index.remove(range);
                    model.remove(&range);
                    continue;
                }
                let end: &[u8] = match kind { 0 => b"", 1 => b"\0", _ => &end };
                let Ok(span) = KeyRange::from_request(&key, end) else { continue };
                let range = index.insert(span.clone());
                if let Some(known) = model.insert(range, span.clone()) {
                    prop_assert_eq!(known, span);
                }
            }
            for probe in probes {
                let mut hits = Vec::new();
                index.stab(&probe, &mut hits);
                hits.sort_unstable();
                let expected: Vec<u32> = model.iter()
                    .filter(|(_, span)| span.contains(&probe))
                    .map(|(range, _)| *range)
                    .collect();
                prop_assert_eq!(hits, expected);
            }
        }
    }

    #[test]
    fn a_sorted_sequence_of_ranges_stays_shallow() {
        let mut index = RangeIndex::default();
        for i in 0..10_000u32 {
            let key = i.to_be_bytes();
            let end = (i + 1).to_be_bytes();
            let span = KeyRange::from_request(&key, &end).unwrap();
            index.insert(span);
        }
        fn depth(index: &RangeIndex, at: u32) -> usize {
            if at == NIL {
                return 0;
            }
            let node = &index.nodes[at];
            1 + depth(index, node.left).max(depth(index, node.right))
        }
        assert!(depth(&index, index.root.unwrap()) < 60);
    }
}

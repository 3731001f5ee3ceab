//! The tree against a sorted map, with its invariants.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::node::{FANOUT, Node};
use super::{Index, Newest};
use crate::record::Revision;
use crate::span::Span;

fn newest(main: i64, tombstone: bool) -> Newest {
    Newest {
        rev: Revision::new(main, 0),
        tombstone,
        create_revision: i64::from(!tombstone) * main,
        version: i64::from(!tombstone),
        lease: 0,
    }
}

/// Checks order, separators, sizes, depth and counts; returns depth and keys.
fn check(node: &Arc<Node>, low: Option<&[u8]>, high: Option<&[u8]>) -> (usize, usize) {
    match &**node {
        Node::Leaf(leaf) => {
            assert_eq!(leaf.keys.len(), leaf.entries.len());
            assert!(leaf.entries.len() <= FANOUT);
            let keys: Vec<Vec<u8>> = leaf.keys.iter().map(|key| key.to_vec()).collect();
            assert!(keys.is_sorted_by(|a, b| a < b));
            assert!(
                keys.first()
                    .is_none_or(|key| low.is_none_or(|low| &key[..] >= low))
            );
            assert!(
                keys.last()
                    .is_none_or(|key| high.is_none_or(|high| &key[..] < high))
            );
            (0, keys.len())
        }
        Node::Branch(branch) => {
            let count = branch.children.len();
            assert!((1..=FANOUT).contains(&count));
            assert_eq!(
                (branch.separators.len() + 1, branch.live.len()),
                (count, count)
            );
            let separators: Vec<Vec<u8>> =
                branch.separators.iter().map(|key| key.to_vec()).collect();
            let mut keys = 0;
            let mut depths = Vec::new();
            for (i, child) in branch.children.iter().enumerate() {
                let low = if i == 0 {
                    low
                } else {
                    Some(&separators[i - 1][..])
                };
                let high = separators.get(i).map(|key| &key[..]).or(high);
                let (depth, below) = check(child, low, high);
                assert_eq!(branch.live[i], child.live());
                depths.push(depth);
                keys += below;
            }
            assert!(depths.iter().all(|depth| *depth == depths[0]));
            (depths[0] + 1, keys)
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(u16),
    Delete(u16),
    /// Compacts up to the present and removes what is dead.
    Compact,
    Snapshot,
}

fn key(n: u16) -> Vec<u8> {
    // Some keys are prefixes of others.
    format!("/registry/{}", n).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map(
        ops in proptest::collection::vec(prop_oneof![
            60 => (0u16..3000).prop_map(Op::Put),
            30 => (0u16..3000).prop_map(Op::Delete),
            1 => Just(Op::Compact),
            3 => Just(Op::Snapshot),
        ], 0..4000),
        bounds in (0u16..3000, 0u16..3000),
    ) {
        let mut index = Index::new();
        let mut map: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for (i, op) in ops.into_iter().enumerate() {
            let main = i as i64 + 2;
            match op {
                Op::Put(n) | Op::Delete(n) => {
                    let new = newest(main, matches!(op, Op::Delete(_)));
                    let previous = index.upsert(&key(n), |_| new);
                    prop_assert_eq!(previous, map.insert(key(n), new));
                }
                Op::Compact => {
                    for name in map.keys() {
                        index.compact(name, main);
                    }
                    map.retain(|_, newest| !newest.tombstone);
                }
                Op::Snapshot => snapshots.push((index.clone(), map.clone())),
            }
        }
        snapshots.push((index, map));
        let (start, end) = (key(bounds.0), key(bounds.1));
        for (index, map) in &snapshots {
            let (_, keys) = check(&index.root, None, None);
            prop_assert_eq!(keys, map.len());
            for span in [Span::Range(&start, &end), Span::From(&start), Span::From(b""), Span::Key(&start)] {
                let live = map.iter().filter(|(key, newest)| span.contains(key) && !newest.tombstone).count();
                prop_assert_eq!(index.live(span), live as u64);
                if !matches!(span, Span::Key(_)) {
                    let walked: Vec<(Vec<u8>, Newest)> =
                        index.walk(span).map(|(key, entry)| (key.to_vec(), entry.newest())).collect();
                    let expected: Vec<(Vec<u8>, Newest)> =
                        map.iter().filter(|(key, _)| span.contains(key)).map(|(k, n)| (k.clone(), *n)).collect();
                    prop_assert_eq!(walked, expected);
                }
            }
            for name in [&start, &end] {
                prop_assert_eq!(index.get(name).map(|entry| entry.newest()), map.get(name).copied());
            }
        }
    }
}

#[test]
fn shrinks_to_nothing_when_all_keys_are_gone() {
    let mut index = Index::new();
    for n in 0..5000u16 {
        index.upsert(&key(n), |_| newest(2, false));
        index.upsert(&key(n), |_| newest(3, true));
    }
    for n in (0..5000u16).rev() {
        assert!(index.compact(&key(n), 4));
        assert!(!index.compact(&key(n), 4));
    }
    assert_eq!(check(&index.root, None, None), (0, 0));
}

#[test]
fn ascending_keys_fill_the_leaves() {
    let mut index = Index::new();
    for n in 0..10_000u32 {
        index.upsert(format!("{n:08}").as_bytes(), |_| newest(2, false));
    }
    fn leaves(node: &Node) -> usize {
        match node {
            Node::Leaf(_) => 1,
            Node::Branch(branch) => branch.children.iter().map(|child| leaves(child)).sum(),
        }
    }
    assert!(leaves(&index.root) < 10_000 / (FANOUT - 3));
}

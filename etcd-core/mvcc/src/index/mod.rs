//! The index: key -> newest change -> history.
//!
//! A persistent B+tree that counts its live keys. Cloning it costs one
//! reference and yields a snapshot for ever; a change copies the nodes on its
//! path that a snapshot still shares, and works in place on the others. Nodes
//! hold their keys packed in one allocation without the prefix they share, and
//! 48 bytes per entry; what a key was before hangs behind its entry as a list
//! that a put does not copy. The index names revisions, never places, so
//! records may move beneath it.

mod entry;
mod history;
mod node;
mod pack;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use entry::{Entry, Newest};
use node::{Branch, Node};
pub(crate) use pack::KeyRef;
use pack::Pack;
pub(crate) use walk::Walk;

use crate::span::Span;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Index {
    root: Arc<Node>,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index {
            root: Node::empty(),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.root.get(key)
    }

    /// Makes what `make` returns for the key's present newest change, if any,
    /// its newest; returns the present one.
    pub(crate) fn upsert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<Newest>) -> Newest,
    ) -> Option<Newest> {
        let done = Node::upsert(&mut self.root, key, make);
        if let Some((separator, right)) = done.split {
            let separator = KeyRef {
                prefix: &[],
                suffix: &separator,
            };
            let left = std::mem::replace(&mut self.root, Node::empty());
            self.root = Arc::new(Node::Branch(Branch {
                separators: Pack::new(std::iter::once(separator)),
                live: vec![left.live(), right.live()],
                children: vec![left, right],
            }));
        }
        done.previous
    }

    /// Drops of a key what a compaction at `main` makes unreachable. Returns
    /// whether there was anything to drop.
    pub(crate) fn compact(&mut self, key: &[u8], main: i64) -> bool {
        if !self.get(key).is_some_and(|entry| entry.compactable(main)) {
            return false;
        }
        Node::compact(&mut self.root, key, main);
        while let Node::Branch(branch) = &*self.root
            && branch.children.len() == 1
        {
            self.root = branch.children[0].clone();
        }
        true
    }

    /// The entries of a range in key order, tombstones included.
    pub(crate) fn walk<'a>(&'a self, span: Span<'a>) -> Walk<'a> {
        match span.bounds() {
            Some((start, end)) => Walk::new(&self.root, start, end),
            None => Walk::new(&self.root, &[], Some(&[])),
        }
    }

    /// The number of live keys in a range: O(log n).
    pub(crate) fn live(&self, span: Span<'_>) -> u64 {
        match span {
            Span::Key(key) => u64::from(self.get(key).is_some_and(Entry::live)),
            _ => match span.bounds() {
                None => 0,
                Some((start, end)) => {
                    let below_end =
                        end.map_or_else(|| self.root.live(), |end| self.root.live_below(end));
                    below_end - self.root.live_below(start)
                }
            },
        }
    }
}

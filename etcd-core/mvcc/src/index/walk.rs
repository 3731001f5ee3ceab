//! Walking the tree in key order.

use crate::index::entry::Entry;
use crate::index::node::{Branch, Leaf, Node};
use crate::index::pack::KeyRef;

/// Visits the entries of a range in key order, tombstones included.
pub(crate) struct Walk<'a> {
    /// The branches above the leaf, each with the child to visit next.
    path: Vec<(&'a Branch, usize)>,
    leaf: &'a Leaf,
    next: usize,
    /// Where the range ends in this leaf.
    stop: usize,
    end: Option<&'a [u8]>,
}

impl<'a> Walk<'a> {
    /// Begins at the first key not below `start` and ends before `end`, or at
    /// the last key if that is `None`.
    pub(crate) fn new(root: &'a Node, start: &[u8], end: Option<&'a [u8]>) -> Walk<'a> {
        let mut path = Vec::new();
        let mut node = root;
        let leaf = loop {
            match node {
                Node::Branch(branch) => {
                    let child = branch.separators.not_above(start);
                    path.push((branch, child + 1));
                    node = &branch.children[child];
                }
                Node::Leaf(leaf) => break leaf,
            }
        };
        let (Ok(next) | Err(next)) = leaf.keys.search(start);
        Walk {
            path,
            leaf,
            next,
            stop: stop(leaf, end),
            end,
        }
    }

    /// Moves to the leaf on the right; `false` if there is none or the range
    /// has ended before it.
    fn turn(&mut self) -> bool {
        if self.stop < self.leaf.entries.len() {
            return false;
        }
        while let Some((branch, child)) = self.path.pop() {
            let Some(node) = branch.children.get(child) else {
                continue;
            };
            self.path.push((branch, child + 1));
            let mut node: &'a Node = node;
            self.leaf = loop {
                match node {
                    Node::Branch(branch) => {
                        self.path.push((branch, 1));
                        node = &branch.children[0];
                    }
                    Node::Leaf(leaf) => break leaf,
                }
            };
            self.next = 0;
            self.stop = stop(self.leaf, self.end);
            return true;
        }
        false
    }
}

fn stop(leaf: &Leaf, end: Option<&[u8]>) -> usize {
    match end {
        None => leaf.entries.len(),
        Some(end) => {
            let (Ok(at) | Err(at)) = leaf.keys.search(end);
            at
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (KeyRef<'a>, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        while self.next >= self.stop {
            if !self.turn() {
                return None;
            }
        }
        let at = self.next;
        self.next += 1;
        Some((self.leaf.keys.get(at), &self.leaf.entries[at]))
    }
}

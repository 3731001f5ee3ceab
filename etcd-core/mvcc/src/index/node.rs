//! Nodes of the tree and the changes that run down and back up through them.

use std::hint::black_box;
use std::sync::Arc;

use crate::index::entry::{Entry, Newest};
use crate::index::pack::{KeyRef, Pack, common};

/// Most entries of a leaf and most children of a branch. A leaf that a view
/// still holds is copied by the next put to it, so it must stay small; wider
/// nodes make a lower tree.
pub(crate) const FANOUT: usize = 24;
/// A node below this size is merged with a neighbour where both fit.
const SPARSE: usize = FANOUT / 4;
/// Largest result of a merge: leaves room, so that the next put does not split.
const MERGED: usize = FANOUT * 3 / 4;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) keys: Pack,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Branch {
    /// One fewer than children: `separators[i]` is above every key of child `i`
    /// and not above any of child `i + 1`.
    pub(crate) separators: Pack,
    pub(crate) children: Vec<Arc<Node>>,
    /// Live keys below each child.
    pub(crate) live: Vec<u64>,
}

// Copying a node counts one more reference to each thing it points to, and each
// count lies in a cache line of its own. Counting is atomic, so it waits for one
// line after the other; reading all counts first lets the processor fetch the
// lines together, and halves the cost of a put to a node that a view holds.

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        black_box(
            self.entries
                .iter()
                .map(|entry| entry.history.references())
                .sum::<usize>(),
        );
        Leaf {
            keys: self.keys.clone(),
            entries: self.entries.clone(),
        }
    }
}

impl Clone for Branch {
    fn clone(&self) -> Branch {
        black_box(self.children.iter().map(Arc::strong_count).sum::<usize>());
        Branch {
            separators: self.separators.clone(),
            children: self.children.clone(),
            live: self.live.clone(),
        }
    }
}

/// What an upsert did below a node.
pub(crate) struct Upsert {
    /// The change that was newest before.
    pub(crate) previous: Option<Newest>,
    /// Change of the number of live keys: -1, 0 or 1.
    pub(crate) live: i64,
    /// The right half, if the node had to be split, and the separator before it.
    pub(crate) split: Option<(Vec<u8>, Arc<Node>)>,
}

impl Node {
    pub(crate) fn empty() -> Arc<Node> {
        Arc::new(Node::Leaf(Leaf {
            keys: Pack::empty(),
            entries: Vec::new(),
        }))
    }

    /// Entries of a leaf, children of a branch.
    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Branch(branch) => branch.children.len(),
        }
    }

    pub(crate) fn live(&self) -> u64 {
        match self {
            Node::Leaf(leaf) => leaf.entries.iter().filter(|e| e.live()).count() as u64,
            Node::Branch(branch) => branch.live.iter().sum(),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = self;
        loop {
            match node {
                Node::Branch(branch) => node = &branch.children[branch.separators.not_above(key)],
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|i| &leaf.entries[i]),
            }
        }
    }

    /// The number of live keys below `key`.
    pub(crate) fn live_below(&self, key: &[u8]) -> u64 {
        let mut node = self;
        let mut total = 0;
        loop {
            match node {
                Node::Branch(branch) => {
                    let child = branch.separators.not_above(key);
                    total += branch.live[..child].iter().sum::<u64>();
                    node = &branch.children[child];
                }
                Node::Leaf(leaf) => {
                    let (Ok(end) | Err(end)) = leaf.keys.search(key);
                    return total + leaf.entries[..end].iter().filter(|e| e.live()).count() as u64;
                }
            }
        }
    }

    /// Sets the newest change of a key to what `make` returns for the present one.
    pub(crate) fn upsert(
        node: &mut Arc<Node>,
        key: &[u8],
        make: impl FnOnce(Option<Newest>) -> Newest,
    ) -> Upsert {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => leaf.upsert(key, make),
            Node::Branch(branch) => {
                let child = branch.separators.not_above(key);
                let mut done = Node::upsert(&mut branch.children[child], key, make);
                branch.live[child] = branch.live[child].wrapping_add_signed(done.live);
                if let Some((separator, right)) = done.split.take() {
                    done.split = branch.add(child, &separator, right);
                }
                done
            }
        }
    }

    /// Compacts one key; `true` if the node may have become sparse.
    pub(crate) fn compact(node: &mut Arc<Node>, key: &[u8], main: i64) -> bool {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => {
                let Ok(at) = leaf.keys.search(key) else {
                    return false;
                };
                if !leaf.entries[at].dead(main) {
                    leaf.entries[at].compact(main);
                    return false;
                }
                leaf.keys.remove(at);
                leaf.entries.remove(at);
                leaf.entries.len() < SPARSE
            }
            Node::Branch(branch) => {
                // Only tombstones leave the tree: live counts stay as they are.
                let child = branch.separators.not_above(key);
                if !Node::compact(&mut branch.children[child], key, main) {
                    return false;
                }
                branch.merge_around(child);
                branch.children.len() < SPARSE
            }
        }
    }

    /// Merges `right` into `left`, its neighbour of the same height, with the
    /// separator that stood between them.
    fn merge(left: &mut Arc<Node>, separator: KeyRef<'_>, right: &Node) {
        match (Arc::make_mut(left), right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys = Pack::new(left.keys.iter().chain(right.keys.iter()));
                left.entries.extend_from_slice(&right.entries);
            }
            (Node::Branch(left), Node::Branch(right)) => {
                let keys = left.separators.iter().chain(std::iter::once(separator));
                left.separators = Pack::new(keys.chain(right.separators.iter()));
                left.children.extend_from_slice(&right.children);
                left.live.extend_from_slice(&right.live);
            }
            _ => unreachable!("all leaves are equally deep"),
        }
    }
}

impl Leaf {
    fn upsert(&mut self, key: &[u8], make: impl FnOnce(Option<Newest>) -> Newest) -> Upsert {
        match self.keys.search(key) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                let previous = entry.newest();
                let newest = make(Some(previous));
                entry.supersede(newest);
                Upsert {
                    previous: Some(previous),
                    live: i64::from(!newest.tombstone) - i64::from(!previous.tombstone),
                    split: None,
                }
            }
            Err(at) => {
                let newest = make(None);
                self.keys.insert(at, key);
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(4);
                }
                self.entries.insert(at, Entry::new(newest));
                Upsert {
                    previous: None,
                    live: i64::from(!newest.tombstone),
                    split: (self.entries.len() > FANOUT).then(|| self.split(at)),
                }
            }
        }
    }

    /// Moves the upper part into a leaf of its own. Keys that arrive in order
    /// leave full leaves behind.
    fn split(&mut self, inserted: usize) -> (Vec<u8>, Arc<Node>) {
        let at = split_point(self.entries.len(), inserted);
        let separator = separator(self.keys.get(at - 1), self.keys.get(at));
        let right = Leaf {
            keys: self.keys.slice(at..self.keys.len()),
            entries: self.entries.split_off(at),
        };
        self.keys = self.keys.slice(0..at);
        self.entries.shrink_to_fit();
        (separator, Arc::new(Node::Leaf(right)))
    }
}

impl Branch {
    /// Takes the right half of child `child` in; splits if that is too much.
    fn add(
        &mut self,
        child: usize,
        separator: &[u8],
        right: Arc<Node>,
    ) -> Option<(Vec<u8>, Arc<Node>)> {
        let live = right.live();
        self.separators.insert(child, separator);
        self.live[child] -= live;
        self.live.insert(child + 1, live);
        self.children.insert(child + 1, right);
        if self.children.len() <= FANOUT {
            return None;
        }
        let at = split_point(self.children.len(), child + 1);
        let middle = self.separators.get(at - 1).to_vec();
        let right = Branch {
            separators: self.separators.slice(at..self.separators.len()),
            children: self.children.split_off(at),
            live: self.live.split_off(at),
        };
        self.separators = self.separators.slice(0..at - 1);
        Some((middle, Arc::new(Node::Branch(right))))
    }

    /// Merges child `at` with a neighbour, or drops it if it is empty.
    fn merge_around(&mut self, at: usize) {
        if self.children.len() == 1 {
            return;
        }
        if self.children[at].len() == 0 {
            self.children.remove(at);
            self.live.remove(at);
            self.separators.remove(at.saturating_sub(1));
            return;
        }
        for left in [at.wrapping_sub(1), at] {
            let right = left.wrapping_add(1);
            if left >= self.children.len() || right >= self.children.len() {
                continue;
            }
            if self.children[left].len() + self.children[right].len() <= MERGED {
                let taken = self.children.remove(right);
                Node::merge(&mut self.children[left], self.separators.get(left), &taken);
                self.live[left] += self.live.remove(right);
                self.separators.remove(left);
                return;
            }
        }
    }
}

/// Where to split a node of `len` items into which item `inserted` came last:
/// in the middle, but near the end for a run of ascending keys.
fn split_point(len: usize, inserted: usize) -> usize {
    if inserted + 1 == len {
        len - 2
    } else {
        len / 2
    }
}

/// The shortest key above `left` and not above `right`.
fn separator(left: KeyRef<'_>, right: KeyRef<'_>) -> Vec<u8> {
    let mut key = right.to_vec();
    key.truncate(common(&key, left) + 1);
    key
}

//! Sorted keys of one node, packed into one allocation.

use std::cmp::Ordering;
use std::sync::Arc;

/// Bytes before the table of ends: count and length of the common prefix.
const HEADER: usize = 8;

/// An immutable, sorted sequence of byte strings in one shared allocation:
///
/// ```text
/// count u32 | prefix length u32 | end of suffix i, u32, count times | prefix | suffixes
/// ```
///
/// What all keys begin with is stored once. A change builds a new pack, which
/// costs one copy of a few KiB; versions of a node whose keys did not change
/// share it.
#[derive(Clone, Debug)]
pub(crate) struct Pack(Arc<[u8]>);

/// A key inside a pack. Its bytes are `prefix` followed by `suffix`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRef<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) suffix: &'a [u8],
}

impl KeyRef<'_> {
    pub(crate) fn len(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }
}

impl Pack {
    /// Packs keys that are already sorted and distinct.
    pub(crate) fn new<'a>(keys: impl Iterator<Item = KeyRef<'a>> + Clone) -> Pack {
        let mut count = 0usize;
        let mut bytes = 0usize;
        let mut prefix: Option<Vec<u8>> = None;
        for key in keys.clone() {
            count += 1;
            bytes += key.len();
            match &mut prefix {
                None => prefix = Some(key.to_vec()),
                Some(p) => p.truncate(common(p, key)),
            }
        }
        let prefix = prefix.unwrap_or_default();
        let suffixes = bytes - count * prefix.len();
        let mut out = Vec::with_capacity(HEADER + 4 * count + prefix.len() + suffixes);
        out.extend_from_slice(&narrow(count).to_le_bytes());
        out.extend_from_slice(&narrow(prefix.len()).to_le_bytes());
        let mut end = 0;
        for key in keys.clone() {
            end += key.len() - prefix.len();
            out.extend_from_slice(&narrow(end).to_le_bytes());
        }
        out.extend_from_slice(&prefix);
        for key in keys {
            // The common prefix may end inside either part of the key.
            let rest = prefix.len().min(key.prefix.len());
            out.extend_from_slice(&key.prefix[rest..]);
            out.extend_from_slice(&key.suffix[prefix.len() - rest..]);
        }
        Pack(out.into())
    }

    pub(crate) fn empty() -> Pack {
        Pack::new(std::iter::empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.word(0)
    }

    fn word(&self, offset: usize) -> usize {
        let bytes = &self.0[offset..offset + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }

    fn prefix(&self) -> &[u8] {
        let start = HEADER + 4 * self.len();
        &self.0[start..start + self.word(4)]
    }

    fn suffix(&self, i: usize) -> &[u8] {
        let base = HEADER + 4 * self.len() + self.word(4);
        let start = if i == 0 {
            0
        } else {
            self.word(HEADER + 4 * (i - 1))
        };
        &self.0[base + start..base + self.word(HEADER + 4 * i)]
    }

    pub(crate) fn get(&self, i: usize) -> KeyRef<'_> {
        KeyRef {
            prefix: self.prefix(),
            suffix: self.suffix(i),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> + Clone {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Where `key` is (`Ok`) or would be inserted (`Err`).
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let count = self.len();
        let prefix = self.prefix();
        let n = prefix.len().min(key.len());
        match prefix[..n].cmp(&key[..n]) {
            Ordering::Less => return Err(count),
            Ordering::Greater => return Err(0),
            Ordering::Equal if n < prefix.len() => return Err(0),
            Ordering::Equal => {}
        }
        let rest = &key[n..];
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            match self.suffix(middle).cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// The number of keys that are less than or equal to `key`.
    pub(crate) fn not_above(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(i) => i + 1,
            Err(i) => i,
        }
    }

    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        let prefix = self.prefix();
        if self.len() > 1 && key.starts_with(prefix) {
            let added = &key[prefix.len()..];
            *self = self.with_suffix(at, added);
            return;
        }
        let new = KeyRef {
            prefix: &[],
            suffix: key,
        };
        let head = (0..at).map(|i| self.get(i));
        let tail = (at..self.len()).map(|i| self.get(i));
        *self = Pack::new(head.chain(std::iter::once(new)).chain(tail));
    }

    /// As `insert` of a key that begins with the common prefix: plain copies.
    fn with_suffix(&self, at: usize, added: &[u8]) -> Pack {
        let (count, prefix) = (self.len(), self.word(4));
        let base = HEADER + 4 * count;
        let split = if at == 0 {
            0
        } else {
            self.word(HEADER + 4 * (at - 1))
        };
        let mut out = Vec::with_capacity(self.0.len() + 4 + added.len());
        out.extend_from_slice(&narrow(count + 1).to_le_bytes());
        out.extend_from_slice(&self.0[4..HEADER + 4 * at]);
        out.extend_from_slice(&narrow(split + added.len()).to_le_bytes());
        for i in at..count {
            let end = self.word(HEADER + 4 * i) + added.len();
            out.extend_from_slice(&narrow(end).to_le_bytes());
        }
        let split = base + prefix + split;
        out.extend_from_slice(&self.0[base..split]);
        out.extend_from_slice(added);
        out.extend_from_slice(&self.0[split..]);
        Pack(out.into())
    }

    pub(crate) fn remove(&mut self, at: usize) {
        *self = Pack::new((0..self.len()).filter(|&i| i != at).map(|i| self.get(i)));
    }

    /// The keys of `range` as a pack of their own.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Pack {
        Pack::new(range.map(|i| self.get(i)))
    }
}

/// Length of what `a` and `b` have in common at their beginning.
pub(crate) fn common(a: &[u8], b: KeyRef<'_>) -> usize {
    a.iter()
        .zip(b.prefix.iter().chain(b.suffix))
        .take_while(|(x, y)| x == y)
        .count()
}

/// A node holds a few dozen keys of at most some MiB each.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("the keys of one node stay below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn refs<'a>(keys: &'a BTreeSet<Vec<u8>>) -> impl Iterator<Item = KeyRef<'a>> + Clone {
        keys.iter().map(|k| KeyRef {
            prefix: &[],
            suffix: k,
        })
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(
            keys in proptest::collection::btree_set("(ab|abc|b)?[a-c]{0,4}", 0..20),
            probe in "(ab|abc|b)?[a-c]{0,4}",
        ) {
            let keys: BTreeSet<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
            let probe = probe.into_bytes();
            let mut pack = Pack::new(refs(&keys));
            let list: Vec<Vec<u8>> = keys.iter().cloned().collect();
            prop_assert_eq!(pack.iter().map(KeyRef::to_vec).collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(pack.search(&probe), list.binary_search(&probe));
            match pack.search(&probe) {
                Ok(at) => pack.remove(at),
                Err(at) => pack.insert(at, &probe),
            }
            let mut expected = keys;
            if !expected.remove(&probe) {
                expected.insert(probe);
            }
            prop_assert_eq!(pack.iter().map(KeyRef::to_vec).collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}

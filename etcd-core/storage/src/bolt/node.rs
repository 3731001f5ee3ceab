//! One node of a tree: a branch or a leaf with its overflow pages.

use std::ops::Range;

use bytes::Bytes;

use super::meta::{le16, le32, le64};
use super::{BoltError, ELEMENT, ELEMENT_BUCKET, FLAG_BRANCH, FLAG_LEAF, HEADER};

/// A branch or leaf page. Elements are checked when they are asked for.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The page's number; 0 for an inline bucket.
    pub(super) id: u64,
    /// Whether the elements are children rather than rows.
    pub(super) branch: bool,
    /// Number of elements.
    pub(super) count: usize,
    /// The page with its overflow pages, or the inline page.
    pub(super) bytes: Bytes,
}

/// Where the parts of a leaf's element lie in the node's bytes.
pub(super) struct LeafElement {
    /// Whether the value is a bucket.
    pub(super) bucket: bool,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Where a branch's key lies in the node's bytes, and the child it leads to.
pub(super) struct BranchElement {
    pub(super) key: Range<usize>,
    pub(super) child: u64,
}

impl Node {
    /// Reads the header of the node that is all of `bytes`.
    pub(super) fn parse(id: u64, bytes: Bytes) -> Result<Node, BoltError> {
        let fault = |reason| BoltError::Page { page: id, reason };
        if bytes.len() < HEADER {
            return Err(fault("shorter than its header"));
        }
        let branch = match le16(&bytes, 8) {
            FLAG_BRANCH => true,
            FLAG_LEAF => false,
            _ => return Err(fault("neither branch nor leaf")),
        };
        let count = usize::from(le16(&bytes, 10));
        if HEADER + count * ELEMENT > bytes.len() {
            return Err(fault("more elements than fit"));
        }
        if branch && count == 0 {
            return Err(fault("branch without children"));
        }
        Ok(Node {
            id,
            branch,
            count,
            bytes,
        })
    }

    /// The `index`th row of a leaf. Rows lie behind the elements and in their order, as
    /// bbolt writes them; were they let overlap, a small image could hold endless rows.
    pub(super) fn leaf(&self, index: usize) -> Result<LeafElement, BoltError> {
        let (flags, key, value) = self.leaf_bounds(index);
        let free = match index.checked_sub(1) {
            Some(previous) => self.leaf_bounds(previous).2.end,
            None => HEADER + self.count * ELEMENT,
        };
        if key.start < free {
            return Err(self.fault("row overlaps what is before it"));
        }
        if value.end > self.bytes.len() {
            return Err(self.fault("row ends outside its page"));
        }
        Ok(LeafElement {
            bucket: flags & ELEMENT_BUCKET != 0,
            key,
            value,
        })
    }

    /// Flags, key and value of an element, not checked against the node's bounds.
    fn leaf_bounds(&self, index: usize) -> (u32, Range<usize>, Range<usize>) {
        let at = HEADER + index * ELEMENT;
        let start = at + le32(&self.bytes, at + 4) as usize;
        let middle = start + le32(&self.bytes, at + 8) as usize;
        let end = middle + le32(&self.bytes, at + 12) as usize;
        (le32(&self.bytes, at), start..middle, middle..end)
    }

    /// The `index`th child of a branch.
    pub(super) fn child(&self, index: usize) -> Result<BranchElement, BoltError> {
        let at = HEADER + index * ELEMENT;
        let key_start = at + le32(&self.bytes, at) as usize;
        let key_end = key_start + le32(&self.bytes, at + 4) as usize;
        if key_end > self.bytes.len() {
            return Err(self.fault("key ends outside its page"));
        }
        Ok(BranchElement {
            key: key_start..key_end,
            child: le64(&self.bytes, at + 8),
        })
    }

    /// The `index`th key.
    pub(super) fn key(&self, index: usize) -> Result<&[u8], BoltError> {
        let key = if self.branch {
            self.child(index)?.key
        } else {
            self.leaf(index)?.key
        };
        Ok(&self.bytes[key])
    }

    /// Number of keys that are less than `key`, or not greater if `inclusive`.
    pub(super) fn rank(&self, key: &[u8], inclusive: bool) -> Result<usize, BoltError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let below = match self.key(middle)?.cmp(key) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => inclusive,
                std::cmp::Ordering::Greater => false,
            };
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    pub(super) fn fault(&self, reason: &'static str) -> BoltError {
        BoltError::Page {
            page: self.id,
            reason,
        }
    }
}

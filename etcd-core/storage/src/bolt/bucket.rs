//! A bucket: an ordered map of keys to values, as a tree of pages or inline.

use bytes::Bytes;

use super::node::Node;
use super::{BoltError, Image, MAX_DEPTH};

/// One bucket of an [`Image`].
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(super) image: Image,
    pub(super) root: Root,
}

/// Where a bucket's rows are.
#[derive(Debug, Clone)]
pub(super) enum Root {
    Page(u64),
    Inline(Node),
}

/// A key and its value, both slices of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

impl Bucket {
    /// The value of `key`, `None` if the bucket has no such key (or a bucket under it).
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BoltError> {
        Ok(self
            .find(key)?
            .and_then(|(bucket, value)| (!bucket).then_some(value)))
    }

    /// The rows in ascending order of keys, without nested buckets.
    pub fn rows(&self) -> Rows {
        self.rows_of(false, None)
    }

    /// The rows from `key` on, itself included.
    pub fn rows_from(&self, key: &[u8]) -> Rows {
        self.rows_of(false, Some(key))
    }

    /// The last row, without nested buckets behind it; `None` if there is none.
    pub fn last(&self) -> Result<Option<Row>, BoltError> {
        let mut node = self.root_node()?;
        for _ in 0..MAX_DEPTH {
            let Some(index) = node.count.checked_sub(1) else {
                return Ok(None);
            };
            if node.branch {
                node = self.image.node(node.child(index)?.child)?;
                continue;
            }
            let element = node.leaf(index)?;
            let (key, value) = (
                node.bytes.slice(element.key),
                node.bytes.slice(element.value),
            );
            return Ok((!element.bucket).then_some(Row { key, value }));
        }
        Err(BoltError::TooDeep { page: node.id })
    }

    /// The element of `key`: whether it is a bucket, and its value.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<(bool, Bytes)>, BoltError> {
        let mut node = self.root_node()?;
        for _ in 0..MAX_DEPTH {
            if node.branch {
                let index = node.rank(key, true)?.saturating_sub(1);
                node = self.image.node(node.child(index)?.child)?;
                continue;
            }
            let index = node.rank(key, false)?;
            if index == node.count {
                return Ok(None);
            }
            let element = node.leaf(index)?;
            return Ok((&node.bytes[element.key] == key)
                .then(|| (element.bucket, node.bytes.slice(element.value))));
        }
        Err(BoltError::TooDeep { page: node.id })
    }

    /// Rows that are buckets, or rows that are not, from `key` on.
    pub(super) fn rows_of(&self, buckets: bool, key: Option<&[u8]>) -> Rows {
        let mut rows = Rows {
            image: self.image.clone(),
            buckets,
            stack: Vec::new(),
            // A sound tree leads to a page once; this ends walks through others, and
            // bounds what they read.
            budget: self.image.meta.high_water,
            last: None,
            failed: None,
        };
        rows.failed = self
            .root_node()
            .and_then(|root| rows.descend(root, key))
            .err();
        rows
    }

    fn root_node(&self) -> Result<Node, BoltError> {
        match &self.root {
            Root::Page(id) => self.image.node(*id),
            Root::Inline(node) => Ok(node.clone()),
        }
    }
}

/// Iterator over rows in strictly ascending order; ends after the first error.
pub struct Rows {
    image: Image,
    buckets: bool,
    /// From the root to a leaf, each with the element that comes next.
    stack: Vec<(Node, usize)>,
    budget: u64,
    /// The last leaf that was left, to compare the next leaf's first key with its last.
    last: Option<Bytes>,
    failed: Option<BoltError>,
}

impl Rows {
    /// Pushes `node` and its first children down to a leaf, or those that lead to `key`.
    fn descend(&mut self, mut node: Node, key: Option<&[u8]>) -> Result<(), BoltError> {
        loop {
            if self.stack.len() == MAX_DEPTH {
                return Err(BoltError::TooDeep { page: node.id });
            }
            let pages = node.bytes.len() as u64 / u64::from(self.image.meta.page_size);
            let Some(budget) = self.budget.checked_sub(pages.max(1)) else {
                return Err(BoltError::Reused { page: node.id });
            };
            self.budget = budget;
            if !node.branch {
                let index = key.map_or(Ok(0), |key| node.rank(key, false))?;
                self.stack.push((node, index));
                return Ok(());
            }
            let index = key.map_or(Ok(0), |key| node.rank(key, true))?;
            let index = index.saturating_sub(1);
            let child = node.child(index)?.child;
            self.stack.push((node, index + 1));
            node = self.image.node(child)?;
        }
    }

    fn advance(&mut self) -> Result<Option<Row>, BoltError> {
        loop {
            let Some((node, next)) = self.stack.last_mut() else {
                return Ok(None);
            };
            let index = *next;
            if index == node.count {
                self.stack.pop();
                continue;
            }
            *next += 1;
            if node.branch {
                let child = node.child(index)?.child;
                let child = self.image.node(child)?;
                self.descend(child, None)?;
                continue;
            }
            let element = node.leaf(index)?;
            let key = node.bytes.slice(element.key);
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(BoltError::KeyOrder {
                    page: node.id,
                    index,
                });
            }
            self.last = Some(key.clone());
            if element.bucket == self.buckets {
                let value = node.bytes.slice(element.value);
                return Ok(Some(Row { key, value }));
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.failed.take() {
            Some(error) => Err(error),
            None => self.advance(),
        };
        if row.is_err() {
            self.stack.clear();
        }
        row.transpose()
    }
}

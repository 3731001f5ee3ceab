//! The second pass: rows become pages, each written once and in order.

use std::io::Write;

use super::layout::{Layout, check_key, lossy};
use super::meta::heads;
use super::pages::Pages;
use super::tree::{Item, Tree};
use super::{BUCKET_HEADER, ELEMENT_BUCKET, LayoutError, MAX_VALUE_SIZE};

/// Writes the image of a [`Layout`]. It must be given the buckets and rows that were
/// planned, in the same order; whatever differs is an error.
pub struct ImageWriter<'a, W> {
    layout: &'a Layout,
    out: Pages<W>,
    /// Buckets begun so far.
    begun: usize,
    tree: Option<Tree>,
    last_key: Vec<u8>,
}

impl<'a, W: Write> ImageWriter<'a, W> {
    /// Begins the image with its meta pages.
    ///
    /// # Errors
    /// [`LayoutError::Write`].
    pub fn new(layout: &'a Layout, out: W) -> Result<ImageWriter<'a, W>, LayoutError> {
        let mut out = Pages::new(out, 0);
        out.raw(&heads(layout.root, layout.high_water));
        Ok(ImageWriter {
            layout,
            out,
            begun: 0,
            tree: None,
            last_key: Vec::new(),
        })
    }

    /// Begins the next bucket.
    ///
    /// # Errors
    /// [`LayoutError::Mismatch`] if it, or the one before it, is not as planned;
    /// [`LayoutError::Write`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), LayoutError> {
        self.close()?;
        match self.layout.buckets.get(self.begun) {
            Some(plan) if *plan.name == *name => {}
            _ => return Err(mismatch(name)),
        }
        self.begun += 1;
        self.tree = Some(Tree::default());
        self.last_key.clear();
        Ok(())
    }

    /// Writes the next row of the bucket.
    ///
    /// # Errors
    /// [`LayoutError::Order`] if its key is not above the last one,
    /// [`LayoutError::Mismatch`] if the bucket outgrows its plan, and those of
    /// [`super::Planner::row`]; [`LayoutError::Write`].
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayoutError> {
        let tree = self.tree.as_mut().ok_or(LayoutError::NoBucket)?;
        let plan = &self.layout.buckets[self.begun - 1];
        push_row(
            tree,
            &mut self.last_key,
            &plan.name,
            key,
            value,
            &mut self.out,
        )?;
        if self.out.next() > plan.end {
            return Err(mismatch(&plan.name));
        }
        Ok(())
    }

    /// Ends the image and hands back the destination, flushed.
    ///
    /// # Errors
    /// [`LayoutError::Mismatch`] if something planned is missing;
    /// [`LayoutError::Write`].
    pub fn finish(mut self) -> Result<W, LayoutError> {
        self.close()?;
        if let Some(missing) = self.layout.buckets.get(self.begun) {
            return Err(mismatch(&missing.name));
        }
        let roots = self.layout.buckets.iter().map(|b| (&b.name, b.root));
        let root = write_roots(roots, &mut self.out)?;
        // Both passes pack the same names by the same rule.
        debug_assert_eq!(
            (root, self.out.next()),
            (self.layout.root, self.layout.high_water)
        );
        Ok(self.out.finish()?)
    }

    fn close(&mut self) -> Result<(), LayoutError> {
        let Some(tree) = self.tree.take() else {
            return Ok(());
        };
        let plan = &self.layout.buckets[self.begun - 1];
        let root = tree.finish(&mut self.out)?;
        if (root, self.out.next()) != (plan.root, plan.end) {
            return Err(mismatch(&plan.name));
        }
        Ok(())
    }
}

/// Adds a row to a bucket's tree. Its key must be above the last one, which is replaced.
pub(super) fn push_row<W: Write>(
    tree: &mut Tree,
    last_key: &mut Vec<u8>,
    bucket: &[u8],
    key: &[u8],
    value: &[u8],
    out: &mut Pages<W>,
) -> Result<(), LayoutError> {
    check_key(key.len())?;
    if value.len() > MAX_VALUE_SIZE {
        return Err(LayoutError::ValueSize(value.len()));
    }
    if **last_key >= *key {
        return Err(LayoutError::Order {
            bucket: lossy(bucket),
        });
    }
    last_key.clear();
    last_key.extend_from_slice(key);
    let item = Item::Row {
        flags: 0,
        key,
        value,
    };
    tree.push(0, item, out)
}

/// Writes the bucket of buckets, each by its name and root; the page of its own root.
pub(super) fn write_roots<'n, W: Write>(
    buckets: impl Iterator<Item = (&'n Vec<u8>, u64)>,
    out: &mut Pages<W>,
) -> Result<u64, LayoutError> {
    let mut tree = Tree::default();
    for (name, root) in buckets {
        let mut value = [0; BUCKET_HEADER];
        value[..8].copy_from_slice(&root.to_le_bytes());
        let item = Item::Row {
            flags: ELEMENT_BUCKET,
            key: name,
            value: &value,
        };
        tree.push(0, item, out)?;
    }
    tree.finish(out)
}

fn mismatch(name: &[u8]) -> LayoutError {
    LayoutError::Mismatch {
        bucket: lossy(name),
    }
}

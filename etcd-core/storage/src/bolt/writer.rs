//! The second pass: rows become pages, each written once and in order.

use std::io::Write;

use super::layout::{BucketPlan, Layout, Packer, check_key, lossy};
use super::meta::Meta;
use super::{
    BUCKET_HEADER, ELEMENT, ELEMENT_BUCKET, FLAG_BRANCH, FLAG_LEAF, HEADER, LayoutError,
    MAX_VALUE_SIZE, NO_FREELIST, PAGE_SIZE,
};

/// Bytes gathered before the destination is written to.
const WRITE_SIZE: usize = 128 * 1024;

/// Transaction of the image. An even one is the first meta page's own, so the next
/// transaction overwrites the other, older one.
const TXID: u64 = 2;

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
        let mut out = Pages {
            out,
            buffer: Vec::with_capacity(WRITE_SIZE + 4 * PAGE_SIZE),
            next: 0,
        };
        for page in 0..2 {
            let meta = Meta {
                page_size: PAGE_SIZE as u32,
                root: layout.root,
                freelist: NO_FREELIST,
                high_water: layout.high_water,
                txid: TXID - page,
            };
            meta.encode(page, &mut out.buffer);
            out.next += 1;
        }
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
        check_key(key.len())?;
        if value.len() > MAX_VALUE_SIZE {
            return Err(LayoutError::ValueSize(value.len()));
        }
        if *self.last_key >= *key {
            return Err(LayoutError::Order {
                bucket: lossy(&plan.name),
            });
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        tree.push(
            0,
            Item::Row {
                flags: 0,
                key,
                value,
            },
            &mut self.out,
        )?;
        if self.out.next > plan.end {
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
        let mut tree = Tree::default();
        for BucketPlan { name, root, .. } in &self.layout.buckets {
            let mut value = [0; BUCKET_HEADER];
            value[..8].copy_from_slice(&root.to_le_bytes());
            let item = Item::Row {
                flags: ELEMENT_BUCKET,
                key: name,
                value: &value,
            };
            tree.push(0, item, &mut self.out)?;
        }
        let root = tree.finish(&mut self.out)?;
        // Both passes pack the same names by the same rule.
        debug_assert_eq!(
            (root, self.out.next),
            (self.layout.root, self.layout.high_water)
        );
        self.out.flush()?;
        self.out.out.flush()?;
        Ok(self.out.out)
    }

    fn close(&mut self) -> Result<(), LayoutError> {
        let Some(tree) = self.tree.take() else {
            return Ok(());
        };
        let plan = &self.layout.buckets[self.begun - 1];
        let root = tree.finish(&mut self.out)?;
        if (root, self.out.next) != (plan.root, plan.end) {
            return Err(mismatch(&plan.name));
        }
        Ok(())
    }
}

/// An element on its way into a node.
enum Item<'a> {
    Row {
        flags: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Child {
        key: &'a [u8],
        page: u64,
    },
}

/// The open node of each level of a tree.
#[derive(Default)]
struct Tree {
    levels: Vec<Level>,
}

struct Level {
    packer: Packer,
    closed: u64,
    first_key: Vec<u8>,
    /// The elements, their positions still relative to `data`.
    elements: Vec<u8>,
    /// Keys and values.
    data: Vec<u8>,
}

impl Tree {
    fn level(&mut self, level: usize) -> &mut Level {
        while self.levels.len() <= level {
            self.levels.push(Level {
                packer: Packer::new(self.levels.len()),
                closed: 0,
                first_key: Vec::new(),
                elements: Vec::new(),
                data: Vec::new(),
            });
        }
        &mut self.levels[level]
    }

    fn push<W: Write>(
        &mut self,
        level: usize,
        item: Item<'_>,
        out: &mut Pages<W>,
    ) -> Result<(), LayoutError> {
        let (key, value) = match item {
            Item::Row { key, value, .. } => (key, value),
            Item::Child { key, .. } => (key, &[][..]),
        };
        let len = key.len() + value.len();
        if !self.level(level).packer.admits(len) {
            self.promote(level, out)?;
        }
        let node = self.level(level);
        if node.packer.count == 0 {
            node.first_key.clear();
            node.first_key.extend_from_slice(key);
        }
        node.packer.add(len);
        let position = node.data.len() as u32;
        let elements = &mut node.elements;
        match item {
            Item::Row { flags, .. } => {
                elements.extend_from_slice(&flags.to_le_bytes());
                elements.extend_from_slice(&position.to_le_bytes());
                elements.extend_from_slice(&(key.len() as u32).to_le_bytes());
                elements.extend_from_slice(&(value.len() as u32).to_le_bytes());
            }
            Item::Child { page, .. } => {
                elements.extend_from_slice(&position.to_le_bytes());
                elements.extend_from_slice(&(key.len() as u32).to_le_bytes());
                elements.extend_from_slice(&page.to_le_bytes());
            }
        }
        node.data.extend_from_slice(key);
        node.data.extend_from_slice(value);
        Ok(())
    }

    /// Writes a level's node and refers to it from the level above.
    fn promote<W: Write>(&mut self, level: usize, out: &mut Pages<W>) -> Result<(), LayoutError> {
        let page = self.write(level, out)?;
        let key = std::mem::take(&mut self.levels[level].first_key);
        self.push(level + 1, Item::Child { key: &key, page }, out)?;
        self.levels[level].first_key = key;
        Ok(())
    }

    /// Writes a level's node; its page.
    fn write<W: Write>(&mut self, level: usize, out: &mut Pages<W>) -> Result<u64, LayoutError> {
        let node = self.level(level);
        let count = node.packer.count;
        let pages = node.packer.close();
        node.closed += 1;
        let (flags, position_at) = match level {
            0 => (FLAG_LEAF, 4),
            _ => (FLAG_BRANCH, 0),
        };
        // A position counts from its element to the data behind the last element.
        for (index, element) in node.elements.chunks_exact_mut(ELEMENT).enumerate() {
            let field = &mut element[position_at..position_at + 4];
            let position = super::meta::le32(field, 0) + ((count - index) * ELEMENT) as u32;
            field.copy_from_slice(&position.to_le_bytes());
        }
        let page = out.node(flags, count as u16, pages, &node.elements, &node.data)?;
        node.elements.clear();
        node.data.clear();
        Ok(page)
    }

    /// Writes what is open; the root's page.
    fn finish<W: Write>(mut self, out: &mut Pages<W>) -> Result<u64, LayoutError> {
        let mut level = 0;
        while self.level(level).closed > 0 {
            self.promote(level, out)?;
            level += 1;
        }
        self.write(level, out)
    }
}

/// Pages on their way to the destination.
struct Pages<W> {
    out: W,
    buffer: Vec<u8>,
    /// Number of the next page.
    next: u64,
}

impl<W: Write> Pages<W> {
    fn node(
        &mut self,
        flags: u16,
        count: u16,
        pages: u64,
        elements: &[u8],
        data: &[u8],
    ) -> Result<u64, LayoutError> {
        let page = self.next;
        let end = self.buffer.len() + pages as usize * PAGE_SIZE;
        self.buffer.extend_from_slice(&page.to_le_bytes());
        self.buffer.extend_from_slice(&flags.to_le_bytes());
        self.buffer.extend_from_slice(&count.to_le_bytes());
        let overflow = (pages - 1) as u32;
        self.buffer.extend_from_slice(&overflow.to_le_bytes());
        self.buffer.extend_from_slice(elements);
        self.buffer.extend_from_slice(data);
        debug_assert!(self.buffer.len() <= end && elements.len() + data.len() + HEADER > 0);
        self.buffer.resize(end, 0);
        self.next += pages;
        if self.buffer.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok(page)
    }

    fn flush(&mut self) -> Result<(), LayoutError> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn mismatch(name: &[u8]) -> LayoutError {
    LayoutError::Mismatch {
        bucket: lossy(name),
    }
}

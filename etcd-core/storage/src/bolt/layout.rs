//! The first pass: from sizes alone, which rows share a page and where each bucket ends.

use super::BUCKET_HEADER;
use super::{ELEMENT, HEADER, LayoutError, MAX_KEY_SIZE, MAX_VALUE_SIZE, PAGE_SIZE};

/// Pages before the first bucket: the two metas.
pub(super) const FIRST_PAGE: u64 = 2;

/// Elements that a node takes even if it overflows. bbolt does not split such small
/// nodes either; so values of a few KiB share their pages' rests, and every level of
/// a tree has at most a quarter of the nodes of the one below.
const MIN_ELEMENTS: usize = 4;

/// A leaf of this size in bytes overflows no further to take another row.
const LEAF_LIMIT: usize = 4 * PAGE_SIZE;

/// Decides which elements share a node.
#[derive(Debug, Clone)]
pub(super) struct Packer {
    /// Bytes of the open node, its header included.
    pub(super) used: usize,
    /// Elements of the open node.
    pub(super) count: usize,
    limit: usize,
}

impl Packer {
    /// For level 0 (leaves) or one above.
    pub(super) fn new(level: usize) -> Packer {
        Packer {
            used: HEADER,
            count: 0,
            limit: if level == 0 { LEAF_LIMIT } else { usize::MAX },
        }
    }

    /// Whether the open node takes an element with `len` bytes of key and value.
    pub(super) fn admits(&self, len: usize) -> bool {
        let end = self.used + ELEMENT + len;
        end <= self.pages() as usize * PAGE_SIZE
            || self.count == 0
            || (self.count < MIN_ELEMENTS && self.used < self.limit)
    }

    /// Adds such an element.
    pub(super) fn add(&mut self, len: usize) {
        self.used += ELEMENT + len;
        self.count += 1;
    }

    /// Pages of the open node, overflow included.
    pub(super) fn pages(&self) -> u64 {
        self.used.div_ceil(PAGE_SIZE) as u64
    }

    /// Closes the node and returns its pages.
    pub(super) fn close(&mut self) -> u64 {
        let pages = self.pages();
        self.used = HEADER;
        self.count = 0;
        pages
    }
}

/// One tree while its sizes are counted. A node is numbered when it closes, so a
/// branch follows its last child, and the root is the tree's last node.
#[derive(Debug)]
struct TreePlan {
    levels: Vec<LevelPlan>,
    next_page: u64,
}

#[derive(Debug)]
struct LevelPlan {
    packer: Packer,
    first_key: usize,
    closed: u64,
}

impl TreePlan {
    fn new(next_page: u64) -> TreePlan {
        let mut tree = TreePlan {
            levels: Vec::new(),
            next_page,
        };
        tree.grow();
        tree
    }

    fn grow(&mut self) {
        self.levels.push(LevelPlan {
            packer: Packer::new(self.levels.len()),
            first_key: 0,
            closed: 0,
        });
    }

    fn push(&mut self, level: usize, key: usize, value: usize) {
        if level == self.levels.len() {
            self.grow();
        }
        if !self.levels[level].packer.admits(key + value) {
            let (first_key, _) = self.close(level);
            self.push(level + 1, first_key, 0);
        }
        let level = &mut self.levels[level];
        if level.packer.count == 0 {
            level.first_key = key;
        }
        level.packer.add(key + value);
    }

    /// Closes a level's node; the length of its first key, and its page.
    fn close(&mut self, level: usize) -> (usize, u64) {
        let level = &mut self.levels[level];
        let page = self.next_page;
        self.next_page += level.packer.close();
        level.closed += 1;
        (level.first_key, page)
    }

    /// Closes all nodes; the root's page and the first page after the tree.
    fn finish(mut self) -> (u64, u64) {
        let mut level = 0;
        loop {
            let (first_key, page) = self.close(level);
            if self.levels[level].closed == 1 {
                return (page, self.next_page);
            }
            self.push(level + 1, first_key, 0);
            level += 1;
        }
    }
}

/// Where one bucket lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BucketPlan {
    pub(super) name: Vec<u8>,
    /// Page of the tree's root.
    pub(super) root: u64,
    /// First page after the tree.
    pub(super) end: u64,
}

/// The first pass: takes names of buckets and sizes of rows, in the order in which
/// they will be written, and yields the [`Layout`].
#[derive(Debug, Default)]
pub struct Planner {
    buckets: Vec<BucketPlan>,
    open: Option<(Vec<u8>, TreePlan)>,
}

impl Planner {
    /// A plan without buckets.
    pub fn new() -> Planner {
        Planner::default()
    }

    /// Begins the next bucket. Names ascend strictly.
    ///
    /// # Errors
    /// [`LayoutError::KeySize`] or [`LayoutError::Order`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), LayoutError> {
        check_key(name.len())?;
        self.close();
        if self.buckets.last().is_some_and(|last| *last.name >= *name) {
            return Err(LayoutError::Order {
                bucket: lossy(name),
            });
        }
        let page = self.buckets.last().map_or(FIRST_PAGE, |last| last.end);
        self.open = Some((name.to_vec(), TreePlan::new(page)));
        Ok(())
    }

    /// Adds a row of the bucket, by the bytes of its key and of its value.
    ///
    /// # Errors
    /// [`LayoutError::KeySize`], [`LayoutError::ValueSize`] or [`LayoutError::NoBucket`].
    pub fn row(&mut self, key: usize, value: usize) -> Result<(), LayoutError> {
        check_key(key)?;
        if value > MAX_VALUE_SIZE {
            return Err(LayoutError::ValueSize(value));
        }
        let (_, tree) = self.open.as_mut().ok_or(LayoutError::NoBucket)?;
        tree.push(0, key, value);
        Ok(())
    }

    /// Ends the plan.
    pub fn finish(mut self) -> Layout {
        self.close();
        let page = self.buckets.last().map_or(FIRST_PAGE, |last| last.end);
        let mut tree = TreePlan::new(page);
        for bucket in &self.buckets {
            tree.push(0, bucket.name.len(), BUCKET_HEADER);
        }
        let (root, high_water) = tree.finish();
        Layout {
            buckets: self.buckets,
            root,
            high_water,
        }
    }

    fn close(&mut self) {
        if let Some((name, tree)) = self.open.take() {
            let (root, end) = tree.finish();
            self.buckets.push(BucketPlan { name, root, end });
        }
    }
}

/// A planned image: how long it is, and where its buckets lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) buckets: Vec<BucketPlan>,
    pub(super) root: u64,
    pub(super) high_water: u64,
}

impl Layout {
    /// Exact length of the image in bytes, without a trailer.
    pub fn total_size(&self) -> u64 {
        self.high_water * PAGE_SIZE as u64
    }
}

/// Checks the length of a key or of a bucket's name.
pub(super) fn check_key(len: usize) -> Result<(), LayoutError> {
    match len {
        1..=MAX_KEY_SIZE => Ok(()),
        _ => Err(LayoutError::KeySize(len)),
    }
}

/// A name for an error's text.
pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

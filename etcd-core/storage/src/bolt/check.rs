//! The full check of an image: what bbolt's own check looks for.

use super::bucket::Root;
use super::meta::{le16, le64};
use super::node::Node;
use super::{BoltError, Bucket, FLAG_FREELIST, HEADER, Image, MAX_DEPTH};

/// Errors after which a check ends: an image so broken needs no longer list.
const MAX_ERRORS: usize = 1000;

impl Image {
    /// Checks every page: in use once or free, of the right kind, keys strictly
    /// ascending and within what the branch above allows. Returns what is wrong, the
    /// first 1000 findings; empty for a sound image.
    pub fn check(&self) -> Vec<BoltError> {
        let mut check = Check {
            image: self,
            used: Bits::new(self.meta.high_water),
            errors: Vec::new(),
        };
        check.used.set(0);
        check.used.set(1);
        check.freelist();
        check.bucket(&self.root(), 0);
        // Without a stored freelist whatever is unreachable is free.
        if self.meta.stored_freelist().is_some() && check.errors.is_empty() {
            check.errors = (0..self.meta.high_water)
                .filter(|page| !check.used.get(*page))
                .map(|page| BoltError::Unreachable { page })
                .take(MAX_ERRORS)
                .collect();
        }
        check.errors
    }
}

struct Check<'a> {
    image: &'a Image,
    /// Per page whether something refers to it.
    used: Bits,
    errors: Vec<BoltError>,
}

impl Check<'_> {
    fn report(&mut self, error: BoltError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// Marks pages as used; false if one already was.
    fn claim(&mut self, first: u64, pages: u64) -> bool {
        for page in first..first + pages {
            if self.used.set(page) {
                self.report(BoltError::Reused { page });
                return false;
            }
        }
        true
    }

    /// Marks the stored freelist and the pages it lists.
    fn freelist(&mut self) {
        let Some(page) = self.image.meta.stored_freelist() else {
            return;
        };
        let reason = "not a sound freelist";
        let bytes = match self.image.span(page) {
            Ok(span) if span.flags != FLAG_FREELIST => {
                return self.report(BoltError::Page { page, reason });
            }
            Ok(span) if self.claim(page, span.pages) => self.image.bytes(&span),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return self.report(error),
        };
        let (count, list) = match le16(&bytes, HEADER - 6) {
            u16::MAX => (le64(&bytes, HEADER), &bytes[HEADER + 8..]),
            count => (u64::from(count), &bytes[HEADER..]),
        };
        if count > list.len() as u64 / 8 {
            return self.report(BoltError::Page { page, reason });
        }
        for item in list.chunks_exact(8).take(count as usize) {
            let free = le64(item, 0);
            if free < 2 || free >= self.image.meta.high_water {
                self.report(BoltError::NoSuchPage { page: free });
            } else {
                self.claim(free, 1);
            }
        }
    }

    fn bucket(&mut self, bucket: &Bucket, depth: usize) {
        match &bucket.root {
            Root::Page(id) => self.page(*id, None, None, depth),
            Root::Inline(node) => self.node(node, None, None, depth),
        }
    }

    fn page(&mut self, id: u64, low: Option<&[u8]>, high: Option<&[u8]>, depth: usize) {
        if depth == MAX_DEPTH {
            return self.report(BoltError::TooDeep { page: id });
        }
        let span = match self.image.span(id) {
            Ok(span) => span,
            Err(error) => return self.report(error),
        };
        if !self.claim(id, span.pages) {
            return;
        }
        match self.image.node_at(&span) {
            Ok(node) => self.node(&node, low, high, depth),
            Err(error) => self.report(error),
        }
    }

    /// Checks a node whose keys must lie in `low..high`, and all below it.
    fn node(&mut self, node: &Node, low: Option<&[u8]>, high: Option<&[u8]>, depth: usize) {
        for index in 0..node.count {
            if self.errors.len() >= MAX_ERRORS {
                return;
            }
            if let Err(error) = self.element(node, index, low, high, depth) {
                self.report(error);
            }
        }
    }

    fn element(
        &mut self,
        node: &Node,
        index: usize,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        depth: usize,
    ) -> Result<(), BoltError> {
        let key = node.key(index)?;
        let after = match index.checked_sub(1) {
            Some(previous) => node.key(previous)? < key,
            None => low.is_none_or(|low| low <= key),
        };
        if !after || high.is_some_and(|high| key >= high) {
            let page = node.id;
            self.report(BoltError::KeyOrder { page, index });
        }
        if node.branch {
            let next = match index + 1 {
                next if next < node.count => Some(node.key(next)?),
                _ => high,
            };
            self.page(node.child(index)?.child, Some(key), next, depth + 1);
            return Ok(());
        }
        let element = node.leaf(index)?;
        if element.bucket {
            if depth + 1 == MAX_DEPTH {
                return Err(BoltError::TooDeep { page: node.id });
            }
            let bucket = Bucket::parse(self.image, &node.bytes.slice(element.value))?;
            self.bucket(&bucket, depth + 1);
        }
        Ok(())
    }
}

/// A bit for each page.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Bits {
        Bits(vec![0; count.div_ceil(64) as usize])
    }

    fn get(&self, at: u64) -> bool {
        self.0[(at / 64) as usize] & (1 << (at % 64)) != 0
    }

    /// Sets a bit; whether it was set before.
    fn set(&mut self, at: u64) -> bool {
        let was = self.get(at);
        self.0[(at / 64) as usize] |= 1 << (at % 64);
        was
    }
}

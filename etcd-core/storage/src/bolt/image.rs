//! A whole bbolt image: the choice of its meta page, and access to its pages.

use std::sync::Arc;

use bytes::Bytes;

use super::bucket::{Bucket, Root, Rows};
use super::meta::{META_END, Meta, PAGE_SIZES, le16, le32, le64};
use super::node::Node;
use super::source::Source;
use super::{BUCKET_HEADER, BoltError, FLAG_BRANCH, HEADER};
use crate::disk::File;

/// The longest branch, in bytes, that is read. bbolt splits a branch of more than four
/// keys that is longer than a page, so none comes near it.
pub(super) const BRANCH_BYTES_MAX: u64 = 1 << 20;

/// The longest of all other pages, in bytes, that is read: four values as large as
/// etcd can be made to take.
pub(super) const PAGE_BYTES_MAX: u64 = 256 << 20;

/// An opened bbolt image. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) source: Source,
    pub(super) meta: Meta,
}

impl Image {
    /// Opens the bytes of a bbolt file. What follows the last page (etcd's SHA-256
    /// trailer, space preallocated) is left alone.
    ///
    /// # Errors
    /// [`BoltError::NoMeta`] if neither meta page is valid, [`BoltError::Truncated`] if
    /// the file is shorter than the newest valid one says.
    pub fn open(bytes: Bytes) -> Result<Image, BoltError> {
        Image::of(Source::Memory(bytes))
    }

    /// Opens a file, of which only the pages that are looked at are read into memory:
    /// one of each level of a tree at a time. The file must not change meanwhile.
    ///
    /// # Errors
    /// As [`Image::open`], and [`BoltError::Read`].
    pub fn open_file(file: Arc<dyn File>) -> Result<Image, BoltError> {
        let len = file.len().map_err(|e| BoltError::Read {
            at: 0,
            reason: e.to_string(),
        })?;
        Image::of(Source::File { file, len })
    }

    fn of(source: Source) -> Result<Image, BoltError> {
        let len = source.len();
        let head = source.read(0, len.min(HEAD_BYTES) as usize)?;
        let meta = newest_meta(&head).ok_or(BoltError::NoMeta { len })?;
        let need = meta.high_water.saturating_mul(u64::from(meta.page_size));
        if meta.high_water < 3 || need > len {
            return Err(BoltError::Truncated {
                have: len,
                need: need.max(3 * u64::from(meta.page_size)),
            });
        }
        Ok(Image { source, meta })
    }

    /// Length in bytes of the database itself: pages up to the high-water mark.
    pub fn size(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_size)
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// Number of the transaction that wrote this state.
    pub fn txid(&self) -> u64 {
        self.meta.txid
    }

    /// The top-level bucket of that name, `None` if there is none.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BoltError> {
        let root = self.root();
        match root.find(name)? {
            Some((true, value)) => Bucket::parse(self, &value).map(Some),
            _ => Ok(None),
        }
    }

    /// All top-level buckets in the order of their names.
    pub fn buckets(&self) -> Buckets {
        Buckets {
            image: self.clone(),
            rows: self.root().rows_of(true, None),
        }
    }

    /// The bucket that holds the buckets.
    pub(super) fn root(&self) -> Bucket {
        Bucket {
            image: self.clone(),
            root: Root::Page(self.meta.root),
        }
    }

    /// Where a page is that is in bounds and bears its own number.
    pub(super) fn span(&self, id: u64) -> Result<Span, BoltError> {
        if id < 2 || id >= self.meta.high_water {
            return Err(BoltError::NoSuchPage { page: id });
        }
        // No overflow, as the high-water mark was compared with the length.
        let start = id * u64::from(self.meta.page_size);
        let head = self.source.read(start, HEADER)?;
        if le64(&head, 0) != id {
            return Err(BoltError::Page {
                page: id,
                reason: "bears another page's number",
            });
        }
        let pages = 1 + u64::from(le32(&head, 12));
        if pages > self.meta.high_water - id {
            return Err(BoltError::Page {
                page: id,
                reason: "overflows the image",
            });
        }
        Ok(Span {
            page: id,
            start,
            pages,
            flags: le16(&head, 8),
        })
    }

    /// The bytes of a page and those that it overflows into.
    ///
    /// # Errors
    /// [`BoltError::TooLarge`] if no sound page is so long.
    pub(super) fn bytes(&self, span: &Span) -> Result<Bytes, BoltError> {
        let bytes = span.pages * u64::from(self.meta.page_size);
        let limit = match span.flags {
            FLAG_BRANCH => BRANCH_BYTES_MAX,
            _ => PAGE_BYTES_MAX,
        };
        if bytes > limit {
            let page = span.page;
            return Err(BoltError::TooLarge { page, bytes, limit });
        }
        self.source.read(span.start, bytes as usize)
    }

    /// The branch or leaf at page `id`.
    pub(super) fn node(&self, id: u64) -> Result<Node, BoltError> {
        self.node_at(&self.span(id)?)
    }

    /// The branch or leaf there.
    pub(super) fn node_at(&self, span: &Span) -> Result<Node, BoltError> {
        Node::parse(span.page, self.bytes(span)?)
    }
}

/// Where a page is, and what its header says.
pub(super) struct Span {
    pub(super) page: u64,
    /// Its first byte.
    pub(super) start: u64,
    /// Itself and those it overflows into.
    pub(super) pages: u64,
    pub(super) flags: u16,
}

/// Iterator over the top-level buckets; ends after the first error.
pub struct Buckets {
    image: Image,
    rows: Rows,
}

impl Iterator for Buckets {
    type Item = Result<(Bytes, Bucket), BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        Some(Bucket::parse(&self.image, &row.value).map(|bucket| (row.key, bucket)))
    }
}

impl Bucket {
    /// Reads the bucket that is a leaf element's value.
    pub(super) fn parse(image: &Image, value: &Bytes) -> Result<Bucket, BoltError> {
        if value.len() < BUCKET_HEADER {
            return Err(BoltError::Page {
                page: 0,
                reason: "bucket shorter than its header",
            });
        }
        let root = match le64(value, 0) {
            0 => {
                let node = Node::parse(0, value.slice(BUCKET_HEADER..))?;
                if node.branch {
                    return Err(node.fault("inline bucket is not a leaf"));
                }
                Root::Inline(node)
            }
            page => Root::Page(page),
        };
        Ok(Bucket {
            image: image.clone(),
            root,
        })
    }
}

/// Bytes in which both meta pages lie, whatever the size of a page.
const HEAD_BYTES: u64 = *PAGE_SIZES.end() as u64 + META_END as u64;

/// Of the valid meta pages the one of the highest transaction.
fn newest_meta(bytes: &[u8]) -> Option<Meta> {
    let first = Meta::decode(bytes);
    // Where the second one begins depends on the page size; without a first one try all.
    let sizes = match first {
        Some(meta) => meta.page_size..=meta.page_size,
        None => PAGE_SIZES,
    };
    let second = std::iter::successors(Some(*sizes.start()), |size| Some(size * 2))
        .take_while(|size| sizes.contains(size))
        .find_map(|size| {
            let page = bytes.get(size as usize..size as usize + META_END)?;
            Meta::decode(page).filter(|meta| meta.page_size == size)
        });
    first.into_iter().chain(second).max_by_key(|meta| meta.txid)
}

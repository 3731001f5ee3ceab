//! A whole bbolt image: the choice of its meta page, and access to its pages.

use bytes::Bytes;

use super::bucket::{Bucket, Root, Rows};
use super::meta::{META_END, Meta, le16, le32, le64};
use super::node::Node;
use super::{BUCKET_HEADER, BoltError, HEADER};

/// An opened bbolt image. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) bytes: Bytes,
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
        let meta = newest_meta(&bytes).ok_or(BoltError::NoMeta { len: bytes.len() })?;
        let need = meta.high_water.saturating_mul(u64::from(meta.page_size));
        if meta.high_water < 3 || need > bytes.len() as u64 {
            return Err(BoltError::Truncated {
                have: bytes.len() as u64,
                need: need.max(3 * u64::from(meta.page_size)),
            });
        }
        Ok(Image { bytes, meta })
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

    /// First byte and pages, overflow included, of a page that is in bounds and bears
    /// its own number.
    pub(super) fn span(&self, id: u64) -> Result<(usize, u64), BoltError> {
        if id < 2 || id >= self.meta.high_water {
            return Err(BoltError::NoSuchPage { page: id });
        }
        // In bounds of memory, as `open` has compared the high-water mark with the length.
        let start = id as usize * self.meta.page_size as usize;
        if le64(&self.bytes, start) != id {
            return Err(BoltError::Page {
                page: id,
                reason: "bears another page's number",
            });
        }
        let pages = 1 + u64::from(le32(&self.bytes, start + 12));
        if pages > self.meta.high_water - id {
            return Err(BoltError::Page {
                page: id,
                reason: "overflows the image",
            });
        }
        Ok((start, pages))
    }

    /// The branch or leaf at page `id`.
    pub(super) fn node(&self, id: u64) -> Result<Node, BoltError> {
        let (start, pages) = self.span(id)?;
        let end = start + pages as usize * self.meta.page_size as usize;
        Node::parse(id, self.bytes.slice(start..end))
    }

    /// Flags of a page for which [`Image::span`] has succeeded.
    pub(super) fn flags(&self, start: usize) -> u16 {
        le16(&self.bytes, start + HEADER / 2)
    }
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

/// Of the valid meta pages the one of the highest transaction.
fn newest_meta(bytes: &[u8]) -> Option<Meta> {
    let first = Meta::decode(bytes);
    // Where the second one begins depends on the page size; without a first one try all.
    let sizes = match first {
        Some(meta) => meta.page_size..=meta.page_size,
        None => 512..=65536,
    };
    let second = std::iter::successors(Some(*sizes.start()), |size| Some(size * 2))
        .take_while(|size| sizes.contains(size))
        .find_map(|size| {
            let page = bytes.get(size as usize..size as usize + META_END)?;
            Meta::decode(page).filter(|meta| meta.page_size == size)
        });
    first.into_iter().chain(second).max_by_key(|meta| meta.txid)
}

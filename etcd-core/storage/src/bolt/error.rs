//! What can be wrong with a bbolt image, its layout or its trailer.

use std::io;

use thiserror::Error;

use crate::disk::DiskError;

/// Why bytes are not a sound bbolt image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BoltError {
    /// Neither meta page has the magic number, the version and a right checksum.
    #[error("no valid meta page in {len} bytes")]
    NoMeta {
        /// Bytes in the image.
        len: u64,
    },
    /// The image ends before the last page its meta page names.
    #[error("image has {have} bytes, its meta page needs {need}")]
    Truncated {
        /// Bytes in the image.
        have: u64,
        /// High-water mark times page size.
        need: u64,
    },
    /// A reference leads to a page outside the image.
    #[error("page {page} is outside the image")]
    NoSuchPage {
        /// The page's number.
        page: u64,
    },
    /// A page's content contradicts itself or its place.
    #[error("page {page}: {reason}")]
    Page {
        /// The page's number (0 for an inline bucket).
        page: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Keys are not strictly ascending, or lie outside what the branch above allows.
    #[error("page {page}: key {index} is out of order")]
    KeyOrder {
        /// The page's number (0 for an inline bucket).
        page: u64,
        /// The key's place in the page.
        index: usize,
    },
    /// A page is referred to more than once.
    #[error("page {page} is in use more than once")]
    Reused {
        /// The page's number.
        page: u64,
    },
    /// A page is neither in use nor in the stored freelist.
    #[error("page {page} is neither reachable nor free")]
    Unreachable {
        /// The page's number.
        page: u64,
    },
    /// A page is longer than any that bbolt writes for etcd; it is not read.
    #[error("page {page} has {bytes} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The page's number.
        page: u64,
        /// Its bytes, overflow included.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The file could not be read.
    #[error("at byte {at}: {reason}")]
    Read {
        /// Where in the file.
        at: u64,
        /// What the disk said.
        reason: String,
    },
    /// A tree is deeper than any sound one.
    #[error("page {page}: tree is too deep")]
    TooDeep {
        /// The page at which the descent ended.
        page: u64,
    },
}

/// Why an image cannot be laid out or written.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A key or a bucket's name is empty or longer than bbolt allows.
    #[error("a key of {0} bytes does not fit bbolt (1 to 32768)")]
    KeySize(usize),
    /// A value is longer than bbolt allows.
    #[error("a value of {0} bytes does not fit bbolt")]
    ValueSize(usize),
    /// Names of buckets or keys of a bucket do not ascend strictly.
    #[error("bucket {bucket:?}: names and keys must ascend strictly")]
    Order {
        /// The bucket's name.
        bucket: String,
    },
    /// A row came before any bucket.
    #[error("a row must belong to a bucket")]
    NoBucket,
    /// What is written differs from what was planned.
    #[error("bucket {bucket:?}: what is written differs from the plan")]
    Mismatch {
        /// The bucket's name.
        bucket: String,
    },
    /// The destination failed.
    #[error("cannot write the image: {0}")]
    Write(#[from] io::Error),
}

/// Why the trailer of a snapshot file does not vouch for it.
#[derive(Debug, Error)]
pub enum TrailerError {
    /// The length is not that of an image with a trailer.
    #[error("{len} bytes are not a database with a SHA-256 trailer")]
    Missing {
        /// Bytes in the file.
        len: u64,
    },
    /// The digest does not match the content.
    #[error("expected sha256 {expected}, got {actual}")]
    Digest {
        /// Digest in the trailer, in hex.
        expected: String,
        /// Digest of the content, in hex.
        actual: String,
    },
    /// The file could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

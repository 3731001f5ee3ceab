//! bbolt files: etcd's backend database, its snapshot and the image that peers send.
//!
//! ```text
//! (verify_trailer) -> Image::open | open_file -> bucket(name) -> rows() / get(key)
//!                                        \-> check()
//! sizes -> Planner -> Layout{total_size} ; rows -> ImageWriter -> (Sha256Trailer) -> any Write
//! rows -> FileWriter -> a file
//! ```
//!
//! An image is read from [`bytes::Bytes`] (a mapped file, or a copy of one), of which
//! keys and values are slices, or from a file, page by page. Hostile bytes give a
//! [`BoltError`], never a panic, never an endless loop, and take no more memory than
//! the few largest pages that a sound image may have.
//!
//! Writing to a stream takes two passes over the same rows. The first one sees only
//! sizes and yields the exact length of the image, which a sender must announce; the
//! second one writes every page once, in order, and holds one page of each tree level.
//! Writing to a file takes one pass.

mod bucket;
mod check;
mod error;
mod file_writer;
mod image;
mod layout;
mod meta;
mod node;
mod pages;
mod source;
mod trailer;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Row, Rows};
pub use error::{BoltError, LayoutError, TrailerError};
pub use file_writer::FileWriter;
pub use image::{Buckets, Image};
pub use layout::{Layout, Planner};
pub use trailer::{Sha256Trailer, TRAILER_SIZE, has_trailer, verify_trailer};
pub use writer::ImageWriter;

/// Size in bytes of the pages that [`ImageWriter`] writes.
pub const PAGE_SIZE: usize = 4096;

/// Longest key in bytes that bbolt stores.
pub const MAX_KEY_SIZE: usize = 32768;

/// Longest value in bytes that bbolt stores.
pub const MAX_VALUE_SIZE: usize = (1 << 31) - 2;

/// Size in bytes of a page's header, and of an element in a branch or a leaf.
const HEADER: usize = 16;
const ELEMENT: usize = 16;

/// Flags in a page's header, of which exactly one is set.
const FLAG_BRANCH: u16 = 0x01;
const FLAG_LEAF: u16 = 0x02;
const FLAG_META: u16 = 0x04;
const FLAG_FREELIST: u16 = 0x10;

/// Flag of a leaf element whose value is a bucket.
const ELEMENT_BUCKET: u32 = 0x01;

/// Size in bytes of a bucket's header: the page of its root, and its sequence.
const BUCKET_HEADER: usize = 16;

/// A freelist "page" that says the list is not stored but found by reachability.
const NO_FREELIST: u64 = u64::MAX;

/// Deeper trees than this are refused. A branch holds at least two children, so no
/// sound tree comes near it.
const MAX_DEPTH: usize = 64;

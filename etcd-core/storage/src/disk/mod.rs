//! The one door to a disk.
//!
//! [`Disk`] is synchronous: what runs where, and what completes when, is decided a
//! level up (`server` has a thread for the log, `sim` completes operations by seed).
//! It promises no more than POSIX does: data is durable after
//! [`File::sync_data`], a name is durable after [`Disk::sync_dir`] of its directory,
//! and nothing else is.

mod error;
mod map;
mod real;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

use bytes::Bytes;

pub use error::{DiskError, DiskResult};
pub use map::on_lost_page;
pub use real::RealDisk;

/// How an existing file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading only.
    Read,
    /// For reading and writing.
    Write,
}

/// Which of the two kinds of lock Linux knows; they do not see each other, so a file
/// that stock etcd locks must be locked with the kind etcd uses for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// A lock of the open file description over the whole file, etcd's for WAL files.
    /// Where the kernel or the file system has none, a [`LockKind::Flock`].
    Record,
    /// `flock(2)`, bbolt's for its database.
    Flock,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// A file system. Every error is a [`DiskError`] that names operation and path.
pub trait Disk: Send + Sync {
    /// Makes `dir` and the directories above it that are missing, with mode 0700.
    /// Does not sync them.
    fn create_dir_all(&self, dir: &Path) -> DiskResult<()>;

    /// The names in `dir`, sorted bytewise.
    fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>>;

    /// Whether `path` names a file or a directory.
    fn exists(&self, path: &Path) -> DiskResult<bool>;

    /// Creates a file with mode 0600 and opens it for reading and writing. An error if
    /// the name exists. The name is durable only after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> DiskResult<Box<dyn File>>;

    /// Opens an existing file.
    fn open(&self, path: &Path, mode: OpenMode) -> DiskResult<Box<dyn File>>;

    /// Moves `from` to `to` atomically, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()>;

    /// Removes the name of a file. Open handles and maps of it stay usable.
    fn unlink(&self, path: &Path) -> DiskResult<()>;

    /// Removes a directory and everything in it; no error if there is none.
    fn remove_dir_all(&self, dir: &Path) -> DiskResult<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> DiskResult<()>;

    /// Locks an existing file against other processes and other locks of this one,
    /// without waiting. An error of kind `WouldBlock` if it is locked already.
    fn lock(&self, path: &Path, kind: LockKind) -> DiskResult<Box<dyn Lock>>;

    /// Bytes an unprivileged process can still write to the file system of `path`.
    fn free_space(&self, path: &Path) -> DiskResult<u64>;
}

/// An open file. Methods take `&self` and an offset: there is no cursor.
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> DiskResult<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> DiskResult<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `offset` until `buf` is full or the file ends, and returns how many
    /// bytes were read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize>;

    /// Writes all of `data` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> DiskResult<()>;

    /// Reserves space for, and grows the file to, `len` bytes; the new ones read as
    /// zero. Never shrinks it.
    fn preallocate(&self, len: u64) -> DiskResult<()>;

    /// Cuts or grows (with a hole) the file to `len` bytes.
    fn truncate(&self, len: u64) -> DiskResult<()>;

    /// Makes content and length durable. After an error nothing may be assumed about
    /// any byte written since the last success, not even after a later success.
    fn sync_data(&self) -> DiskResult<()>;

    /// The whole content. On a real disk a shared map of the file, which must not be
    /// written or cut while the map lives; on a simulated disk a copy.
    fn map(&self) -> DiskResult<Bytes>;
}

/// A held lock; dropping it releases it.
pub trait Lock: Send + Sync {}

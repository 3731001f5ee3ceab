//! The mapping of a file: the one file of the workspace that may say `unsafe`.
#![allow(unsafe_code)]

use std::fs;
use std::io;

use bytes::Bytes;

/// Maps the whole of `file`, shared and read-only. The map lives as long as any slice
/// of the returned bytes and keeps an unlinked file's content readable.
///
/// Soundness rests on what the callers keep: only files that are written once, synced
/// and never touched again are mapped (segments, finished images), in directories that
/// the process holds the lock of. A page that the disk can no longer deliver ends the
/// process by SIGBUS, it does not yield wrong bytes.
pub(super) fn map(file: &fs::File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // an empty map is an error to the kernel
    }
    // SAFETY: see above; nothing in this process writes to or truncates a mapped file.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

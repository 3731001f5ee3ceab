//! Making the end of a log fit for appending.

use std::path::{Path, PathBuf};

use super::WalError;
use super::reader::first_nonzero;
use crate::dir::{parent, unlink_if_exists};
use crate::disk::{Disk, File};

const CHUNK_BYTES: usize = 1 << 20;

/// Zeroes the file from `offset`, where the log ends, durably: otherwise what an
/// unsynced write left there could later follow a record that ends just before it. Of a
/// torn record a copy of the file is kept first.
pub(super) fn clean_tail(
    disk: &dyn Disk,
    file: &dyn File,
    path: &Path,
    offset: u64,
    torn: bool,
) -> Result<(), WalError> {
    let len = file.len()?;
    let Some(first) = first_nonzero(file, offset, len)? else {
        return Ok(());
    };
    if torn {
        keep_copy(disk, file, path, len)?;
    }
    let zeros = vec![0; CHUNK_BYTES];
    let mut dirty = Some(first);
    while let Some(at) = dirty {
        let size = (len - at).min(CHUNK_BYTES as u64);
        file.write_at(at, &zeros[..size as usize])?;
        dirty = first_nonzero(file, at + size, len)?;
    }
    file.sync_data()?;
    Ok(())
}

/// Writes the file anew up to `end`, where the log ends, and syncs it. After a failed sync
/// the pages of a file count as clean, and a process that starts later reads from memory
/// what the disk never got: only what is written again reaches it.
pub(super) fn rewrite(file: &dyn File, end: u64) -> Result<(), WalError> {
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(end).unwrap_or(CHUNK_BYTES))];
    let mut at = 0;
    while at < end {
        let size = (end - at).min(CHUNK_BYTES as u64) as usize;
        let read = file.read_at(at, &mut buffer[..size])?;
        if read == 0 {
            break;
        }
        file.write_at(at, &buffer[..read])?;
        at += read as u64;
    }
    file.sync_data()?;
    Ok(())
}

/// Copies the file to `<name>.broken`, replacing an older copy.
fn keep_copy(disk: &dyn Disk, file: &dyn File, path: &Path, len: u64) -> Result<(), WalError> {
    let mut broken = path.as_os_str().to_owned();
    broken.push(".broken");
    let broken = PathBuf::from(broken);
    unlink_if_exists(disk, &broken)?;
    let copy = disk.create(&broken)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    // The zeros at the end, preallocated space, become a hole.
    while let Some(from) = first_nonzero(file, at, len)? {
        let read = file.read_at(from, &mut buffer)?;
        if read == 0 {
            break;
        }
        copy.write_at(from, &buffer[..read])?;
        at = from + read as u64;
    }
    copy.truncate(len)?;
    copy.sync_data()?;
    disk.sync_dir(parent(path))?;
    Ok(())
}

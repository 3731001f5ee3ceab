//! Damage done to a log on purpose. Reads only the frames: it knows nothing of what they hold.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One framed record: a length field of 8 bytes, the record, padding to 8 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Where the length field is in the file.
    pub offset: u64,
    /// The record's bytes, without field and padding.
    pub len: u64,
}

/// The segments of a data directory's log, oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn segments(data_dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = data_dir.join("member").join("wal");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("listing {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    found.sort();
    Ok(found)
}

/// The records of a segment, up to the first empty length field.
///
/// # Errors
/// If it cannot be read.
pub fn frames(segment: &Path) -> Result<Vec<Frame>> {
    let bytes = std::fs::read(segment).with_context(|| format!("reading {}", segment.display()))?;
    let mut frames = Vec::new();
    let mut offset = 0;
    while let Some(field) = bytes.get(offset..offset + 8) {
        let field = u64::from_le_bytes(field.try_into().expect("eight bytes"));
        if field == 0 {
            break;
        }
        // The top byte says whether and how far the record is padded.
        let len = field & 0x00ff_ffff_ffff_ffff;
        let padding = if field >> 63 == 1 {
            (field >> 56) & 7
        } else {
            0
        };
        frames.push(Frame {
            offset: offset as u64,
            len,
        });
        offset += usize::try_from(8 + len + padding).context("a frame that fits into memory")?;
    }
    Ok(frames)
}

/// Flips the lowest bit of the byte at `offset`.
///
/// # Errors
/// If the file cannot be changed.
pub fn flip(file: &Path, offset: u64) -> Result<()> {
    let handle = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    handle.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 1;
    handle.write_all_at(&byte, offset)?;
    Ok(())
}

/// Overwrites everything from `offset` on with zeros, as if it had never reached the disk.
///
/// # Errors
/// If the file cannot be changed.
pub fn lose_from(file: &Path, offset: u64) -> Result<()> {
    let handle = File::options().read(true).write(true).open(file)?;
    let len = handle.metadata()?.len();
    handle.set_len(offset)?;
    handle.set_len(len)?;
    Ok(())
}

/// The names and contents of all files below a folder, to see whether anything was changed.
///
/// # Errors
/// If it cannot be read.
pub fn contents(folder: &Path) -> Result<std::collections::BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(contents(&path)?);
        } else {
            let bytes =
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

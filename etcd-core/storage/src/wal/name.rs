//! Names of the log's files.

use std::path::{Path, PathBuf};

use super::WalError;
use crate::disk::Disk;

/// Extension of a file that is being made.
pub(super) const TEMPORARY: &str = ".tmp";

/// A file of the log, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// Consecutive number of the file, from 0.
    pub seq: u64,
    /// Index of the first entry after those of the log as it was when the file was begun.
    /// Below that of an earlier file if entries were replaced meanwhile.
    pub first_index: u64,
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Name> {
        let (seq, index) = name.strip_suffix(".wal")?.split_once('-')?;
        let hex = |s: &str| {
            let digits = s.len() == 16 && s.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(s, 16).ok()).flatten()
        };
        Some(Name {
            seq: hex(seq)?,
            first_index: hex(index)?,
        })
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}.wal", self.seq, self.first_index))
    }
}

/// The files of the log in `dir`, in sequence.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Name>, WalError> {
    let mut names: Vec<Name> = disk
        .list(dir)?
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Name::parse(entry.name.to_str()?))
        .collect();
    names.sort();
    Ok(names)
}

/// The files that hold what follows `index`: from the last one that starts at or below
/// it. They must be consecutive.
pub(super) fn select(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Vec<Name>, WalError> {
    let mut names = list(disk, dir)?;
    let first = names
        .iter()
        .rposition(|name| name.first_index <= index)
        .ok_or_else(|| WalError::FileNotFound {
            dir: dir.to_path_buf(),
            index,
        })?;
    names.drain(..first);
    consecutive(dir, &names)?;
    Ok(names)
}

/// Checks that no file is missing between the first and the last of `names`.
pub(super) fn consecutive(dir: &Path, names: &[Name]) -> Result<(), WalError> {
    for pair in names.windows(2) {
        if pair[0].seq.checked_add(1) != Some(pair[1].seq) {
            let reason = format!("the file before it is missing (found {:016x})", pair[0].seq);
            return Err(WalError::corrupt(&pair[1].path(dir), 0, reason));
        }
    }
    Ok(())
}

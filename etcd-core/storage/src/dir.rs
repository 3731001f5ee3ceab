//! Directories: making them durable, and locking a member's.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError, DiskResult, Lock, LockKind};

/// Name of the file whose lock stands for the whole member directory.
pub const LOCK_FILE: &str = "lock";

/// Makes `dir` and what is missing above it, and syncs the parent of each directory it
/// makes, so that none of them is lost in a crash.
pub fn create_durable(disk: &dyn Disk, dir: &Path) -> DiskResult<()> {
    let mut missing = Vec::new();
    let mut at = Some(dir);
    while let Some(path) = at {
        if path.as_os_str().is_empty() || disk.exists(path)? {
            break;
        }
        missing.push(path);
        at = path.parent();
    }
    for path in missing.into_iter().rev() {
        disk.create_dir_all(path)?;
        disk.sync_dir(parent(path))?;
    }
    Ok(())
}

/// The directory that holds the name `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The exclusive right to a member directory. Whoever replaces, imports or exports its
/// store holds one, so no two processes do that at once; stock etcd is kept out by the
/// locks on the WAL files and on `snap/db`.
pub struct MemberLock {
    path: PathBuf,
    _lock: Box<dyn Lock>,
}

impl MemberLock {
    /// Locks `member_dir`, which must exist, without waiting. [`DiskError::is_locked`]
    /// tells that another process has it.
    pub fn acquire(disk: &dyn Disk, member_dir: &Path) -> DiskResult<MemberLock> {
        let path = member_dir.join(LOCK_FILE);
        if !disk.exists(&path)? {
            match disk.create(&path) {
                Ok(_) => {}
                Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        let lock = disk.lock(&path, LockKind::Flock)?;
        Ok(MemberLock { path, _lock: lock })
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes a file if it is there; whether it was.
pub fn unlink_if_exists(disk: &dyn Disk, path: &Path) -> Result<bool, DiskError> {
    match disk.unlink(path) {
        Ok(()) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::simdisk::SimDisk;

    #[test]
    fn s03_a_durable_directory_survives() {
        for seed in 0..30 {
            let disk = SimDisk::new(seed);
            create_durable(&disk, Path::new("/data/member/store")).unwrap();
            create_durable(&disk, Path::new("/data/member/wal")).unwrap();
            disk.crash();
            assert!(disk.exists(Path::new("/data/member/store")).unwrap());
            assert!(disk.exists(Path::new("/data/member/wal")).unwrap());
        }
    }

    #[test]
    fn a_member_directory_has_one_holder() {
        let temporary = tempfile::tempdir().unwrap();
        for disk in [&RealDisk as &dyn Disk, &SimDisk::new(0)] {
            let dir = temporary.path().join("member");
            create_durable(disk, &dir).unwrap();
            let lock = MemberLock::acquire(disk, &dir).unwrap();
            assert!(MemberLock::acquire(disk, &dir).err().unwrap().is_locked());
            drop(lock);
            MemberLock::acquire(disk, &dir).unwrap();
        }
    }
}

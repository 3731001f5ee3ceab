use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{FallocateFlags, FlockOperation};

use super::map::map;
use super::{DirEntry, Disk, DiskError, DiskResult, File, Lock, LockKind, OpenMode};

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile {
    file: fs::File,
    path: PathBuf,
}

struct RealLock {
    file: fs::File,
    kind: LockKind,
}

impl Lock for RealLock {}

impl Drop for RealLock {
    /// Releases it. Closing the file would do, but for a process that another thread
    /// forks: until it executes its program it has the same open file, and the lock.
    fn drop(&mut self) {
        // Where that fails, closing it is what is left.
        let _ = match self.kind {
            LockKind::Record => record_lock(&self.file, libc::F_UNLCK),
            LockKind::Flock => flock(&self.file, FlockOperation::Unlock),
        };
    }
}

fn at<T>(op: &'static str, path: &Path, result: io::Result<T>) -> DiskResult<T> {
    result.map_err(|source| DiskError::new(op, path, source))
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> DiskResult<()> {
        at(
            "mkdir",
            dir,
            fs::DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(dir),
        )
    }

    fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in at("readdir", dir, fs::read_dir(dir))? {
            let entry = at("readdir", dir, entry)?;
            let meta = match entry.metadata() {
                // Removed between the two calls: it is no longer in the directory.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => at("stat", &entry.path(), other)?,
            };
            let is_dir = meta.is_dir();
            let len = if is_dir { 0 } else { meta.len() };
            entries.push(DirEntry {
                name: entry.file_name(),
                is_dir,
                len,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> DiskResult<bool> {
        at("stat", path, path.try_exists())
    }

    fn create(&self, path: &Path) -> DiskResult<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path);
        Ok(Box::new(RealFile {
            file: at("create", path, file)?,
            path: path.to_path_buf(),
        }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> DiskResult<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(mode == OpenMode::Write)
            .open(path);
        Ok(Box::new(RealFile {
            file: at("open", path, file)?,
            path: path.to_path_buf(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        at("rename", from, fs::rename(from, to))
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        at("unlink", path, fs::remove_file(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> DiskResult<()> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => at("rmdir", dir, other),
        }
    }

    fn sync_dir(&self, dir: &Path) -> DiskResult<()> {
        let file = at("open", dir, fs::File::open(dir))?;
        at("fsync", dir, file.sync_all())
    }

    fn lock(&self, path: &Path, kind: LockKind) -> DiskResult<Box<dyn Lock>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path);
        let file = at("open", path, file)?;
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let locked = match kind {
            LockKind::Record => match record_lock(&file, libc::F_WRLCK) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                    flock(&file, exclusive).map(|()| LockKind::Flock)
                }
                other => other.map(|()| kind),
            },
            LockKind::Flock => flock(&file, exclusive).map(|()| kind),
        };
        let kind = at("lock", path, locked)?;
        Ok(Box::new(RealLock { file, kind }))
    }

    fn free_space(&self, path: &Path) -> DiskResult<u64> {
        let stat = at(
            "statvfs",
            path,
            rustix::fs::statvfs(path).map_err(io::Error::from),
        )?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn record_lock(file: &fs::File, operation: libc::c_int) -> io::Result<()> {
    let whole_file = libc::flock {
        l_type: operation as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file)) {
        Ok(_) => Ok(()),
        // POSIX lets a held lock be reported as either.
        Err(nix::Error::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
        Err(e) => Err(e.into()),
    }
}

fn flock(file: &fs::File, operation: FlockOperation) -> io::Result<()> {
    rustix::fs::flock(file, operation).map_err(io::Error::from)
}

impl File for RealFile {
    fn len(&self) -> DiskResult<u64> {
        Ok(at("stat", &self.path, self.file.metadata())?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(DiskError::new("read", &self.path, e)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> DiskResult<()> {
        at("write", &self.path, self.file.write_all_at(data, offset))
    }

    fn preallocate(&self, len: u64) -> DiskResult<()> {
        if len <= self.len()? {
            return Ok(());
        }
        let reserved = loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        match reserved {
            // A file system that cannot reserve still has to show the length.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.truncate(len),
            other => at("fallocate", &self.path, other.map_err(io::Error::from)),
        }
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        at("ftruncate", &self.path, self.file.set_len(len))
    }

    fn sync_data(&self) -> DiskResult<()> {
        at("fdatasync", &self.path, self.file.sync_data())
    }

    fn map(&self) -> DiskResult<Bytes> {
        at("mmap", &self.path, map(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_is_free_also_where_a_forked_process_has_the_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.wal");
        for kind in [LockKind::Record, LockKind::Flock] {
            let mut options = fs::File::options();
            options.create(true).truncate(false).read(true).write(true);
            let file = options.open(&path).unwrap();
            let forked = file.try_clone().unwrap();
            match kind {
                LockKind::Record => record_lock(&file, libc::F_WRLCK).unwrap(),
                LockKind::Flock => {
                    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
                }
            }
            let held = RealLock { file, kind };
            assert!(RealDisk.lock(&path, kind).is_err());
            drop(held);
            RealDisk.lock(&path, kind).unwrap();
            drop(forked);
        }
    }
}

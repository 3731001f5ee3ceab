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
    /// Closing the description releases the lock.
    _file: fs::File,
}

impl Lock for RealLock {}

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
        let locked = match kind {
            LockKind::Record => match record_lock(&file) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                    flock(&file)
                }
                other => other,
            },
            LockKind::Flock => flock(&file),
        };
        at("lock", path, locked)?;
        Ok(Box::new(RealLock { _file: file }))
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

fn record_lock(file: &fs::File) -> io::Result<()> {
    let whole_file = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
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

fn flock(file: &fs::File) -> io::Result<()> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)
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

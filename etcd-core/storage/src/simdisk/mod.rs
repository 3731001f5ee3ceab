//! A disk in memory that fails as disks do, by a seed.
//!
//! It keeps apart what a process sees and what would survive a loss of power: written
//! bytes survive after [`File::sync_data`] of their file, names after
//! [`Disk::sync_dir`] of their directory. [`SimDisk::crash`] decides by the seed about
//! the rest: for each 512-byte sector up to which write it survives, and about each
//! change of a length or a name by itself. So writes tear and overtake one another.
//!
//! Equal seeds and equal operations yield equal outcomes.

mod content;
mod node;
mod random;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::disk::{DirEntry, Disk, DiskError, DiskResult, File, Lock, LockKind, OpenMode};
use node::{DirNode, FileNode, Node, NodeId};
use random::Random;
use state::{State, Verdict, io_error, no_space};

/// An error to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A sync that fails so loses what it was to make durable, by the seed, and a
    /// later one will not bring it back.
    Io,
    /// ENOSPC.
    NoSpace,
}

/// A simulated disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(State::new(seed))),
        }
    }

    /// A second disk in the state of this one, whose fate goes by another seed. To try
    /// several outcomes of one crash.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let mut state = self.state.lock().clone();
        state.random = Random::new(seed);
        SimDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The power goes out and comes back. Handles and locks from before are void, all
    /// planned faults are forgotten; the capacity stays.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// How many operations that change something there have been: creations, writes,
    /// syncs, renames and so on.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// Lets the power go out at the changing operation of this number (see
    /// [`SimDisk::ops`]); it is carried out or not, by the seed, and everything fails
    /// until [`SimDisk::crash`].
    pub fn crash_at(&self, op: u64) {
        self.state.lock().crash_at = Some(op);
    }

    /// Whether the power is out.
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Lets the changing operation of this number fail, and nothing else.
    pub fn fail_op(&self, op: u64, fault: Fault) {
        self.state.lock().faults.insert(op, fault);
    }

    /// Lets every sync fail with EIO from now on, or no longer.
    pub fn fail_syncs(&self, fail: bool) {
        self.state.lock().fail_syncs = fail;
    }

    /// Bounds the sum of the lengths of all files; `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The sum of the lengths of all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Flips a bit of a file where it lies.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> DiskResult<()> {
        let mut state = self.state.lock();
        let id = at("flip", path, state.find(path))?;
        at("flip", path, state.file_mut(id))?.flip(offset, bit);
        Ok(())
    }

    /// Carries out a changing operation under the rules of [`State::begin`].
    fn change<T>(
        &self,
        op: &'static str,
        path: &Path,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> DiskResult<T> {
        let mut state = self.state.lock();
        let result = match state.begin() {
            Verdict::Fail(e) => Err(e),
            Verdict::Proceed => change(&mut state),
            Verdict::ProceedAndFail => {
                let done = change(&mut state);
                drop(state); // a handle that is dropped takes the lock
                done.and_then(|_| Err(io::Error::other("the power went out")))
            }
        };
        at(op, path, result)
    }

    fn look(&self, op: &'static str, path: &Path) -> DiskResult<MutexGuard<'_, State>> {
        let state = self.state.lock();
        at(op, path, state.check_power())?;
        Ok(state)
    }

    fn handle(&self, state: &mut State, path: &Path, node: NodeId) -> io::Result<Box<dyn File>> {
        state.file_mut(node)?.handles += 1;
        let life = state.life;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            node,
            life,
        }))
    }
}

fn at<T>(op: &'static str, path: &Path, result: io::Result<T>) -> DiskResult<T> {
    result.map_err(|source| DiskError::new(op, path, source))
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> DiskResult<()> {
        let mut missing = Vec::new();
        for ancestor in dir.ancestors() {
            if ancestor.as_os_str().is_empty() || self.exists(ancestor)? {
                break;
            }
            missing.push(ancestor);
        }
        for path in missing.into_iter().rev() {
            self.change("mkdir", path, |state| {
                state.make(path, Node::Dir(DirNode::default())).map(drop)
            })?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> DiskResult<Vec<DirEntry>> {
        let state = self.look("readdir", dir)?;
        let list = || {
            let dir = state.dir(state.find(dir)?)?;
            let entries = dir.live.iter().map(|(name, &id)| {
                let (is_dir, len) = match state.node(id)? {
                    Node::File(file) => (false, file.live.len()),
                    Node::Dir(_) => (true, 0),
                };
                Ok(DirEntry {
                    name: name.clone(),
                    is_dir,
                    len,
                })
            });
            entries.collect()
        };
        at("readdir", dir, list())
    }

    fn exists(&self, path: &Path) -> DiskResult<bool> {
        Ok(self.look("stat", path)?.find(path).is_ok())
    }

    fn create(&self, path: &Path) -> DiskResult<Box<dyn File>> {
        self.change("create", path, |state| {
            let node = state.make(path, Node::File(FileNode::default()))?;
            self.handle(state, path, node)
        })
    }

    fn open(&self, path: &Path, _mode: OpenMode) -> DiskResult<Box<dyn File>> {
        let mut state = self.look("open", path)?;
        let node = at("open", path, state.find(path))?;
        at("open", path, self.handle(&mut state, path, node))
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        self.change("rename", from, |state| {
            let (parent, from_name) = state.find_parent(from)?;
            let (to_parent, to_name) = state.find_parent(to)?;
            if parent != to_parent {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let node = state.find(from)?;
            if let Ok(replaced) = state.find(to)
                && let Ok(dir) = state.dir(replaced)
                && !dir.live.is_empty()
            {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            let dir = state.dir_mut(parent)?;
            dir.rename(from_name.to_owned(), to_name.to_owned(), node);
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        // A name that is not there is found out without counting an operation.
        at("unlink", path, self.look("unlink", path)?.find(path))?;
        self.change("unlink", path, |state| {
            let node = state.find(path)?;
            state.file(node)?;
            let (parent, name) = state.find_parent(path)?;
            state.dir_mut(parent)?.unlink(name.to_owned(), node);
            Ok(())
        })
    }

    fn remove_dir_all(&self, dir: &Path) -> DiskResult<()> {
        if !self.exists(dir)? {
            return Ok(());
        }
        for entry in self.list(dir)? {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                self.remove_dir_all(&path)?;
            } else {
                self.unlink(&path)?;
            }
        }
        self.change("rmdir", dir, |state| {
            let node = state.find(dir)?;
            let (parent, name) = state.find_parent(dir)?;
            state.dir_mut(parent)?.unlink(name.to_owned(), node);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> DiskResult<()> {
        self.sync(
            "fsync",
            dir,
            |state| state.find(dir),
            |state, id| {
                state.dir_mut(id)?.sync();
                state.collect();
                Ok(())
            },
        )
    }

    fn lock(&self, path: &Path, _kind: LockKind) -> DiskResult<Box<dyn Lock>> {
        let mut state = self.look("lock", path)?;
        let node = at("lock", path, state.find(path))?;
        if !state.locks.insert(node) {
            return at("lock", path, Err(io::ErrorKind::WouldBlock.into()));
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            node,
            life: state.life,
        }))
    }

    fn free_space(&self, path: &Path) -> DiskResult<u64> {
        let state = self.look("statvfs", path)?;
        Ok(state.space_for(u64::MAX / 2))
    }
}

impl SimDisk {
    fn sync(
        &self,
        op: &'static str,
        path: &Path,
        find: impl FnOnce(&State) -> io::Result<NodeId>,
        sync: impl FnOnce(&mut State, NodeId) -> io::Result<()>,
    ) -> DiskResult<()> {
        let mut state = self.state.lock();
        let verdict = state.begin();
        let run = || {
            let id = find(&state)?;
            match verdict {
                Verdict::Proceed if state.fail_syncs => {
                    state.fail_sync(id);
                    Err(io_error())
                }
                Verdict::Proceed => sync(&mut state, id),
                Verdict::ProceedAndFail => {
                    sync(&mut state, id)?;
                    Err(io::Error::other("the power went out"))
                }
                Verdict::Fail(e) => {
                    if !state.down {
                        state.fail_sync(id);
                    }
                    Err(e)
                }
            }
        };
        at(op, path, run())
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    node: NodeId,
    life: u64,
}

impl SimFile {
    fn check(&self, state: &State) -> io::Result<()> {
        state.check_power()?;
        if state.life == self.life {
            return Ok(());
        }
        Err(io::Error::other("a handle from before the crash"))
    }

    fn look<T>(&self, op: &'static str, look: impl FnOnce(&FileNode) -> T) -> DiskResult<T> {
        let state = self.disk.state.lock();
        at(
            op,
            &self.path,
            self.check(&state)
                .and_then(|()| Ok(look(state.file(self.node)?))),
        )
    }

    fn change(
        &self,
        op: &'static str,
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> DiskResult<()> {
        at(op, &self.path, self.check(&self.disk.state.lock()))?;
        self.disk.change(op, &self.path, change)
    }
}

impl File for SimFile {
    fn len(&self) -> DiskResult<u64> {
        self.look("stat", |file| file.live.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<usize> {
        self.look("read", |file| file.live.read(offset, buf))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> DiskResult<()> {
        self.change("write", |state| {
            let len = state.file(self.node)?.live.len();
            let grow = (offset + data.len() as u64).saturating_sub(len);
            let missing = grow - state.space_for(grow);
            // A disk that fills up takes what it has space for.
            let fits = (data.len() as u64).saturating_sub(missing) as usize;
            state.file_mut(self.node)?.write(offset, &data[..fits]);
            if missing > 0 { Err(no_space()) } else { Ok(()) }
        })
    }

    fn preallocate(&self, len: u64) -> DiskResult<()> {
        self.change("fallocate", |state| {
            let grow = len.saturating_sub(state.file(self.node)?.live.len());
            if state.space_for(grow) < grow {
                return Err(no_space());
            }
            state.file_mut(self.node)?.grow(len);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        self.change("ftruncate", |state| {
            state.file_mut(self.node)?.truncate(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> DiskResult<()> {
        at("fdatasync", &self.path, self.check(&self.disk.state.lock()))?;
        self.disk.sync(
            "fdatasync",
            &self.path,
            |_| Ok(self.node),
            |state, node| {
                state.file_mut(node)?.sync();
                Ok(())
            },
        )
    }

    fn map(&self) -> DiskResult<Bytes> {
        self.look("mmap", |file| {
            let mut bytes = vec![0; file.live.len() as usize];
            file.live.read(0, &mut bytes);
            bytes.into()
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life
            && let Ok(file) = state.file_mut(self.node)
        {
            file.handles -= 1;
        }
    }
}

struct SimLock {
    disk: SimDisk,
    node: NodeId,
    life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.node);
        }
    }
}

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::{Entry, HardState};
use etcd_proto::walpb::Snapshot;
use prost::Message;

use super::name::{self, Name, TEMPORARY};
use super::reader::Reader;
use super::record::{Encoder, STATE_FRAME_BYTES_MAX, entry_frame_bytes_max};
use super::replay::{Collector, Position, is_well_formed};
use super::rotate::Prepared;
use super::{Replay, WalError, repair};
use crate::dir::{create_durable, parent, unlink_if_exists};
use crate::disk::{Disk, DiskError, File, Lock, LockKind, OpenMode};

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes a file is preallocated to, and about as many as it will hold.
    pub segment_bytes: u64,
}

impl Default for Options {
    /// etcd's: 64,000,000 bytes.
    fn default() -> Options {
        Options {
            segment_bytes: 64_000_000,
        }
    }
}

/// A log that is open for appending; there is one writer. It holds etcd's locks on the
/// files it may still need.
///
/// After any error of a write or sync it is poisoned: it answers
/// [`WalError::Poisoned`] to everything, because nothing is known any more about what
/// the disk holds. The process is to end and to open the log anew.
pub struct Wal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    /// The metadata as every file starts with them.
    pub(super) metadata: Vec<u8>,
    pub(super) hard_state: HardState,
    /// Index of the last entry or, if greater, of the last snapshot.
    pub(super) last_index: u64,
    /// Sum of the data of all records written.
    pub(super) crc: u32,
    /// The locked files, oldest first; the last one is written to.
    pub(super) files: VecDeque<LockedFile>,
    pub(super) tail: Box<dyn File>,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// Where the head of the current file ends; 0 if this process did not begin it.
    pub(super) head_end: u64,
    /// Whether something was written since the last sync.
    pub(super) dirty: bool,
    pub(super) poisoned: bool,
    pub(super) prepared: Option<Prepared>,
    /// Makes the names of files in the making differ from one to the next.
    pub(super) prepared_count: u64,
    pub(super) buffer: Vec<u8>,
}

pub(super) struct LockedFile {
    pub name: Name,
    pub _lock: Box<dyn Lock>,
}

impl Wal {
    /// Whether `dir` holds a log.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
        if !disk.exists(dir)? {
            return Ok(false);
        }
        Ok(!name::list(disk, dir)?.is_empty())
    }

    /// Creates a log that belongs to `metadata` and holds the record of an empty
    /// snapshot. It appears in `dir` whole or not at all, and durably.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, metadata: &Metadata) -> Result<Wal, WalError> {
        Wal::create_with(disk, dir, metadata, Options::default())
    }

    /// [`Wal::create`] with other options.
    pub fn create_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: &Metadata,
        options: Options,
    ) -> Result<Wal, WalError> {
        if Wal::exists(&*disk, dir)? {
            return Err(WalError::Exists {
                dir: dir.to_path_buf(),
            });
        }
        let mut making = dir.as_os_str().to_owned();
        making.push(TEMPORARY);
        let making = PathBuf::from(making);
        disk.remove_dir_all(&making)?;
        create_durable(&*disk, parent(dir))?;
        disk.create_dir_all(&making)?;

        let name = Name {
            seq: 0,
            first_index: 0,
        };
        let file = disk.create(&name.path(&making))?;
        file.preallocate(options.segment_bytes)?;
        let lock = lock(&*disk, &name.path(&making))?;
        let metadata = metadata.encode_to_vec();
        let mut buffer = Vec::new();
        let mut encoder = Encoder {
            buffer: &mut buffer,
            offset: 0,
            crc: 0,
        };
        encoder.crc_record();
        encoder.metadata(&metadata);
        encoder.snapshot(&Snapshot::default());
        let crc = encoder.crc;
        file.write_at(0, &buffer)?;
        file.sync_data()?;
        disk.sync_dir(&making)?;

        // What stands there holds no log: what an earlier attempt left, or an
        // administrator's empty directory.
        disk.remove_dir_all(dir)?;
        disk.rename(&making, dir)?;
        disk.sync_dir(parent(dir))?;
        Ok(Wal {
            tail: disk.open(&name.path(dir), OpenMode::Write)?,
            disk,
            dir: dir.to_path_buf(),
            options,
            metadata,
            hard_state: HardState::default(),
            last_index: 0,
            crc,
            files: VecDeque::from([LockedFile { name, _lock: lock }]),
            offset: buffer.len() as u64,
            head_end: buffer.len() as u64,
            dirty: false,
            poisoned: false,
            prepared: None,
            prepared_count: 0,
            buffer,
        })
    }

    /// Opens the log for appending and reads what follows the snapshot `from` (of
    /// index 0 and term 0: everything).
    ///
    /// Takes the locks first. A torn tail is removed, after a copy of the file was made
    /// beside it (`.broken`); if anything else is wrong, nothing is altered.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: &Snapshot,
    ) -> Result<(Wal, Replay), WalError> {
        Wal::open_with(disk, dir, from, Options::default())
    }

    /// [`Wal::open`] with other options.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: &Snapshot,
        options: Options,
    ) -> Result<(Wal, Replay), WalError> {
        let names = name::select(&*disk, dir, from.index)?;
        let mut files = VecDeque::new();
        for &name in &names {
            files.push_back(LockedFile {
                name,
                _lock: lock(&*disk, &name.path(dir))?,
            });
        }
        let (replay, position) = read(&*disk, dir, &names, Some(from))?;
        let last = names[names.len() - 1].path(dir);
        let tail = disk.open(&last, OpenMode::Write)?;
        repair::clean_tail(&*disk, &*tail, &last, position.offset, position.torn)?;
        repair::rewrite(&*tail, position.offset)?;
        for entry in disk.list(dir)? {
            let unfinished = entry
                .name
                .to_str()
                .is_some_and(|name| name.ends_with(TEMPORARY));
            if unfinished && !entry.is_dir {
                unlink_if_exists(&*disk, &dir.join(&entry.name))?;
            }
        }
        let Position {
            last_index,
            metadata,
            hard_state,
            crc,
            offset,
            ..
        } = position;
        let wal = Wal {
            disk,
            dir: dir.to_path_buf(),
            options,
            metadata,
            hard_state,
            last_index: last_index.max(from.index),
            crc,
            files,
            tail,
            offset,
            head_end: 0,
            dirty: false,
            poisoned: false,
            prepared: None,
            prepared_count: 0,
            buffer: Vec::new(),
        };
        Ok((wal, replay))
    }

    /// Reads what follows the snapshot `from` without locks and without altering
    /// anything; a torn tail is left out.
    pub fn read(disk: &dyn Disk, dir: &Path, from: &Snapshot) -> Result<Replay, WalError> {
        let names = name::select(disk, dir, from.index)?;
        Ok(read(disk, dir, &names, Some(from))?.0)
    }

    /// The snapshot records of committed state in the whole log, in log order. Needs no
    /// lock and alters nothing.
    pub fn valid_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<Snapshot>, WalError> {
        let names = name::list(disk, dir)?;
        if names.is_empty() {
            return Err(WalError::FileNotFound {
                dir: dir.to_path_buf(),
                index: 0,
            });
        }
        name::consecutive(dir, &names)?;
        Ok(read(disk, dir, &names, None)?.0.snapshots)
    }

    /// Appends entries and then the hard state, in one write. Nothing is durable
    /// before [`Wal::sync`]. A full file is closed first, which syncs all before.
    pub fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        let hard_state = hard_state.filter(|state| **state != HardState::default());
        if entries.is_empty() && hard_state.is_none() {
            return self.check();
        }
        self.check_content(hard_state, entries)?;
        let bytes_max: u64 = entries.iter().map(entry_frame_bytes_max).sum();
        let last_index = entries.last().map_or(self.last_index, |entry| entry.index);
        self.write(bytes_max + STATE_FRAME_BYTES_MAX, |encoder| {
            for entry in entries {
                encoder.entry(entry);
            }
            if let Some(state) = hard_state {
                encoder.hard_state(state);
            }
        })?;
        self.last_index = last_index;
        if let Some(state) = hard_state {
            self.hard_state = *state;
        }
        Ok(())
    }

    /// Makes everything appended so far durable; free if it is already.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check()?;
        if self.dirty {
            let synced = self.tail.sync_data();
            self.poison_on_error(synced)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Writes and syncs the record of a checkpoint. Everything appended before is
    /// durable with it.
    pub fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), WalError> {
        self.write_snapshot(snapshot, None)
    }

    /// Writes the record of a snapshot that a leader sent and the hard state that
    /// commits it, and makes both durable with one sync. From here on the log starts
    /// after that snapshot.
    pub fn save_received_snapshot(
        &mut self,
        snapshot: &Snapshot,
        hard_state: &HardState,
    ) -> Result<(), WalError> {
        self.write_snapshot(snapshot, Some(hard_state))
    }

    fn write_snapshot(
        &mut self,
        snapshot: &Snapshot,
        hard_state: Option<&HardState>,
    ) -> Result<(), WalError> {
        let hard_state = hard_state.filter(|state| **state != HardState::default());
        self.check_content(hard_state, &[])?;
        let members = snapshot.conf_state.as_ref();
        if snapshot.index > 0 && members.is_none_or(|m| m.voters.is_empty()) {
            return Err(WalError::SnapshotWithoutMembers {
                index: snapshot.index,
            });
        }
        let bytes_max = snapshot.encoded_len() as u64 + 2 * STATE_FRAME_BYTES_MAX;
        self.write(bytes_max, |encoder| {
            // In this order a torn write cannot leave a commit without its snapshot.
            encoder.snapshot(snapshot);
            if let Some(state) = hard_state {
                encoder.hard_state(state);
            }
        })?;
        self.last_index = self.last_index.max(snapshot.index);
        if let Some(state) = hard_state {
            self.hard_state = *state;
        }
        self.sync()
    }

    /// Index of the last entry or, if greater, of the last snapshot record.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses what [`Wal::open`] would take for damage.
    fn check_content(
        &self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        self.check()?;
        let refused = |what| Err(WalError::Refused { what });
        if hard_state.is_some_and(|state| state.term < self.hard_state.term.max(1)) {
            return refused("a hard state whose term falls");
        }
        if !entries.iter().all(is_well_formed) {
            return refused("an entry without an index, a term or a change");
        }
        let follows =
            |pair: &[Entry]| pair[1].index == pair[0].index + 1 && pair[1].term >= pair[0].term;
        if !entries.windows(2).all(follows) {
            return refused("entries that do not follow one another");
        }
        Ok(())
    }

    /// Encodes records and writes them with one call. `bytes_max` is at least what they
    /// take: if the file has no room for that, a new one is begun.
    fn write(
        &mut self,
        bytes_max: u64,
        encode: impl FnOnce(&mut Encoder<'_>),
    ) -> Result<(), WalError> {
        self.check()?;
        if self.offset + bytes_max > self.options.segment_bytes && self.offset > self.head_end {
            self.rotate()?;
        }
        self.buffer.clear();
        let mut encoder = Encoder {
            buffer: &mut self.buffer,
            offset: self.offset,
            crc: self.crc,
        };
        encode(&mut encoder);
        self.crc = encoder.crc;
        let written = self.tail.write_at(self.offset, &self.buffer);
        self.poison_on_error(written)?;
        self.offset += self.buffer.len() as u64;
        self.dirty = true;
        // A burst must not hold its memory for ever.
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), WalError> {
        if self.poisoned {
            Err(WalError::Poisoned)
        } else {
            Ok(())
        }
    }

    pub(super) fn poison_on_error<T>(
        &mut self,
        result: Result<T, DiskError>,
    ) -> Result<T, WalError> {
        self.poisoned |= result.is_err();
        Ok(result?)
    }
}

/// Capacity of the write buffer beyond which it is given back after a write.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Takes etcd's lock on a file of the log.
pub(super) fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Lock>, WalError> {
    disk.lock(path, LockKind::Record).map_err(|e| {
        if e.is_locked() {
            WalError::Locked {
                file: path.to_path_buf(),
            }
        } else {
            e.into()
        }
    })
}

fn read(
    disk: &dyn Disk,
    dir: &Path,
    names: &[Name],
    from: Option<&Snapshot>,
) -> Result<(Replay, Position), WalError> {
    let mut collector = Collector::new(from);
    let mut crc = (names[0].seq == 0).then_some(0);
    for (i, name) in names.iter().enumerate() {
        let path = name.path(dir);
        let file = disk.open(&path, OpenMode::Read)?;
        let mut reader = Reader::new(&*file, &path, i + 1 == names.len(), crc)?;
        collector.read(&mut reader)?;
        crc = reader.crc();
    }
    collector.finish()
}

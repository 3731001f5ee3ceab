//! Beginning a new file, and giving up old ones.

use std::path::PathBuf;

use etcd_proto::raftpb::HardState;

use super::log::{LockedFile, lock};
use super::name::{Name, TEMPORARY, list};
use super::record::Encoder;
use super::{Wal, WalError};
use crate::dir::unlink_if_exists;
use crate::disk::{DiskError, File, Lock, LockKind, OpenMode};

/// The next file, with its space but not its name.
pub(super) struct Prepared {
    path: PathBuf,
    file: Box<dyn File>,
    lock: Box<dyn Lock>,
}

impl Wal {
    /// Makes the next file ahead of time, so that [`Wal::append`] need not when the
    /// current one is full. For idle moments; whether there was anything to do.
    pub fn prepare(&mut self) -> Result<bool, WalError> {
        self.check()?;
        if self.prepared.is_some() {
            return Ok(false);
        }
        let path = self
            .dir
            .join(format!("{}{TEMPORARY}", self.prepared_count % 2));
        unlink_if_exists(&*self.disk, &path)?;
        let file = self.disk.create(&path)?;
        file.preallocate(self.options.segment_bytes)?;
        let lock = lock(&*self.disk, &path)?;
        self.prepared = Some(Prepared { path, file, lock });
        self.prepared_count += 1;
        Ok(true)
    }

    /// Ends the current file and goes on in a new one. All appended before is synced.
    pub(super) fn rotate(&mut self) -> Result<(), WalError> {
        let rotated = self.try_rotate();
        self.poisoned |= rotated.is_err();
        rotated
    }

    fn try_rotate(&mut self) -> Result<(), WalError> {
        // First, since this is what can fail for want of space.
        self.prepare()?;
        let Some(Prepared {
            path: making,
            file,
            lock,
        }) = self.prepared.take()
        else {
            return Err(WalError::Poisoned); // prepare() made one
        };
        self.tail.truncate(self.offset)?;
        self.tail.sync_data()?;

        let seq = self.files.back().map_or(0, |file| file.name.seq + 1);
        let name = Name {
            seq,
            first_index: self.last_index + 1,
        };
        let mut buffer = Vec::new();
        let mut encoder = Encoder {
            buffer: &mut buffer,
            offset: 0,
            crc: self.crc,
        };
        encoder.crc_record();
        encoder.metadata(&self.metadata);
        if self.hard_state != HardState::default() {
            encoder.hard_state(&self.hard_state);
        }
        self.crc = encoder.crc;
        file.write_at(0, &buffer)?;
        file.sync_data()?;
        let path = name.path(&self.dir);
        self.disk.rename(&making, &path)?;
        self.disk.sync_dir(&self.dir)?;

        self.tail = self.disk.open(&path, OpenMode::Write)?;
        self.files.push_back(LockedFile { name, _lock: lock });
        self.offset = buffer.len() as u64;
        self.head_end = self.offset;
        self.dirty = false;
        Ok(())
    }

    /// Gives up the files whose entries are all at or below `index`, which a durable
    /// checkpoint covers: unlocks them and, while the directory has more than
    /// `max_wals` files, removes the oldest. With 0 all files are kept.
    pub fn release(&mut self, index: u64, max_wals: usize) -> Result<(), WalError> {
        self.check()?;
        // The last file that starts at or below the index is where a start from the
        // checkpoint begins to read.
        let needed = self
            .files
            .iter()
            .rposition(|file| file.name.first_index <= index);
        self.files.drain(..needed.unwrap_or(0));
        let Some(oldest_needed) = self.files.front().map(|file| file.name) else {
            return Ok(());
        };
        if max_wals == 0 {
            return Ok(());
        }
        let names = list(&*self.disk, &self.dir)?;
        let surplus = names.len().saturating_sub(max_wals);
        for name in names
            .iter()
            .take(surplus)
            .take_while(|name| **name < oldest_needed)
        {
            let path = name.path(&self.dir);
            match self.disk.lock(&path, LockKind::Record) {
                // One at a time: were a later one to vanish and an earlier one not, the
                // log would have a gap.
                Ok(_lock) => {
                    self.disk.unlink(&path)?;
                    self.disk.sync_dir(&self.dir)?;
                }
                // Somebody is reading it, a tool or a backup: the next time will do.
                Err(DiskError { source, .. })
                    if source.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    break;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

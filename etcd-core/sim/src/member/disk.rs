//! The disk thread: the only writer of the log. Writing and syncing are two events, so
//! that the power can go out between them.

use std::path::PathBuf;

use etcd_proto::walpb;
use etcd_replica::{Input, Persist};
use etcd_storage::disk::Disk as _;
use etcd_storage::wal::WalError;

use super::{Death, Process};
use crate::env::Env;
use crate::event::{MS, Turn};
use crate::planted::Planted;

/// Log files kept.
const WALS_MAX: usize = 2;

/// Work for the disk thread.
pub(crate) enum DiskTask {
    /// A batch of consensus.
    Persist(Box<Persist>),
    /// A checkpoint is complete.
    Checkpointed {
        snapshot: walpb::Snapshot,
        /// For consensus, once the record is durable.
        input: Box<Input>,
        /// Files that nothing refers to then.
        dead: Vec<PathBuf>,
    },
}

/// What was written and waits for the sync.
#[derive(Default)]
pub(super) struct Batch {
    persists: Vec<Persist>,
    must_sync: bool,
    checkpointed: Option<(walpb::Snapshot, Box<Input>, Vec<PathBuf>)>,
}

impl Process {
    pub(super) fn hand_disk(&mut self, task: DiskTask, env: &mut Env) {
        self.disk_tasks.push_back(task);
        if let Some(DiskTask::Persist(persist)) = self.disk_tasks.back_mut()
            && env.is_planted(Planted::AnswerBeforePersist)
        {
            let early = std::mem::take(&mut persist.then_send);
            self.send(early, env);
        }
        self.schedule_disk(env);
    }

    fn schedule_disk(&mut self, env: &mut Env) {
        if !self.disk_busy && !self.disk_tasks.is_empty() {
            self.disk_busy = true;
            env.soon(10, MS, self.event(Turn::DiskWrite));
        }
    }

    /// Writes what waits, up to the next checkpoint.
    pub(super) fn disk_write(&mut self, env: &mut Env) -> Result<(), Death> {
        let mut batch = Batch::default();
        while let Some(task) = self.disk_tasks.pop_front() {
            match task {
                DiskTask::Persist(persist) => batch.persists.push(*persist),
                DiskTask::Checkpointed {
                    snapshot,
                    input,
                    dead,
                } => {
                    batch.checkpointed = Some((snapshot, input, dead));
                    break;
                }
            }
        }
        for persist in &mut batch.persists {
            if env.is_planted(Planted::ForgetVote)
                && let Some(state) = &mut persist.hard_state
            {
                state.vote = 0;
            }
            if let Some(snapshot) = &persist.snapshot {
                let metadata = snapshot.metadata.clone().unwrap_or_default();
                let record = walpb::Snapshot {
                    index: metadata.index,
                    term: metadata.term,
                    conf_state: metadata.conf_state,
                };
                let hard_state = persist.hard_state.unwrap_or_default();
                or_die(self.wal.save_received_snapshot(&record, &hard_state))?;
                batch.must_sync = true;
            }
            if persist.hard_state.is_some() || !persist.entries.is_empty() {
                or_die(
                    self.wal
                        .append(persist.hard_state.as_ref(), &persist.entries),
                )?;
            }
            batch.must_sync |= persist.must_sync;
        }
        if env.is_planted(Planted::AckBeforeFsync) {
            self.complete(std::mem::take(&mut batch.persists), env);
        }
        let latency = if env.stalled.contains_key(&self.pid.member) {
            env.random.between(200 * MS, 2500 * MS)
        } else if batch.must_sync {
            match env.random.below(20) {
                0 => env.random.between(10 * MS, 150 * MS),
                _ => env.random.between(300, 8 * MS),
            }
        } else {
            0
        };
        self.disk_batch = Some(batch);
        env.after(latency, self.event(Turn::DiskSync));
        Ok(())
    }

    pub(super) fn disk_sync(&mut self, env: &mut Env) -> Result<(), Death> {
        if env.frozen.contains(&self.pid.member) {
            env.after(10 * MS, self.event(Turn::DiskSync));
            return Ok(());
        }
        self.disk_busy = false;
        let Some(batch) = self.disk_batch.take() else {
            return Ok(());
        };
        if batch.must_sync {
            or_die(self.wal.sync())?;
        }
        self.complete(batch.persists, env);
        if let Some((snapshot, input, dead)) = batch.checkpointed {
            or_die(self.wal.save_snapshot(&snapshot))?;
            or_die(self.wal.release(snapshot.index, WALS_MAX))?;
            self.receive(*input, env);
            for path in dead {
                match self.disk.unlink(&path) {
                    Err(error) if !error.is_not_found() => {
                        return Err(Death::Disk(error.to_string()));
                    }
                    _ => {}
                }
            }
        }
        self.schedule_disk(env);
        Ok(())
    }

    fn complete(&mut self, persists: Vec<Persist>, env: &mut Env) {
        for persist in persists {
            if let Some(completion) = persist.completion {
                self.receive(Input::Persisted(completion), env);
            }
            self.send(persist.then_send, env);
        }
    }
}

fn or_die<T>(result: Result<T, WalError>) -> Result<T, Death> {
    result.map_err(|error| match error {
        WalError::Disk(_) | WalError::Poisoned => Death::Disk(error.to_string()),
        other => Death::Bug(other.to_string()),
    })
}

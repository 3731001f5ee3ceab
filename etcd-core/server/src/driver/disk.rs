//! The disk thread: the only writer of the log. Batches that wait are written
//! together and synced once.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use etcd_proto::walpb;
use etcd_replica::{Input, Persist};
use etcd_storage::wal::{Wal, WalError};

use super::observation::Observation;
use super::shared::Shared;

/// Batches that one sync may cover.
const BATCHES_MAX: usize = 64;

/// Work for the disk thread.
pub(crate) enum DiskTask {
    /// A batch of consensus.
    Persist(Box<Persist>),
    /// A checkpoint is complete: the log up to `snapshot.index` is covered by it.
    Checkpointed {
        snapshot: walpb::Snapshot,
        /// Runs once the record is durable: files that nothing refers to may go.
        then: Box<dyn FnOnce() + Send>,
    },
    /// Ends the thread, when everything before is done.
    Stop,
}

/// Runs until told to stop. An error of the log ends the process: what a failed
/// sync has left behind is unknown, and acknowledging anything after it would be a lie.
pub(crate) fn run(mut wal: Wal, max_wals: usize, shared: &Arc<Shared>, tasks: &Receiver<DiskTask>) {
    while let Ok(first) = tasks.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCHES_MAX
            && let Ok(next) = tasks.try_recv()
        {
            batch.push(next);
        }
        let mut persists = Vec::with_capacity(batch.len());
        let mut stop = false;
        for task in batch {
            match task {
                DiskTask::Persist(persist) => persists.push(*persist),
                DiskTask::Checkpointed { snapshot, then } => {
                    write(&mut wal, shared, std::mem::take(&mut persists));
                    let released = wal
                        .save_snapshot(&snapshot)
                        .and_then(|()| wal.release(snapshot.index, max_wals));
                    or_die(shared, released);
                    then();
                }
                DiskTask::Stop => stop = true,
            }
        }
        write(&mut wal, shared, persists);
        if stop {
            or_die(shared, wal.sync());
            return;
        }
    }
}

fn write(wal: &mut Wal, shared: &Shared, persists: Vec<Persist>) {
    if persists.is_empty() {
        return;
    }
    let began = Instant::now();
    let mut must_sync = false;
    for persist in &persists {
        if let Some(snapshot) = &persist.snapshot {
            let metadata = snapshot.metadata.clone().unwrap_or_default();
            let record = walpb::Snapshot {
                index: metadata.index,
                term: metadata.term,
                conf_state: metadata.conf_state,
            };
            let hard_state = persist.hard_state.unwrap_or_default();
            or_die(shared, wal.save_received_snapshot(&record, &hard_state));
            must_sync = true;
        }
        if persist.hard_state.is_some() || !persist.entries.is_empty() {
            or_die(
                shared,
                wal.append(persist.hard_state.as_ref(), &persist.entries),
            );
        }
        must_sync |= persist.must_sync;
    }
    let written = Instant::now();
    shared.tell(Observation::WalWrite(written - began));
    if must_sync && !shared.unsafe_no_fsync {
        or_die(shared, wal.sync());
        shared.tell(Observation::WalFsync(written.elapsed()));
    }
    for persist in persists {
        if let Some(completion) = persist.completion {
            shared.complete(Input::Persisted(completion));
        }
        if !persist.then_send.is_empty() {
            shared.peers.send(persist.then_send);
        }
    }
}

fn or_die(shared: &Shared, result: Result<(), WalError>) {
    if let Err(error) = result {
        shared.die(&format!("failed to write the write-ahead log: {error}"));
    }
}

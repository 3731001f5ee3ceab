//! The checkpoint thread: writes what is applied into segments, so that the log
//! may be released.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use etcd_proto::walpb;
use etcd_replica::{Capture, Input};

use super::apply::ApplyTask;
use super::disk::DiskTask;
use super::observation::Observation;
use super::shared::Shared;

/// Work for the checkpoint thread.
pub(crate) enum CheckpointTask {
    /// Make this state durable.
    Write(Box<Capture>),
    /// Ends the thread.
    Stop,
}

pub(crate) struct CheckpointThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Receiver<CheckpointTask>,
    pub(crate) apply: Sender<ApplyTask>,
    pub(crate) disk: Sender<DiskTask>,
    /// Entries kept in memory behind a checkpoint, for followers that lag.
    pub(crate) catchup_entries: u64,
}

impl CheckpointThread {
    pub(crate) fn run(self) {
        while let Ok(CheckpointTask::Write(capture)) = self.tasks.recv() {
            self.write(&capture);
        }
    }

    fn write(&self, capture: &Capture) {
        let began = Instant::now();
        let checkpoint =
            match etcd_replica::checkpoint(&*self.shared.disk, &self.shared.directory, capture) {
                Ok(checkpoint) => checkpoint,
                Err(error) => {
                    self.shared
                        .die(&format!("failed to write a checkpoint: {error}"));
                    return;
                }
            };
        self.shared.tell(Observation::Checkpoint(began.elapsed()));
        tracing::info!(
            "snapshot-index" = checkpoint.index,
            took = ?began.elapsed(),
            "saved snapshot to disk"
        );
        let snapshot = walpb::Snapshot {
            index: checkpoint.index,
            term: checkpoint.term,
            conf_state: Some(checkpoint.conf_state.clone()),
        };
        let compact_to = checkpoint.index.saturating_sub(self.catchup_entries);
        let input = Input::Checkpointed {
            index: checkpoint.index,
            term: checkpoint.term,
            conf_state: checkpoint.conf_state.clone(),
            compact_to,
        };
        let (shared, dead) = (self.shared.clone(), checkpoint.dead_files.clone());
        // The order is the storage's contract: manifest, record in the log, release,
        // and only then do files go that nothing names any more.
        let then = Box::new(move || {
            shared.complete(input);
            for path in dead {
                if let Err(error) = shared.disk.unlink(&path) {
                    tracing::warn!(path = %path.display(), %error, "failed to remove a dead segment");
                }
            }
        });
        let _stopping = self
            .apply
            .send(ApplyTask::Checkpointed(Box::new(checkpoint)));
        let _stopping = self.disk.send(DiskTask::Checkpointed { snapshot, then });
    }
}

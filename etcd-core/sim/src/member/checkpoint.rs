//! The checkpoint thread: what is applied becomes segments, so that the log may go.

use std::path::Path;
use std::sync::Arc;

use etcd_proto::walpb;
use etcd_replica::{Capture, Checkpoint, Input};

use super::apply::{ApplyTask, or_die};
use super::disk::DiskTask;
use super::start::DIRECTORY;
use super::{Death, Process};
use crate::env::Env;
use crate::event::{MS, Turn};
use crate::planted::Planted;

/// Entries kept in memory behind a checkpoint.
const CATCHUP_ENTRIES: u64 = 8;
/// Entries between two checkpoints.
const SNAPSHOT_COUNT: u64 = 40;

/// Where checkpoints stand.
pub(super) struct Checkpointing {
    pub(super) running: bool,
    /// Index of the last one that was begun.
    pub(super) index: u64,
    /// Dead bytes when the one under way was captured.
    dead: u64,
    capture: Option<Box<Capture>>,
}

impl Checkpointing {
    pub(super) fn new(index: u64) -> Checkpointing {
        Checkpointing {
            running: false,
            index,
            dead: 0,
            capture: None,
        }
    }
}

impl Process {
    pub(super) fn maybe_checkpoint(&mut self, env: &mut Env) {
        if self.applier.index() >= self.checkpointing.index + SNAPSHOT_COUNT {
            self.want_checkpoint(env);
        }
    }

    pub(super) fn want_checkpoint(&mut self, env: &mut Env) {
        if self.checkpointing.running || self.applier.index() == self.checkpointing.index {
            return;
        }
        let half_dead = 2 * self.applier.dead_bytes() > self.applier.archive_bytes();
        let defragment = half_dead || env.random.permille(100);
        self.begin_checkpoint(defragment, env);
    }

    /// `defragment`: dead records are dropped from all segments.
    pub(crate) fn begin_checkpoint(&mut self, defragment: bool, env: &mut Env) {
        let mut capture = self.applier.capture(defragment);
        env.check.captured(self.pid, &capture);
        if self.plants(env, Planted::ApplyTwice) && capture.view.index > self.checkpointing.index {
            // As if the index were saved apart from the state, and before it.
            capture.view.index -= 1;
            capture.rows.consistent_index -= 1;
        }
        self.checkpointing = Checkpointing {
            running: true,
            index: self.applier.index(),
            dead: self.applier.dead_bytes(),
            capture: Some(Box::new(capture)),
        };
        env.soon(MS, 150 * MS, self.event(Turn::Checkpoint));
    }

    pub(super) fn write_checkpoint(&mut self, env: &mut Env) -> Result<(), Death> {
        let Some(capture) = self.checkpointing.capture.take() else {
            return Ok(());
        };
        let written = etcd_replica::checkpoint(&self.disk, Path::new(DIRECTORY), &capture);
        let checkpoint = or_die(written)?;
        env.note(format_args!(
            "{:x} checkpoints {}",
            self.pid.member, checkpoint.index
        ));
        let snapshot = walpb::Snapshot {
            index: checkpoint.index,
            term: checkpoint.term,
            conf_state: Some(checkpoint.conf_state.clone()),
        };
        let input = Input::Checkpointed {
            index: checkpoint.index,
            term: checkpoint.term,
            conf_state: checkpoint.conf_state.clone(),
            compact_to: checkpoint.index.saturating_sub(CATCHUP_ENTRIES),
        };
        let task = DiskTask::Checkpointed {
            snapshot,
            input: Box::new(input),
            dead: checkpoint.dead_files.clone(),
        };
        self.hand_apply(ApplyTask::Checkpointed(Box::new(checkpoint)), env);
        self.hand_disk(task, env);
        Ok(())
    }

    pub(super) fn checkpointed(&mut self, checkpoint: &Checkpoint, env: &mut Env) {
        self.checkpointing.running = false;
        self.applier
            .checkpointed(checkpoint, self.checkpointing.dead);
        self.view = Arc::new(self.applier.view());
        env.check.view(self.pid, &self.view);
    }
}

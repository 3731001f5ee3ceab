//! The apply thread: committed entries become state, views, replies and events, in
//! this order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::time::{Duration, Instant};

use etcd_mvcc::{CompactionHash, KvHash};
use etcd_proto::raftpb::{Entry, Snapshot};
use etcd_replica::{Applied, Applier, Capture, Checkpoint, Input, Outcome, Response};
use tokio::sync::oneshot;

use super::checkpoint::CheckpointTask;
use super::observation::Observation;
use super::request::Reply;
use super::shared::Shared;

/// Records compacted between two batches.
const COMPACTION_SLICE: usize = 1000;

/// Work for the apply thread.
pub(crate) enum ApplyTask {
    /// Committed entries.
    Apply(Vec<Entry>),
    /// A received snapshot, whose image is on disk, replaces the state.
    Install(Snapshot),
    /// Somebody wants a consistent state, rows included.
    Capture(oneshot::Sender<Capture>),
    /// A checkpoint has been written.
    Checkpointed(Box<Checkpoint>),
    /// The hash of a compaction has been computed.
    Hashed(KvHash),
    /// The reply of a compaction is wanted when its work is done.
    WhenCompacted(oneshot::Sender<()>),
    /// Segments with dead records are to be rewritten; the reply follows when they are.
    Defragment(oneshot::Sender<()>),
    /// A follower needs a snapshot: a checkpoint is due.
    Checkpoint,
    /// Ends the thread.
    Stop,
}

pub(crate) struct ApplyThread {
    pub(crate) applier: Applier,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Receiver<ApplyTask>,
    pub(crate) checkpoints: Sender<CheckpointTask>,
    /// Compactions whose hash is to be computed.
    pub(crate) hashes: SyncSender<CompactionHash>,
    pub(crate) checkpoint_running: bool,
    pub(crate) checkpointed_index: u64,
    /// Dead bytes when the checkpoint under way was captured.
    pub(crate) dead_at_capture: u64,
    /// Who waits for a defragmentation, and whether one is still to begin.
    pub(crate) defragment_waiters: Vec<oneshot::Sender<()>>,
    pub(crate) defragmenting: Vec<oneshot::Sender<()>>,
    pub(crate) defragmenting_since: Option<Instant>,
    pub(crate) compaction_waiters: Vec<oneshot::Sender<()>>,
    /// Since when there has been a compaction to work on.
    pub(crate) compacting_since: Option<Instant>,
    pub(crate) pending: VecDeque<ApplyTask>,
}

impl ApplyThread {
    pub(crate) fn run(mut self) {
        loop {
            let task = match self.pending.pop_front() {
                Some(task) => Some(task),
                None if self.applier.is_compacting() => match self.tasks.try_recv() {
                    Ok(task) => Some(task),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                },
                None => match self.tasks.recv() {
                    Ok(task) => Some(task),
                    Err(_) => return,
                },
            };
            match task {
                Some(ApplyTask::Stop) => return,
                Some(task) => self.take(task),
                None => self.compact_a_slice(),
            }
        }
    }

    fn take(&mut self, task: ApplyTask) {
        match task {
            ApplyTask::Apply(entries) => self.apply(&entries),
            ApplyTask::Install(snapshot) => {
                // Its manifest must not be followed by that of an older state.
                self.wait_for_checkpoint();
                self.install(&snapshot);
            }
            ApplyTask::Capture(reply) => {
                let _gone = reply.send(self.applier.capture(false));
            }
            ApplyTask::Checkpointed(checkpoint) => {
                self.checkpoint_running = false;
                self.applier.checkpointed(&checkpoint, self.dead_at_capture);
                self.renew_view();
                if let Some(since) = self.defragmenting_since.take() {
                    self.shared.tell(Observation::Defragmented(since.elapsed()));
                }
                for waiter in self.defragmenting.drain(..) {
                    let _gone = waiter.send(());
                }
                if !self.defragment_waiters.is_empty() {
                    self.begin_checkpoint();
                }
            }
            ApplyTask::Hashed(hash) => {
                self.applier.cache_hash(hash);
                self.shared.view.store(Arc::new(self.applier.view()));
            }
            ApplyTask::WhenCompacted(reply) => {
                if self.applier.is_compacting() {
                    self.compaction_waiters.push(reply);
                } else {
                    let _gone = reply.send(());
                }
            }
            ApplyTask::Defragment(reply) => {
                self.defragment_waiters.push(reply);
                if !self.checkpoint_running {
                    self.begin_checkpoint();
                }
            }
            ApplyTask::Checkpoint => {
                if !self.checkpoint_running && self.applier.index() > self.checkpointed_index {
                    self.begin_checkpoint();
                }
            }
            ApplyTask::Stop => {}
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        let began = Instant::now();
        match self.applier.apply(entries) {
            Ok(applied) => self.publish(applied),
            Err(fault) => self.shared.die(&fault.to_string()),
        }
        let took = began.elapsed();
        self.shared.tell(Observation::Applied(took));
        if took > self.shared.warning_apply_duration {
            self.shared.counts.slow_applies.add(1);
            tracing::warn!(took = ?took, entries = entries.len(), "apply request took too long");
        }
        self.maybe_checkpoint();
    }

    fn publish(&mut self, applied: Applied) {
        let shared = &self.shared;
        shared.counts.applied(&applied);
        let compacted =
            shared.view.load().kv.compact_revision() != applied.view.kv.compact_revision();
        shared.view.store(applied.view.clone());
        if compacted || !applied.records.is_empty() {
            shared.watches.push(applied.records, applied.view.clone());
        }
        for term in applied.terms_begun {
            shared.term_began(term);
        }
        if applied.members_changed {
            shared.members_changed(&applied.view.membership);
        }
        for outcome in &applied.outcomes {
            if let Ok(Response::LeaseGrant { ttl, .. }) = outcome.result {
                shared.tell(Observation::LeaseGranted(ttl));
            }
        }
        let granted = |o: &Outcome| matches!(o.result, Ok(Response::LeaseGrant { .. }));
        if applied.outcomes.iter().any(granted) {
            shared.lessor.lock().schedule(shared.now_ms());
        }
        for outcome in applied.outcomes {
            let reply = Reply {
                revision: outcome.revision,
                result: outcome.result,
            };
            shared.waiters.complete(outcome.id, Ok(reply));
        }
        for compaction in applied.compactions {
            self.compacting_since.get_or_insert_with(Instant::now);
            if let Err(TrySendError::Full(left_out)) = self.hashes.try_send(compaction) {
                tracing::info!(
                    revision = left_out.revision(),
                    "compactions follow each other too fast to hash this one"
                );
            }
        }
        shared.applied_waits.applied(applied.index);
        shared.complete(Input::Applied {
            index: applied.index,
            conf_changes: applied.conf_changes,
        });
    }

    /// Publishes the same state in its new shape. Whoever kept the old one until the next
    /// write would keep segments that are gone, and records that a segment holds by now.
    fn renew_view(&self) {
        let view = Arc::new(self.applier.view());
        self.shared.view.store(view.clone());
        self.shared.watches.push(Vec::new(), view);
    }

    fn install(&mut self, snapshot: &Snapshot) {
        let index = snapshot.metadata.as_ref().map_or(0, |m| m.index);
        self.shared.tell(Observation::Installing(true));
        let installed = self.shared.install_image(index);
        self.shared.tell(Observation::Installing(false));
        match installed {
            Ok(applier) => {
                self.applier.replace(applier);
                self.checkpointed_index = index;
                let view = Arc::new(self.applier.view());
                self.shared.view.store(view.clone());
                self.shared.watches.reset(view.clone());
                self.shared.members_changed(&view.membership);
                self.shared.applied_waits.applied(index);
                self.shared.complete(Input::Applied {
                    index,
                    conf_changes: Vec::new(),
                });
                tracing::info!(index, "applied snapshot");
            }
            Err(error) => self.shared.die(&format!(
                "failed to install snapshot at index {index}: {error}"
            )),
        }
    }

    fn compact_a_slice(&mut self) {
        let began = Instant::now();
        match self.applier.compact_step(COMPACTION_SLICE) {
            Ok(dropped) => self.shared.tell(Observation::CompactionSlice {
                took: began.elapsed(),
                dropped,
            }),
            Err(error) => self.shared.die(&format!("failed to compact: {error}")),
        }
        if !self.applier.is_compacting() {
            if let Some(since) = self.compacting_since.take() {
                self.shared.tell(Observation::Compacted(since.elapsed()));
            }
            self.renew_view();
            for waiter in self.compaction_waiters.drain(..) {
                let _gone = waiter.send(());
            }
        }
    }

    /// Begins a checkpoint when enough has been applied since the last one. With the
    /// ring full the thread waits: entries pile up, and proposals are refused.
    fn maybe_checkpoint(&mut self) {
        let due = self.applier.index() >= self.checkpointed_index + self.shared.snapshot_count
            || self.applier.ring_bytes() >= self.shared.ring_checkpoint_bytes;
        if !due || self.checkpoint_running {
            if self.checkpoint_running && self.applier.ring_bytes() >= self.shared.ring_max_bytes {
                self.wait_for_checkpoint();
            }
            return;
        }
        self.begin_checkpoint();
    }

    /// A store that is half dead is rewritten on the occasion.
    fn begin_checkpoint(&mut self) {
        self.checkpoint_running = true;
        self.checkpointed_index = self.applier.index();
        self.dead_at_capture = self.applier.dead_bytes();
        self.defragmenting = std::mem::take(&mut self.defragment_waiters);
        if !self.defragmenting.is_empty() {
            self.defragmenting_since = Some(Instant::now());
            self.shared.tell(Observation::DefragmentBegan);
        }
        let half_dead = 2 * self.applier.dead_bytes() > self.applier.archive_bytes();
        let capture = self
            .applier
            .capture(half_dead || !self.defragmenting.is_empty());
        let _stopping = self
            .checkpoints
            .send(CheckpointTask::Write(Box::new(capture)));
    }

    /// What arrives meanwhile keeps its order in `pending`.
    fn wait_for_checkpoint(&mut self) {
        while self.checkpoint_running {
            match self.tasks.recv_timeout(Duration::from_millis(100)) {
                Ok(ApplyTask::Checkpointed(checkpoint)) => {
                    self.take(ApplyTask::Checkpointed(checkpoint))
                }
                Ok(task) => self.pending.push_back(task),
                Err(_) if self.shared.is_stopping() => return,
                Err(_) => {}
            }
        }
    }
}

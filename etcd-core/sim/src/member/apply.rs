//! The apply thread: committed entries become state, views, events and answers, in
//! this order.

use std::path::Path;
use std::sync::Arc;

use etcd_proto::raftpb::{Entry, Message, Snapshot};
use etcd_replica::{Applied, Checkpoint, Input, StoreError};
use etcd_storage::disk::Disk;

use super::start::DIRECTORY;
use super::{Death, ELECTION_MS, Process};
use crate::env::Env;
use crate::event::{MS, Turn};
use crate::request::Reply;

/// Work for the apply thread.
pub(super) enum ApplyTask {
    /// Committed entries.
    Apply(Vec<Entry>),
    /// A received snapshot, whose image is on disk, replaces the state.
    Install(Snapshot),
    /// The state is to be sent to a peer.
    Snapshot(Box<Message>),
    /// A checkpoint has been written.
    Checkpointed(Box<Checkpoint>),
}

impl Process {
    pub(super) fn hand_apply(&mut self, task: ApplyTask, env: &mut Env) {
        match task {
            // An installation at the head of the queue waits for it.
            ApplyTask::Checkpointed(_) => self.apply_tasks.push_front(task),
            _ => self.apply_tasks.push_back(task),
        }
        self.schedule_apply(env);
    }

    fn schedule_apply(&mut self, env: &mut Env) {
        let blocked = match self.apply_tasks.front() {
            None => !self.applier.is_compacting(),
            Some(ApplyTask::Install(_)) => self.checkpointing.running,
            Some(_) => false,
        };
        if self.apply_busy || blocked {
            return;
        }
        self.apply_busy = true;
        let slow = env.slow_apply.contains_key(&self.pid.member);
        let delay = match env.random.below(50) {
            _ if slow => env.random.between(20 * MS, 300 * MS),
            0 => env.random.between(5 * MS, 60 * MS),
            _ => env.random.between(20, 2 * MS),
        };
        env.after(delay, self.event(Turn::Apply));
    }

    pub(super) fn apply_turn(&mut self, env: &mut Env) -> Result<(), Death> {
        self.apply_busy = false;
        if let Some(ApplyTask::Install(_)) = self.apply_tasks.front()
            && self.checkpointing.running
        {
            return Ok(());
        }
        match self.apply_tasks.pop_front() {
            Some(ApplyTask::Apply(entries)) => self.apply_some(entries, env)?,
            Some(ApplyTask::Install(snapshot)) => self.install(&snapshot, env)?,
            Some(ApplyTask::Snapshot(message)) => self.send_snapshot(*message, env)?,
            Some(ApplyTask::Checkpointed(checkpoint)) => self.checkpointed(&checkpoint, env),
            None => self.compact_a_slice(env)?,
        }
        self.schedule_apply(env);
        Ok(())
    }

    /// Batches differ from member to member; what becomes of them must not.
    fn apply_some(&mut self, mut entries: Vec<Entry>, env: &mut Env) -> Result<(), Death> {
        let most = env.random.between(1, 12) as usize;
        if entries.len() > most {
            let rest = entries.split_off(most);
            self.apply_tasks.push_front(ApplyTask::Apply(rest));
        }
        env.check.applying(self.pid, &entries, env.now);
        let applied = self
            .applier
            .apply(&entries)
            .map_err(|fault| Death::Bug(fault.to_string()))?;
        env.check.applied(self.pid, &applied, &self.applier);
        self.publish(applied, env)?;
        self.maybe_checkpoint(env);
        Ok(())
    }

    fn publish(&mut self, applied: Applied, env: &mut Env) -> Result<(), Death> {
        let compacted = self.view.kv.compact_revision() != applied.view.kv.compact_revision();
        self.view = applied.view.clone();
        env.check.view(self.pid, &self.view);
        if compacted || !applied.records.is_empty() {
            self.push_publication(applied.records, applied.view.clone(), env);
        }
        for term in applied.terms_begun {
            self.begun = term;
            if self.is_leader && self.term == term {
                let lessor = self.applier.lessor();
                lessor.lock().promote(env.now_ms(), ELECTION_MS);
                self.primary = true;
            }
        }
        for outcome in applied.outcomes {
            if let Some(waiter) = self.waiters.remove(&outcome.id) {
                let reply = Reply::Applied {
                    revision: outcome.revision,
                    result: outcome.result,
                };
                env.reply(waiter.caller, reply);
            }
        }
        self.wake_reads(applied.index, env);
        self.receive(
            Input::Applied {
                index: applied.index,
                conf_changes: applied.conf_changes,
            },
            env,
        );
        if applied.members_changed && applied.view.membership.is_removed(self.pid.member) {
            return Err(Death::Removed);
        }
        Ok(())
    }

    pub(super) fn wake_reads(&mut self, index: u64, env: &mut Env) {
        let later = self.applied_waits.split_off(&(index + 1));
        let ready = std::mem::replace(&mut self.applied_waits, later);
        for reads in ready.into_values() {
            self.answer_reads(reads, env);
        }
    }

    fn install(&mut self, snapshot: &Snapshot, env: &mut Env) -> Result<(), Death> {
        let index = snapshot.metadata.as_ref().map_or(0, |m| m.index);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let installed = etcd_replica::install(&disk, Path::new(DIRECTORY), self.config(), index);
        let applier = or_die(installed)?;
        self.applier.replace(applier);
        self.checkpointing.index = index;
        env.note(format_args!("{:x} installs {index}", self.pid.member));
        env.check.installed(self.pid, &self.applier);
        self.view = Arc::new(self.applier.view());
        env.check.view(self.pid, &self.view);
        self.reset_watches(env);
        self.wake_reads(index, env);
        self.receive(
            Input::Applied {
                index,
                conf_changes: Vec::new(),
            },
            env,
        );
        if self.view.membership.is_removed(self.pid.member) {
            return Err(Death::Removed);
        }
        Ok(())
    }

    fn compact_a_slice(&mut self, env: &mut Env) -> Result<(), Death> {
        let budget = env.random.between(1, 40) as usize;
        self.applier
            .compact_step(budget)
            .map_err(|error| Death::Bug(format!("failed to compact: {error}")))?;
        if !self.applier.is_compacting() {
            self.view = Arc::new(self.applier.view());
            env.check.view(self.pid, &self.view);
        }
        Ok(())
    }
}

/// Only the disk may fail.
pub(super) fn or_die<T>(result: Result<T, StoreError>) -> Result<T, Death> {
    use etcd_storage::manifest::ManifestError;
    use etcd_storage::rows::RowsError;
    use etcd_storage::segment::SegmentError;
    result.map_err(|error| match &error {
        StoreError::Disk(_)
        | StoreError::Manifest(ManifestError::Disk(_))
        | StoreError::RowsFile(RowsError::Disk(_))
        | StoreError::Segment(SegmentError::Disk(_)) => Death::Disk(error.to_string()),
        _ => Death::Bug(error.to_string()),
    })
}

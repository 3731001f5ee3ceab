//! The consensus thread.

use etcd_proto::raftpb::MessageType;
use etcd_raft::{ProposeError, ReadState, Role};
use etcd_replica::{Effects, Input, Rejection};

use super::apply::ApplyTask;
use super::disk::DiskTask;
use super::{Death, PendingRead, Process, TICK_US};
use crate::env::Env;
use crate::event::{MS, Turn};
use crate::request::{Reply, Why};

/// A read index that got no answer is asked for anew after this time.
const READ_RETRY_US: u64 = 500 * MS;

/// The read index under way, for all who wait for it.
pub(super) struct Reading {
    context: u64,
    since: u64,
    waiters: Vec<PendingRead>,
}

impl Process {
    pub(super) fn tick(&mut self, env: &mut Env) {
        env.after(TICK_US, self.event(Turn::Tick));
        self.receive(Input::Tick, env);
        if self.leader == 0 {
            let (waiters, now) = (&self.waiters, env.now);
            self.parked.retain(|input| match proposal_id(input) {
                Some(id) => waiters.get(&id).is_some_and(|waiter| now < waiter.deadline),
                // Another member's; its caller may be waiting.
                None => true,
            });
        } else {
            self.inbox.append(&mut self.parked);
        }
        self.waiters.retain(|_, waiter| env.now < waiter.deadline);
        if self.consensus.wants_snapshot() {
            self.want_checkpoint(env);
        }
    }

    pub(super) fn step(&mut self, env: &mut Env) -> Result<(), Death> {
        self.stepping = false;
        let mut inputs = std::mem::take(&mut self.inbox);
        self.begin_read(env, &mut inputs);
        let status = self.consensus.status();
        if status.leader == 0 && status.conf_state.voters == [self.pid.member] {
            inputs.push(Input::Campaign);
        }
        let effects = self.consensus.step(inputs);
        self.carry_out(effects, env)
    }

    fn begin_read(&mut self, env: &Env, inputs: &mut Vec<Input>) {
        let mut waiters = match self.reading.take() {
            Some(reading) if env.now - reading.since < READ_RETRY_US => {
                self.reading = Some(reading);
                return;
            }
            Some(reading) => reading.waiters,
            None => Vec::new(),
        };
        waiters.append(&mut self.reads);
        if waiters.is_empty() {
            return;
        }
        let context = self.unique();
        self.reading = Some(Reading {
            context,
            since: env.now,
            waiters,
        });
        inputs.push(Input::ReadIndex { context });
    }

    fn carry_out(&mut self, effects: Effects, env: &mut Env) -> Result<(), Death> {
        if let Some(fault) = effects.fault {
            return Err(Death::Bug(format!("raft: {fault}")));
        }
        self.publish_role(env);
        for (input, rejection) in effects.rejected {
            self.rejected(input, rejection, env);
        }
        let (snapshots, rest): (Vec<_>, Vec<_>) = effects
            .send
            .into_iter()
            .partition(|m| m.r#type() == MessageType::MsgSnap);
        self.send(rest, env);
        for message in snapshots {
            self.hand_apply(ApplyTask::Snapshot(Box::new(message)), env);
        }
        if let Some(persist) = effects.persist {
            env.check.appended(self.pid, &persist);
            self.hand_disk(DiskTask::Persist(Box::new(persist)), env);
        }
        if let Some(snapshot) = effects.install {
            self.hand_apply(ApplyTask::Install(snapshot), env);
        }
        if !effects.apply.is_empty() {
            env.check.committed(self.pid, &effects.apply);
            self.hand_apply(ApplyTask::Apply(effects.apply), env);
        }
        for ReadState { context, index } in effects.reads {
            self.end_read(context, index, env);
        }
        if self.reading.is_none() && !self.reads.is_empty() {
            // Reads that came while an index was asked for need one of their own.
            self.wake(env);
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, env: &mut Env) {
        if !self.stepping {
            self.stepping = true;
            env.soon(10, 500, self.event(Turn::Consensus));
        }
    }

    /// A proposal without a leader waits for one, as long as somebody waits for it.
    fn rejected(&mut self, input: Input, rejection: Rejection, env: &mut Env) {
        let why = match rejection {
            Rejection::Raft(ProposeError::NoLeader | ProposeError::Transferring { .. }) => {
                self.parked.push(input);
                return;
            }
            Rejection::Raft(ProposeError::TooLarge { .. }) => "too many requests",
            Rejection::Raft(ProposeError::NotMember) => "not a member",
            Rejection::TermOver => "term over",
        };
        if let Some(waiter) = proposal_id(&input).and_then(|id| self.waiters.remove(&id)) {
            env.reply(waiter.caller, Reply::Refused(Why(why)));
        }
    }

    fn publish_role(&mut self, env: &mut Env) {
        let status = self.consensus.status();
        let is_leader = status.role == Role::Leader;
        env.check.role(self.pid.member, status.term, is_leader);
        let alone = is_leader && status.conf_state.voters.len() == 1;
        self.reads_alone = alone && self.begun == status.term;
        self.term = status.term;
        self.is_leader = is_leader;
        let before = std::mem::replace(&mut self.leader, status.leader);
        if before == status.leader {
            return;
        }
        env.note(format_args!(
            "{:x}: leader {:x} in term {}",
            self.pid.member, status.leader, status.term
        ));
        if status.leader == 0 {
            return;
        }
        // The read under way was for the leader of before.
        let Some(reading) = self.reading.take() else {
            return;
        };
        self.reads.extend(reading.waiters);
    }

    fn end_read(&mut self, context: u64, index: u64, env: &mut Env) {
        if self.reading.as_ref().is_none_or(|r| r.context != context) {
            return;
        }
        let Some(reading) = self.reading.take() else {
            return;
        };
        if self.view.index >= index {
            self.answer_reads(reading.waiters, env);
        } else {
            let waiting = self.applied_waits.entry(index).or_default();
            waiting.extend(reading.waiters);
        }
    }
}

fn proposal_id(input: &Input) -> Option<u64> {
    match input {
        Input::Propose { id, .. } => Some(*id),
        Input::ProposeConfChange(change) => Some(change.id),
        _ => None,
    }
}

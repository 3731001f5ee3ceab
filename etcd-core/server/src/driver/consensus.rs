//! The consensus thread: inputs in batches, ticks by the clock, effects to the
//! other threads in the order that the contract of `replica::Effects` asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_proto::raftpb::{Message, MessageType};
use etcd_raft::{ProposeError, ReadState};
use etcd_replica::{Consensus, Effects, Input, Rejection};

use super::apply::ApplyTask;
use super::disk::DiskTask;
use super::error::RequestError;
use super::inbox::ReadWaiter;
use super::observation::Observation;
use super::parked::{self, Parked, proposal_id};
use super::role::Leadership;
use super::shared::Shared;
use super::snapshot;

/// A read index that got no answer is asked for anew after so many ticks' time.
const READ_RETRY: Duration = Duration::from_millis(500);

/// Threads that the consensus thread hands work to.
pub(crate) struct Outlets {
    pub(crate) disk: std::sync::mpsc::Sender<DiskTask>,
    pub(crate) apply: std::sync::mpsc::Sender<ApplyTask>,
}

pub(crate) struct ConsensusThread {
    consensus: Consensus,
    shared: Arc<Shared>,
    outlets: Outlets,
    tick: Duration,
    parked: Parked,
    reads: Vec<ReadWaiter>,
    reading: Option<Reading>,
    read_context: u64,
    /// Damage of the store was found, and told.
    is_damaged: bool,
}

/// The read index under way, for all who wait for it.
struct Reading {
    context: u64,
    since: Instant,
    waiters: Vec<ReadWaiter>,
}

impl ConsensusThread {
    pub(crate) fn new(
        consensus: Consensus,
        shared: Arc<Shared>,
        outlets: Outlets,
        tick: Duration,
    ) -> Self {
        ConsensusThread {
            // A context of an earlier life of this member must not be answered for a
            // read of this one.
            read_context: shared.request_ids.next(),
            consensus,
            shared,
            outlets,
            tick,
            parked: Parked::default(),
            reads: Vec::new(),
            reading: None,
            is_damaged: false,
        }
    }

    /// Runs until the inbox is stopped.
    pub(crate) fn run(mut self, first_inputs: Vec<Input>) {
        let mut next_tick = Instant::now() + self.tick;
        let effects = self.consensus.step(first_inputs);
        self.carry_out(effects);
        loop {
            // Reads that came while an index was asked for need one of their own.
            let read_waits = self.reading.is_none() && !self.reads.is_empty();
            let deadline = if read_waits {
                Instant::now()
            } else {
                next_tick
            };
            let batch = self.shared.inbox.take(deadline);
            if batch.stopped {
                break;
            }
            let mut inputs = batch.inputs;
            self.reads.extend(batch.reads);
            let now = Instant::now();
            self.take_back(batch.unsent, now);
            if now >= next_tick {
                inputs.push(Input::Tick);
                // Ticks that were missed are not made up for: a thread that was not
                // scheduled must not conclude that the leader was silent.
                next_tick = now + self.tick;
                self.retry_parked(now, &mut inputs);
                self.leave_if_damaged(&mut inputs);
                if self.is_alone_without_leader() {
                    // There is nobody to wait for, and nobody to disturb.
                    inputs.push(Input::Campaign);
                }
                if self.consensus.standing().is_leader {
                    self.shared.set_progress(self.consensus.status().progress);
                }
                if self.consensus.wants_snapshot() {
                    let _stopping = self.outlets.apply.send(ApplyTask::Checkpoint);
                }
            }
            self.begin_read(now, &mut inputs);
            let effects = self.consensus.step(inputs);
            self.carry_out(effects);
        }
        self.shared.waiters.fail_all(&RequestError::Stopped);
    }

    /// A member with a damaged store ends where others can go on without it, if it leads
    /// after it has handed over. Otherwise it serves what is sound, and nothing else.
    fn leave_if_damaged(&mut self, inputs: &mut Vec<Input>) {
        let view = self.shared.view.load();
        let Some(damaged) = view.damage.found() else {
            return;
        };
        if !std::mem::replace(&mut self.is_damaged, true) {
            tracing::error!(
                file = %damaged.file.display(),
                reason = damaged.reason,
                "the store is damaged; what is damaged is neither served nor sent to other members"
            );
        }
        let standing = self.consensus.standing();
        if standing.is_leader {
            inputs.extend(self.consensus.successor().map(Input::TransferLeader));
        } else if standing.leader != 0 && self.consensus.others_are_quorum() {
            self.shared.die(&format!(
                "the store is damaged, and the others are a quorum: this member stops and is to be replaced by a new one: {damaged}"
            ));
        }
    }

    fn is_alone_without_leader(&self) -> bool {
        let standing = self.consensus.standing();
        standing.leader == 0 && standing.is_only_voter
    }

    /// Keeps our own proposals that did not leave for a next leader; of what others
    /// sent by us they know nothing, and so neither do we.
    fn take_back(&mut self, unsent: Vec<Message>, now: Instant) {
        let own = self.shared.member_id;
        let unsent = unsent.into_iter().filter(|message| message.from == own);
        for input in unsent.flat_map(parked::proposals) {
            self.park(input, now);
        }
    }

    fn retry_parked(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        self.parked
            .tidy(&self.shared.waiters, now, self.shared.request_timeout());
        if self.shared.role.now().leader != 0 {
            inputs.extend(self.parked.take());
        }
    }

    fn park(&mut self, input: Input, now: Instant) {
        if let Err(input) = self.parked.push(input, now) {
            self.refuse(&input, RequestError::TooManyRequests);
        }
    }

    fn begin_read(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        match &mut self.reading {
            None if self.reads.is_empty() => {}
            None => {
                self.read_context = self.read_context.wrapping_add(1);
                let waiters = std::mem::take(&mut self.reads);
                self.reading = Some(Reading {
                    context: self.read_context,
                    since: now,
                    waiters,
                });
                inputs.push(Input::ReadIndex {
                    context: self.read_context,
                });
            }
            Some(reading) if now - reading.since >= READ_RETRY => {
                reading.waiters.retain(|w| !w.is_closed());
                reading.waiters.append(&mut self.reads);
                self.read_context = self.read_context.wrapping_add(1);
                reading.context = self.read_context;
                reading.since = now;
                if reading.waiters.is_empty() {
                    self.reading = None;
                } else {
                    inputs.push(Input::ReadIndex {
                        context: self.read_context,
                    });
                }
            }
            Some(_) => {}
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        if let Some(fault) = effects.fault {
            self.shared.die(&fault.to_string());
        }
        if let Some(to) = effects.handing_over {
            tracing::warn!(
                "local-member-id" = %format_args!("{:x}", self.shared.member_id),
                "transferee-id" = %format_args!("{to:x}"),
                "the disk has not completed a write for an election timeout; handing over leadership"
            );
        }
        self.publish_role();
        for (input, rejection) in effects.rejected {
            self.rejected(input, rejection);
        }
        self.send(effects.send);
        if let Some(persist) = effects.persist {
            self.hand(DiskTask::Persist(Box::new(persist)));
        }
        if let Some(snapshot) = effects.install {
            let _stopping = self.outlets.apply.send(ApplyTask::Install(snapshot));
        }
        if !effects.apply.is_empty() {
            let _stopping = self.outlets.apply.send(ApplyTask::Apply(effects.apply));
        }
        for ReadState { context, index } in effects.reads {
            self.end_read(context, index);
        }
    }

    fn hand(&self, task: DiskTask) {
        // The disk thread ends only with the process, or after this one.
        let _stopping = self.outlets.disk.send(task);
    }

    /// A proposal without a leader waits for one, as long as somebody waits for it.
    fn rejected(&mut self, input: Input, rejection: Rejection) {
        let error = match rejection {
            Rejection::Raft(ProposeError::NoLeader | ProposeError::Transferring { .. }) => {
                self.park(input, Instant::now());
                return;
            }
            Rejection::Raft(ProposeError::TooLarge { .. }) => RequestError::TooManyRequests,
            Rejection::Raft(ProposeError::NotMember) => RequestError::Stopped,
            Rejection::TermOver => RequestError::NotLeader,
        };
        self.refuse(&input, error);
    }

    fn refuse(&self, input: &Input, error: RequestError) {
        if let Some(id) = proposal_id(input) {
            self.shared.waiters.complete(id, Err(error));
        }
    }

    fn publish_role(&mut self) {
        let standing = self.consensus.standing();
        let now = Leadership {
            leader: standing.leader,
            term: standing.term,
            is_leader: standing.is_leader,
        };
        let role = &self.shared.role;
        role.set_progress(standing.commit, standing.last_index);
        let alone = standing.is_leader && standing.is_only_voter;
        role.set_reads_alone(alone && self.shared.has_begun(standing.term));
        let before = role.now();
        if role.publish(now) && now.leader != 0 {
            tracing::info!(
                local = %format_args!("{:x}", self.shared.member_id),
                leader = %format_args!("{:x}", now.leader),
                term = now.term,
                "raft.node: leader changed"
            );
            self.reading_under(before.leader);
        }
    }

    /// The read under way was for the leader of before: it is asked for anew, together
    /// with those that came since.
    fn reading_under(&mut self, leader_before: u64) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        if leader_before != 0 {
            self.shared.tell(Observation::FailedReadIndex);
        }
        self.reads.extend(reading.waiters);
    }

    fn end_read(&mut self, context: u64, index: u64) {
        if self.reading.as_ref().is_some_and(|r| r.context == context)
            && let Some(reading) = self.reading.take()
        {
            self.shared
                .applied_waits
                .wait_all(index, reading.waiters, || self.shared.view.load().index);
        }
    }

    fn send(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let (snapshots, rest): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|m| m.r#type() == MessageType::MsgSnap);
        if !rest.is_empty() {
            self.shared.peers.send(rest);
        }
        for message in snapshots {
            snapshot::send(self.shared.clone(), self.outlets.apply.clone(), message);
        }
    }
}

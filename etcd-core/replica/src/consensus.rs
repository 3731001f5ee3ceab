//! Consensus as one step function: a batch of inputs in, effects in a fixed order out.

use std::collections::VecDeque;

use bytes::Bytes;
use etcd_proto::raftpb::{ConfChange, ConfState, Entry, HardState, Message, MessageType, Snapshot};
use etcd_raft::{Persisted, ProposeError, Raft, ReadState, Role, SoftState, Status, StepError};

/// What can happen to a member's consensus.
#[derive(Clone, Debug)]
pub enum Input {
    /// One heartbeat interval has passed.
    Tick,
    /// From a peer, or from this member's own proposals forwarded.
    Message(Message),
    /// An encoded `InternalRaftRequest`.
    Propose {
        /// Request ID.
        id: u64,
        /// The entry's data.
        data: Bytes,
        /// The only term in which it may be proposed, and only by the leader: a
        /// revocation by expiry must not outlive the leadership that decided it.
        term: Option<u64>,
    },
    /// A change of membership.
    ProposeConfChange(ConfChange),
    /// A linearizable read wants an index; `context` is never used twice.
    ReadIndex {
        /// Comes back in [`Effects::reads`].
        context: u64,
    },
    /// Hand leadership to this member.
    TransferLeader(u64),
    /// Become a candidate at once.
    Campaign,
    /// The persist with this completion is on disk.
    Persisted(Persisted),
    /// The applier has applied everything up to `index`.
    Applied {
        /// Index of the last entry applied.
        index: u64,
        /// The conf changes among the entries, in order, as the applier decided
        /// them: one that it refused has `node_id` 0.
        conf_changes: Vec<ConfChange>,
    },
    /// A checkpoint covers the log up to `index`; entries up to `compact_to` are
    /// no longer needed in memory.
    Checkpointed {
        /// Applied index of the checkpoint.
        index: u64,
        /// Its term.
        term: u64,
        /// Membership at that index.
        conf_state: ConfState,
        /// Last index that may be dropped from the log.
        compact_to: u64,
    },
    /// A message to this member could not be delivered.
    Unreachable(u64),
    /// This member's process has ended, as far as its host tells.
    Gone(u64),
    /// The sending of a snapshot has ended.
    SnapshotSent {
        /// The receiver.
        to: u64,
        /// Whether it confirmed the reception.
        ok: bool,
    },
}

/// Something to put on disk, as one batch.
#[derive(Clone, Debug)]
pub struct Persist {
    /// New term, vote or commit.
    pub hard_state: Option<HardState>,
    /// Entries to append; the first replaces whatever stood at its index.
    pub entries: Vec<Entry>,
    /// A received snapshot that becomes the base of the log. Its image is on disk.
    pub snapshot: Option<Snapshot>,
    /// Whether the batch must be on stable storage before it counts.
    pub must_sync: bool,
    /// To be handed back as [`Input::Persisted`], in the order of the persists.
    pub completion: Option<Persisted>,
    /// To be sent only once the batch is on stable storage.
    pub then_send: Vec<Message>,
}

/// What a step asks for, in the order in which it is to be carried out: sending and
/// persisting may start at once; `install` comes before `apply`.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages that wait for nothing.
    pub send: Vec<Message>,
    /// A batch for the disk. Batches complete in the order they were asked for.
    pub persist: Option<Persist>,
    /// A received snapshot, durable now, replaces the applied state.
    pub install: Option<Snapshot>,
    /// Entries that are committed and on this member's disk.
    pub apply: Vec<Entry>,
    /// Indexes at which the named reads are linearizable once applied.
    pub reads: Vec<ReadState>,
    /// Proposals that did not enter the log.
    pub rejected: Vec<(Input, Rejection)>,
    /// Leader or role have changed.
    pub role: Option<SoftState>,
    /// This member's disk has stalled, so it hands leadership to that one.
    pub handing_over: Option<u64>,
    /// A peer's message shows that a promise was broken, here or there: the member
    /// must stop.
    pub fault: Option<StepError>,
}

/// Why a proposal did not enter the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// By raft.
    Raft(ProposeError),
    /// Its term is over.
    TermOver,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The leader's ID; 0 if none is known.
    pub leader: u64,
    /// The term.
    pub term: u64,
    /// Whether this member leads the term.
    pub is_leader: bool,
    /// Whether it is a voter and there is no other.
    pub is_only_voter: bool,
    /// Index up to which the log is committed.
    pub commit: u64,
    /// Index of the log's last entry.
    pub last_index: u64,
}

/// One member's consensus.
pub struct Consensus {
    raft: Raft,
    /// Received snapshots on their way to the disk, oldest first.
    installing: VecDeque<Snapshot>,
    /// The one whose installation was asked for last and has not come back as applied.
    installed: Option<Snapshot>,
    /// Index of the newest state that followers can be sent.
    available: u64,
    /// Persists that were asked for and have not completed.
    persisting: usize,
    /// Ticks for which none of them has completed.
    stalled_ticks: u32,
}

impl Consensus {
    /// Wraps a restored [`Raft`], whose state is the last checkpoint's.
    pub fn new(raft: Raft) -> Self {
        let status = raft.status();
        let term = raft.term_of(status.applied);
        let mut consensus = Consensus {
            raft,
            installing: VecDeque::new(),
            installed: None,
            available: 0,
            persisting: 0,
            stalled_ticks: 0,
        };
        if let Some(term) = term.filter(|_| status.applied > 0) {
            consensus.make_available(status.applied, term, status.conf_state);
        }
        consensus
    }

    /// Raft's view of itself.
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// The part of [`Consensus::status`] that costs nothing.
    pub fn standing(&self) -> Standing {
        Standing {
            leader: self.raft.leader(),
            term: self.raft.term(),
            is_leader: self.raft.is_leader(),
            is_only_voter: self.raft.is_only_voter(),
            commit: self.raft.committed(),
            last_index: self.raft.last_index(),
        }
    }

    /// Whether the other voters are a quorum without this member.
    pub fn others_are_quorum(&self) -> bool {
        self.raft.others_are_quorum()
    }

    /// Whom a leader could hand over to: see [`Raft::successor`].
    pub fn successor(&self) -> Option<u64> {
        self.raft.successor()
    }

    /// Whether a follower needs a snapshot that is newer than the last checkpoint.
    pub fn wants_snapshot(&self) -> bool {
        self.raft.wants_snapshot()
    }

    /// Takes in a batch and returns what follows from all of it.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Effects {
        let mut effects = Effects::default();
        for input in inputs {
            self.take(input, &mut effects);
        }
        self.collect(&mut effects);
        effects
    }

    fn take(&mut self, input: Input, effects: &mut Effects) {
        match input {
            Input::Tick => {
                self.raft.tick();
                self.hand_over_if_stalled(effects);
            }
            Input::Message(message) => self.take_message(message, effects),
            Input::Propose { id, data, term } => {
                let rejection = match term {
                    Some(term) if !self.leads(term) => Some(Rejection::TermOver),
                    _ => self.raft.propose(data.clone()).err().map(Rejection::Raft),
                };
                if let Some(rejection) = rejection {
                    effects
                        .rejected
                        .push((Input::Propose { id, data, term }, rejection));
                }
            }
            Input::ProposeConfChange(change) => {
                if let Err(error) = self.raft.propose_conf_change(&change) {
                    effects
                        .rejected
                        .push((Input::ProposeConfChange(change), Rejection::Raft(error)));
                }
            }
            Input::ReadIndex { context } => self.raft.read_index(context),
            Input::TransferLeader(to) => self.raft.transfer_leader(to),
            Input::Campaign => self.raft.campaign(),
            Input::Persisted(persisted) => {
                self.persisting = self.persisting.saturating_sub(1);
                self.stalled_ticks = 0;
                // A newer one may have been received meanwhile: it has its own turn.
                if persisted.snapshot_index.is_some() {
                    effects.install = self.installing.pop_front();
                    self.installed.clone_from(&effects.install);
                }
                self.raft.persisted(persisted);
            }
            Input::Applied {
                index,
                conf_changes,
            } => {
                for change in &conf_changes {
                    self.raft.apply_conf_change(change);
                }
                self.raft.applied(index);
                self.installed_up_to(index);
            }
            Input::Checkpointed {
                index,
                term,
                conf_state,
                compact_to,
            } => {
                self.make_available(index, term, conf_state);
                self.raft.compact(compact_to);
            }
            Input::Unreachable(id) => self.raft.report_unreachable(id),
            Input::Gone(id) => self.raft.report_gone(id),
            Input::SnapshotSent { to, ok } => self.raft.report_snapshot(to, ok),
        }
    }

    fn take_message(&mut self, message: Message, effects: &mut Effects) {
        // Nobody else has it: its sender counts on us, and would wait in vain.
        let proposal = (message.r#type() == MessageType::MsgProp).then(|| message.clone());
        match (self.raft.step(message), proposal) {
            (Err(StepError::Dropped(why)), Some(proposal)) => {
                let rejected = (Input::Message(proposal), Rejection::Raft(why));
                effects.rejected.push(rejected);
            }
            // A message that makes no sense is no event, the network owes us
            // nothing; one that proves a broken promise is.
            (Err(error), _) if error.is_fatal() => {
                effects.fault.get_or_insert(error);
            }
            _ => {}
        }
    }

    /// A disk that stalls for an election timeout does not depose a leader: its
    /// heartbeats go on. But what it acknowledges waits, and somebody whose disk works
    /// can do better. Without such a one it stays.
    fn hand_over_if_stalled(&mut self, effects: &mut Effects) {
        if self.persisting == 0 {
            self.stalled_ticks = 0;
            return;
        }
        self.stalled_ticks = self.stalled_ticks.saturating_add(1);
        if self.stalled_ticks >= self.raft.election_tick()
            && let Some(to) = self.raft.successor()
        {
            self.raft.transfer_leader(to);
            effects.handing_over = Some(to);
        }
    }

    /// Lets raft know what it can send. There may be nobody else who could: a follower
    /// that needs it to be counted must not have to wait for a next checkpoint.
    fn make_available(&mut self, index: u64, term: u64, conf_state: ConfState) {
        // A checkpoint may end after a newer snapshot was installed.
        if index >= self.available {
            self.available = index;
            self.raft.snapshot_available(index, term, conf_state);
        }
    }

    /// A state that was received can be sent on, once it is ours.
    fn installed_up_to(&mut self, applied: u64) {
        let metadata = self.installed.as_ref().and_then(|s| s.metadata.as_ref());
        if metadata.is_some_and(|metadata| metadata.index <= applied)
            && let Some(metadata) = self.installed.take().and_then(|s| s.metadata)
        {
            let conf_state = metadata.conf_state.unwrap_or_default();
            self.make_available(metadata.index, metadata.term, conf_state);
        }
    }

    fn leads(&self, term: u64) -> bool {
        self.raft.term() == term && self.raft.role() == Role::Leader
    }

    fn collect(&mut self, effects: &mut Effects) {
        if !self.raft.has_ready() {
            return;
        }
        let ready = self.raft.ready();
        effects.send = ready.messages;
        effects.apply = ready.committed;
        effects.reads = ready.reads;
        effects.role = ready.soft_state;
        if let Some(snapshot) = &ready.snapshot {
            self.installing.push_back(snapshot.clone());
        }
        let nothing_to_persist = ready.hard_state.is_none()
            && ready.entries.is_empty()
            && ready.snapshot.is_none()
            && ready.messages_after_persist.is_empty();
        if !nothing_to_persist {
            self.persisting += usize::from(ready.persisted.is_some());
            effects.persist = Some(Persist {
                hard_state: ready.hard_state,
                entries: ready.entries,
                snapshot: ready.snapshot,
                must_sync: ready.must_sync,
                completion: ready.persisted,
                then_send: ready.messages_after_persist,
            });
        }
    }
}

//! One member: its state, how its term and role change, and where inputs go.

use std::collections::{BTreeMap, VecDeque};

use etcd_proto::raftpb::{HardState, Message, MessageType, SnapshotMetadata};

use crate::config::{Config, ConfigError, Restored};
use crate::election::Campaign;
use crate::errors::StepError;
use crate::inflights::Inflights;
use crate::log::{EntryId, Log, payload};
use crate::membership::Membership;
use crate::message::{CAMPAIGN_TRANSFER, check, message, vote_response};
use crate::progress::Peer;
use crate::quorum;
use crate::quorum::majority;
use crate::read_index::ReadQueue;
use crate::ready::{Persisted, ReadState};
use crate::role::{NONE, Role, SoftState};
use crate::timer::Timer;

/// One member of a cluster as a state machine: inputs change it, and what it wants
/// done is taken from it as a [`crate::Ready`].
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) term: u64,
    /// Who got our vote in this term, or [`NONE`].
    pub(crate) vote: u64,
    pub(crate) leader: u64,
    /// The leader, if its process is said to have ended, or [`NONE`].
    pub(crate) gone: u64,
    pub(crate) role: Role,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    /// All members, ourselves included; meaningful on a leader.
    pub(crate) peers: BTreeMap<u64, Peer>,
    /// The answers to our campaign.
    pub(crate) votes: BTreeMap<u64, bool>,
    pub(crate) timer: Timer,
    /// Whom we are handing leadership to, or [`NONE`].
    pub(crate) transferee: u64,
    /// Until this index is applied no further membership change is appended.
    pub(crate) pending_conf_index: u64,
    /// Indexes of the membership changes that were handed out and not yet came back.
    pub(crate) conf_changes_out: VecDeque<u64>,
    /// Payload of the entries a leader has not applied.
    pub(crate) unapplied_bytes: u64,
    pub(crate) reads: ReadQueue,
    /// What followers can be sent when the log no longer reaches back to them.
    pub(crate) snapshot_available: Option<SnapshotMetadata>,

    pub(crate) messages: Vec<Message>,
    pub(crate) messages_after_persist: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    /// Appends, or at least commit indexes, may be owed to followers.
    pub(crate) replicate_due: bool,
    pub(crate) heartbeat_due: bool,
    /// What the last Ready reported.
    pub(crate) reported_hard_state: HardState,
    pub(crate) reported_soft_state: SoftState,
    /// Readys handed to the disk and not yet reported as persisted.
    pub(crate) persists_in_flight: usize,
}

impl Raft {
    /// Starts a member as a follower of nobody.
    ///
    /// # Errors
    /// When the settings contradict each other, or when what the disk held cannot be
    /// the state of a member: a gap in the log, a log that ends before its commit
    /// index, a state machine outside of the log, a joint membership.
    pub fn new(config: Config, restored: Restored) -> Result<Raft, ConfigError> {
        config.validate()?;
        let start = EntryId {
            index: restored.snapshot_index,
            term: restored.snapshot_term,
        };
        let hard_state = restored.hard_state;
        let log = Log::restore(start, restored.entries, hard_state.commit, restored.applied)?;
        // A torn write may have kept entries of a term and lost the term itself. No vote
        // of ours in it was ever made known then.
        let term = hard_state.term.max(log.last_id().term);
        let vote = if term == hard_state.term {
            hard_state.vote
        } else {
            NONE
        };
        let membership = Membership::from_conf_state(&restored.conf_state)?;
        let mut raft = Raft {
            term,
            vote,
            leader: NONE,
            gone: NONE,
            role: Role::Follower,
            log,
            membership: Membership::default(),
            peers: BTreeMap::new(),
            votes: BTreeMap::new(),
            timer: Timer::new(
                config.election_tick,
                config.heartbeat_tick,
                config.seed,
                config.id,
            ),
            transferee: NONE,
            pending_conf_index: 0,
            conf_changes_out: VecDeque::new(),
            unapplied_bytes: 0,
            reads: ReadQueue::default(),
            snapshot_available: None,
            messages: Vec::new(),
            messages_after_persist: Vec::new(),
            read_states: Vec::new(),
            replicate_due: false,
            heartbeat_due: false,
            reported_hard_state: hard_state,
            reported_soft_state: SoftState::default(),
            persists_in_flight: 0,
            config,
        };
        raft.switch_to(membership);
        Ok(raft)
    }

    /// The own member ID.
    pub fn id(&self) -> u64 {
        self.config.id
    }

    /// The own term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The own role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether this member leads its term.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// The leader of the own term as far as it is known, or [`NONE`].
    pub fn leader(&self) -> u64 {
        self.leader
    }

    /// Index up to which the log is committed, as far as this member knows.
    pub fn committed(&self) -> u64 {
        self.log.committed()
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    /// Ticks of an election timeout.
    pub fn election_tick(&self) -> u32 {
        self.config.election_tick
    }

    /// Whether this member is a voter and there is no other.
    pub fn is_only_voter(&self) -> bool {
        self.membership.is_only_voter(self.id())
    }

    /// Whether the voters without this member are a quorum.
    pub fn others_are_quorum(&self) -> bool {
        let voters = self.membership.voters();
        let others = voters.iter().filter(|voter| **voter != self.id()).count();
        others >= majority(voters.len())
    }

    /// The term of the entry at `index`; none where the log in memory does not reach.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.log.term(index)
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        if self.role != Role::Leader {
            if self.timer.tick_follower() && self.is_promotable() {
                self.timer.heard();
                self.campaign();
            }
            return;
        }
        let (beat, check) = self.timer.tick_leader();
        if check {
            if self.config.check_quorum && !self.quorum_active() {
                self.become_follower(self.term, NONE);
                return;
            }
            // A transfer that took an election timeout has failed.
            self.transferee = NONE;
        }
        self.heartbeat_due |= beat;
    }

    /// Whether a majority was heard of since the last time this was asked.
    fn quorum_active(&mut self) -> bool {
        let id = self.id();
        let active = quorum::reached(self.membership.voters(), |voter| {
            u64::from(voter == id || self.peers[&voter].progress.recent_active)
        });
        for (peer, state) in &mut self.peers {
            state.progress.recent_active = *peer == id;
        }
        active == 1
    }

    /// Takes in one message of another member.
    ///
    /// # Errors
    /// When the message is not for us, makes no sense, or carries a proposal that is
    /// refused; the member's own state is then as sound as before. A
    /// [fatal](StepError::is_fatal) error says that the cluster's or our own log is
    /// not what was acknowledged: the member must stop.
    pub fn step(&mut self, m: Message) -> Result<(), StepError> {
        use MessageType::*;
        let kind = check(&m, self.id())?;
        if m.term > self.term {
            let asks_for_vote = matches!(kind, MsgVote | MsgPreVote);
            if asks_for_vote && self.in_lease() && m.context != CAMPAIGN_TRANSFER {
                // The leader is alive: whoever cannot hear it must not depose it.
                return Ok(());
            }
            match kind {
                // These speak of a term that nobody is in yet.
                MsgPreVote => {}
                MsgPreVoteResp if !m.reject => {}
                MsgApp | MsgHeartbeat | MsgSnap => self.become_follower(m.term, m.from),
                _ => self.become_follower(m.term, NONE),
            }
        } else if m.term < self.term && m.term != 0 {
            self.answer_older_term(kind, &m);
            return Ok(());
        }
        match kind {
            MsgVote | MsgPreVote => self.handle_vote_request(kind, &m),
            MsgVoteResp | MsgPreVoteResp => self.handle_vote_response(kind, &m),
            MsgApp | MsgHeartbeat | MsgSnap => return self.step_from_leader(kind, m),
            MsgAppResp => return self.handle_append_response(&m),
            MsgHeartbeatResp => self.handle_heartbeat_response(&m),
            MsgProp => self.handle_proposal(m)?,
            MsgReadIndex => self.handle_read_index(m),
            MsgReadIndexResp => return self.handle_read_index_response(&m),
            MsgTransferLeader => self.handle_transfer(m.from),
            MsgTimeoutNow if self.role == Role::Follower => self.hup(Campaign::Transfer),
            // A campaign is already under way.
            MsgTimeoutNow => {}
            _ => return Err(StepError::LocalType(kind.as_str_name())),
        }
        Ok(())
    }

    /// Answers only what its sender needs in order to learn of the newer term.
    fn answer_older_term(&mut self, kind: MessageType, m: &Message) {
        match kind {
            // A leader of an older term cannot learn of ours by our vote requests when
            // leases or pre-votes keep them from counting, so it is told.
            MessageType::MsgApp | MessageType::MsgHeartbeat
                if self.config.check_quorum || self.config.pre_vote =>
            {
                self.send(message(MessageType::MsgAppResp, m.from));
            }
            // A candidate that does not know pre-votes yet may be stuck otherwise.
            MessageType::MsgPreVote => {
                let kind = MessageType::MsgPreVoteResp;
                self.send(vote_response(kind, m.from, self.term, true));
            }
            _ => {}
        }
    }

    /// Whether a leader was heard of so recently that no other may be elected.
    fn in_lease(&self) -> bool {
        self.config.check_quorum
            && self.leader != NONE
            && self.leader != self.gone
            && self.timer.in_lease()
    }

    /// Queues a message. Answers that promise something wait for the disk; so do vote
    /// requests: sent earlier, a grant for the log we had could reach the candidate we
    /// are after a crash, with the same term and a shorter log.
    pub(crate) fn send(&mut self, mut m: Message) {
        use MessageType::*;
        let kind = MessageType::try_from(m.r#type).expect("we make known types only");
        if m.from == NONE {
            m.from = self.id();
        }
        match kind {
            // Their term is the one that is voted on.
            MsgVote | MsgVoteResp | MsgPreVote | MsgPreVoteResp => assert_ne!(m.term, 0),
            // They belong to no term.
            MsgProp | MsgReadIndex => m.term = 0,
            _ => m.term = self.term,
        }
        match kind {
            MsgVote | MsgVoteResp | MsgPreVoteResp | MsgAppResp => {
                self.messages_after_persist.push(m);
            }
            _ => self.messages.push(m),
        }
    }

    /// Leaves whatever role there was for a term that is not lower.
    fn reset(&mut self, term: u64) {
        assert!(term >= self.term, "terms never fall");
        if self.term != term {
            self.term = term;
            self.vote = NONE;
        }
        self.leader = NONE;
        self.gone = NONE;
        self.timer.reset();
        self.transferee = NONE;
        self.votes.clear();
        let next = self.log.last_index() + 1;
        let (messages, bytes) = (
            self.config.max_inflight_messages,
            self.config.max_inflight_bytes,
        );
        for (id, peer) in &mut self.peers {
            let is_learner = self.membership.is_learner(*id);
            *peer = Peer::new(next, is_learner, Inflights::new(messages, bytes));
        }
        self.pending_conf_index = 0;
        self.unapplied_bytes = 0;
        self.reads.clear();
        self.replicate_due = false;
        self.heartbeat_due = false;
    }

    pub(crate) fn become_follower(&mut self, term: u64, leader: u64) {
        self.reset(term);
        self.role = Role::Follower;
        self.leader = leader;
    }

    pub(crate) fn become_pre_candidate(&mut self) {
        assert_ne!(self.role, Role::Leader, "a leader does not campaign");
        self.role = Role::PreCandidate;
        self.leader = NONE;
        self.votes.clear();
        self.timer.reset();
    }

    pub(crate) fn become_candidate(&mut self) {
        assert_ne!(self.role, Role::Leader, "a leader does not campaign");
        self.reset(self.term + 1);
        self.role = Role::Candidate;
        self.vote_for(self.id());
    }

    pub(crate) fn become_leader(&mut self) {
        assert_eq!(self.role, Role::Candidate, "only a candidate is elected");
        assert_eq!(self.vote, self.id(), "a leader has voted for itself");
        self.reset(self.term);
        self.role = Role::Leader;
        self.leader = self.id();
        // Entries of earlier terms may hold a membership change: until all of them are
        // applied no other is accepted, which is cheaper than looking for one.
        self.pending_conf_index = self.log.last_index();
        self.unapplied_bytes = self
            .log
            .between(self.log.applied(), self.log.last_index())
            .map(payload)
            .sum();
        let stable = self.log.stable();
        if let Some(me) = self.peers.get_mut(&self.config.id) {
            me.acknowledged(stable);
            me.become_replicate();
            me.progress.recent_active = true;
        }
        self.append_of_leader(vec![Default::default()]);
    }

    /// Gives away this term's only vote.
    pub(crate) fn vote_for(&mut self, id: u64) {
        assert!(self.vote == NONE || self.vote == id, "one vote per term");
        self.vote = id;
    }

    /// Takes note that the disk has completed what a [`crate::Ready`] asked of it; to
    /// be called once for each [`crate::Ready::persisted`], in order.
    ///
    /// A completion of an older term says nothing about the log, which may have been
    /// overwritten since; the one of the newer term, which always comes, does.
    pub fn persisted(&mut self, done: Persisted) {
        self.persists_in_flight = self.persists_in_flight.saturating_sub(1);
        if let Some(index) = done.snapshot_index {
            self.log.snapshot_stable(index);
        }
        if done.term != self.term {
            return;
        }
        self.log.stable_to(EntryId {
            index: done.last_index,
            term: done.last_term,
        });
        match self.role {
            Role::Leader => self.acknowledge_own(),
            // Candidacy begins together with its term, so this has made the vote durable.
            Role::Candidate => self.record_vote(self.config.id, true),
            _ => {}
        }
    }

    /// Takes note that the state machine has applied everything up to `index`, conf
    /// changes included: pass those to [`Raft::apply_conf_change`] first. Also to be
    /// called with its index when a snapshot has become the state machine.
    ///
    /// # Panics
    /// When `index` is not committed.
    pub fn applied(&mut self, index: u64) {
        if self.role == Role::Leader {
            let done: u64 = self
                .log
                .between(self.log.applied(), index)
                .map(payload)
                .sum();
            self.unapplied_bytes = self.unapplied_bytes.saturating_sub(done);
        }
        self.log.applied_to(index);
        while self
            .conf_changes_out
            .pop_front_if(|out| *out <= index)
            .is_some()
        {}
    }

    /// Drops the log in memory up to `index`, or up to what is applied if that is
    /// less. Followers that are further behind then need a snapshot.
    pub fn compact(&mut self, index: u64) {
        self.log.compact(index);
    }

    /// Whether this member could lead: it votes, and no snapshot is being installed.
    pub(crate) fn is_promotable(&self) -> bool {
        self.membership.is_voter(self.id()) && !self.log.snapshot_pending()
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.committed(),
        }
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState {
            leader: self.leader,
            role: self.role,
        }
    }
}

//! What a member wants done.

use etcd_proto::raftpb::{Entry, EntryType, HardState, Message, Snapshot};

use crate::raft::Raft;
use crate::role::{Role, SoftState};

/// The index that a read has to see applied before it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The context that [`Raft::read_index`] was given.
    pub context: u64,
    /// The index to wait for.
    pub index: u64,
}

/// What the disk holds once it has done what a [`Ready`] asks; handed back, when it
/// has, to [`Raft::persisted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The term at the time of the Ready.
    pub term: u64,
    /// The last index of the log at the time of the Ready.
    pub last_index: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// The index of the snapshot that the Ready carried.
    pub snapshot_index: Option<u64>,
}

/// One turn's worth of work. Everything in it is handed out once.
///
/// What a caller owes:
/// * `messages` may be sent at once, and in parallel with the disk.
/// * `snapshot` is installed, then `hard_state` and `entries` are written, and synced
///   if `must_sync`. Readys are persisted in order; several may be in flight. An entry
///   replaces one that was written at its index, and all after it.
/// * Then `messages_after_persist` may be sent, and `persisted` is handed back.
/// * `committed` goes to the state machine, in order, at any time: its entries are
///   durable here. A snapshot that comes replaces what is not applied by then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ready {
    /// To persist, when it has changed.
    pub hard_state: Option<HardState>,
    /// To persist, after whatever precedes them.
    pub entries: Vec<Entry>,
    /// A received snapshot to install; only its metadata means anything.
    pub snapshot: Option<Snapshot>,
    /// Whether what is to be persisted has to be synced before it counts.
    pub must_sync: bool,
    /// To hand back when the disk is done; there whenever anything waits for it.
    pub persisted: Option<Persisted>,
    /// To send now.
    pub messages: Vec<Message>,
    /// To send when this Ready, and so every earlier one, is persisted.
    pub messages_after_persist: Vec<Message>,
    /// To apply: committed, durable, each handed out once.
    pub committed: Vec<Entry>,
    /// Reads whose index is known.
    pub reads: Vec<ReadState>,
    /// When it has changed.
    pub soft_state: Option<SoftState>,
}

impl Raft {
    /// Whether [`Raft::ready`] may have something to do.
    pub fn has_ready(&self) -> bool {
        !self.messages.is_empty()
            || !self.messages_after_persist.is_empty()
            || !self.read_states.is_empty()
            || (self.role == Role::Leader && (self.replicate_due || self.heartbeat_due))
            || self.log.has_unpersisted()
            || self.log.has_unpersisted_snapshot()
            || self.log.has_appliable()
            || self.hard_state() != self.reported_hard_state
            || self.soft_state() != self.reported_soft_state
    }

    /// Takes all there is to do.
    pub fn ready(&mut self) -> Ready {
        self.flush();
        let mut ready = Ready {
            entries: self.log.take_unpersisted(),
            messages: std::mem::take(&mut self.messages),
            messages_after_persist: std::mem::take(&mut self.messages_after_persist),
            committed: self.log.take_appliable(self.config.max_size_per_message),
            reads: std::mem::take(&mut self.read_states),
            ..Ready::default()
        };
        self.conf_changes_out.extend(
            ready
                .committed
                .iter()
                .filter(|entry| entry.r#type == EntryType::EntryConfChange as i32)
                .map(|entry| entry.index),
        );
        let soft_state = self.soft_state();
        if soft_state != self.reported_soft_state {
            self.reported_soft_state = soft_state;
            ready.soft_state = Some(soft_state);
        }
        let before = self.reported_hard_state;
        let hard_state = self.hard_state();
        if hard_state != before {
            self.reported_hard_state = hard_state;
            ready.hard_state = Some(hard_state);
        }
        let snapshot = self.log.take_unpersisted_snapshot();
        let snapshot_index = snapshot.as_ref().map(|metadata| metadata.index);
        ready.snapshot = snapshot.map(|metadata| Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        });
        // A commit index need not be durable: it is learnt again.
        ready.must_sync = !ready.entries.is_empty()
            || ready.snapshot.is_some()
            || (hard_state.term, hard_state.vote) != (before.term, before.vote);
        if !ready.must_sync && self.persists_in_flight == 0 {
            // All that the answers promise is durable already.
            ready.messages.append(&mut ready.messages_after_persist);
        }
        if ready.must_sync || ready.hard_state.is_some() || !ready.messages_after_persist.is_empty()
        {
            self.persists_in_flight += 1;
            let last = self.log.last_id();
            ready.persisted = Some(Persisted {
                term: self.term,
                last_index: last.index,
                last_term: last.term,
                snapshot_index,
            });
        }
        ready
    }
}

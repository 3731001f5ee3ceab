//! One member of the simulated world: its raft, its disk and its state machine.

use std::collections::{BTreeSet, VecDeque};

use etcd_proto::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message,
};
use etcd_raft::{Config, Persisted, Raft, Restored};
use prost::Message as _;

/// What the state machine has become by applying entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Chains all that was applied, so that two equal digests mean equal histories.
    pub(crate) digest: u64,
    pub(crate) conf_state: ConfState,
    /// An ID that was removed is never used again.
    removed: BTreeSet<u64>,
}

impl State {
    /// Applies one entry; the change is what raft has to be told.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<ConfChange> {
        assert_eq!(entry.index, self.index + 1, "entries are applied in order");
        self.index = entry.index;
        self.term = entry.term;
        for byte in entry.encode_to_vec() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if entry.r#type != EntryType::EntryConfChange as i32 {
            return None;
        }
        let mut change = ConfChange::decode(entry.data.clone()).expect("raft admits only these");
        if self.is_valid(&change) {
            let state = &mut self.conf_state;
            let id = change.node_id;
            state.voters.retain(|voter| *voter != id);
            state.learners.retain(|learner| *learner != id);
            match ConfChangeType::try_from(change.r#type) {
                Ok(ConfChangeType::ConfChangeAddNode) => state.voters.push(id),
                Ok(ConfChangeType::ConfChangeAddLearnerNode) => state.learners.push(id),
                _ => {
                    self.removed.insert(id);
                }
            }
            state.voters.sort_unstable();
            state.learners.sort_unstable();
        } else {
            change.node_id = 0;
        }
        Some(change)
    }

    /// The rules that etcd's membership has, as far as raft could be hurt.
    fn is_valid(&self, change: &ConfChange) -> bool {
        let (voters, learners) = (&self.conf_state.voters, &self.conf_state.learners);
        let (voter, learner) = (
            voters.contains(&change.node_id),
            learners.contains(&change.node_id),
        );
        if self.removed.contains(&change.node_id) {
            return false;
        }
        match ConfChangeType::try_from(change.r#type) {
            Ok(ConfChangeType::ConfChangeAddNode) => !voter,
            Ok(ConfChangeType::ConfChangeAddLearnerNode) => !voter && !learner,
            Ok(ConfChangeType::ConfChangeRemoveNode) => learner || (voter && voters.len() > 1),
            _ => false,
        }
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The log begins after this entry.
    pub(crate) start: (u64, u64),
    pub(crate) entries: Vec<Entry>,
    pub(crate) checkpoint: State,
}

impl Disk {
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            if entry.index > self.start.0 {
                let keep = entry.index - self.start.0 - 1;
                assert!(keep as usize <= self.entries.len(), "no gap on disk");
                self.entries.truncate(keep as usize);
                self.entries.push(entry.clone());
            }
        }
    }

    pub(crate) fn compact(&mut self, index: u64, term: u64) {
        if index > self.start.0 {
            self.entries.retain(|entry| entry.index > index);
            self.start = (index, term);
        }
    }

    /// Replaces everything by a snapshot.
    pub(crate) fn install(&mut self, state: &State) {
        self.start = (state.index, state.term);
        self.entries.clear();
        self.checkpoint = state.clone();
    }
}

/// One Ready on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<State>,
    pub(crate) then: Vec<Message>,
    pub(crate) persisted: Persisted,
}

impl Write {
    pub(crate) fn apply_to(&self, disk: &mut Disk) {
        if let Some(state) = &self.snapshot {
            disk.install(state);
        }
        disk.append(&self.entries);
        if let Some(hard_state) = self.hard_state {
            disk.hard_state = hard_state;
        }
    }
}

/// A member. Without a raft it is down.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Write>,
    pub(crate) to_apply: VecDeque<Entry>,
    pub(crate) state: State,
    /// It applied its own removal, and will never be started again.
    pub(crate) removed: bool,
}

impl Node {
    pub(crate) fn new(config: Config, disk: Disk) -> Node {
        let mut node = Node {
            config,
            raft: None,
            disk,
            writes: VecDeque::new(),
            to_apply: VecDeque::new(),
            state: State::default(),
            removed: false,
        };
        node.start().expect("a fresh disk is sound");
        node
    }

    pub(crate) fn start(&mut self) -> Result<(), etcd_raft::ConfigError> {
        let checkpoint = &self.disk.checkpoint;
        let mut raft = Raft::new(
            self.config.clone(),
            Restored {
                hard_state: self.disk.hard_state,
                conf_state: checkpoint.conf_state.clone(),
                snapshot_index: self.disk.start.0,
                snapshot_term: self.disk.start.1,
                entries: self.disk.entries.clone(),
                applied: checkpoint.index,
            },
        )?;
        if checkpoint.index > 0 {
            raft.snapshot_available(
                checkpoint.index,
                checkpoint.term,
                checkpoint.conf_state.clone(),
            );
        }
        self.state = checkpoint.clone();
        self.raft = Some(raft);
        Ok(())
    }

    /// Loses all but what the first `durable` writes bring to the disk, and the first
    /// `torn` entries of the next.
    pub(crate) fn crash(&mut self, durable: usize, torn: usize) {
        self.raft = None;
        self.to_apply.clear();
        let mut writes = std::mem::take(&mut self.writes).into_iter();
        for write in writes.by_ref().take(durable) {
            write.apply_to(&mut self.disk);
        }
        if let Some(write) = writes.next()
            && write.snapshot.is_none()
        {
            let torn = torn.min(write.entries.len());
            self.disk.append(&write.entries[..torn]);
        }
    }

    /// Makes the state machine durable, offers it as a snapshot, and drops the log
    /// before it but for `keep` entries.
    pub(crate) fn checkpoint(&mut self, keep: u64) {
        let Some(raft) = self.raft.as_mut() else {
            return;
        };
        if self.state.index <= self.disk.checkpoint.index {
            return;
        }
        self.disk.checkpoint = self.state.clone();
        let state = &self.disk.checkpoint;
        raft.snapshot_available(state.index, state.term, state.conf_state.clone());
        let index = state.index.saturating_sub(keep);
        // What is applied is durable, but this disk may not have been told of it yet.
        if let Some(term) = raft.term_of(index)
            && self.writes.is_empty()
        {
            raft.compact(index);
            self.disk.compact(index, term);
        }
    }
}

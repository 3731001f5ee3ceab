//! What must always hold, whatever happens.

use std::collections::BTreeMap;

use etcd_proto::raftpb::{Entry, Message, MessageType};
use etcd_raft::{Raft, ReadState, Role};
use prost::Message as _;

use crate::node::State;

/// What all members together have ever shown.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    applied: BTreeMap<u64, Entry>,
    /// The state at each index, which is the same for everyone.
    pub(crate) states: BTreeMap<u64, State>,
    /// The least index that each open read has to see.
    reads: BTreeMap<u64, u64>,
    pub(crate) answered_reads: usize,
    pub(crate) violations: Vec<String>,
}

impl Checkers {
    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn report(&mut self, what: String) {
        self.violated(what);
    }

    /// The last index that anybody has applied: it is committed for ever.
    pub(crate) fn last_applied(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Election safety and leader completeness.
    pub(crate) fn on_role(&mut self, id: u64, raft: &Raft) {
        if raft.role() != Role::Leader {
            return;
        }
        let first = self.leaders.get(&raft.term()).copied();
        if first == Some(id) {
            return;
        }
        if let Some(other) = first {
            self.violated(format!("{other} and {id} lead term {}", raft.term()));
        }
        self.leaders.insert(raft.term(), id);
        let missing = self
            .applied
            .range(raft.status().first_index..)
            .find(|(index, entry)| raft.term_of(**index) != Some(entry.term))
            .map(|(index, _)| *index);
        if let Some(index) = missing {
            self.violated(format!(
                "leader {id} of term {} lacks committed entry {index}",
                raft.term()
            ));
        }
    }

    /// One vote per member and term, crashes included.
    pub(crate) fn on_send(&mut self, m: &Message) {
        if m.r#type != MessageType::MsgVoteResp as i32 || m.reject {
            return;
        }
        let candidate = *self.votes.entry((m.term, m.from)).or_insert(m.to);
        if candidate != m.to {
            self.violated(format!(
                "{} voted for {candidate} and {} in term {}",
                m.from, m.to, m.term
            ));
        }
    }

    /// State machine safety.
    pub(crate) fn on_apply(&mut self, id: u64, entry: &Entry, state: &State) {
        let first = self
            .applied
            .entry(entry.index)
            .or_insert_with(|| entry.clone());
        if first != entry {
            let what = format!("{id} applied another entry {}", entry.index);
            self.violated(what);
        }
        let known = self
            .states
            .entry(state.index)
            .or_insert_with(|| state.clone());
        if known != state {
            let what = format!("{id} has another state at {}", state.index);
            self.violated(what);
        }
    }

    pub(crate) fn on_read_request(&mut self, context: u64) {
        self.reads.insert(context, self.last_applied());
    }

    /// A read sees all that was applied anywhere when it began.
    pub(crate) fn on_read(&mut self, id: u64, read: ReadState) {
        match self.reads.get(&read.context) {
            Some(least) if read.index >= *least => self.answered_reads += 1,
            Some(least) => {
                let what = format!("{id} read at {}, but {least} was committed", read.index);
                self.violated(what);
            }
            None => self.violated(format!("{id} got a read that nobody asked for")),
        }
    }

    /// Log matching, for what two members hold in memory.
    pub(crate) fn logs_match(&mut self, a: (u64, &Raft), b: (u64, &Raft)) {
        let (left, right) = (a.1.status(), b.1.status());
        let first = left.first_index.max(right.first_index);
        let last = left.last_index.min(right.last_index);
        let mut same = false;
        for index in (first..=last).rev() {
            let equal = a.1.term_of(index) == b.1.term_of(index);
            if same && !equal {
                self.violated(format!(
                    "the logs of {} and {} differ at {index} but agree later",
                    a.0, b.0
                ));
                return;
            }
            same |= equal;
        }
    }

    /// A fingerprint of all that was applied.
    pub(crate) fn digest(&self) -> (u64, usize) {
        let bytes = self.applied.values().map(|e| e.encoded_len()).sum();
        let last = self.states.last_key_value().map_or(0, |(_, s)| s.digest);
        (last, bytes)
    }
}

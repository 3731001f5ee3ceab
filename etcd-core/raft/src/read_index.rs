//! Linearizable reads: which commit index a read has to wait for.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use etcd_proto::raftpb::{Entry, Message, MessageType};

use crate::errors::StepError;
use crate::message::{context, context_number, message};
use crate::quorum;
use crate::raft::Raft;
use crate::ready::ReadState;
use crate::role::{NONE, Role};

/// Reads that may wait at a time. Callers batch theirs and repeat what is dropped, so
/// only a fault gets here.
const MAX_READS: usize = 1 << 16;

/// A read that waits for the proof that we still lead.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    /// Who asked, possibly we ourselves.
    from: u64,
    /// What it will know the answer by.
    context: Bytes,
    /// The commit index when it came.
    index: u64,
}

/// The reads of a leader.
///
/// Each read gets a position; heartbeats carry the newest one, and whoever answers has
/// confirmed all up to it. Positions are never used again, so an answer cannot confirm
/// a read that came after its heartbeat.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    /// Reads from `confirmed + 1` on.
    waiting: VecDeque<Read>,
    /// The position of the last read that was confirmed or given up.
    confirmed: u64,
    acknowledged: BTreeMap<u64, u64>,
    /// Reads that came before anything was committed in our term.
    postponed: Vec<(u64, Bytes)>,
}

impl ReadQueue {
    /// Gives up all reads: we lead no more, or anew.
    pub(crate) fn clear(&mut self) {
        self.confirmed = self.last();
        self.waiting.clear();
        self.acknowledged.clear();
        self.postponed.clear();
    }

    fn last(&self) -> u64 {
        self.confirmed + self.waiting.len() as u64
    }

    /// The position of the newest read that waits, if any does.
    pub(crate) fn newest(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.last())
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.postponed.len() >= MAX_READS
    }

    fn push(&mut self, read: Read) {
        self.waiting.push_back(read);
    }

    pub(crate) fn acknowledge(&mut self, from: u64, position: u64) {
        // A position that was never given out confirms nothing.
        let position = position.min(self.last());
        let known = self.acknowledged.entry(from).or_insert(0);
        *known = (*known).max(position);
    }

    fn acknowledged(&self, id: u64) -> u64 {
        self.acknowledged.get(&id).copied().unwrap_or(0)
    }

    /// Takes the reads up to a position.
    fn take(&mut self, position: u64) -> Vec<Read> {
        let count = position.saturating_sub(self.confirmed);
        let count = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.waiting.len());
        self.confirmed += count as u64;
        self.waiting.drain(..count).collect()
    }
}

impl Raft {
    /// Asks for the index that a read which begins now has to wait for. The answer
    /// comes as a [`ReadState`] with this context, which must never be used again.
    ///
    /// There may be none: without a leader the request is dropped, with a leader that
    /// changes it is lost, and one that has too many waiting drops it. A caller repeats
    /// it, under a new context.
    pub fn read_index(&mut self, context_id: u64) {
        let data = context(context_id);
        match self.role {
            Role::Leader => self.read_of(self.id(), data),
            _ => self.forward_read(Message {
                entries: vec![Entry {
                    data,
                    ..Entry::default()
                }],
                ..message(MessageType::MsgReadIndex, NONE)
            }),
        }
    }

    fn forward_read(&mut self, mut m: Message) {
        if self.leader != NONE && self.leader != self.id() {
            m.to = self.leader;
            self.send(m);
        }
    }

    pub(crate) fn handle_read_index(&mut self, mut m: Message) {
        if self.role == Role::Leader {
            let request = m.entries.swap_remove(0);
            self.read_of(m.from, request.data);
        } else {
            self.forward_read(m);
        }
    }

    fn read_of(&mut self, from: u64, context: Bytes) {
        if self.reads.is_full() {
            return;
        }
        if !self.committed_in_term() {
            // The leaders before us may have committed more than we know.
            self.reads.postponed.push((from, context));
            return;
        }
        let read = Read {
            from,
            context,
            index: self.log.committed(),
        };
        if self.membership.is_only_voter(self.id()) {
            self.answer(read);
            return;
        }
        self.reads.push(read);
        self.heartbeat_due = true;
    }

    /// Takes up the reads that waited for the first commit of our term.
    pub(crate) fn release_pending_reads(&mut self) {
        for (from, context) in std::mem::take(&mut self.reads.postponed) {
            self.read_of(from, context);
        }
    }

    /// Answers the reads for which a majority has confirmed that we lead.
    pub(crate) fn confirm_reads(&mut self) {
        if self.reads.newest().is_none() {
            return;
        }
        let position = quorum::reached(self.membership.voters(), |id| {
            if id == self.config.id {
                self.reads.last()
            } else {
                self.reads.acknowledged(id)
            }
        });
        for read in self.reads.take(position) {
            self.answer(read);
        }
    }

    fn answer(&mut self, read: Read) {
        if read.from != self.id() {
            self.send(Message {
                index: read.index,
                entries: vec![Entry {
                    data: read.context,
                    ..Entry::default()
                }],
                ..message(MessageType::MsgReadIndexResp, read.from)
            });
        } else if let Some(context) = context_number(&read.context) {
            self.read_states.push(ReadState {
                context,
                index: read.index,
            });
        }
    }

    pub(crate) fn handle_read_index_response(&mut self, m: &Message) -> Result<(), StepError> {
        let context = context_number(&m.entries[0].data).ok_or(StepError::Malformed {
            kind: MessageType::MsgReadIndexResp.as_str_name(),
            from: m.from,
            reason: "its context is not one of ours",
        })?;
        self.read_states.push(ReadState {
            context,
            index: m.index,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(context: u64) -> Read {
        Read {
            from: 1,
            context: super::context(context),
            index: 5,
        }
    }

    #[test]
    fn reads_are_confirmed_in_order_up_to_a_position() {
        let mut queue = ReadQueue::default();
        assert_eq!(queue.newest(), None);
        (1..=3).for_each(|n| queue.push(read(n)));
        assert_eq!(queue.newest(), Some(3));
        assert_eq!(queue.take(2), [read(1), read(2)]);
        assert_eq!(queue.take(2), []);
        assert_eq!(queue.take(9), [read(3)]);
    }

    #[test]
    fn s20_a_position_is_never_used_again() {
        let mut queue = ReadQueue::default();
        queue.push(read(1));
        let old = queue.newest().expect("one waits");
        queue.clear();
        queue.push(read(2));
        queue.acknowledge(2, old);
        assert_eq!(queue.take(queue.acknowledged(2)), []);
        assert!(queue.newest() > Some(old));
    }

    #[test]
    fn a_position_that_was_never_given_out_confirms_nothing_later() {
        let mut queue = ReadQueue::default();
        queue.push(read(1));
        queue.acknowledge(2, u64::MAX);
        queue.push(read(2));
        assert_eq!(queue.take(queue.acknowledged(2)), [read(1)]);
    }
}

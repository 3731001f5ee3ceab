//! What a leader does: append, send, count acknowledgements, commit.

use etcd_proto::raftpb::{Entry, Message, MessageType};

use crate::errors::StepError;
use crate::log::payload;
use crate::message::{context, context_number, message};
use crate::progress::{Peer, ProgressState};
use crate::quorum;
use crate::raft::Raft;
use crate::role::Role;

impl Raft {
    /// Appends entries in our own term. They count as ours once they are durable.
    pub(crate) fn append_of_leader(&mut self, mut entries: Vec<Entry>) {
        for (entry, index) in entries.iter_mut().zip(self.log.last_index() + 1..) {
            entry.term = self.term;
            entry.index = index;
            self.unapplied_bytes += payload(entry);
        }
        self.log.append(entries);
        self.replicate_due = true;
    }

    /// Counts what of our log is durable here as acknowledged by us.
    pub(crate) fn acknowledge_own(&mut self) {
        let stable = self.log.stable();
        if let Some(me) = self.peers.get_mut(&self.config.id)
            && me.acknowledged(stable)
        {
            self.maybe_commit();
        }
    }

    /// Commits what a majority holds. Only an entry of our own term commits, and all
    /// before it with it.
    pub(crate) fn maybe_commit(&mut self) {
        let index = quorum::reached(self.membership.voters(), |id| {
            self.peers[&id].progress.matched
        });
        if index <= self.log.committed() || self.log.term(index) != Some(self.term) {
            return;
        }
        self.log.commit_to(index);
        self.replicate_due = true;
        self.release_pending_reads();
    }

    /// Whether an entry of our own term is committed: only then do we know how far the
    /// leaders before us committed.
    pub(crate) fn committed_in_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }

    /// Sends what is owed. Called once per Ready, so that all that has come since the
    /// last one leaves in as few messages as it fits.
    pub(crate) fn flush(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        if std::mem::take(&mut self.replicate_due) {
            let me = self.id();
            let ids: Vec<u64> = self.peers.keys().copied().collect();
            for id in ids.into_iter().filter(|id| *id != me) {
                self.replicate_to(id);
            }
        }
        if std::mem::take(&mut self.heartbeat_due) {
            self.broadcast_heartbeat();
        }
    }

    fn replicate_to(&mut self, to: u64) {
        let committed = self.log.committed();
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        if std::mem::take(&mut peer.due) || peer.can_bump_commit(committed) {
            self.send_append(to, true);
        }
        while self.send_append(to, false) {}
    }

    /// Sends one append, or a snapshot if the log no longer reaches back; false if
    /// there is nothing to send or it has to wait.
    fn send_append(&mut self, to: u64, even_if_empty: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&to) else {
            return false;
        };
        if peer.is_paused() {
            return false;
        }
        let index = peer.progress.next - 1;
        let Some(log_term) = self.log.term(index) else {
            return self.send_snapshot(to);
        };
        let entries = if peer.window_full() {
            // Should all in the window be lost, an empty append reveals it.
            Vec::new()
        } else {
            self.log
                .entries_from(index + 1, self.config.max_size_per_message)
        };
        if entries.is_empty() && !even_if_empty {
            return false;
        }
        let commit = self.log.committed();
        peer.sent_entries(entries.len() as u64, entries.iter().map(payload).sum());
        peer.sent_commit(commit);
        self.send(Message {
            index,
            log_term,
            entries,
            commit,
            ..message(MessageType::MsgApp, to)
        });
        true
    }

    /// Heartbeats carry the newest read that waits for them.
    fn broadcast_heartbeat(&mut self) {
        let reads = self.reads.newest().map(context).unwrap_or_default();
        let committed = self.log.committed();
        let mut beats = Vec::with_capacity(self.peers.len());
        for (id, peer) in &mut self.peers {
            if *id == self.config.id {
                continue;
            }
            // Never beyond what it acknowledged: its log may differ there.
            let commit = peer.progress.matched.min(committed);
            peer.sent_commit(commit);
            beats.push(Message {
                commit,
                context: reads.clone(),
                ..message(MessageType::MsgHeartbeat, *id)
            });
        }
        for beat in beats {
            self.send(beat);
        }
    }

    /// The member that sent this, if we lead and it belongs to us.
    fn heard_from(&mut self, id: u64) -> Option<&mut Peer> {
        if self.role != Role::Leader {
            return None;
        }
        let peer = self.peers.get_mut(&id)?;
        peer.progress.recent_active = true;
        Some(peer)
    }

    pub(crate) fn handle_append_response(&mut self, m: &Message) -> Result<(), StepError> {
        let last = self.log.last_index();
        let first = self.log.first_index();
        if m.reject {
            // It may know our log better than its last index: entries there of a later
            // term than its own cannot match either.
            let hint = match m.log_term {
                0 => m.reject_hint,
                term => self.log.last_at_or_below(m.reject_hint, term).index,
            };
            if let Some(peer) = self.heard_from(m.from)
                && peer.rejected(m.index, hint)
            {
                if peer.progress.state == ProgressState::Replicate {
                    peer.become_probe();
                }
                peer.due = true;
                self.replicate_due = true;
            }
            return Ok(());
        }
        let Some(peer) = self.heard_from(m.from) else {
            return Ok(());
        };
        if m.index > last {
            return Err(StepError::Malformed {
                kind: MessageType::MsgAppResp.as_str_name(),
                from: m.from,
                reason: "it acknowledges entries that do not exist",
            });
        }
        // Even an acknowledgement that is no news shows that a probe has matched.
        let matched_probe =
            peer.progress.state == ProgressState::Probe && peer.progress.matched == m.index;
        if !peer.acknowledged(m.index) && !matched_probe {
            return Ok(());
        }
        match peer.progress.state {
            ProgressState::Probe => peer.become_replicate(),
            // Whatever snapshot it got: the log reaches back to it.
            ProgressState::Snapshot if m.index + 1 >= first => {
                peer.become_probe();
                peer.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => peer.free_inflights(m.index),
        }
        let caught_up = peer.progress.matched == last;
        self.replicate_due = true;
        self.maybe_commit();
        if caught_up && m.from == self.transferee {
            self.send(message(MessageType::MsgTimeoutNow, m.from));
        }
        Ok(())
    }

    pub(crate) fn handle_heartbeat_response(&mut self, m: &Message) {
        let last = self.log.last_index();
        let Some(peer) = self.heard_from(m.from) else {
            return;
        };
        peer.resume();
        // One append for each answered heartbeat: it reveals what was lost, and brings
        // back to streaming whoever was found unreachable.
        if peer.progress.matched < last || peer.progress.state == ProgressState::Probe {
            peer.due = true;
            self.replicate_due = true;
        }
        if let Some(position) = context_number(&m.context) {
            self.reads.acknowledge(m.from, position);
            self.confirm_reads();
        }
    }

    /// Takes note that a message to `id` could not be delivered: what was streamed to
    /// it has probably been lost.
    pub fn report_unreachable(&mut self, id: u64) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.progress.state == ProgressState::Replicate
            && id != self.config.id
        {
            peer.become_probe();
        }
    }
}

//! Handing leadership to another voter.

use etcd_proto::raftpb::MessageType;

use crate::message::message;
use crate::progress::ProgressState;
use crate::quorum::majority;
use crate::raft::Raft;
use crate::role::{NONE, Role};

impl Raft {
    /// Asks for leadership to go to `to`: forwarded to the leader, dropped without one.
    ///
    /// The leader takes no proposals until `to`, once it has the whole log, is elected
    /// or an election timeout is over. Nothing happens if `to` is no voter; asking for
    /// the leader itself ends a transfer that is under way.
    pub fn transfer_leader(&mut self, to: u64) {
        self.handle_transfer(to);
    }

    /// Whom a leader that cannot go on could hand over to: of the voters heard of since
    /// the last check of the quorum, the one with the most of our log. None unless it
    /// has all that is committed, and such voters are a quorum without us; and none
    /// while a transfer is under way.
    pub fn successor(&self) -> Option<u64> {
        if self.role != Role::Leader || self.transferee != NONE {
            return None;
        }
        let voters = self.membership.voters();
        let others: Vec<_> = voters
            .iter()
            .filter(|voter| **voter != self.id())
            .filter_map(|voter| Some((*voter, self.peers.get(voter)?.progress)))
            .filter(|(_, progress)| progress.recent_active)
            .collect();
        if others.len() < majority(voters.len()) {
            return None;
        }
        others
            .into_iter()
            .filter(|(_, progress)| progress.state == ProgressState::Replicate)
            .filter(|(_, progress)| progress.matched >= self.log.committed())
            .max_by_key(|(voter, progress)| (progress.matched, std::cmp::Reverse(*voter)))
            .map(|(voter, _)| voter)
    }

    pub(crate) fn handle_transfer(&mut self, to: u64) {
        if self.role != Role::Leader {
            if self.leader != NONE {
                let mut m = message(MessageType::MsgTransferLeader, self.leader);
                m.from = to;
                self.send(m);
            }
            return;
        }
        if to == self.id() {
            self.transferee = NONE;
            return;
        }
        let last = self.log.last_index();
        if !self.membership.is_voter(to) || self.transferee == to {
            return;
        }
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        self.transferee = to;
        self.timer.heard();
        if peer.progress.matched == last {
            self.send(message(MessageType::MsgTimeoutNow, to));
        } else {
            peer.due = true;
            self.replicate_due = true;
        }
    }
}

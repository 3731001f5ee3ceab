//! Who belongs to the cluster, and who may vote.

use std::collections::BTreeSet;

use etcd_proto::raftpb::{ConfChange, ConfChangeType, ConfState};

use crate::config::ConfigError;
use crate::inflights::Inflights;
use crate::message::message;
use crate::progress::Peer;
use crate::raft::Raft;
use crate::role::{NONE, Role};
use etcd_proto::raftpb::MessageType;

/// The voters and the learners; no member is both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
}

impl Membership {
    pub(crate) fn from_conf_state(state: &ConfState) -> Result<Membership, ConfigError> {
        if !state.voters_outgoing.is_empty() || !state.learners_next.is_empty() {
            return Err(ConfigError::JointConfig);
        }
        let mut membership = Membership::default();
        let lists = [(&state.voters, true), (&state.learners, false)];
        for (ids, voter) in lists {
            for &id in ids {
                if id == NONE || membership.contains(id) {
                    return Err(ConfigError::AmbiguousMember { id });
                }
                if voter {
                    membership.voters.insert(id);
                } else {
                    membership.learners.insert(id);
                }
            }
        }
        Ok(membership)
    }

    pub(crate) fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.iter().copied().collect(),
            learners: self.learners.iter().copied().collect(),
            ..ConfState::default()
        }
    }

    pub(crate) fn voters(&self) -> &BTreeSet<u64> {
        &self.voters
    }

    pub(crate) fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id)
    }

    pub(crate) fn is_learner(&self, id: u64) -> bool {
        self.learners.contains(&id)
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.is_voter(id) || self.is_learner(id)
    }

    /// Whether `id` is the only voter.
    pub(crate) fn is_only_voter(&self, id: u64) -> bool {
        self.voters.len() == 1 && self.is_voter(id)
    }

    /// All members, in order of their IDs.
    pub(crate) fn members(&self) -> impl Iterator<Item = u64> {
        self.voters.union(&self.learners).copied()
    }

    /// The membership after one change. A change that names nobody, whose type is
    /// unknown, or that would leave no voter changes nothing.
    pub(crate) fn changed(&self, change: &ConfChange) -> Membership {
        let mut next = self.clone();
        let id = change.node_id;
        match ConfChangeType::try_from(change.r#type) {
            _ if id == NONE => {}
            Ok(ConfChangeType::ConfChangeAddNode) => {
                next.learners.remove(&id);
                next.voters.insert(id);
            }
            Ok(ConfChangeType::ConfChangeAddLearnerNode) => {
                next.voters.remove(&id);
                next.learners.insert(id);
            }
            Ok(ConfChangeType::ConfChangeRemoveNode) => {
                next.voters.remove(&id);
                next.learners.remove(&id);
            }
            Ok(ConfChangeType::ConfChangeUpdateNode) | Err(_) => {}
        }
        if next.voters.is_empty() {
            self.clone()
        } else {
            next
        }
    }
}

impl Raft {
    /// Enters a membership change, once the applier has returned it and before
    /// [`Raft::applied`] reports its entry. Returns the membership that now holds.
    ///
    /// A change that the applier rejected is passed with `node_id` 0: it changes
    /// nothing, and with its entry applied the next change may be proposed. A leader
    /// that is no longer a voter steps down.
    ///
    /// Every change that was handed out comes back here, in order. One that a snapshot
    /// has overtaken in the meantime is part of that already and changes nothing.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> ConfState {
        let overtaken = self
            .conf_changes_out
            .pop_front()
            .is_some_and(|index| index <= self.log.snapshot_index());
        if overtaken {
            return self.membership.conf_state();
        }
        let membership = self.membership.changed(change);
        if membership != self.membership {
            self.switch_to(membership);
        }
        self.membership.conf_state()
    }

    /// Takes over a membership, keeping the progress of those who stay.
    pub(crate) fn switch_to(&mut self, membership: Membership) {
        // A new member is probed from the end of the log, and given the time to answer
        // before it counts as inactive.
        let next = self.log.last_index();
        let (messages, bytes) = (
            self.config.max_inflight_messages,
            self.config.max_inflight_bytes,
        );
        self.peers.retain(|id, _| membership.contains(*id));
        for id in membership.members() {
            let peer = self.peers.entry(id).or_insert_with(|| {
                let mut peer = Peer::new(next, false, Inflights::new(messages, bytes));
                peer.progress.recent_active = true;
                peer
            });
            peer.progress.is_learner = membership.is_learner(id);
        }
        self.membership = membership;
        if self.role != Role::Leader {
            return;
        }
        if !self.membership.is_voter(self.id()) {
            self.leave_office();
            return;
        }
        if !self.membership.is_voter(self.transferee) {
            self.transferee = NONE;
        }
        // Fewer voters may have acknowledged enough.
        self.maybe_commit();
        self.confirm_reads();
        self.replicate_due = true;
    }

    /// Steps down because the own removal was applied, and spares the others the
    /// election timeout where one of them has the whole log.
    fn leave_office(&mut self) {
        let last = self.log.last_index();
        let successor = self
            .membership
            .voters()
            .iter()
            .copied()
            .find(|id| self.peers[id].progress.matched == last);
        if let Some(to) = successor {
            self.send(message(MessageType::MsgTimeoutNow, to));
        }
        self.become_follower(self.term, NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(voters: &[u64], learners: &[u64]) -> ConfState {
        ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        }
    }

    fn apply(voters: &[u64], learners: &[u64], kind: ConfChangeType, id: u64) -> ConfState {
        Membership::from_conf_state(&state(voters, learners))
            .expect("sound")
            .changed(&ConfChange {
                r#type: kind as i32,
                node_id: id,
                ..ConfChange::default()
            })
            .conf_state()
    }

    #[test]
    fn members_are_added_promoted_and_removed() {
        use ConfChangeType::*;
        assert_eq!(apply(&[1], &[], ConfChangeAddNode, 2), state(&[1, 2], &[]));
        assert_eq!(
            apply(&[1], &[], ConfChangeAddLearnerNode, 2),
            state(&[1], &[2])
        );
        assert_eq!(apply(&[1], &[2], ConfChangeAddNode, 2), state(&[1, 2], &[]));
        assert_eq!(
            apply(&[1, 2], &[], ConfChangeAddLearnerNode, 2),
            state(&[1], &[2])
        );
        assert_eq!(
            apply(&[1, 2], &[3], ConfChangeRemoveNode, 3),
            state(&[1, 2], &[])
        );
        assert_eq!(
            apply(&[1, 2], &[], ConfChangeUpdateNode, 2),
            state(&[1, 2], &[])
        );
    }

    #[test]
    fn the_last_voter_stays_and_nobody_is_nobody() {
        use ConfChangeType::*;
        assert_eq!(
            apply(&[1], &[2], ConfChangeRemoveNode, 1),
            state(&[1], &[2])
        );
        assert_eq!(
            apply(&[1], &[2], ConfChangeAddLearnerNode, 1),
            state(&[1], &[2])
        );
        assert_eq!(apply(&[1], &[2], ConfChangeAddNode, 0), state(&[1], &[2]));
    }

    #[test]
    fn impossible_memberships_are_refused() {
        let joint = ConfState {
            voters_outgoing: vec![1],
            ..state(&[2], &[])
        };
        assert_eq!(
            Membership::from_conf_state(&joint),
            Err(ConfigError::JointConfig)
        );
        for bad in [state(&[1, 1], &[]), state(&[1], &[1]), state(&[0], &[])] {
            assert!(matches!(
                Membership::from_conf_state(&bad),
                Err(ConfigError::AmbiguousMember { .. })
            ));
        }
    }
}

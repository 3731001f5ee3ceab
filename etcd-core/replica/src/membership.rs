//! Who belongs to the cluster: what conf changes and publications made of it.

use std::collections::{BTreeMap, BTreeSet};

use etcd_proto::raftpb::{ConfChange, ConfChangeType, ConfState};

use crate::member::{ConfChangeContext, Member};

/// The members of a cluster and the IDs that never return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
}

/// Why a conf change is not possible. The texts are etcd's and live in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The ID was removed before, for ever.
    #[error("member ID was removed before")]
    IdRemoved,
    /// A member of that ID exists.
    #[error("member ID already exists")]
    IdExists,
    /// No member of that ID.
    #[error("member not found")]
    IdNotFound,
    /// Another member has one of the peer URLs.
    #[error("peer URL already exists")]
    PeerUrlExists,
    /// Promotion of a member that votes already.
    #[error("member is not a learner")]
    NotLearner,
    /// One learner more than allowed.
    #[error("too many learners")]
    TooManyLearners,
    /// The context is not a member's JSON.
    #[error("conf change context is not readable")]
    BadContext,
}

impl Membership {
    /// From rows of the buckets `members` and `members_removed`.
    pub fn restore(members: impl IntoIterator<Item = Member>, removed: BTreeSet<u64>) -> Self {
        Membership {
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            removed,
        }
    }

    /// All members, by ID.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member of this ID.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether this ID was a member once and never will be again.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// IDs that never return.
    pub fn removed(&self) -> impl Iterator<Item = u64> + '_ {
        self.removed.iter().copied()
    }

    /// Members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|m| !m.is_learner)
    }

    /// Number of learners.
    pub fn learners(&self) -> usize {
        self.iter().filter(|m| m.is_learner).count()
    }

    /// Raft's view of the same: voters and learners in ascending order.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters().map(|m| m.id).collect(),
            learners: self.iter().filter(|m| m.is_learner).map(|m| m.id).collect(),
            ..ConfState::default()
        }
    }

    /// Whether the change may be applied to this membership, by the same rules on
    /// every member. `max_learners` bounds the learners after the change.
    pub fn validate(
        &self,
        change: &ConfChange,
        max_learners: usize,
    ) -> Result<ConfChangeContext, MembershipError> {
        let context = context_of(change)?;
        let id = change.node_id;
        if self.is_removed(id) {
            return Err(MembershipError::IdRemoved);
        }
        match change.r#type() {
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                if context.is_promote {
                    let member = self.get(id).ok_or(MembershipError::IdNotFound)?;
                    if !member.is_learner {
                        return Err(MembershipError::NotLearner);
                    }
                } else {
                    if self.members.contains_key(&id) {
                        return Err(MembershipError::IdExists);
                    }
                    self.check_urls(id, &context.member.peer_urls)?;
                    if context.member.is_learner && self.learners() + 1 > max_learners {
                        return Err(MembershipError::TooManyLearners);
                    }
                }
            }
            ConfChangeType::ConfChangeRemoveNode => {
                self.get(id).ok_or(MembershipError::IdNotFound)?;
            }
            ConfChangeType::ConfChangeUpdateNode => {
                self.get(id).ok_or(MembershipError::IdNotFound)?;
                self.check_urls(id, &context.member.peer_urls)?;
            }
        }
        Ok(context)
    }

    /// Applies a change that [`Membership::validate`] has let pass.
    pub fn apply(&mut self, change: &ConfChange, context: ConfChangeContext) {
        let id = change.node_id;
        match change.r#type() {
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                if context.is_promote {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.is_learner = false;
                    }
                } else {
                    self.members.insert(
                        id,
                        Member {
                            id,
                            ..context.member
                        },
                    );
                }
            }
            ConfChangeType::ConfChangeRemoveNode => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
            ConfChangeType::ConfChangeUpdateNode => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.peer_urls = context.member.peer_urls;
                }
            }
        }
    }

    /// Applies what a member published of itself. A member that is gone is ignored:
    /// its publication was on the way when it was removed.
    pub fn set_attributes(&mut self, id: u64, name: &str, client_urls: &[String]) {
        if let Some(member) = self.members.get_mut(&id) {
            name.clone_into(&mut member.name);
            client_urls.clone_into(&mut member.client_urls);
        }
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), MembershipError> {
        let taken = self
            .iter()
            .filter(|m| m.id != id)
            .any(|m| m.peer_urls.iter().any(|u| urls.contains(u)));
        if taken {
            Err(MembershipError::PeerUrlExists)
        } else {
            Ok(())
        }
    }
}

fn context_of(change: &ConfChange) -> Result<ConfChangeContext, MembershipError> {
    if change.r#type() == ConfChangeType::ConfChangeRemoveNode {
        return Ok(ConfChangeContext::default());
    }
    serde_json::from_slice(&change.context).map_err(|_| MembershipError::BadContext)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(id: u64, url: &str, learner: bool, promote: bool) -> ConfChange {
        let context = ConfChangeContext {
            member: Member {
                id,
                peer_urls: vec![url.into()],
                is_learner: learner,
                ..Member::default()
            },
            is_promote: promote,
        };
        let kind = if learner {
            ConfChangeType::ConfChangeAddLearnerNode
        } else {
            ConfChangeType::ConfChangeAddNode
        };
        ConfChange {
            r#type: kind as i32,
            node_id: id,
            context: serde_json::to_vec(&context).unwrap().into(),
            id: 0,
        }
    }

    fn change(kind: ConfChangeType, id: u64) -> ConfChange {
        ConfChange {
            r#type: kind as i32,
            node_id: id,
            ..ConfChange::default()
        }
    }

    fn apply(to: &mut Membership, cc: &ConfChange) -> Result<(), MembershipError> {
        let context = to.validate(cc, 1)?;
        to.apply(cc, context);
        Ok(())
    }

    #[test]
    fn a_removed_id_never_returns() {
        let mut m = Membership::default();
        apply(&mut m, &add(1, "http://a", false, false)).unwrap();
        apply(&mut m, &change(ConfChangeType::ConfChangeRemoveNode, 1)).unwrap();
        assert_eq!(
            apply(&mut m, &add(1, "http://a", false, false)),
            Err(MembershipError::IdRemoved)
        );
    }

    #[test]
    fn b142_a_peer_url_belongs_to_one_member() {
        let mut m = Membership::default();
        apply(&mut m, &add(1, "http://a", false, false)).unwrap();
        assert_eq!(
            apply(&mut m, &add(2, "http://a", false, false)),
            Err(MembershipError::PeerUrlExists)
        );
    }

    #[test]
    fn b146_b148_learners_are_bounded_and_only_learners_are_promoted() {
        let mut m = Membership::default();
        apply(&mut m, &add(1, "http://a", false, false)).unwrap();
        apply(&mut m, &add(2, "http://b", true, false)).unwrap();
        assert_eq!(
            apply(&mut m, &add(3, "http://c", true, false)),
            Err(MembershipError::TooManyLearners)
        );
        assert_eq!(m.conf_state().learners, vec![2]);
        apply(&mut m, &add(2, "http://b", false, true)).unwrap();
        assert_eq!(m.conf_state().voters, vec![1, 2]);
        assert_eq!(
            apply(&mut m, &add(2, "http://b", false, true)),
            Err(MembershipError::NotLearner)
        );
    }

    #[test]
    fn b144_unknown_members_are_not_found() {
        let m = Membership::default();
        let remove = change(ConfChangeType::ConfChangeRemoveNode, 7);
        assert_eq!(m.validate(&remove, 1), Err(MembershipError::IdNotFound));
    }
}

//! Changes of membership, with etcd's checks that they endanger nothing, and the
//! hand-over of leadership.

use std::time::{Duration, Instant};

use etcd_proto::raftpb::{ConfChange, ConfChangeType};
use etcd_replica::{ConfChangeContext, Input, Member, Membership, Response};

use super::error::RequestError;
use super::node::Node;
use super::observation::Observation;

/// A peer must have been connected for so long to count as healthy.
const CONNECTED_MIN: Duration = Duration::from_secs(5);
/// A learner may lag behind the leader's log by a tenth of it.
const IN_SYNC_RATIO: f64 = 0.9;

impl Node {
    /// Adds a voter or a learner. `strict`: refuse what would endanger the quorum.
    pub async fn add_member(
        &self,
        member: Member,
        strict: bool,
    ) -> Result<Vec<Member>, RequestError> {
        if strict {
            self.check_add(&member)?;
        }
        let kind = if member.is_learner {
            ConfChangeType::ConfChangeAddLearnerNode
        } else {
            ConfChangeType::ConfChangeAddNode
        };
        self.conf_change(
            kind,
            ConfChangeContext {
                member,
                is_promote: false,
            },
        )
        .await
    }

    /// Removes a member for ever.
    pub async fn remove_member(&self, id: u64, strict: bool) -> Result<Vec<Member>, RequestError> {
        if strict {
            self.check_remove(id)?;
        }
        let member = Member {
            id,
            ..Member::default()
        };
        self.conf_change(
            ConfChangeType::ConfChangeRemoveNode,
            ConfChangeContext {
                member,
                is_promote: false,
            },
        )
        .await
    }

    /// Changes a member's peer URLs.
    pub async fn update_member(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, RequestError> {
        let member = Member {
            id,
            peer_urls,
            ..Member::default()
        };
        self.conf_change(
            ConfChangeType::ConfChangeUpdateNode,
            ConfChangeContext {
                member,
                is_promote: false,
            },
        )
        .await
    }

    /// Gives a learner its vote. Only the leader can tell whether it is in sync.
    pub async fn promote_member(&self, id: u64, strict: bool) -> Result<Vec<Member>, RequestError> {
        let promoted = self.try_promote(id, strict).await;
        match &promoted {
            Ok(_) => self.observe(Observation::Promoted),
            // The leader counts it.
            Err(RequestError::NotLeader) => {}
            Err(error) => {
                let reason = crate::grpc::status(error).message().to_owned();
                self.observe(Observation::NotPromoted(reason));
            }
        }
        promoted
    }

    async fn try_promote(&self, id: u64, strict: bool) -> Result<Vec<Member>, RequestError> {
        let view = self.view();
        let member = view
            .membership
            .get(id)
            .cloned()
            .ok_or(etcd_replica::MembershipError::IdNotFound)?;
        if !member.is_learner {
            return Err(etcd_replica::MembershipError::NotLearner.into());
        }
        if !self.leadership().is_leader {
            return Err(RequestError::NotLeader);
        }
        self.check_in_sync(id)?;
        if strict {
            self.check_promote(&view.membership)?;
        }
        let context = ConfChangeContext {
            member: Member {
                is_learner: false,
                ..member
            },
            is_promote: true,
        };
        self.conf_change(ConfChangeType::ConfChangeAddNode, context)
            .await
    }

    /// Hands leadership to a voter and waits until it leads.
    pub async fn move_leader(&self, to: u64) -> Result<(), RequestError> {
        let view = self.view();
        if view.membership.get(to).is_none_or(|m| m.is_learner) {
            return Err(RequestError::BadTransferee);
        }
        let now = self.leadership();
        if now.leader == to {
            return Ok(());
        }
        if !now.is_leader {
            return Err(RequestError::NotLeader);
        }
        let mut changes = self.leadership_changes();
        self.shared.inbox.push(Input::TransferLeader(to))?;
        let moved = changes.wait_for(|l| l.leader == to);
        match tokio::time::timeout(self.election_timeout(), moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(RequestError::Stopped),
            Err(_) => Err(RequestError::TimeoutLeaderFailed),
        }
    }

    /// The voter that has been connected for the longest time.
    pub fn best_transferee(&self) -> Option<u64> {
        let view = self.view();
        view.membership
            .voters()
            .filter(|m| m.id != self.member_id())
            .filter_map(|m| Some((self.shared.peers.active_since(m.id)?, m.id)))
            .min()
            .map(|(_, id)| id)
    }

    async fn conf_change(
        &self,
        kind: ConfChangeType,
        context: ConfChangeContext,
    ) -> Result<Vec<Member>, RequestError> {
        let id = self.shared.request_ids.next();
        let node_id = context.member.id;
        let context = if kind == ConfChangeType::ConfChangeRemoveNode {
            Vec::new()
        } else {
            serde_json::to_vec(&context).map_err(|e| RequestError::Internal(e.to_string()))?
        };
        let change = ConfChange {
            id,
            r#type: kind as i32,
            node_id,
            context: context.into(),
        };
        let reply = self.submit(id, Input::ProposeConfChange(change)).await?;
        match reply.result {
            Ok(Response::Members(members)) => Ok(members),
            Ok(other) => Err(RequestError::Internal(format!(
                "a conf change was answered with {other:?}"
            ))),
            Err(etcd_replica::ApplyError::Membership(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// A voter is added only if a started quorum remains after the growth, and only
    /// while a quorum, the newcomer counted as down, has been connected for a while.
    fn check_add(&self, member: &Member) -> Result<(), RequestError> {
        let view = self.view();
        if !member.is_learner {
            let voters = view.membership.voters().count();
            let started = view.membership.voters().filter(|m| m.is_started()).count();
            let grows_from_one = voters == 1 && started == 1;
            if !grows_from_one && started < voters.div_ceil(2) + 1 {
                return Err(RequestError::NotEnoughStarted);
            }
        }
        self.check_connected(&view.membership, member.is_learner)
    }

    fn check_remove(&self, id: u64) -> Result<(), RequestError> {
        let view = self.view();
        let Some(leaver) = view.membership.get(id) else {
            return Err(etcd_replica::MembershipError::IdNotFound.into());
        };
        if leaver.is_learner {
            return Ok(());
        }
        let remaining: Vec<_> = view.membership.voters().filter(|m| m.id != id).collect();
        let started = remaining.iter().filter(|m| m.is_started()).count();
        if started < remaining.len() / 2 + 1 {
            return Err(RequestError::NotEnoughStarted);
        }
        // Who is down already is no loss.
        if id != self.member_id() && !self.is_connected(id) {
            return Ok(());
        }
        let now = Instant::now();
        let voters = remaining.len() + 1;
        let active = view
            .membership
            .voters()
            .filter(|m| self.is_connected_for(m.id, now))
            .count();
        if active.saturating_sub(1) < 1 + (voters - 1) / 2 {
            return Err(RequestError::Unhealthy);
        }
        Ok(())
    }

    fn check_promote(&self, membership: &Membership) -> Result<(), RequestError> {
        let voters = membership.voters().count() + 1;
        let started = membership.voters().filter(|m| m.is_started()).count() + 1;
        if started < voters / 2 + 1 {
            Err(RequestError::NotEnoughStarted)
        } else {
            Ok(())
        }
    }

    /// The newcomer counts as down: without it the grown cluster must have a quorum
    /// of connected voters. From one to two there is no such quorum, and no other way.
    fn check_connected(&self, membership: &Membership, learner: bool) -> Result<(), RequestError> {
        let now = Instant::now();
        let voters: Vec<_> = membership.voters().collect();
        if voters.len() == 1 {
            return Ok(());
        }
        let grown = if learner {
            voters.len()
        } else {
            voters.len() + 1
        };
        let connected = voters
            .iter()
            .filter(|m| self.is_connected_for(m.id, now))
            .count();
        if connected < grown / 2 + 1 {
            Err(RequestError::Unhealthy)
        } else {
            Ok(())
        }
    }

    fn check_in_sync(&self, id: u64) -> Result<(), RequestError> {
        // One that was added a moment ago has no progress yet.
        let learner = self
            .progress(id)
            .ok_or(RequestError::LearnerNotReady)?
            .matched;
        let leader = self.progress(self.member_id()).map_or(0, |p| p.matched);
        if (learner as f64) < leader as f64 * IN_SYNC_RATIO {
            return Err(RequestError::LearnerNotReady);
        }
        Ok(())
    }

    fn is_connected(&self, id: u64) -> bool {
        id == self.member_id() || self.shared.peers.active_since(id).is_some()
    }

    fn is_connected_for(&self, id: u64, now: Instant) -> bool {
        id == self.member_id()
            || self
                .shared
                .peers
                .active_since(id)
                .is_some_and(|since| now.duration_since(since) >= CONNECTED_MIN)
    }
}

//! The handle that everything else in the server has of the member.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{
    AlarmRequest, AlarmType, InternalRaftRequest, RequestHeader, ResponseHeader,
};
use etcd_proto::raftpb::Message;
use etcd_raft::Progress;
use etcd_replica::{Capture, Input, View};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{oneshot, watch};

use super::apply::ApplyTask;
use super::counts::Counts;
use super::error::RequestError;
use super::observation::{Observation, RequestKind};
use super::request::Reply;
use super::role::Leadership;
use super::shared::Shared;
use super::watches::Watches;

/// Entries between commit and application at which new proposals are refused.
const GAP_MAX: u64 = 5000;

/// A running member. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) apply: std::sync::mpsc::Sender<ApplyTask>,
    pub(super) max_request_bytes: usize,
    pub(super) threads: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
    pub(super) disk: std::sync::mpsc::Sender<super::disk::DiskTask>,
    pub(super) checkpoints: std::sync::mpsc::Sender<super::checkpoint::CheckpointTask>,
}

impl Node {
    /// This member's ID.
    pub fn member_id(&self) -> u64 {
        self.shared.member_id
    }

    /// The cluster's ID.
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster_id
    }

    /// The state that was applied last.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Who leads, as this member knows it.
    pub fn leadership(&self) -> Leadership {
        self.shared.role.now()
    }

    /// Told of every change of leader, term or role.
    pub fn leadership_changes(&self) -> watch::Receiver<Leadership> {
        self.shared.role.subscribe()
    }

    /// Leaders seen since the start.
    pub fn leader_changes(&self) -> u64 {
        self.shared.role.changes()
    }

    /// Raft's commit index.
    pub fn commit_index(&self) -> u64 {
        self.shared.role.commit()
    }

    /// Index of the last entry of the log.
    pub fn last_index(&self) -> u64 {
        self.shared.role.last_index()
    }

    /// What a leader knows of a member's log; `None` off-leader.
    pub fn progress(&self, id: u64) -> Option<Progress> {
        self.leadership()
            .is_leader
            .then(|| self.shared.progress.lock().get(&id).cloned())
            .flatten()
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        self.view()
            .membership
            .get(self.member_id())
            .is_some_and(|m| m.is_learner)
    }

    /// Becomes true when this member was removed from the cluster.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.shared.removed.subscribe()
    }

    /// Ends clients' streams, which end by nothing else: the member is about to stop.
    pub fn end_streams(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Returns when streams are to end.
    pub async fn streams_end(&self) {
        let mut closing = self.shared.closing.subscribe();
        // The sender lives as long as this node does.
        let _closed = closing.wait_for(|closing| *closing).await;
    }

    /// Watches of this member.
    pub fn watches(&self) -> &Watches {
        &self.shared.watches
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Measured something, for the metrics.
    pub fn observe(&self, what: Observation) {
        self.shared.tell(what);
    }

    /// Proposals whose outcome is waited for.
    pub fn proposals_pending(&self) -> usize {
        self.shared.waiters.len()
    }

    /// Largest request, in bytes.
    pub fn max_request_bytes(&self) -> usize {
        self.max_request_bytes
    }

    /// Time after which a request is given up.
    pub fn request_timeout(&self) -> Duration {
        self.shared.request_timeout()
    }

    /// Election timeout.
    pub fn election_timeout(&self) -> Duration {
        self.shared.election_timeout
    }

    /// A response header at a revision.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.shared.cluster_id,
            member_id: self.shared.member_id,
            revision,
            raft_term: self.leadership().term,
        }
    }

    /// Whether a write of this cost still fits the quota.
    pub fn has_space_for(&self, cost: u64) -> bool {
        match self.shared.applier_config.quota_bytes {
            Some(quota) => self.view().db_size + cost < quota,
            None => true,
        }
    }

    /// The quota in bytes; `None`: unlimited.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.shared.applier_config.quota_bytes
    }

    /// An ID that no member has given before: of a request, or of a lease.
    pub fn next_id(&self) -> u64 {
        self.shared.request_ids.next()
    }

    /// Agrees on a request and waits until it is applied here.
    pub async fn propose(&self, request: InternalRaftRequest) -> Result<Reply, RequestError> {
        self.propose_in(request, None).await
    }

    /// As [`Node::propose`], but only while this member leads the term.
    pub async fn propose_in(
        &self,
        request: InternalRaftRequest,
        term: Option<u64>,
    ) -> Result<Reply, RequestError> {
        let (kind, began) = (RequestKind::of(&request), Instant::now());
        let reply = self.try_propose(request, term).await;
        self.observe(Observation::Request {
            kind,
            success: reply.as_ref().is_ok_and(|reply| reply.result.is_ok()),
            took: began.elapsed(),
        });
        reply
    }

    async fn try_propose(
        &self,
        mut request: InternalRaftRequest,
        term: Option<u64>,
    ) -> Result<Reply, RequestError> {
        let shared = &self.shared;
        if shared
            .role
            .commit()
            .saturating_sub(shared.view.load().index)
            > GAP_MAX
        {
            return Err(RequestError::TooManyRequests);
        }
        let id = shared.request_ids.next();
        request.header = Some(RequestHeader {
            id,
            ..RequestHeader::default()
        });
        if request.encoded_len() > self.max_request_bytes {
            return Err(RequestError::TooLarge);
        }
        let data = request.encode_to_vec().into();
        self.submit(id, Input::Propose { id, data, term }).await
    }

    pub(super) async fn submit(&self, id: u64, input: Input) -> Result<Reply, RequestError> {
        let shared = &self.shared;
        let leader_before = shared.role.now();
        let outcome = shared.waiters.register(id);
        if let Err(error) = shared.inbox.push(input) {
            shared.waiters.forget(id);
            return Err(error);
        }
        let waiting = Forget { shared, id };
        let outcome = match tokio::time::timeout(self.request_timeout(), outcome).await {
            Ok(Ok(outcome)) => {
                std::mem::forget(waiting);
                outcome
            }
            Ok(Err(_)) => Err(RequestError::Stopped),
            Err(_) => {
                let now = shared.role.now();
                Err(if now.leader == 0 || now.leader != leader_before.leader {
                    RequestError::TimeoutLeaderFailed
                } else {
                    RequestError::Timeout
                })
            }
        };
        if outcome.is_err() {
            shared.counts.proposals_failed.add(1);
        }
        outcome
    }

    /// Returns once this member has applied everything that was acknowledged before
    /// the call, anywhere in the cluster.
    pub async fn read_index(&self) -> Result<(), RequestError> {
        if self.shared.role.reads_alone() {
            // The only voter acknowledges nothing before it has published it.
            return Ok(());
        }
        let (waiter, done) = oneshot::channel();
        self.shared.inbox.push_read(waiter);
        match tokio::time::timeout(self.request_timeout(), done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RequestError::Stopped),
            Err(_) => {
                self.observe(Observation::SlowReadIndex);
                Err(RequestError::Timeout)
            }
        }
    }

    /// The view at which a read may be answered: the current one if `serializable`.
    pub async fn read_view(&self, serializable: bool) -> Result<Arc<View>, RequestError> {
        if !serializable {
            self.read_index().await?;
        }
        Ok(self.view())
    }

    /// A consistent state with its rows, for an image or a hash.
    pub async fn capture(&self) -> Result<Capture, RequestError> {
        let (reply, captured) = oneshot::channel();
        self.apply
            .send(ApplyTask::Capture(reply))
            .map_err(|_| RequestError::Stopped)?;
        captured.await.map_err(|_| RequestError::Stopped)
    }

    /// Returns when the work of all compactions so far is done.
    pub async fn compacted(&self) -> Result<(), RequestError> {
        let (reply, done) = oneshot::channel();
        self.apply
            .send(ApplyTask::WhenCompacted(reply))
            .map_err(|_| RequestError::Stopped)?;
        done.await.map_err(|_| RequestError::Stopped)
    }

    /// Rewrites segments that hold dead records, and returns when they are.
    pub async fn defragment(&self) -> Result<(), RequestError> {
        let (reply, done) = oneshot::channel();
        self.apply
            .send(ApplyTask::Defragment(reply))
            .map_err(|_| RequestError::Stopped)?;
        done.await.map_err(|_| RequestError::Stopped)
    }

    /// Raises the alarm NOSPACE of this member, if it is not raised already.
    pub fn raise_no_space(&self) {
        if self.has_alarm(self.member_id(), AlarmType::Nospace) {
            return;
        }
        let node = self.clone();
        tokio::spawn(async move {
            node.raise_alarm(node.member_id(), AlarmType::Nospace).await;
        });
    }

    fn has_alarm(&self, member_id: u64, kind: AlarmType) -> bool {
        let view = self.view();
        let mut raised = view.alarms.of(kind);
        raised.any(|alarm| alarm.member_id == member_id)
    }

    /// Raises an alarm of a member, if it is not raised already. Whoever has a reason to
    /// raises it again, should it fail.
    pub(super) async fn raise_alarm(&self, member_id: u64, kind: AlarmType) {
        if self.has_alarm(member_id, kind) {
            return;
        }
        let request = InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id,
                alarm: kind as i32,
            }),
            ..InternalRaftRequest::default()
        };
        let (alarm, from) = (kind.as_str_name(), format!("{member_id:x}"));
        match self.propose(request).await {
            Ok(_) => tracing::warn!(alarm, from, "alarm raised"),
            Err(error) => tracing::warn!(alarm, from, %error, "failed to raise alarm"),
        }
    }

    /// Peers say that this member does not belong to the cluster any more.
    pub fn removed_by_peers(&self) {
        self.shared.removed.send_replace(true);
    }

    /// Proposals of this member that have not left it: they are for the next leader.
    pub fn unsent(&self, message: Message) {
        self.shared.inbox.push_unsent(message);
    }

    /// An input from the network; given back if there is no room for it now.
    pub fn receive(&self, input: Input) -> Result<(), Input> {
        self.shared.inbox.offer(input)
    }
}

/// A caller that goes away leaves nothing behind.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.waiters.forget(self.id);
    }
}

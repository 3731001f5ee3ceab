//! The service Lock: whoever is first under a name holds its lock.

use bytes::Bytes;
use etcd_proto::etcdserverpb::{DeleteRangeRequest, InternalRaftRequest};
use etcd_proto::v3lockpb::lock_server::Lock;
use etcd_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::contest::{Contest, Withdrawal, session, without_code};
use super::guard::Guard;
use super::kv::write;
use super::status::status;
use crate::driver::Node;

/// Lock over a node.
#[derive(Clone)]
pub struct LockService {
    node: Node,
    guard: Guard,
}

impl LockService {
    /// Over a node.
    pub fn new(node: Node, guard: Guard) -> Self {
        LockService { node, guard }
    }

    async fn hold(&self, request: LockRequest) -> Result<LockResponse, Status> {
        let lease = session(&self.node, request.lease).await?;
        let contest = Contest::new(&self.node, &request.name);
        let place = contest.enter(lease, &Bytes::new()).await?;
        let withdrawal = Withdrawal::new(&self.node, &place);
        contest.turn(&place).await?;
        let view = contest.view().await?;
        let held = contest.has(&view, &place)?;
        withdrawal.keep();
        if !held {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(LockResponse {
            header: Some(self.node.header(view.kv.revision())),
            key: place.key,
        })
    }

    async fn delete(&self, request: UnlockRequest) -> Result<i64, Status> {
        let delete = DeleteRangeRequest {
            key: request.key,
            ..DeleteRangeRequest::default()
        };
        etcd_mvcc::check_delete(&delete).map_err(|e| status(&e.into()))?;
        let request = InternalRaftRequest {
            delete_range: Some(delete),
            ..InternalRaftRequest::default()
        };
        let reply = write(&self.node, 0, request).await?;
        reply.result.map_err(|e| status(&e.into()))?;
        Ok(reply.revision)
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.guard.write(&request)?;
        let wants_leader = Guard::wants_leader(&request);
        tokio::select! {
            held = self.hold(request.into_inner()) => held.map(Response::new).map_err(without_code),
            reason = self.guard.stream_ends(wants_leader) => Err(status(&reason)),
        }
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        self.guard.write(&request)?;
        let revision = self
            .delete(request.into_inner())
            .await
            .map_err(without_code)?;
        Ok(Response::new(UnlockResponse {
            header: Some(self.node.header(revision)),
        }))
    }
}

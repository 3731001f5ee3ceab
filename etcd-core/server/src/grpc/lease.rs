//! The service Lease. Only the leader keeps leases alive and knows how long they
//! have; other members pass these requests on to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_proto::etcdserverpb::lease_server::Lease;
use etcd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    ResponseHeader,
};
use tonic::{Request, Response, Status, Streaming};

use super::forward::{LeaderForward, TimeToLive};
use super::guard::Guard;
use super::kv::{unexpected, write};
use super::status::status;
use crate::driver::{KeepAlive, Node, Reply, RequestError};

/// What a lease counts with against the quota, in bytes.
const LEASE_COST: u64 = 64;
/// Between two attempts to reach the leader.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Lease over a node.
#[derive(Clone)]
pub struct LeaseService {
    node: Node,
    guard: Guard,
    forward: Arc<dyn LeaderForward>,
}

impl LeaseService {
    /// `forward` reaches the leader when this member is not it.
    pub fn new(node: Node, guard: Guard, forward: Arc<dyn LeaderForward>) -> Self {
        LeaseService {
            node,
            guard,
            forward,
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(self.node.header(self.node.view().kv.revision()))
    }

    async fn propose(
        &self,
        request: InternalRaftRequest,
    ) -> Result<(Reply, Option<ResponseHeader>), Status> {
        let reply = self.node.propose(request).await.map_err(|e| status(&e))?;
        let header = Some(self.node.header(reply.revision));
        Ok((reply, header))
    }

    /// Renews a lease, here or at the leader; its TTL, `None` if there is none.
    async fn renew(&self, id: i64) -> Result<Option<i64>, RequestError> {
        if !self.node.leadership().is_leader {
            return self.forward.renew_lease(id).await;
        }
        Ok(match self.node.renew_lease(id).await? {
            KeepAlive::Renewed(ttl) => Some(ttl),
            KeepAlive::NotFound => None,
        })
    }

    /// State of a lease, here or from the leader; `None` if there is none.
    async fn time_to_live(&self, id: i64, keys: bool) -> Result<Option<TimeToLive>, RequestError> {
        if !self.node.leadership().is_leader {
            return self.forward.lease_time_to_live(id, keys).await;
        }
        let known = self.node.lease_time_to_live(id).await?;
        Ok(known.map(|(granted, remaining, all)| TimeToLive {
            remaining,
            granted,
            keys: if keys { all } else { Vec::new() },
        }))
    }

    /// Asks again while there is no leader or it changes, until the request's time is
    /// up.
    async fn until_led<T, F>(&self, ask: impl Fn() -> F + Send) -> Result<T, Status>
    where
        F: Future<Output = Result<T, RequestError>> + Send,
    {
        let attempts = async {
            loop {
                match ask().await {
                    Err(RequestError::NotLeader | RequestError::NoLeader) => {}
                    answer => return answer,
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        };
        match tokio::time::timeout(self.node.request_timeout(), attempts).await {
            Ok(answer) => answer.map_err(|e| status(&e)),
            Err(_) => Err(status(&RequestError::Timeout)),
        }
    }

    /// One answer of a keep-alive stream.
    async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        // The header is older than the renewal: at its revision the lease existed.
        let header = self.header();
        let ttl = self.until_led(|| self.renew(id)).await?;
        Ok(LeaseKeepAliveResponse {
            header,
            id,
            ttl: ttl.unwrap_or(0),
        })
    }
}

/// Grants a lease; its ID, chosen here if none is given, its TTL in seconds, and the
/// revision.
pub(super) async fn grant(
    node: &Node,
    mut request: LeaseGrantRequest,
) -> Result<(i64, i64, i64), Status> {
    while request.id == 0 {
        request.id = (node.next_id() & (u64::MAX >> 1)) as i64;
    }
    let request = InternalRaftRequest {
        lease_grant: Some(request),
        ..InternalRaftRequest::default()
    };
    let reply = write(node, LEASE_COST, request).await?;
    match reply.result.map_err(|e| status(&e.into()))? {
        etcd_replica::Response::LeaseGrant { id, ttl } => Ok((id, ttl, reply.revision)),
        other => Err(unexpected(&other)),
    }
}

type KeepAlives =
    Pin<Box<dyn futures::Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.guard.write(&request)?;
        let (id, ttl, revision) = grant(&self.node, request.into_inner()).await?;
        Ok(Response::new(LeaseGrantResponse {
            header: Some(self.node.header(revision)),
            id,
            ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.guard.write(&request)?;
        let request = InternalRaftRequest {
            lease_revoke: Some(request.into_inner()),
            ..InternalRaftRequest::default()
        };
        let (reply, header) = self.propose(request).await?;
        reply.result.map_err(|e| status(&e.into()))?;
        Ok(Response::new(LeaseRevokeResponse { header }))
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        self.guard.write(&request)?;
        let wants_leader = Guard::wants_leader(&request);
        let guard = self.guard.clone();
        let over = Box::pin(async move { guard.stream_ends(wants_leader).await });
        let conversation = Some((self.clone(), request.into_inner(), over));
        // One request after the other, as they come; an error is the end.
        let answers = futures::stream::unfold(conversation, |conversation| async move {
            let (service, mut requests, mut over) = conversation?;
            let answer = tokio::select! {
                answer = async {
                    match requests.message().await {
                        Ok(Some(request)) => Some(service.keep_alive(request.id).await),
                        Ok(None) => None,
                        Err(error) => Some(Err(error)),
                    }
                } => answer?,
                reason = &mut over => Err(status(&reason)),
            };
            let goes_on = answer.is_ok();
            Some((answer, goes_on.then_some((service, requests, over))))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.guard.write(&request)?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let known = self.until_led(|| self.time_to_live(id, keys)).await?;
        // An unknown lease is no error.
        let known = known.unwrap_or(TimeToLive {
            remaining: -1,
            ..TimeToLive::default()
        });
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: self.header(),
            id,
            ttl: known.remaining,
            granted_ttl: known.granted,
            keys: known.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.guard.write(&request)?;
        let leases = self
            .node
            .leases()
            .into_iter()
            .map(|id| LeaseStatus { id })
            .collect();
        Ok(Response::new(LeaseLeasesResponse {
            header: self.header(),
            leases,
        }))
    }
}

//! The service Election: whoever is first under a name leads, and its value says what it
//! proclaims.

use std::pin::Pin;

use bytes::Bytes;
use etcd_proto::mvccpb::KeyValue;
use etcd_proto::mvccpb::event::EventType;
use etcd_proto::v3electionpb::election_server::Election;
use etcd_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tonic::{Request, Response, Status};

use super::contest::{Changes, Contest, Place, Withdrawal, leave, put_at, session, without_code};
use super::guard::Guard;
use super::status::status;
use crate::driver::Node;

/// Election over a node.
#[derive(Clone)]
pub struct ElectionService {
    node: Node,
    guard: Guard,
}

impl ElectionService {
    /// Over a node.
    pub fn new(node: Node, guard: Guard) -> Self {
        ElectionService { node, guard }
    }

    async fn win(&self, request: CampaignRequest) -> Result<CampaignResponse, Status> {
        let lease = session(&self.node, request.lease).await?;
        let contest = Contest::new(&self.node, &request.name);
        let place = contest.enter(lease, &request.value).await?;
        let withdrawal = Withdrawal::new(&self.node, &place);
        if let Some(before) = &place.before
            && before.value != request.value
        {
            let at = (&place.key, place.rev);
            let said = put_at(&self.node, at, &request.value, lease).await?;
            said.ok_or_else(not_leader)?;
        }
        contest.turn(&place).await?;
        let view = contest.view().await?;
        let there = contest.has(&view, &place)?;
        withdrawal.keep();
        if !there {
            // Its lease ended while it waited: to say that it leads would make two leaders.
            return Err(Status::unknown("election: session is expired"));
        }
        let Place {
            key, rev, revision, ..
        } = place;
        Ok(CampaignResponse {
            header: Some(self.node.header(revision)),
            leader: Some(LeaderKey {
                name: request.name,
                key,
                rev,
                lease,
            }),
        })
    }
}

type Observed = Pin<Box<dyn futures::Stream<Item = Result<LeaderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        self.guard.write(&request)?;
        let wants_leader = Guard::wants_leader(&request);
        tokio::select! {
            won = self.win(request.into_inner()) => won.map(Response::new).map_err(without_code),
            reason = self.guard.stream_ends(wants_leader) => Err(status(&reason)),
        }
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        let leader = request.leader.ok_or_else(unnamed)?;
        let lease = session(&self.node, leader.lease)
            .await
            .map_err(without_code)?;
        let at = (&leader.key, leader.rev);
        let said = put_at(&self.node, at, &request.value, lease).await;
        let revision = said.map_err(without_code)?.ok_or_else(not_leader)?;
        Ok(Response::new(ProclaimResponse {
            header: Some(self.node.header(revision)),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        self.guard.write(&request)?;
        let contest = Contest::new(&self.node, &request.into_inner().name);
        let view = contest.view().await.map_err(without_code)?;
        let first = contest.first(&view).map_err(without_code)?;
        let kv = first.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(LeaderResponse {
            header: Some(self.node.header(view.kv.revision())),
            kv: Some(kv),
        }))
    }

    type ObserveStream = Observed;

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Observed>, Status> {
        self.guard.write(&request)?;
        let (guard, wants_leader) = (self.guard.clone(), Guard::wants_leader(&request));
        let over = Box::pin(async move { guard.stream_ends(wants_leader).await });
        let observer = Observer {
            contest: Contest::new(&self.node, &request.into_inner().name),
            node: self.node.clone(),
            leader: None,
            told: (Bytes::new(), 0),
        };
        let observed = futures::stream::unfold(Some((observer, over)), |state| async move {
            let (mut observer, mut over) = state?;
            let next = tokio::select! {
                next = observer.next() => next.map_err(without_code),
                reason = &mut over => Err(status(&reason)),
            };
            let state = next.is_ok().then_some((observer, over));
            Some((next, state))
        });
        Ok(Response::new(Box::pin(observed)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        self.guard.write(&request)?;
        let leader = request.into_inner().leader.ok_or_else(unnamed)?;
        let left = leave(&self.node, (&leader.key, leader.rev)).await;
        let revision = left.map_err(without_code)?;
        Ok(Response::new(ResignResponse {
            header: Some(self.node.header(revision)),
        }))
    }
}

/// Follows who leads, and what it proclaims.
struct Observer {
    node: Node,
    contest: Contest,
    /// Changes of the leader's key; `None` while it is not known who leads.
    leader: Option<Changes>,
    /// Key and revision of what was told last: a leader that is found again is not told
    /// again.
    told: (Bytes, i64),
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let Some(changes) = &mut self.leader else {
                let (kv, revision) = self.find().await?;
                self.leader = Some(Changes::of(&self.node, kv.key.clone(), revision + 1));
                if (&kv.key, kv.mod_revision) != (&self.told.0, self.told.1) {
                    return Ok(self.tell(kv, revision));
                }
                continue;
            };
            let Some(change) = changes.next().await else {
                self.leader = None;
                continue;
            };
            match change.event.kv {
                Some(kv) if change.event.r#type == i32::from(EventType::Put) => {
                    return Ok(self.tell(kv, change.revision));
                }
                _ => self.leader = None,
            }
        }
    }

    /// Who leads, and the revision at which it does; waits for somebody.
    async fn find(&self) -> Result<(KeyValue, i64), Status> {
        loop {
            let view = self.contest.view().await?;
            let revision = view.kv.revision();
            if let Some(kv) = self.contest.first(&view)? {
                return Ok((kv, revision));
            }
            let change = self.contest.arrivals(revision + 1).next().await;
            if let Some(kv) = change.and_then(|change| change.event.kv) {
                let revision = kv.mod_revision;
                return Ok((kv, revision));
            }
        }
    }

    fn tell(&mut self, kv: KeyValue, revision: i64) -> LeaderResponse {
        self.told = (kv.key.clone(), kv.mod_revision);
        LeaderResponse {
            header: Some(self.node.header(revision)),
            kv: Some(kv),
        }
    }
}

fn unnamed() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

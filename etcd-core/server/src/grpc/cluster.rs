//! The service Cluster.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use etcd_proto::etcdserverpb::cluster_server::Cluster;
use etcd_proto::etcdserverpb::{
    Member as MemberPb, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use etcd_replica::{Member, MembershipError};
use tonic::{Request, Response, Status};

use super::forward::LeaderForward;
use super::guard::Guard;
use super::status::status;
use crate::driver::{Node, RequestError};

/// Cluster over a node.
#[derive(Clone)]
pub struct ClusterService {
    node: Node,
    guard: Guard,
    forward: Arc<dyn LeaderForward>,
    strict: bool,
}

impl ClusterService {
    /// `strict`: of `--strict-reconfig-check`.
    pub fn new(node: Node, guard: Guard, forward: Arc<dyn LeaderForward>, strict: bool) -> Self {
        ClusterService {
            node,
            guard,
            forward,
            strict,
        }
    }

    /// Headers of this service carry no revision.
    fn header(&self) -> Option<etcd_proto::etcdserverpb::ResponseHeader> {
        Some(self.node.header(0))
    }
}

/// A member as the API shows it.
pub fn member_pb(member: &Member) -> MemberPb {
    MemberPb {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

fn members_pb(members: &[Member]) -> Vec<MemberPb> {
    members.iter().map(member_pb).collect()
}

fn check_urls(urls: &[String]) -> Result<(), Status> {
    let valid = |text: &String| {
        url::Url::parse(text).is_ok_and(|u| {
            matches!(u.scheme(), "http" | "https" | "unix" | "unixs")
                && u.host_str().is_some()
                && (u.port().is_some() || u.scheme().starts_with("unix") || has_port(text))
                && matches!(u.path(), "" | "/")
        })
    };
    if urls.is_empty() || !urls.iter().all(valid) {
        return Err(status(&RequestError::BadMemberUrls));
    }
    Ok(())
}

/// A default port is dropped by the parser but counts.
fn has_port(url: &str) -> bool {
    url.rsplit(':')
        .next()
        .is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        check_urls(&request.peer_ur_ls)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs() as i64);
        let mut peer_urls = request.peer_ur_ls;
        peer_urls.sort();
        let member = Member {
            id: etcd_replica::member_id(&peer_urls, "", Some(now)),
            peer_urls,
            is_learner: request.is_learner,
            ..Member::default()
        };
        let members = self
            .node
            .add_member(member.clone(), self.strict)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(MemberAddResponse {
            header: self.header(),
            member: Some(member_pb(&member)),
            members: members_pb(&members),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.guard.write(&request)?;
        let id = request.into_inner().id;
        let members = self
            .node
            .remove_member(id, self.strict)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(MemberRemoveResponse {
            header: self.header(),
            members: members_pb(&members),
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        check_urls(&request.peer_ur_ls)?;
        let members = self
            .node
            .update_member(request.id, request.peer_ur_ls)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(MemberUpdateResponse {
            header: self.header(),
            members: members_pb(&members),
        }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let linearizable = request.get_ref().linearizable;
        self.guard.read(&request, !linearizable)?;
        let view = self
            .node
            .read_view(!linearizable)
            .await
            .map_err(|e| status(&e))?;
        let members = view.membership.iter().map(member_pb).collect();
        Ok(Response::new(MemberListResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.guard.write(&request)?;
        let id = request.into_inner().id;
        let promoted = match self.node.promote_member(id, self.strict).await {
            // Only the leader knows how far a learner is.
            Err(RequestError::NotLeader) => self.forward.promote(id).await,
            other => other,
        };
        let members = promoted.map_err(|e| match e {
            RequestError::Membership(MembershipError::IdRemoved) => {
                status(&RequestError::Membership(MembershipError::IdNotFound))
            }
            other => status(&other),
        })?;
        Ok(Response::new(MemberPromoteResponse {
            header: self.header(),
            members: members_pb(&members),
        }))
    }
}

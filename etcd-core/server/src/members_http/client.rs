//! The asking side.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
};
use etcd_proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use etcd_replica::{Member, MembershipError};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use prost::Message as _;

use super::CLUSTER_ID;
use super::join::RemoteCluster;
use crate::driver::{Node, PeerVersions, RequestError};
use crate::grpc::{Forwarded, LeaderForward, TimeToLive};
use crate::peer::Dialer;

/// An answer that is longer is not one of ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// For a question that the member answers from what it has at hand.
const QUICK: Duration = Duration::from_secs(2);

/// Asks other members.
#[derive(Clone)]
pub struct MembersClient {
    dialer: Arc<dyn Dialer>,
}

impl MembersClient {
    /// Connects with this dialer.
    pub fn new(dialer: Arc<dyn Dialer>) -> Self {
        MembersClient { dialer }
    }

    /// The cluster that the member at one of these URLs belongs to.
    pub async fn remote_cluster(&self, peer_urls: &[String]) -> Option<RemoteCluster> {
        for url in peer_urls {
            let Ok(answer) = self
                .ask(Method::GET, url, "/members", Bytes::new(), QUICK)
                .await
            else {
                continue;
            };
            if answer.status != StatusCode::OK {
                continue;
            }
            let Some(cluster_id) = answer.cluster_id else {
                continue;
            };
            let Ok(members) = serde_json::from_slice::<Vec<Member>>(&answer.body) else {
                continue;
            };
            return Some(RemoteCluster {
                cluster_id,
                members,
            });
        }
        None
    }

    async fn version(&self, peer_urls: Vec<String>) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Versions {
            etcdserver: String,
        }
        for url in &peer_urls {
            let Ok(answer) = self
                .ask(Method::GET, url, "/version", Bytes::new(), QUICK)
                .await
            else {
                continue;
            };
            if let Ok(versions) = serde_json::from_slice::<Versions>(&answer.body) {
                return Some(versions.etcdserver);
            }
        }
        None
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, RequestError> {
        let asking = self.try_ask(method, url, path, body, None);
        match tokio::time::timeout(within, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RequestError::Internal(format!("{url}{path}: {error}"))),
            Err(_) => Err(RequestError::Timeout),
        }
    }

    /// `cluster_id`: the cluster that the member must be of, if it matters.
    pub(super) async fn try_ask(
        &self,
        method: Method,
        url: &str,
        path: &str,
        body: Bytes,
        cluster_id: Option<u64>,
    ) -> anyhow::Result<Answer> {
        let parsed: http::Uri = url.parse()?;
        let stream = TokioIo::new(self.dialer.dial(&parsed).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let driving = tokio::spawn(connection);
        let authority = parsed
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, authority)
            .header(http::header::CONTENT_TYPE, "application/protobuf");
        if let Some(id) = cluster_id {
            request = request.header(CLUSTER_ID, format!("{id:x}"));
        }
        let request = request.body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let cluster_id = response
            .headers()
            .get(CLUSTER_ID)
            .and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!(e))?
            .to_bytes();
        driving.abort();
        Ok(Answer {
            status,
            cluster_id,
            body,
        })
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    cluster_id: Option<u64>,
    pub(super) body: Bytes,
}

impl PeerVersions for MembersClient {
    fn server_version(
        &self,
        peer_urls: Vec<String>,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(self.version(peer_urls))
    }
}

/// Passes requests to whoever leads at the moment.
pub struct ToLeader {
    node: Node,
    client: MembersClient,
}

impl ToLeader {
    /// For the requests of this node.
    pub fn new(node: Node, client: MembersClient) -> Self {
        ToLeader { node, client }
    }

    async fn ask_leader(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        let leader = self.node.leadership().leader;
        if leader == 0 {
            return Err(RequestError::NoLeader);
        }
        let view = self.node.view();
        let urls = view
            .membership
            .get(leader)
            .map(|m| m.peer_urls.clone())
            .unwrap_or_default();
        let mut last = RequestError::NoLeader;
        for url in &urls {
            match self
                .client
                .ask(
                    method.clone(),
                    url,
                    path,
                    body.clone(),
                    self.node.request_timeout(),
                )
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn renew(&self, id: i64) -> Result<Option<i64>, RequestError> {
        let body = LeaseKeepAliveRequest { id }.encode_to_vec().into();
        let answer = self.ask_leader(Method::POST, "/leases", body).await?;
        match answer.status {
            StatusCode::OK => LeaseKeepAliveResponse::decode(answer.body)
                .map(|r| Some(r.ttl))
                .map_err(|e| RequestError::Internal(e.to_string())),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::REQUEST_TIMEOUT => Err(RequestError::Timeout),
            _ => Err(RequestError::NotLeader),
        }
    }

    async fn time_to_live(&self, id: i64, keys: bool) -> Result<Option<TimeToLive>, RequestError> {
        let request = LeaseInternalRequest {
            lease_time_to_live_request: Some(LeaseTimeToLiveRequest { id, keys }),
        };
        let answer = self
            .ask_leader(
                Method::POST,
                "/leases/internal",
                request.encode_to_vec().into(),
            )
            .await?;
        match answer.status {
            StatusCode::OK => {
                let response = LeaseInternalResponse::decode(answer.body)
                    .map_err(|e| RequestError::Internal(e.to_string()))?
                    .lease_time_to_live_response
                    .unwrap_or_default();
                Ok(Some(TimeToLive {
                    remaining: response.ttl,
                    granted: response.granted_ttl,
                    keys: response.keys,
                }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::REQUEST_TIMEOUT => Err(RequestError::Timeout),
            _ => Err(RequestError::NotLeader),
        }
    }

    async fn promote_there(&self, id: u64) -> Result<Vec<Member>, RequestError> {
        let path = format!("/members/promote/{id}");
        let answer = self.ask_leader(Method::POST, &path, Bytes::new()).await?;
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body)
                .map_err(|e| RequestError::Internal(e.to_string())),
            StatusCode::NOT_FOUND => Err(MembershipError::IdNotFound.into()),
            StatusCode::PRECONDITION_FAILED => {
                let text = String::from_utf8_lossy(&answer.body);
                if text.contains("in sync") {
                    Err(RequestError::LearnerNotReady)
                } else {
                    Err(MembershipError::NotLearner.into())
                }
            }
            _ => Err(RequestError::Internal(
                String::from_utf8_lossy(&answer.body).trim().to_owned(),
            )),
        }
    }
}

impl LeaderForward for ToLeader {
    fn renew_lease(&self, id: i64) -> Forwarded<'_, Option<i64>> {
        Box::pin(self.renew(id))
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> Forwarded<'_, Option<TimeToLive>> {
        Box::pin(self.time_to_live(id, keys))
    }

    fn promote(&self, id: u64) -> Forwarded<'_, Vec<Member>> {
        Box::pin(self.promote_there(id))
    }
}

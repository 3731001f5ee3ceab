//! What a member tells the cluster once it runs: its name and client URLs, and, as
//! leader, the cluster's version.

use std::time::Duration;

use etcd_proto::etcdserverpb::InternalRaftRequest;
use etcd_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use super::error::RequestError;
use super::node::Node;

/// How often a leader looks whether the cluster's version may rise.
const VERSION_INTERVAL: Duration = Duration::from_secs(4);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Asks the other members for the version of their server. Implemented over the
/// peer listeners' `/version`.
pub trait PeerVersions: Send + Sync {
    /// `X.Y.Z` of the member that listens at these peer URLs; `None` if it does not
    /// answer.
    fn server_version(
        &self,
        peer_urls: Vec<String>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;
}

impl Node {
    /// Proposes this member's attributes until they are applied; returns early only
    /// when the member stops.
    pub async fn publish(&self, name: &str, client_urls: &[String]) -> Result<(), RequestError> {
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
                member_id: self.member_id(),
                member_attributes: Some(Attributes {
                    name: name.to_owned(),
                    client_urls: client_urls.to_vec(),
                }),
            }),
            ..InternalRaftRequest::default()
        };
        loop {
            match self.propose(request.clone()).await {
                Ok(_) => {
                    tracing::info!(
                        "local-member-id" = %format_args!("{:x}", self.member_id()),
                        "cluster-id" = %format_args!("{:x}", self.cluster_id()),
                        "published local member to cluster through raft"
                    );
                    return Ok(());
                }
                Err(RequestError::Stopped) => return Err(RequestError::Stopped),
                Err(error) => {
                    tracing::warn!(%error, "failed to publish local member to cluster through raft");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Keeps the cluster's version at the lowest of its members' servers, raising it
    /// only; runs for as long as the member does.
    pub async fn keep_cluster_version(
        self,
        own_version: String,
        peers: std::sync::Arc<dyn PeerVersions>,
    ) {
        let mut changes = self.leadership_changes();
        loop {
            if self.shared.is_stopping() {
                return;
            }
            if self.leadership().is_leader {
                self.decide_cluster_version(&own_version, &*peers).await;
            }
            let wait = if self.view().cluster_version.is_none() {
                RETRY
            } else {
                VERSION_INTERVAL
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn decide_cluster_version(&self, own_version: &str, peers: &dyn PeerVersions) {
        let view = self.view();
        let Some(mut lowest) = minor_of(own_version) else {
            return;
        };
        let mut all_known = true;
        for member in view.membership.iter().filter(|m| m.id != self.member_id()) {
            match peers
                .server_version(member.peer_urls.clone())
                .await
                .as_deref()
                .and_then(minor_of)
            {
                Some(version) => lowest = lowest.min(version),
                None => all_known = false,
            }
        }
        let decided = view.cluster_version.as_deref().and_then(minor_of);
        let next = match decided {
            None if all_known => lowest,
            // Until everybody has answered the cluster counts as the oldest that can be.
            None => (3, 0),
            Some(now) if all_known && lowest > now => lowest,
            Some(_) => return,
        };
        let version = format!("{}.{}.0", next.0, next.1);
        let request = InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest {
                ver: version.clone(),
            }),
            ..InternalRaftRequest::default()
        };
        match self.propose(request).await {
            Ok(_) => tracing::info!("cluster-version" = version, "set cluster version"),
            // It is tried again at the next look.
            Err(error) => tracing::warn!(%error, "failed to update cluster version"),
        }
    }
}

fn minor_of(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

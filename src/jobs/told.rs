//! What runs are told of a cluster: who it is, and who its voters are.

use kube::ResourceExt;

use crate::{
    api::{EtcdCluster, MemberRole},
    backup::run::{ClusterRef, Voter},
    identity,
};

/// A cluster, as runs are told of it; `None` until it has formed.
pub(crate) fn cluster(cluster: &EtcdCluster) -> Option<ClusterRef> {
    let status = cluster.status.as_ref()?;
    Some(ClusterRef {
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
        uid: cluster.uid().unwrap_or_default(),
        cluster_id: status.cluster_id.clone()?,
        lineage: status
            .lineage
            .iter()
            .map(|a| a.cluster_id.clone())
            .collect(),
    })
}

/// Its voters, the most preferred first: those that serve before those that do not,
/// the leader, which has the most to do, behind its followers.
pub(crate) fn voters(cluster: &EtcdCluster) -> Vec<Voter> {
    let Some(status) = &cluster.status else {
        return Vec::new();
    };
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let leads = |member: &str| status.leader.as_deref() == Some(member);
    let voters = status.members.iter();
    let mut voters: Vec<_> = voters
        .filter(|member| member.role == MemberRole::Voter && member.id.is_some())
        .collect();
    voters.sort_by_key(|member| (!member.healthy, leads(&member.name)));
    voters
        .into_iter()
        .map(|member| Voter {
            endpoint: identity::client_url(&name, &namespace, &member.name),
            tls_server_name: None,
            member_id: member.id.clone(),
        })
        .collect()
}

/// Whether a voter of it serves.
pub(crate) fn serves(cluster: &EtcdCluster) -> bool {
    let members = cluster.status.iter().flat_map(|status| &status.members);
    members
        .into_iter()
        .any(|member| member.role == MemberRole::Voter && member.healthy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o28_healthy_followers_are_asked_first() {
        let cluster: EtcdCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n", "uid": "u"}, "spec": {},
            "status": {"clusterID": "c2", "leader": "demo-0",
                "lineage": [{"clusterID": "c1", "until": "2026-01-01T00:00:00Z"}],
                "members": [
                    {"name": "demo-0", "id": "a0", "role": "Voter", "healthy": true},
                    {"name": "demo-1", "id": "a1", "role": "Voter", "healthy": false},
                    {"name": "demo-2", "id": "a2", "role": "Voter", "healthy": true},
                    {"name": "demo-3", "id": "a3", "role": "Learner", "healthy": true}
                ]}
        }))
        .unwrap();
        let ids: Vec<_> = voters(&cluster)
            .into_iter()
            .filter_map(|v| v.member_id)
            .collect();
        assert_eq!(ids, ["a2", "a0", "a1"]);
        assert_eq!(
            voters(&cluster)[0].endpoint,
            "http://demo-2-0.demo-peer.n.svc:2379"
        );
        let told = super::cluster(&cluster).unwrap();
        assert_eq!(
            (told.cluster_id.as_str(), told.lineage),
            ("c2", vec!["c1".to_owned()])
        );
        assert!(serves(&cluster));
    }
}

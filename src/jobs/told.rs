//! What runs are told of a cluster: who it is, and who its voters are.

use kube::ResourceExt;

use crate::{
    api::{EtcdCluster, MemberRole, TlsMode},
    backup::run::{ClusterRef, Voter},
    certificates::clients_secret,
    identity,
    render::{MemberTls, transport},
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
    let secure = secure(cluster);
    voters
        .into_iter()
        .map(|member| Voter {
            endpoint: identity::client_url(&name, &namespace, &member.name, secure),
            tls_server_name: None,
            member_id: member.id.clone(),
        })
        .collect()
}

/// Whether runs talk to members by TLS: where no plain connection is served. While TLS is
/// switched on or off, every member serves plain ones.
fn secure(cluster: &EtcdCluster) -> bool {
    let listens = transport::listens(cluster);
    listens.client_tls && !listens.client_plain
}

/// URL of the cluster's Service for clients.
pub(crate) fn service(cluster: &EtcdCluster) -> String {
    format!(
        "{}://{}.{}.svc:{}",
        identity::scheme(secure(cluster)),
        identity::client_service(&cluster.name_any()),
        cluster.namespace().unwrap_or_default(),
        identity::CLIENT_PORT
    )
}

/// The Secrets with what runs need for TLS to members; `None`: they need nothing. In mode
/// Secret they show what the operator itself shows, whose Secret has no CA.
pub(crate) fn member_tls(cluster: &EtcdCluster) -> Option<MemberTls> {
    if !secure(cluster) {
        return None;
    }
    let in_effect = transport::in_effect(cluster).client.as_ref()?;
    let authorities = clients_secret(&cluster.name_any());
    let users = cluster
        .spec
        .operator_secret()
        .filter(|_| in_effect.mode == TlsMode::Secret);
    Some(MemberTls {
        own: users.unwrap_or(&authorities).to_owned(),
        authorities,
    })
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

    #[test]
    fn runs_speak_tls_where_members_speak_nothing_else() {
        let spoken = |client: serde_json::Value, spec: serde_json::Value| {
            let cluster: EtcdCluster = serde_json::from_value(serde_json::json!({
                "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                "metadata": {"name": "demo", "namespace": "n"},
                "spec": {"tls": {"client": spec}}, "status": {"tls": {"client": client}}
            }))
            .unwrap();
            (service(&cluster), member_tls(&cluster))
        };
        let plain = ("http://demo-client.n.svc:2379".to_owned(), None);
        let secure = |own: &str| {
            let url = "https://demo-client.n.svc:2379".to_owned();
            let authorities = "demo-client".to_owned();
            let own = own.to_owned();
            (url, Some(MemberTls { authorities, own }))
        };
        let own = serde_json::json!({"mode": "Operator"});
        assert_eq!(spoken(serde_json::json!(null), own.clone()), plain);
        assert_eq!(spoken(own.clone(), own.clone()), secure("demo-client"));
        let both = serde_json::json!({"mode": "Operator", "plaintext": "Allowed"});
        assert_eq!(spoken(both, own), plain);
        let theirs = serde_json::json!({"mode": "Secret",
            "secretRef": {"name": "mine"}, "operatorSecretRef": {"name": "operators"}});
        let in_effect = serde_json::json!({"mode": "Secret", "secret": "mine"});
        assert_eq!(spoken(in_effect, theirs), secure("operators"));
    }

    /// The Secret that the operator shows has no CA: members' is in the one for clients.
    #[test]
    fn a_run_finds_the_authorities_and_what_to_show_in_one_directory() {
        let tls = MemberTls {
            authorities: "demo-client".to_owned(),
            own: "operators".to_owned(),
        };
        let destination = crate::api::Destination::default();
        let given = crate::render::Given {
            destination: &destination,
            encryption: None,
            member_tls: Some(&tls),
        };
        let (volumes, mounts) = crate::render::given(&given);
        assert_eq!(mounts[0].mount_path, crate::backup::run::files::MEMBER_TLS);
        let volume = serde_json::to_value(&volumes[0]).unwrap();
        let found: Vec<(String, String)> = volume["projected"]["sources"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|source| {
                let secret = source["secret"]["name"].as_str().unwrap().to_owned();
                let items = source["secret"]["items"].as_array().unwrap();
                items.iter().map(move |item| {
                    assert_eq!(item["key"], item["path"]);
                    (secret.clone(), item["path"].as_str().unwrap().to_owned())
                })
            })
            .collect();
        let expected = [
            ("demo-client", "ca.crt"),
            ("operators", "tls.crt"),
            ("operators", "tls.key"),
        ];
        assert_eq!(
            found,
            expected.map(|(secret, file)| (secret.to_owned(), file.to_owned()))
        );
    }
}

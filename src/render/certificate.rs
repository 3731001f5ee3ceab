//! Certificates of cert-manager: what it is asked for.

use serde_json::{Value, json};

use crate::{
    api::{CertManager, EtcdCluster},
    certificates::{Purpose, Requested, clients_secret, peer_wildcards, server_names},
};

use super::metadata;

/// API group of cert-manager.
pub(crate) const GROUP: &str = "cert-manager.io";

/// The Certificate for `who`, whole.
pub(crate) fn certificate(cluster: &EtcdCluster, who: Requested, spec: &CertManager) -> Value {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let (common_name, names) = match who {
        Requested::Server => {
            let further = cluster
                .spec
                .tls
                .as_ref()
                .and_then(|tls| tls.client.as_ref());
            let further = further.map_or(&[][..], |client| &client.names);
            (name.to_owned(), server_names(name, namespace, further))
        }
        Requested::Peer => (name.to_owned(), peer_wildcards(name, namespace)),
        Requested::Client => (clients_secret(name), Vec::new()),
        // etcd's user with all rights, once there are users.
        Requested::Operator => ("root".to_owned(), Vec::new()),
    };
    let (addresses, hosts): (Vec<String>, Vec<String>) = names
        .into_iter()
        .partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let mut usages = vec!["digital signature", "client auth"];
    if matches!(who, Requested::Server | Requested::Peer) {
        usages.insert(1, "server auth");
    }
    let secret = who.name(name);
    let mut body = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Certificate",
        "metadata": metadata(cluster, secret.clone(), None),
        "spec": {
            "secretName": secret,
            "commonName": common_name,
            "usages": usages,
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": spec.issuer_ref,
        },
    });
    if !hosts.is_empty() {
        body["spec"]["dnsNames"] = hosts.into();
    }
    if !addresses.is_empty() {
        body["spec"]["ipAddresses"] = addresses.into();
    }
    if let Some(duration) = &spec.duration {
        body["spec"]["duration"] = duration.as_str().into();
    }
    body
}

/// What the spec says of cert-manager for `purpose`.
pub(crate) fn cert_manager(cluster: &EtcdCluster, purpose: Purpose) -> Option<&CertManager> {
    let tls = cluster.spec.tls.as_ref()?;
    match purpose {
        Purpose::Client => tls.client.as_ref()?.cert_manager.as_ref(),
        Purpose::Peer => tls.peer.as_ref()?.cert_manager.as_ref(),
    }
}

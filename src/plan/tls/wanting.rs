//! What a Secret of certificates lacks. `plan` decides by it, and `apply` again when
//! it has read the Secret anew.

use jiff::Timestamp;

use crate::{
    api::EtcdCluster,
    certificates::{AuthoritySeen, Phase, Purpose, client_names, peer_names},
    identity,
    observe::LeafSeen,
};

/// Names a member's certificate must bear, sorted.
pub(crate) fn names(cluster: &EtcdCluster, member: &str, purpose: Purpose) -> Vec<String> {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let further = cluster
        .spec
        .tls
        .as_ref()
        .and_then(|tls| tls.client.as_ref())
        .map_or(&[][..], |client| &client.names);
    match purpose {
        Purpose::Client => client_names(name, namespace, member, further),
        Purpose::Peer => peer_names(name, namespace, member),
    }
}

/// Where clients find the cluster.
pub(crate) fn endpoints(cluster: &EtcdCluster) -> String {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    format!(
        "https://{}.{namespace}.svc:{}",
        identity::client_service(name),
        identity::CLIENT_PORT
    )
}

/// Whether a new certificate is to be issued.
pub(crate) fn leaf(
    held: Option<&LeafSeen>,
    authority: &AuthoritySeen,
    names: &[String],
    now: Timestamp,
) -> bool {
    let Some(held) = held.filter(|held| held.key) else {
        return true;
    };
    // While a new CA is made known the old one issues only what cannot wait.
    if authority.phase == Phase::Trust {
        return held.cert.not_after <= now;
    }
    held.cert.issuer != authority.signer.subject
        || held.cert.names != names
        || held.cert.renewal() <= now
}

/// What a Secret lacks, in words.
pub(crate) fn secret(
    held: Option<&LeafSeen>,
    authority: &AuthoritySeen,
    names: &[String],
    now: Timestamp,
) -> Option<&'static str> {
    if leaf(held, authority, names, now) {
        return Some(if held.is_some() {
            "gets a new certificate"
        } else {
            "gets its certificate"
        });
    }
    let trusted = held.is_some_and(|held| held.bundle == authority.bundle);
    (!trusted).then_some("is told which CAs to trust")
}

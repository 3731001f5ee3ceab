//! What a Secret of certificates lacks. `plan` decides by it, and `apply` again when
//! it has read the Secrets anew.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    api::EtcdCluster,
    certificates::{AuthoritySeen, Origin, Phase, Purpose, client_names, peer_names},
    identity,
    observe::{LeafSeen, OfferSeen},
};

/// What a Secret may be given, as far as the world was seen to bear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What for.
    pub purpose: Purpose,
    /// Where certificates come from.
    pub origin: Origin,
    /// Fingerprints of CAs that are to be trusted beside those of the origin: somebody
    /// still shows a certificate of theirs.
    pub keep: Vec<String>,
    /// What may become of the certificate that is there.
    pub leaf: Exchange,
}

/// What may become of a certificate. Where there is none, one is always given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// It stays.
    Keep,
    /// It may be replaced by one of the CA with that fingerprint.
    By(String),
    /// It may go, with nothing in its place.
    Away,
}

/// Who issues, by facts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Issuer<'a> {
    /// The cluster's own CA.
    Own(&'a AuthoritySeen),
    /// Somebody else.
    Other(&'a OfferSeen),
}

impl<'a> Issuer<'a> {
    /// Fingerprints of the CAs it wants to be trusted.
    pub(crate) fn bundle(self) -> &'a [String] {
        match self {
            Issuer::Own(authority) => &authority.bundle,
            Issuer::Other(offer) => &offer.bundle,
        }
    }

    /// Fingerprint of the CA that vouches for members' next certificates.
    pub(crate) fn anchor(self) -> &'a str {
        match self {
            Issuer::Own(authority) => &authority.signer.fingerprint,
            Issuer::Other(offer) => &offer.anchor,
        }
    }

    /// The same for the certificate of clients, if it has one for them.
    pub(crate) fn clients(self) -> Option<&'a str> {
        match self {
            Issuer::Own(authority) => Some(&authority.signer.fingerprint),
            Issuer::Other(offer) => offer.clients.as_ref().map(|(_, anchor)| anchor.as_str()),
        }
    }

    /// Whether a member is due another certificate than the one it holds.
    pub(crate) fn renews(self, held: Option<&LeafSeen>, names: &[String], now: Timestamp) -> bool {
        let Some(held) = held.filter(|held| held.key) else {
            return true;
        };
        match self {
            Issuer::Own(authority) => own(authority, held, names, now),
            Issuer::Other(offer) => held.cert.fingerprint != offer.cert.fingerprint,
        }
    }

    /// Whether clients are.
    pub(crate) fn renews_clients(self, held: Option<&LeafSeen>, now: Timestamp) -> bool {
        let key = held.filter(|held| held.key);
        match (self, key) {
            (Issuer::Own(_), None) => true,
            (Issuer::Own(authority), Some(held)) => own(authority, held, &[], now),
            (Issuer::Other(offer), held) => {
                let wanted = offer.clients.as_ref().map(|(fingerprint, _)| fingerprint);
                wanted != held.map(|held| &held.cert.fingerprint)
            }
        }
    }
}

fn own(authority: &AuthoritySeen, held: &LeafSeen, names: &[String], now: Timestamp) -> bool {
    let expired = held.cert.not_after <= now;
    let of_signer = held.anchor.as_ref() == Some(&authority.signer.fingerprint);
    // While a new CA is made known the old one issues only what cannot wait.
    if authority.phase == Phase::Trust && of_signer {
        return expired;
    }
    !of_signer || held.cert.names != names || held.cert.renewal() <= now
}

/// Whether those CAs, and no others, are trusted.
pub(crate) fn trusts(bundle: &[String], issuer: Issuer<'_>, keep: &[String]) -> bool {
    let wanted: BTreeSet<&String> = issuer.bundle().iter().chain(keep).collect();
    bundle.iter().collect::<BTreeSet<_>>() == wanted
}

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
pub(crate) fn endpoints(cluster: &EtcdCluster, secure: bool) -> String {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    format!(
        "{}://{}.{namespace}.svc:{}",
        identity::scheme(secure),
        identity::client_service(name),
        identity::CLIENT_PORT
    )
}

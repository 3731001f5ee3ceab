//! A cluster's certificates, read one by one by name, never listed or watched.
//!
//! ```text
//! needs()   which origins are wanted or in effect -> names of Secrets
//! fetch     those Secrets, and cert-manager's Certificates if it is asked for any
//! facts()   -> CertificatesSeen, what the plan works on: no key is among it
//! access()  -> Access, keys the operator dials members with; they stay in this folder
//! ```

mod access;
mod facts;
mod keyring;
mod offer;
mod requests;
mod secrets;
#[cfg(test)]
mod tests;

pub(super) use access::Access;
#[cfg(test)]
pub(crate) use facts::facts_of;
pub(super) use keyring::Keyring;
pub(crate) use offer::{Offer, Sought, clients_offer, offer};
pub(crate) use secrets::{Texts, leaf, needs, origins, previous, read_authority, texts};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::certificates::{AuthoritySeen, CertificateSeen, Origin, Purpose, TlsReason};

/// Everything known of a cluster's certificates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificatesSeen {
    /// The cluster's own CAs.
    pub authorities: BTreeMap<Purpose, AuthoritySeen>,
    /// What others than those CAs offer, as far as it will do.
    pub offers: BTreeMap<(Purpose, Origin), OfferSeen>,
    /// What members' Secrets hold, by member and purpose.
    pub members: BTreeMap<(String, Purpose), LeafSeen>,
    /// UIDs of members' Secrets.
    pub secrets: BTreeMap<String, String>,
    /// The Secret for clients.
    pub clients: Option<ClientsSeen>,
    /// What cert-manager was asked for; `None`: it is not installed.
    pub requests: Option<BTreeMap<String, RequestSeen>>,
    /// What is wrong, and whose fault it is not ours to mend.
    pub problems: Vec<Problem>,
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafSeen {
    /// The certificate.
    pub cert: CertificateSeen,
    /// Fingerprint of the CA beside it that vouches for it.
    pub anchor: Option<String>,
    /// Fingerprints of the CAs beside it, in order.
    pub bundle: Vec<String>,
    /// Whether there is a key beside it.
    pub key: bool,
    /// Fingerprint of the CA that vouched for the certificate before this one.
    pub previous: Option<String>,
}

/// What cert-manager or a Secret of the user offers for all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferSeen {
    /// The certificate.
    pub cert: CertificateSeen,
    /// Fingerprint of the CA that vouches for it.
    pub anchor: String,
    /// Fingerprints of all CAs that are to be trusted with it.
    pub bundle: Vec<String>,
    /// What it offers for clients: fingerprints of the certificate and of its CA.
    pub clients: Option<(String, String)>,
}

/// The Secret that clients mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientsSeen {
    /// Its certificate; there is none if users have their own.
    pub leaf: Option<LeafSeen>,
    /// Fingerprints of its CAs, in order.
    pub bundle: Vec<String>,
    /// Its endpoints.
    pub endpoints: String,
    /// When clients last had something new to load.
    pub published: Timestamp,
    /// Fingerprint of the CA that vouched for the certificate before this one.
    pub previous: Option<String>,
}

/// A Certificate of cert-manager.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestSeen {
    /// The whole object.
    pub body: Value,
    /// Whether it was issued.
    pub ready: bool,
    /// What cert-manager says of it.
    pub message: String,
    /// Whether the issuer it names does not exist.
    pub issuer_missing: bool,
}

/// Something wrong with certificates, in words for the condition TLSReady.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it concerns.
    pub purpose: Purpose,
    /// What is wrong, in one word.
    pub reason: TlsReason,
    /// The Secret, its key, and what is wrong.
    pub message: String,
}

//! Certificates with their keys, and how they are made.

use std::{fmt, time::SystemTime};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use super::{CertificateSeen, first};

/// How much older than now a certificate is made, for clocks that lag.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A certificate and its key, as PEM. Its Debug shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with what stands above it up to its CA, if anything.
    pub cert: String,
    /// Its private key; empty if it was lost.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("cert", &first(&self.cert))
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// What can be read off the certificate.
    pub fn seen(&self) -> Option<CertificateSeen> {
        first(&self.cert)
    }
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA's Secret has lost its key.
    #[error("the CA's Secret holds no key to sign with")]
    NoKey,
    /// A name that no certificate can bear.
    #[error("{name:?} is no name a certificate can bear: {source}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// The CA's certificate cannot be read.
    #[error("the CA's certificate cannot be read")]
    Authority,
}

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its common name; etcd takes a client's for its user.
    pub common_name: String,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    /// Whether it may be shown by a server.
    pub server: bool,
    /// How long it lives, in seconds.
    pub seconds: i64,
}

/// Makes a CA that lives for `seconds` from `now`. `tag` makes its name its own, and
/// must never be used twice for a cluster.
pub fn new_authority(
    name: &str,
    tag: &str,
    seconds: i64,
    now: Timestamp,
) -> Result<Pair, IssueError> {
    let mut params = params(&format!("{tag} {name}"), now, seconds);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = params.self_signed(&key)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a certificate, signed by `authority`, which it does not outlive.
pub fn issue(authority: &Pair, leaf: &Leaf, now: Timestamp) -> Result<Pair, IssueError> {
    if authority.key.is_empty() {
        return Err(IssueError::NoKey);
    }
    let seen = authority.seen().ok_or(IssueError::Authority)?;
    let left = seen.not_after.duration_since(now).as_secs();
    let mut params = params(&leaf.common_name, now, leaf.seconds.min(left));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Stock etcd dials itself with its own server certificate.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if leaf.server {
        params
            .extended_key_usages
            .insert(0, ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in &leaf.names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .map_err(|source| IssueError::Name {
                            name: name.clone(),
                            source,
                        })?,
                )
            }
        });
    }
    let signing = KeyPair::from_pem(&authority.key)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, signing)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, now: Timestamp, seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // RFC 5280 allows 64 characters.
    let short: String = common_name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, short);
    params.not_before = SystemTime::from(now - SKEW).into();
    params.not_after = SystemTime::from(now + SignedDuration::from_secs(seconds.max(1))).into();
    params
}

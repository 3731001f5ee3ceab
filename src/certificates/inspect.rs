//! What can be read off certificates, and what is wrong with them.

use std::{fmt::Write, sync::Arc};

use jiff::Timestamp;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Facts of a certificate. No key is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateSeen {
    /// Sixteen hex digits of its SHA-256.
    pub fingerprint: String,
    /// Who it is about.
    pub subject: String,
    /// Who signed it, by name.
    pub issuer: String,
    /// Its DNS names and IP addresses, sorted.
    pub names: Vec<String>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

impl CertificateSeen {
    /// When it is renewed: at two thirds of its life.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before + life / 3 * 2
    }
}

/// Sixteen hex digits that tell certificates apart.
pub fn fingerprint(der: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(der).into();
    hash[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// The first certificate of a PEM text; `None` if there is none that can be read.
pub fn first(pem: &str) -> Option<CertificateSeen> {
    certificates(pem).into_iter().next()
}

/// Facts of all certificates of a PEM text, in their order; what cannot be read is
/// left out.
pub fn certificates(pem: &str) -> Vec<CertificateSeen> {
    ders(pem).iter().filter_map(|der| seen(der)).collect()
}

/// The certificates of a PEM text, each as a text of its own; what cannot be read is
/// left out.
pub fn split(pem: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    pem.split(BEGIN)
        .skip(1)
        .filter_map(|rest| Some(format!("{BEGIN}{}{END}\n", rest.split_once(END)?.0)))
        .filter(|text| first(text).is_some())
        .collect()
}

pub(super) fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map_while(Result::ok)
        .collect()
}

pub(super) fn seen(der: &[u8]) -> Option<CertificateSeen> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let alternatives = cert.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternatives
        .map(|names| names.value.general_names.iter().filter_map(name).collect())
        .unwrap_or_default();
    names.sort();
    let time = |seconds| Timestamp::from_second(seconds).ok();
    Some(CertificateSeen {
        fingerprint: fingerprint(der),
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        names,
        not_before: time(cert.validity().not_before.timestamp())?,
        not_after: time(cert.validity().not_after.timestamp())?,
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => {
                let v6 = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(std::net::Ipv6Addr::from(v6).to_string())
            }
        },
        _ => None,
    }
}

/// What is wrong with certificates that come from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A certificate or CA that cannot be read.
    Unreadable,
    /// The key is not the certificate's.
    KeyMismatch,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// Its CA is not among those in `ca.crt`.
    UnknownAuthority,
    /// A name that it must bear is missing.
    NameMissing,
    /// It may not be used for this.
    Usage,
}

impl Flaw {
    /// Reason of the condition TLSReady.
    pub fn as_str(self) -> &'static str {
        match self {
            Flaw::Unreadable => "CertificateUnreadable",
            Flaw::KeyMismatch => "KeyMismatch",
            Flaw::Expired => "CertificateExpired",
            Flaw::NotYetValid => "CertificateNotYetValid",
            Flaw::UnknownAuthority => "UnknownAuthority",
            Flaw::NameMissing => "NameMissing",
            Flaw::Usage => "UsageMissing",
        }
    }
}

/// Who is to show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// DNS names it must bear, as a server.
    pub server: Vec<String>,
    /// Whether it must also do as a client.
    pub client: bool,
}

/// The first flaw of certificate, key and CAs for that holder, with what it is about.
pub fn flaw(
    cert: &str,
    key: &str,
    authorities: &str,
    holder: &Holder,
    now: Timestamp,
) -> Option<(Flaw, String)> {
    let chain = ders(cert);
    let Some((leaf, above)) = chain.split_first() else {
        return Some((Flaw::Unreadable, "tls.crt holds no certificate".to_owned()));
    };
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(ders(authorities));
    if known == 0 {
        return Some((Flaw::Unreadable, "ca.crt holds no CA".to_owned()));
    }
    let Ok(private) = PrivateKeyDer::from_pem_slice(key.as_bytes()) else {
        return Some((Flaw::Unreadable, "tls.key holds no private key".to_owned()));
    };
    if CertifiedKey::from_der(chain.clone(), private, &default_provider()).is_err() {
        return Some((
            Flaw::KeyMismatch,
            "tls.key is not the key of tls.crt".to_owned(),
        ));
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(default_provider());
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    if !holder.server.is_empty() {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let Ok(verifier) = verifier else {
            return Some((Flaw::Unreadable, "ca.crt holds no CA".to_owned()));
        };
        for name in &holder.server {
            let Ok(server) = ServerName::try_from(name.as_str()) else {
                continue; // ours are DNS names
            };
            if let Err(error) = verifier.verify_server_cert(leaf, above, &server, &[], now) {
                return Some((judge(&error), format!("tls.crt for {name}: {error}")));
            }
        }
    }
    if holder.client {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let Ok(verifier) = verifier else {
            return Some((Flaw::Unreadable, "ca.crt holds no CA".to_owned()));
        };
        if let Err(error) = verifier.verify_client_cert(leaf, above, now) {
            return Some((judge(&error), format!("tls.crt as a client: {error}")));
        }
    }
    None
}

fn judge(error: &rustls::Error) -> Flaw {
    use rustls::CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            E::Expired | E::ExpiredContext { .. } => Flaw::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Flaw::NotYetValid,
            E::NotValidForName | E::NotValidForNameContext { .. } => Flaw::NameMissing,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Flaw::Usage,
            E::UnknownIssuer | E::BadSignature => Flaw::UnknownAuthority,
            _ => Flaw::Unreadable,
        },
        _ => Flaw::Unreadable,
    }
}

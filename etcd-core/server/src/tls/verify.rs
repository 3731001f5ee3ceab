//! Whose certificates are believed: those of the CA, bearing one of the names
//! that are allowed, and not revoked.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files::{Revoked, Roots};
use crate::config::TlsInfo;

/// What a certificate must have besides a good signature.
#[derive(Debug, Clone, Default)]
pub(super) struct Demands {
    cns: Vec<String>,
    hostnames: Vec<String>,
    revoked: Option<Arc<Revoked>>,
}

/// Why a certificate with a good signature is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

impl Demands {
    /// The demands on certificates of the other side.
    pub(super) fn new(info: &TlsInfo, revoked: Option<Arc<Revoked>>) -> Demands {
        Demands {
            cns: info.allowed_cns.clone(),
            hostnames: info.allowed_hostnames.clone(),
            revoked,
        }
    }

    /// Checks a certificate that was verified, and its intermediates.
    pub(super) fn check(
        &self,
        leaf: &[u8],
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), String> {
        if self.cns.is_empty() && self.hostnames.is_empty() && self.revoked.is_none() {
            return Ok(());
        }
        let (_, cert) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let cn = common_name(&cert).unwrap_or_default();
        let cn_ok = self.cns.is_empty() || self.cns.contains(&cn);
        let host_ok = self.hostnames.is_empty()
            || self
                .hostnames
                .iter()
                .any(|allowed| names_host(leaf, allowed));
        if !cn_ok || !host_ok {
            return Err("client certificate authentication failed".to_owned());
        }
        let Some(revoked) = &self.revoked else {
            return Ok(());
        };
        revoked.check(&cert)?;
        for der in intermediates {
            let (_, cert) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
            revoked.check(&cert)?;
        }
        Ok(())
    }
}

/// The subject's common name.
pub fn common_name(cert: &X509Certificate<'_>) -> Option<String> {
    let name = cert.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}

/// Whether a certificate is good for this host name or address.
fn names_host(leaf: &[u8], host: &str) -> bool {
    let der = CertificateDer::from(leaf);
    let Ok(cert) = rustls::server::ParsedCertificate::try_from(&der) else {
        return false;
    };
    ServerName::try_from(host.to_owned())
        .is_ok_and(|name| rustls::client::verify_server_name(&cert, &name).is_ok())
}

/// Whether a certificate's names fit the address it was presented from. One
/// without names fits every address.
pub async fn check_address(leaf: &CertificateDer<'_>, remote: IpAddr) -> Result<(), String> {
    let (addresses, names) = alternative_names(leaf)?;
    if addresses.is_empty() && names.is_empty() {
        return Ok(());
    }
    if addresses.contains(&remote) {
        return Ok(());
    }
    if names.is_empty() {
        return Err(format!(
            "x509: certificate is valid for {}, not {remote}",
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let (wildcards, plain): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| name.starts_with("*."));
    for name in &plain {
        // A name that does not resolve does not match.
        if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
            && found.any(|address| address.ip().to_canonical() == remote)
        {
            return Ok(());
        }
    }
    // What the address is called counts for both kinds of names.
    if let Some(reverse) = super::reverse::lookup(remote).await {
        let reverse = reverse.trim_end_matches('.');
        let fits = |wildcard: &&String| reverse.ends_with(&wildcard[1..]);
        if wildcards.iter().any(fits) || plain.iter().any(|name| *name == reverse) {
            return Ok(());
        }
    }
    Err(format!(
        "tls: \"{remote}\" does not match any of DNSNames {names:?}"
    ))
}

fn alternative_names(leaf: &CertificateDer<'_>) -> Result<(Vec<IpAddr>, Vec<String>), String> {
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    let extension = cert
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let general = extension.map(|extension| &extension.value.general_names);
    for name in general.into_iter().flatten() {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok((addresses, names))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The CA's verifier, with demands on top.
#[derive(Debug)]
pub(super) struct DemandingVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) roots: Arc<Roots>,
    pub(super) demands: Demands,
}

impl ClientCertVerifier for DemandingVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => {}
            // A certificate that is its own CA is one that Go believes.
            Err(Error::InvalidCertificate(_))
                if self.roots.certs.iter().any(|root| root == leaf) =>
            {
                let valid = X509Certificate::from_der(leaf)
                    .is_ok_and(|(_, cert)| cert.validity().is_valid());
                if !valid {
                    return Err(Error::InvalidCertificate(CertificateError::Expired));
                }
            }
            Err(error) => return Err(error),
        }
        self.demands.check(leaf, intermediates).map_err(|reason| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(
                reason,
            )))))
        })?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

//! TLS of connections to other members.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::files::{FilesError, KeyPairFiles};
use super::server::{TlsError, provider, roots, versions};
use super::verify::Demands;
use crate::config::TlsInfo;

#[derive(Debug)]
struct ByFile(Option<KeyPairFiles>);

impl ResolvesClientCert for ByFile {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.as_ref()?.for_handshake()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The pair for own connections: the one given for them, else the listener's.
pub(super) fn own_pair(info: &TlsInfo) -> Result<Option<KeyPairFiles>, FilesError> {
    let (cert, key) = (&info.client_cert_file, &info.client_key_file);
    if cert.is_empty() != key.is_empty() {
        return Err(FilesError::ClientHalf {
            key: key.clone(),
            cert: cert.clone(),
        });
    }
    if !cert.is_empty() {
        return KeyPairFiles::open(cert, key).map(Some);
    }
    if info.is_empty() {
        return Ok(None);
    }
    KeyPairFiles::open(&info.cert_file, &info.key_file).map(Some)
}

/// TLS of connections to other members. No protocol is announced: stock peers
/// announce h2 and cannot serve it.
pub fn client_config(info: &TlsInfo) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider(info);
    let verifier: Arc<dyn ServerCertVerifier> = if info.self_signed {
        // A certificate made by its own member has no CA to ask.
        Arc::new(AnyCertificate(provider.clone()))
    } else {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots(info)?);
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(store),
            provider.clone(),
        )
        .build()?;
        Arc::new(DemandingServerVerifier {
            inner,
            demands: Demands::new(info),
        })
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(info))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(ByFile(own_pair(info)?)));
    Ok(Arc::new(config))
}

/// The CA's verifier, with demands on top.
#[derive(Debug)]
struct DemandingServerVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    demands: Demands,
}

impl ServerCertVerifier for DemandingServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.demands.check(leaf, intermediates).map_err(|reason| {
            tracing::debug!(%reason, "refused a peer's certificate");
            Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Believes any certificate whose key signs.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS of a listener.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::cipher;
use super::files::{FilesError, KeyPairFiles, certificates};
use super::verify::{DemandingVerifier, Demands};
use crate::config::{TlsInfo, TlsVersion};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate, key or CA.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// No suite or version is left.
    #[error("tls: {0}")]
    Config(#[from] rustls::Error),
    /// The CA's certificates verify nobody.
    #[error("tls: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate could not be made.
    #[error("cannot generate cert: {0}")]
    Generate(String),
}

#[derive(Debug)]
struct ByFile(KeyPairFiles);

impl ResolvesServerCert for ByFile {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.for_handshake()
    }
}

/// TLS of a listener that offers these application protocols, the best first.
pub fn server_config(info: &TlsInfo, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let files = KeyPairFiles::open(&info.cert_file, &info.key_file)?;
    // A mistake in the other pair shows at the start too.
    super::client::own_pair(info)?;
    let provider = provider(info);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(info))?;
    let builder = if info.requires_client_cert() {
        let roots = roots(info)?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let inner =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build()?;
        builder.with_client_cert_verifier(Arc::new(DemandingVerifier {
            inner,
            roots,
            demands: Demands::new(info),
        }))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByFile(files)));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The cryptography, limited to the suites that are allowed.
pub(super) fn provider(info: &TlsInfo) -> Arc<CryptoProvider> {
    let (cipher_suites, skipped) = cipher::choose(&info.cipher_suites);
    if !skipped.is_empty() {
        tracing::warn!(
            "cipher-suites" = ?crate::log::json(&skipped),
            "cipher suites without forward secrecy or with CBC are not offered"
        );
    }
    Arc::new(CryptoProvider {
        cipher_suites,
        ..default_provider()
    })
}

/// The versions that are allowed.
pub(super) fn versions(info: &TlsInfo) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if info.max_version != TlsVersion::Tls12 {
        versions.push(&version::TLS13);
    }
    if info.min_version != TlsVersion::Tls13 {
        versions.push(&version::TLS12);
    }
    versions
}

/// The CA's certificates; without a file the machine's.
pub(super) fn roots(info: &TlsInfo) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    if !info.trusted_ca_file.is_empty() {
        return certificates(Path::new(&info.trusted_ca_file));
    }
    const MACHINES: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let found = MACHINES.iter().map(Path::new).find(|path| path.exists());
    certificates(found.unwrap_or(Path::new(MACHINES[0])))
}

//! TLS of a listener.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::cipher;
use super::client::same;
use super::files::{FilesError, Revoked, Roots};
use super::followed::Followed;
use super::material::Material;
use super::verify::{DemandingVerifier, Demands};
use crate::config::{TlsInfo, TlsVersion};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate, key, CA or revocation list.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// No suite or version is left.
    #[error("tls: {0}")]
    Config(#[from] rustls::Error),
    /// The CA's certificates verify nobody.
    #[error("tls: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Nobody's certificate can be verified.
    #[error("tls: {0} is needed to verify certificates: this machine has no CAs of its own")]
    NoRoots(&'static str),
    /// A certificate could not be made.
    #[error("cannot generate cert: {0}")]
    Generate(String),
}

/// TLS of a listener; follows its files.
#[derive(Debug)]
pub struct ServerTls {
    material: Arc<Material>,
    provider: Arc<CryptoProvider>,
    protocols: Vec<Vec<u8>>,
    pair: Arc<Followed<CertifiedKey>>,
    /// Of clients, where they must have certificates.
    roots: Option<Arc<Followed<Roots>>>,
    revoked: Option<Arc<Followed<Revoked>>>,
    built: Mutex<Option<(Parts, Arc<ServerConfig>)>>,
}

/// What a configuration was made of.
#[derive(Debug)]
struct Parts {
    pair: Arc<CertifiedKey>,
    roots: Option<Arc<Roots>>,
    revoked: Option<Arc<Revoked>>,
}

impl Parts {
    fn same(&self, other: &Parts) -> bool {
        Arc::ptr_eq(&self.pair, &other.pair)
            && same(&self.roots, &other.roots)
            && same(&self.revoked, &other.revoked)
    }
}

impl ServerTls {
    /// TLS of a listener that offers these application protocols, the best
    /// first. Reads all files, so that a mistake shows at the start.
    pub fn new(material: Arc<Material>, protocols: &[&[u8]]) -> Result<ServerTls, TlsError> {
        let info = &material.info;
        let pair = material.pair()?;
        // A mistake in the other pair shows at the start too.
        material.own()?;
        let roots = match info.requires_client_cert() {
            true => Some(
                material.roots()?.ok_or(TlsError::NoRoots(
                    info.side
                        .flag("--trusted-ca-file", "--peer-trusted-ca-file"),
                ))?,
            ),
            false => None,
        };
        let tls = ServerTls {
            provider: provider(info),
            protocols: protocols.iter().map(|name| name.to_vec()).collect(),
            pair,
            roots,
            revoked: material.revoked()?,
            built: Mutex::new(None),
            material,
        };
        let parts = tls.parts();
        let config = tls.build(&parts)?;
        *tls.built.lock() = Some((parts, config));
        Ok(tls)
    }

    fn parts(&self) -> Parts {
        Parts {
            pair: self.pair.current(),
            roots: self.roots.as_ref().map(|roots| roots.current()),
            revoked: self.revoked.as_ref().map(|revoked| revoked.current()),
        }
    }

    /// What a handshake that begins now goes by. Blocking: it looks at files.
    pub fn current(&self) -> Arc<ServerConfig> {
        let parts = self.parts();
        let mut built = self.built.lock();
        let (seen, config) = built.as_mut().expect("built in new()");
        if !seen.same(&parts) {
            match self.build(&parts) {
                Ok(new) => *config = new,
                Err(error) => {
                    tracing::warn!(%error, "cannot use changed TLS files; using those from before");
                }
            }
            *seen = parts;
        }
        config.clone()
    }

    fn build(&self, parts: &Parts) -> Result<Arc<ServerConfig>, TlsError> {
        let info = &self.material.info;
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&versions(info))?;
        let builder = match &parts.roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let inner = WebPkiClientVerifier::builder_with_provider(
                    roots.store.clone(),
                    self.provider.clone(),
                )
                .build()?;
                builder.with_client_cert_verifier(Arc::new(DemandingVerifier {
                    inner,
                    roots: roots.clone(),
                    demands: Demands::new(info, parts.revoked.clone()),
                }))
            }
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(parts.pair.clone())));
        config.alpn_protocols = self.protocols.clone();
        // Who resumes a session is not verified again, though meanwhile the certificate
        // may have been revoked or its CA dropped.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
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

//! TLS of connections to other members.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};

use super::files::{Revoked, Roots};
use super::followed::Followed;
use super::material::Material;
use super::server::{TlsError, provider, versions};
use super::verify::{Demands, Refused};

/// TLS of connections to other members; follows its files.
#[derive(Debug)]
pub struct ClientTls {
    material: Arc<Material>,
    provider: Arc<CryptoProvider>,
    pair: Option<Arc<Followed<CertifiedKey>>>,
    /// Of the members. None where certificates are of their members' own making,
    /// and where there are no CAs at all.
    roots: Option<Arc<Followed<Roots>>>,
    revoked: Option<Arc<Followed<Revoked>>>,
    built: Mutex<Option<(Parts, Arc<ClientConfig>)>>,
}

/// What a configuration was made of.
#[derive(Debug)]
struct Parts {
    pair: Option<Arc<CertifiedKey>>,
    roots: Option<Arc<Roots>>,
    revoked: Option<Arc<Revoked>>,
}

impl Parts {
    fn same(&self, other: &Parts) -> bool {
        same(&self.pair, &other.pair)
            && same(&self.roots, &other.roots)
            && same(&self.revoked, &other.revoked)
    }
}

/// Whether two are one.
pub(super) fn same<T>(one: &Option<Arc<T>>, two: &Option<Arc<T>>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => Arc::ptr_eq(one, two),
        (one, two) => one.is_none() && two.is_none(),
    }
}

impl ClientTls {
    /// Reads all files, so that a mistake shows at the start.
    pub fn new(material: Arc<Material>) -> Result<ClientTls, TlsError> {
        let info = &material.info;
        let tls = ClientTls {
            provider: provider(info),
            pair: material.own()?,
            roots: match info.self_signed {
                true => None,
                false => material.roots()?,
            }
            .filter(|roots| !roots.current().store.is_empty()),
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
            pair: self.pair.as_ref().map(|pair| pair.current()),
            roots: self.roots.as_ref().map(|roots| roots.current()),
            revoked: self.revoked.as_ref().map(|revoked| revoked.current()),
        }
    }

    /// What a connection that is made now goes by. Blocking: it looks at files.
    pub fn current(&self) -> Arc<ClientConfig> {
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

    /// No protocol is announced: stock peers announce h2 and cannot serve it.
    fn build(&self, parts: &Parts) -> Result<Arc<ClientConfig>, TlsError> {
        let info = &self.material.info;
        let verifier: Arc<dyn ServerCertVerifier> = match &parts.roots {
            Some(roots) => Arc::new(DemandingServerVerifier {
                inner: rustls::client::WebPkiServerVerifier::builder_with_provider(
                    roots.store.clone(),
                    self.provider.clone(),
                )
                .build()?,
                demands: Demands::new(info, parts.revoked.clone()),
            }),
            None => Arc::new(WithoutRoots {
                // A certificate made by its own member has no CA to ask.
                believes: info.self_signed,
                provider: self.provider.clone(),
            }),
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&versions(info))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &parts.pair {
            Some(pair) => builder.with_client_cert_resolver(resolver(pair)),
            None => builder.with_no_client_auth(),
        };
        // A session that is resumed is not verified again.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn resolver(pair: &Arc<CertifiedKey>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(pair.clone()))
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
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(
                reason,
            )))))
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

/// Believes any certificate whose key signs, or none at all.
#[derive(Debug)]
struct WithoutRoots {
    believes: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for WithoutRoots {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.believes {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

//! A client of TLS that does as it is told, to see what a server accepts.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, Pair};

/// How a client of TLS presents itself, and whom it believes.
#[derive(Debug, Clone)]
pub struct Secure {
    roots: RootCertStore,
    pair: Option<Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Option<Vec<SupportedCipherSuite>>,
}

/// An answer over TLS.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The certificate that was served, in DER.
    pub leaf: Vec<u8>,
}

impl Secure {
    /// Believes these authorities, and any server if there are none; has no certificate.
    pub fn new(authorities: &[&Authority]) -> Secure {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let cert = CertificateDer::from_pem_slice(authority.pem().as_bytes())
                .expect("an authority's own certificate");
            roots.add(cert).expect("an authority's own certificate");
        }
        Secure {
            roots,
            pair: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
            suites: None,
        }
    }

    /// Presents this certificate.
    pub fn with(mut self, pair: &Pair) -> Secure {
        self.pair = Some(pair.clone());
        self
    }

    /// Speaks this version only.
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Secure {
        self.versions = vec![version];
        self
    }

    /// Offers this suite only.
    pub fn suite(mut self, suite: SupportedCipherSuite) -> Secure {
        self.suites = Some(vec![suite]);
        self
    }

    /// Shakes hands with `host:port`.
    ///
    /// # Errors
    /// If either side refuses; in TLS 1.3 a refusal of the client's certificate shows only when reading.
    pub async fn connect(&self, address: &str) -> Result<TlsStream<TcpStream>> {
        let mut provider = default_provider();
        if let Some(suites) = &self.suites {
            provider.cipher_suites.clone_from(suites);
        }
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)?;
        let builder = match self.roots.is_empty() {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            false => builder.with_root_certificates(self.roots.clone()),
        };
        let config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let (certs, key) = read(pair)?;
                builder.with_client_auth_cert(certs, key)?
            }
        };
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        let name = ServerName::try_from("127.0.0.1").context("a name")?;
        Ok(TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?)
    }

    /// The answer to `GET <url>`, on a connection of its own.
    ///
    /// # Errors
    /// If either side refuses the other, or there is no answer in HTTP.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        let rest = url
            .strip_prefix("https://")
            .with_context(|| format!("{url} is not HTTP over TLS"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = self.connect(host).await?;
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Go closes without a farewell.
        match stream.read_to_end(&mut answer).await {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(error).with_context(|| format!("reading {url}"));
            }
            _ => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            bail!("{url}: no HTTP answer: {answer:?}");
        };
        let status = head.split_whitespace().nth(1);
        let leaf = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(Answer {
            status: status
                .and_then(|code| code.parse().ok())
                .with_context(|| format!("{url}: no status in {head:?}"))?,
            body: body.to_owned(),
            leaf: leaf.first().context("no certificate was served")?.to_vec(),
        })
    }
}

fn read(pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Ok((
        vec![leaf(&pair.cert)?.into()],
        PrivateKeyDer::from_pem_file(&pair.key)
            .with_context(|| format!("reading {}", pair.key.display()))?,
    ))
}

/// The first certificate of a file, in DER.
///
/// # Errors
/// If there is none.
pub fn leaf(path: &Path) -> Result<Vec<u8>> {
    let cert = CertificateDer::from_pem_file(path)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(cert.to_vec())
}

/// Believes everybody.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! What stands in the files of TLS: pairs of certificate and key, CAs, and
//! revocation lists.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

/// Why files are not what they should be. The messages are Go's, and name file and flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// Only one of the two is given.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    Half {
        /// The key's path.
        key: String,
        /// The certificate's path.
        cert: String,
    },
    /// Only one of the two is given, for own connections.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    ClientHalf {
        /// The key's path.
        key: String,
        /// The certificate's path.
        cert: String,
    },
    /// A file cannot be read.
    #[error("open {path}: {reason} ({flag})")]
    Open {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// A file holds nothing of its kind.
    #[error("tls: failed to find any PEM data in {what} input ({flag}={path})")]
    Empty {
        /// certificate, key or CA certificate.
        what: &'static str,
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: String,
    },
    /// A file holds something that is not what it says.
    #[error("{reason} ({flag}={path})")]
    Malformed {
        /// What is wrong.
        reason: String,
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: String,
    },
    /// Not this certificate's key.
    #[error("tls: private key does not match public key ({cert_flag}={cert}, {key_flag}={key})")]
    Mismatch {
        /// The flag that names the certificate.
        cert_flag: &'static str,
        /// The certificate.
        cert: String,
        /// The flag that names the key.
        key_flag: &'static str,
        /// The key.
        key: String,
    },
}

/// A file, and the flag that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) flag: &'static str,
    pub(super) path: PathBuf,
}

impl Source {
    fn malformed(&self, reason: impl Into<String>) -> FilesError {
        FilesError::Malformed {
            reason: reason.into(),
            flag: self.flag,
            path: self.path.display().to_string(),
        }
    }

    fn empty(&self, what: &'static str) -> FilesError {
        FilesError::Empty {
            what,
            flag: self.flag,
            path: self.path.display().to_string(),
        }
    }
}

/// All certificates of a file, at least one. A file that ends within one is not whole.
fn certificates(
    source: &Source,
    bytes: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| source.malformed(format!("{what}: {error}")))?;
    match certs.is_empty() {
        true => Err(source.empty(what)),
        false => Ok(certs),
    }
}

/// A certificate with its chain, and its key: two files.
pub(super) fn pair(sources: &[Source], bytes: &[Vec<u8>]) -> Result<CertifiedKey, FilesError> {
    let ([cert, key], [cert_bytes, key_bytes]) = (sources, bytes) else {
        unreachable!("a pair is two files");
    };
    let certs = certificates(cert, cert_bytes, "certificate")?;
    let private = PrivateKeyDer::from_pem_slice(key_bytes).map_err(|error| match error {
        PemError::NoItemsFound => key.empty("key"),
        error => key.malformed(format!("tls: failed to parse private key: {error}")),
    })?;
    CertifiedKey::from_der(certs, private, &default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => FilesError::Mismatch {
            cert_flag: cert.flag,
            cert: cert.path.display().to_string(),
            key_flag: key.flag,
            key: key.path.display().to_string(),
        },
        rustls::Error::InvalidCertificate(error) => {
            cert.malformed(format!("x509: malformed certificate: {error:?}"))
        }
        error => key.malformed(format!("tls: failed to parse private key: {error}")),
    })
}

/// Whose signatures are believed.
#[derive(Debug)]
pub(super) struct Roots {
    /// For the verifier.
    pub(super) store: Arc<RootCertStore>,
    /// As they stand in the file.
    pub(super) certs: Vec<CertificateDer<'static>>,
}

/// The certificates of a file of CAs.
pub(super) fn roots(sources: &[Source], bytes: &[Vec<u8>]) -> Result<Roots, FilesError> {
    let ([source], [bytes]) = (sources, bytes) else {
        unreachable!("CAs are one file");
    };
    let certs = certificates(source, bytes, "CA certificate")?;
    let mut store = RootCertStore::empty();
    for cert in &certs {
        store.add(cert.clone()).map_err(|error| {
            source.malformed(format!("x509: malformed CA certificate: {error}"))
        })?;
    }
    Ok(Roots {
        store: Arc::new(store),
        certs,
    })
}

/// The machine's CAs; those that cannot be used are left out.
pub(super) fn machine_roots(_: &[Source], bytes: &[Vec<u8>]) -> Result<Roots, FilesError> {
    let certs: Vec<_> = bytes
        .iter()
        .flat_map(|bytes| CertificateDer::pem_slice_iter(bytes))
        .filter_map(Result::ok)
        .collect();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certs.iter().cloned());
    Ok(Roots {
        store: Arc::new(store),
        certs,
    })
}

/// Serial numbers that were revoked, without leading zeros.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Revoked(BTreeSet<Vec<u8>>);

impl Revoked {
    /// The words in which a certificate is refused, if it was revoked.
    pub(super) fn check(&self, cert: &X509Certificate<'_>) -> Result<(), String> {
        let serial = cert.tbs_certificate.serial.to_bytes_be();
        match self.0.contains(&serial) {
            true => Err(format!(
                "transport: certificate serial {} revoked",
                serial
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect::<String>()
            )),
            false => Ok(()),
        }
    }
}

/// A revocation list, in DER as etcd wants it, or in PEM.
pub(super) fn revoked(sources: &[Source], bytes: &[Vec<u8>]) -> Result<Revoked, FilesError> {
    let ([source], [bytes]) = (sources, bytes) else {
        unreachable!("a list is one file");
    };
    let bytes = match bytes.starts_with(b"-----BEGIN") {
        true => CertificateRevocationListDer::from_pem_slice(bytes)
            .map_err(|error| source.malformed(format!("x509: malformed crl: {error}")))?
            .to_vec(),
        false => bytes.clone(),
    };
    let (rest, list) = CertificateRevocationList::from_der(&bytes)
        .map_err(|error| source.malformed(format!("x509: malformed crl: {error}")))?;
    if !rest.is_empty() {
        return Err(source.malformed("x509: malformed crl: trailing data"));
    }
    let serials = list.iter_revoked_certificates();
    Ok(Revoked(
        serials
            .map(|revoked| revoked.user_certificate.to_bytes_be())
            .collect(),
    ))
}

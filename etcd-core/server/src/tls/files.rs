//! Certificate and key from files, read anew when they change: whoever renews
//! a certificate puts new files in place and is done.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why files do not make a key pair.
#[derive(Debug, thiserror::Error)]
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
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// A file holds nothing of its kind.
    #[error("tls: failed to find any PEM data in {what} input ({path})")]
    Empty {
        /// certificate or key.
        what: &'static str,
        /// The file.
        path: String,
    },
    /// Not a key that can sign, or not this certificate's key.
    #[error("tls: {0}")]
    Pair(rustls::Error),
}

/// What tells one state of a file from another.
type Stamp = (u64, u64, i64, i64, u64);

/// A key pair in two files.
pub struct KeyPairFiles {
    cert: PathBuf,
    key: PathBuf,
    cached: Mutex<Option<([Stamp; 2], Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for KeyPairFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KeyPairFiles({}, {})",
            self.cert.display(),
            self.key.display()
        )
    }
}

impl KeyPairFiles {
    /// Reads both files once, so that a mistake shows at the start.
    pub fn open(cert: &str, key: &str) -> Result<KeyPairFiles, FilesError> {
        if cert.is_empty() || key.is_empty() {
            return Err(FilesError::Half {
                key: key.to_owned(),
                cert: cert.to_owned(),
            });
        }
        let files = KeyPairFiles {
            cert: PathBuf::from(cert),
            key: PathBuf::from(key),
            cached: Mutex::new(None),
        };
        files.current()?;
        Ok(files)
    }

    /// The pair as the files are now.
    pub fn current(&self) -> Result<Arc<CertifiedKey>, FilesError> {
        let stamps = [stamp(&self.cert)?, stamp(&self.key)?];
        let mut cached = self.cached.lock();
        if let Some((seen, pair)) = &*cached
            && *seen == stamps
        {
            return Ok(pair.clone());
        }
        let certs = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|_| FilesError::Empty {
            what: "key",
            path: self.key.display().to_string(),
        })?;
        let pair =
            CertifiedKey::from_der(certs, key, &default_provider()).map_err(FilesError::Pair)?;
        let pair = Arc::new(pair);
        *cached = Some((stamps, pair.clone()));
        Ok(pair)
    }

    /// The pair for a handshake; a handshake without one fails.
    pub(super) fn for_handshake(&self) -> Option<Arc<CertifiedKey>> {
        match self.current() {
            Ok(pair) => Some(pair),
            Err(error) => {
                tracing::warn!(
                    "cert-file" = %self.cert.display(), "key-file" = %self.key.display(), %error,
                    "failed to create certificate"
                );
                None
            }
        }
    }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let bytes = fs::read(path).map_err(|error| open_error(path, &error))?;
    let certs: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .collect();
    match certs.is_empty() {
        true => Err(FilesError::Empty {
            what: "certificate",
            path: path.display().to_string(),
        }),
        false => Ok(certs),
    }
}

fn stamp(path: &Path) -> Result<Stamp, FilesError> {
    let metadata = fs::metadata(path).map_err(|error| open_error(path, &error))?;
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
    ))
}

fn open_error(path: &Path, error: &io::Error) -> FilesError {
    FilesError::Open {
        path: path.display().to_string(),
        reason: crate::go::io_error(error),
    }
}

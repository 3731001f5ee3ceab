//! All that TLS of one side has in files, shared by its listeners and
//! connections, so that each file is followed, and complained about, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, FilesError, Revoked, Roots, Source};
use super::followed::Followed;
use crate::config::TlsInfo;

/// Where machines keep the CAs that everybody believes.
const MACHINES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files of one side, opened when first needed.
#[derive(Debug)]
pub struct Material {
    /// What names them.
    pub(super) info: TlsInfo,
    pair: Once<CertifiedKey>,
    own: Once<CertifiedKey>,
    roots: Once<Roots>,
    revoked: Once<Revoked>,
}

#[derive(Debug)]
struct Once<T>(Mutex<Option<Arc<Followed<T>>>>);

impl<T> Once<T> {
    fn get(
        &self,
        open: impl FnOnce() -> Result<Arc<Followed<T>>, FilesError>,
    ) -> Result<Arc<Followed<T>>, FilesError> {
        let mut slot = self.0.lock();
        if let Some(opened) = &*slot {
            return Ok(opened.clone());
        }
        Ok(slot.insert(open()?).clone())
    }
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once(Mutex::new(None))
    }
}

impl Material {
    /// The files that `info` names; none is touched yet.
    pub fn new(info: TlsInfo) -> Arc<Material> {
        Arc::new(Material {
            info,
            pair: Once::default(),
            own: Once::default(),
            roots: Once::default(),
            revoked: Once::default(),
        })
    }

    fn source(&self, client: &'static str, peer: &'static str, path: &str) -> Source {
        Source {
            flag: self.info.side.flag(client, peer),
            path: PathBuf::from(path),
        }
    }

    /// The listeners' pair.
    pub(super) fn pair(&self) -> Result<Arc<Followed<CertifiedKey>>, FilesError> {
        let (cert, key) = (&self.info.cert_file, &self.info.key_file);
        if cert.is_empty() || key.is_empty() {
            return Err(FilesError::Half {
                key: key.clone(),
                cert: cert.clone(),
            });
        }
        self.pair.get(|| {
            let sources = vec![
                self.source("--cert-file", "--peer-cert-file", cert),
                self.source("--key-file", "--peer-key-file", key),
            ];
            Followed::open(sources, files::pair, remark_pair).map(Arc::new)
        })
    }

    /// The pair for own connections: the one given for them, else the listeners'.
    pub(super) fn own(&self) -> Result<Option<Arc<Followed<CertifiedKey>>>, FilesError> {
        let (cert, key) = (&self.info.client_cert_file, &self.info.client_key_file);
        if cert.is_empty() != key.is_empty() {
            return Err(FilesError::ClientHalf {
                key: key.clone(),
                cert: cert.clone(),
            });
        }
        if cert.is_empty() {
            return match self.info.is_empty() {
                true => Ok(None),
                false => self.pair().map(Some),
            };
        }
        let opened = self.own.get(|| {
            let sources = vec![
                self.source("--client-cert-file", "--peer-client-cert-file", cert),
                self.source("--client-key-file", "--peer-client-key-file", key),
            ];
            Followed::open(sources, files::pair, remark_pair).map(Arc::new)
        });
        opened.map(Some)
    }

    /// The CAs of the other side; without a file the machine's, if it has any.
    pub(super) fn roots(&self) -> Result<Option<Arc<Followed<Roots>>>, FilesError> {
        if !self.info.trusted_ca_file.is_empty() {
            let opened = self.roots.get(|| {
                let source = self.source(
                    "--trusted-ca-file",
                    "--peer-trusted-ca-file",
                    &self.info.trusted_ca_file,
                );
                Followed::open(vec![source], files::roots, remark_roots).map(Arc::new)
            });
            return opened.map(Some);
        }
        let Some(found) = MACHINES.iter().map(Path::new).find(|path| path.exists()) else {
            return Ok(None);
        };
        let opened = self.roots.get(|| {
            let source = Source {
                flag: "the machine's CAs",
                path: found.to_owned(),
            };
            Followed::open(vec![source], files::machine_roots, |_, _| {}).map(Arc::new)
        });
        // Nobody has asked for these: without them nobody is believed.
        Ok(opened.ok())
    }

    /// What the other side must not present; no list, no demand.
    pub(super) fn revoked(&self) -> Result<Option<Arc<Followed<Revoked>>>, FilesError> {
        if self.info.crl_file.is_empty() {
            return Ok(None);
        }
        let opened = self.revoked.get(|| {
            let source = self.source("--client-crl-file", "--peer-crl-file", &self.info.crl_file);
            Followed::open(vec![source], files::revoked, |_, _| {}).map(Arc::new)
        });
        opened.map(Some)
    }
}

fn remark_pair(sources: &[Source], pair: &CertifiedKey) {
    if let (Some(source), Some(leaf)) = (sources.first(), pair.cert.first()) {
        remark_validity(source, leaf);
    }
}

fn remark_roots(sources: &[Source], roots: &Roots) {
    for (source, cert) in sources.iter().cycle().zip(&roots.certs) {
        remark_validity(source, cert);
    }
}

/// A certificate out of its time is served and believed in no more than etcd
/// does: the server starts, and whoever verifies refuses. So it is said here.
fn remark_validity(source: &Source, cert: &CertificateDer<'_>) {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else {
        return;
    };
    let validity = cert.validity();
    if !validity.is_valid() {
        tracing::warn!(
            flag = source.flag, file = %source.path.display(), subject = %cert.subject(),
            "not-before" = %validity.not_before, "not-after" = %validity.not_after,
            "certificate has expired or is not yet valid; it will be refused"
        );
    }
}

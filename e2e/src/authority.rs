//! Certificates for tests: an authority that issues and revokes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams,
};

use crate::scratch::Scratch;

/// A certificate and its key, as two files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    /// Flags that name the two, such as `--cert-file=...`; `prefix` is `--`, `--peer-` or `--client-`.
    pub fn flags(&self, prefix: &str) -> [String; 2] {
        [
            format!("{prefix}cert-file={}", self.cert.display()),
            format!("{prefix}key-file={}", self.key.display()),
        ]
    }

    /// Puts this pair's contents where `other` is, first the key: for a moment the two do not match.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub fn replace(&self, other: &Pair) -> Result<()> {
        for (from, to) in [(&self.key, &other.key), (&self.cert, &other.cert)] {
            std::fs::copy(from, to).with_context(|| format!("replacing {}", to.display()))?;
        }
        Ok(())
    }
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Leaf {
    name: String,
    cn: String,
    hosts: Vec<String>,
    serial: Option<u64>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    expired: bool,
}

impl Leaf {
    /// For 127.0.0.1 and localhost, server and client, with `name` for files and common name.
    pub fn new(name: &str) -> Leaf {
        Leaf {
            name: name.to_owned(),
            cn: name.to_owned(),
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            serial: None,
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            expired: false,
        }
    }

    /// For other names and addresses.
    pub fn hosts(mut self, hosts: &[&str]) -> Leaf {
        self.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        self
    }

    /// With this serial number.
    pub fn serial(mut self, serial: u64) -> Leaf {
        self.serial = Some(serial);
        self
    }

    /// For servers only.
    pub fn server_only(mut self) -> Leaf {
        self.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// For clients only.
    pub fn client_only(mut self) -> Leaf {
        self.usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// Valid until an hour ago.
    pub fn expired(mut self) -> Leaf {
        self.expired = true;
        self
    }
}

/// An authority and its folder.
#[derive(Debug)]
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    scratch: Scratch,
    pem: String,
}

impl Authority {
    /// An authority of this name; its certificate is `ca.pem` in its folder.
    ///
    /// # Errors
    /// If its folder cannot be written.
    pub fn new(name: &str) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let scratch = Scratch::new()?;
        let authority = Authority {
            params,
            key,
            scratch,
            pem,
        };
        std::fs::write(authority.ca(), &authority.pem).context("writing ca.pem")?;
        Ok(authority)
    }

    /// Its certificate's file.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A file in its folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Issues a certificate, as files of its name in the folder; a second one of the name replaces the first.
    ///
    /// # Errors
    /// If a host is no name, or the files cannot be written.
    pub fn issue(&self, leaf: &Leaf) -> Result<Pair> {
        let mut params = CertificateParams::new(leaf.hosts.clone())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, &*leaf.cn);
        params.serial_number = leaf.serial.map(Into::into);
        params.extended_key_usages.clone_from(&leaf.usages);
        let hour = Duration::from_secs(3600);
        if leaf.expired {
            params.not_before = (SystemTime::now() - 2 * hour).into();
            params.not_after = (SystemTime::now() - hour).into();
        }
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key))?;
        let pair = Pair {
            cert: self.path(format!("{}.pem", leaf.name)),
            key: self.path(format!("{}.key", leaf.name)),
        };
        std::fs::write(&pair.key, key.serialize_pem()).context("writing a key")?;
        std::fs::write(&pair.cert, cert.pem()).context("writing a certificate")?;
        Ok(pair)
    }

    /// Writes a list of revoked serial numbers to `crl.der` in the folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn revoke(&self, serials: &[u64]) -> Result<PathBuf> {
        let now = SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: (*serial).into(),
                    revocation_time: now.into(),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&Issuer::from_params(&self.params, &self.key))?;
        let path = self.path("crl.der");
        std::fs::write(&path, signed.der()).context("writing a revocation list")?;
        Ok(path)
    }
}

//! `--auto-tls` and `--peer-auto-tls`: a certificate of the member's own
//! making, kept in the data directory and used again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, SanType,
};

use super::server::TlsError;
use crate::config::{TlsInfo, Url};

/// Puts a certificate of this member's own into `info`, made for the hosts of
/// `urls` if there is none in `directory` yet.
pub fn provide(
    info: &mut TlsInfo,
    directory: &Path,
    urls: &[&Url],
    years: u64,
) -> Result<(), TlsError> {
    if !info.auto {
        return Ok(());
    }
    if !info.is_empty() {
        tracing::warn!("ignoring auto TLS since certs given");
        return Ok(());
    }
    if years == 0 {
        return Err(TlsError::Generate(
            "selfSignedCertValidity is invalid,it should be greater than 0".to_owned(),
        ));
    }
    let failed = |what: &Path, error: std::io::Error| {
        TlsError::Generate(format!(
            "{}: {}",
            what.display(),
            crate::go::io_error(&error)
        ))
    };
    crate::directory::touch(directory).map_err(|error| TlsError::Generate(error.to_string()))?;
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    if !(cert.exists() && key.exists()) {
        let hosts: Vec<&str> = urls.iter().map(|url| url.host()).collect();
        let (cert_pem, key_pem) = generate(&hosts, years)?;
        fs::write(&cert, cert_pem).map_err(|error| failed(&cert, error))?;
        write_private(&key, key_pem.as_bytes()).map_err(|error| failed(&key, error))?;
        tracing::info!(path = %cert.display(), "created cert file");
        tracing::info!(path = %key.display(), "created key file");
    }
    let absolute = |path: PathBuf| {
        let full = fs::canonicalize(&path).map_err(|error| failed(&path, error))?;
        Ok::<_, TlsError>(full.display().to_string())
    };
    info.cert_file = absolute(cert)?;
    info.key_file = absolute(key)?;
    info.client_cert_file = info.cert_file.clone();
    info.client_key_file = info.key_file.clone();
    info.self_signed = true;
    forget_demands(info);
    Ok(())
}

/// Whoever makes a certificate himself has no CA in common with the other side,
/// so nothing can be demanded of its certificates. etcd forgets these flags
/// without a word.
fn forget_demands(info: &mut TlsInfo) {
    let flag = |client, peer| info.side.flag(client, peer);
    let given = [
        (
            info.client_cert_auth,
            flag("--client-cert-auth", "--peer-client-cert-auth"),
        ),
        (
            !info.trusted_ca_file.is_empty(),
            flag("--trusted-ca-file", "--peer-trusted-ca-file"),
        ),
        (
            !info.crl_file.is_empty(),
            flag("--client-crl-file", "--peer-crl-file"),
        ),
        (
            !info.allowed_cns.is_empty(),
            flag("allowed-cn", "--peer-cert-allowed-cn"),
        ),
        (
            !info.allowed_hostnames.is_empty(),
            flag(
                "--client-cert-allowed-hostname",
                "--peer-cert-allowed-hostname",
            ),
        ),
    ];
    let ignored: Vec<&str> = given
        .iter()
        .filter_map(|(given, flag)| given.then_some(*flag))
        .collect();
    if !ignored.is_empty() {
        tracing::warn!(
            flags = ?crate::log::json(&ignored),
            "ignoring flags about the other side's certificates: auto TLS verifies none"
        );
    }
    info.client_cert_auth = false;
    info.trusted_ca_file.clear();
    info.crl_file.clear();
    info.allowed_cns.clear();
    info.allowed_hostnames.clear();
}

fn generate(hosts: &[&str], years: u64) -> Result<(String, String), TlsError> {
    let failed = |error: rcgen::Error| TlsError::Generate(error.to_string());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after =
        (now + Duration::from_secs(years.saturating_mul(365 * 86_400).min(1 << 36))).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in hosts.iter().filter(|host| !host.is_empty()) {
        params.subject_alt_names.push(match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*host).try_into().map_err(failed)?),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

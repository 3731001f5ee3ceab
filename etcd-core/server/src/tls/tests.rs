use super::*;

use crate::config::TlsInfo;

/// A CA and what it signs, for tests of this crate.
pub(crate) struct Authority {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
        let key = rcgen::KeyPair::generate().expect("a key");
        let directory = tempfile::tempdir().expect("a directory");
        let cert = params.self_signed(&key).expect("a CA");
        std::fs::write(directory.path().join("ca.pem"), cert.pem()).expect("written");
        Authority {
            params,
            key,
            directory,
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn issuer(&self) -> rcgen::Issuer<'_, &rcgen::KeyPair> {
        rcgen::Issuer::from_params(&self.params, &self.key)
    }

    /// Writes `name.pem` and `name.key`.
    pub(crate) fn issue(&self, name: &str, cn: &str, hosts: &[&str], serial: u64) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(hosts).expect("names");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, cn);
        params.serial_number = Some(serial.into());
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = params
            .signed_by(&key, &self.issuer())
            .expect("a certificate");
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    /// Writes `crl.der`, which revokes these serials.
    pub(crate) fn revoke(&self, serials: &[u64]) {
        let now: std::time::SystemTime = std::time::SystemTime::now();
        let list = rcgen::CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + std::time::Duration::from_secs(3600)).into(),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| rcgen::RevokedCertParams {
                    serial_number: (*serial).into(),
                    revocation_time: now.into(),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.issuer()).expect("a list");
        std::fs::write(self.path("crl.der"), signed.der()).expect("written");
    }

    /// TLS with the pair of this name, and this CA.
    pub(crate) fn info(&self, name: &str) -> TlsInfo {
        TlsInfo {
            cert_file: self.path(&format!("{name}.pem")),
            key_file: self.path(&format!("{name}.key")),
            trusted_ca_file: self.path("ca.pem"),
            ..TlsInfo::default()
        }
    }
}

/// Shakes hands in memory; `Ok` holds the server certificate the client saw.
async fn shake(server: &TlsInfo, client: &TlsInfo) -> Result<Vec<u8>, String> {
    let acceptor =
        tokio_rustls::TlsAcceptor::from(server_config(server, &[]).map_err(|e| e.to_string())?);
    let connector =
        tokio_rustls::TlsConnector::from(client_config(client).map_err(|e| e.to_string())?);
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let (accepted, connected) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
    accepted.map_err(|error| error.to_string())?;
    let connected = connected.map_err(|error| error.to_string())?;
    let certs = connected
        .get_ref()
        .1
        .peer_certificates()
        .expect("certificates");
    Ok(certs[0].to_vec())
}

#[tokio::test]
async fn a_pair_follows_its_files() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.issue("client", "c", &[], 2);
    let server = authority.info("server");
    let client = authority.info("client");
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(&server, &[]).expect("TLS"));
    let connector = tokio_rustls::TlsConnector::from(client_config(&client).expect("TLS"));
    let shake = || async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let (accepted, connected) =
            tokio::join!(acceptor.accept(near), connector.connect(name, far));
        accepted.ok()?;
        Some(connected.ok()?.get_ref().1.peer_certificates()?[0].to_vec())
    };
    let first = shake().await.expect("a handshake");
    authority.issue("server", "s", &["localhost"], 3);
    let second = shake().await.expect("a handshake");
    assert_ne!(first, second);
    std::fs::write(&server.key_file, "nonsense").expect("written");
    assert_eq!(shake().await, None);
    authority.issue("server", "s", &["localhost"], 4);
    assert!(shake().await.is_some());
}

#[tokio::test]
async fn names_and_serials_decide() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.issue("client", "c", &["m1.svc"], 2);
    let client = authority.info("client");
    let with = |change: &dyn Fn(&mut TlsInfo)| {
        let mut info = authority.info("server");
        change(&mut info);
        info
    };
    for (allowed, want) in [("c", true), ("d", false)] {
        let server = with(&|info| info.allowed_cns = vec!["x".to_owned(), allowed.to_owned()]);
        assert_eq!(shake(&server, &client).await.is_ok(), want, "{allowed}");
    }
    for (allowed, want) in [("m1.svc", true), ("m2.svc", false)] {
        let server = with(&|info| info.allowed_hostnames = vec![allowed.to_owned()]);
        assert_eq!(shake(&server, &client).await.is_ok(), want, "{allowed}");
    }
    let server = with(&|info| info.crl_file = authority.path("crl.der"));
    assert!(shake(&server, &client).await.is_err(), "no list");
    authority.revoke(&[7]);
    assert!(shake(&server, &client).await.is_ok());
    authority.revoke(&[7, 2]);
    assert!(shake(&server, &client).await.is_err(), "revoked");
}

#[tokio::test]
async fn strangers_are_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.issue("server", "s", &["localhost"], 1);
    theirs.issue("client", "c", &[], 2);
    let mut client = theirs.info("client");
    client.trusted_ca_file = ours.path("ca.pem");
    assert!(shake(&ours.info("server"), &client).await.is_err());
    let nobody = TlsInfo {
        trusted_ca_file: ours.path("ca.pem"),
        ..TlsInfo::default()
    };
    assert!(shake(&ours.info("server"), &nobody).await.is_err());
    let mut open = ours.info("server");
    open.trusted_ca_file = String::new();
    assert!(shake(&open, &nobody).await.is_ok());
}

#[tokio::test]
async fn addresses_must_be_named_unless_nothing_is() {
    let authority = Authority::new();
    let leaf = |hosts: &[&str]| {
        authority.issue("x", "x", hosts, 9);
        files::certificates(std::path::Path::new(&authority.path("x.pem")))
            .expect("one")
            .remove(0)
    };
    let here = "127.0.0.1".parse().expect("an address");
    let there = "10.9.8.7".parse().expect("an address");
    assert_eq!(check_address(&leaf(&[]), there).await, Ok(()));
    assert_eq!(check_address(&leaf(&["127.0.0.1"]), here).await, Ok(()));
    assert_eq!(check_address(&leaf(&["localhost"]), here).await, Ok(()));
    let error = check_address(&leaf(&["127.0.0.1"]), there)
        .await
        .expect_err("another");
    assert_eq!(
        error,
        "x509: certificate is valid for 127.0.0.1, not 10.9.8.7"
    );
    let error = check_address(&leaf(&["localhost"]), there)
        .await
        .expect_err("another");
    assert_eq!(
        error,
        "tls: \"10.9.8.7\" does not match any of DNSNames [\"localhost\"]"
    );
}

#[tokio::test]
async fn a_pair_of_ones_own_making_is_kept_and_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = crate::config::Url::parse("https://127.0.0.1:2380").expect("a URL");
    let mut made = Vec::new();
    for _ in 0..2 {
        let mut info = TlsInfo {
            auto: true,
            ..TlsInfo::default()
        };
        auto::provide(
            &mut info,
            &directory.path().join("fixtures/peer"),
            &[&url],
            1,
        )
        .expect("made");
        assert!(info.self_signed && info.key_file.ends_with("/fixtures/peer/key.pem"));
        shake(&info, &info).await.expect("a handshake");
        made.push(std::fs::read(&info.cert_file).expect("a file"));
    }
    assert_eq!(made[0], made[1]);
}

#[test]
fn mistakes_in_files_show_at_the_start() {
    let authority = Authority::new();
    authority.issue("a", "a", &[], 1);
    authority.issue("b", "b", &[], 2);
    let mut mixed = authority.info("a");
    mixed.key_file = authority.path("b.key");
    assert!(server_config(&mixed, &[]).is_err());
    let mut half = authority.info("a");
    half.key_file = String::new();
    let error = server_config(&half, &[]).expect_err("half a pair");
    assert!(
        error
            .to_string()
            .starts_with("KeyFile and CertFile must both be present[key: , cert: ")
    );
    let mut absent = authority.info("a");
    absent.trusted_ca_file = "/nonexistent".to_owned();
    let error = server_config(&absent, &[]).expect_err("no CA");
    assert_eq!(
        error.to_string(),
        "open /nonexistent: no such file or directory"
    );
}

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

/// Shakes hands in memory with TLS that follows its files; `Ok` holds the server
/// certificate the client saw.
async fn shake_with(server: &ServerTls, client: &ClientTls) -> Result<Vec<u8>, String> {
    shake_as(server.current(), client.current()).await
}

async fn shake_as(
    server: std::sync::Arc<rustls::ServerConfig>,
    client: std::sync::Arc<rustls::ClientConfig>,
) -> Result<Vec<u8>, String> {
    let acceptor = tokio_rustls::TlsAcceptor::from(server);
    let connector = tokio_rustls::TlsConnector::from(client);
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let (accepted, connected) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
    let mut accepted = accepted.map_err(|error| in_gos_words(error).to_string())?;
    let mut connected = connected.map_err(|error| in_gos_words(error).to_string())?;
    // A ticket for resuming is read only with data behind it.
    tokio::io::AsyncWriteExt::write_all(&mut accepted, b"x")
        .await
        .map_err(|error| error.to_string())?;
    tokio::io::AsyncReadExt::read_u8(&mut connected)
        .await
        .map_err(|error| in_gos_words(error).to_string())?;
    let certs = connected
        .get_ref()
        .1
        .peer_certificates()
        .expect("certificates");
    Ok(certs[0].to_vec())
}

fn server_tls(info: &TlsInfo) -> Result<ServerTls, TlsError> {
    ServerTls::new(Material::new(info.clone()), &[])
}

fn client_tls(info: &TlsInfo) -> Result<ClientTls, TlsError> {
    ClientTls::new(Material::new(info.clone()))
}

/// The same with TLS that is new.
async fn shake(server: &TlsInfo, client: &TlsInfo) -> Result<Vec<u8>, String> {
    let server = server_tls(server).map_err(|error| error.to_string())?;
    let client = client_tls(client).map_err(|error| error.to_string())?;
    shake_with(&server, &client).await
}

#[tokio::test]
async fn a_pair_follows_its_files() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.issue("client", "c", &[], 2);
    let info = authority.info("server");
    let server = server_tls(&info).expect("TLS");
    let client = client_tls(&authority.info("client")).expect("TLS");
    let first = shake_with(&server, &client).await.expect("a handshake");
    authority.issue("server", "s", &["localhost"], 3);
    let second = shake_with(&server, &client).await.expect("a handshake");
    assert_ne!(first, second);
    // What makes no sense, by itself or together, leaves what was.
    let key = std::fs::read(&info.key_file).expect("a key");
    for broken in [&b"nonsense"[..], b"", &key[..key.len() / 2]] {
        std::fs::write(&info.key_file, broken).expect("written");
        assert_eq!(shake_with(&server, &client).await, Ok(second.clone()));
    }
    std::fs::remove_file(&info.key_file).expect("removed");
    assert_eq!(shake_with(&server, &client).await, Ok(second.clone()));
    authority.issue("other", "s", &["localhost"], 4);
    std::fs::copy(authority.path("other.key"), &info.key_file).expect("copied");
    assert_eq!(shake_with(&server, &client).await, Ok(second.clone()));
    std::fs::copy(authority.path("other.pem"), &info.cert_file).expect("copied");
    let third = shake_with(&server, &client).await.expect("a handshake");
    assert_ne!(second, third);
}

#[tokio::test]
async fn s37_cas_follow_their_file_on_both_sides() {
    let (old, new) = (Authority::new(), Authority::new());
    old.issue("a", "a", &["localhost"], 1);
    new.issue("b", "b", &["localhost"], 2);
    let mut info = old.info("a");
    info.trusted_ca_file = old.path("trusted.pem");
    let trust = |authorities: &[&Authority]| {
        let texts = authorities
            .iter()
            .map(|authority| std::fs::read_to_string(authority.path("ca.pem")).expect("a CA"));
        std::fs::write(old.path("trusted.pem"), texts.collect::<String>()).expect("written");
    };
    trust(&[&old]);
    let (server, dialer) = (
        server_tls(&info).expect("TLS"),
        client_tls(&info).expect("TLS"),
    );
    // Of the new CA, and believing both.
    let mut stranger = new.info("b");
    stranger.trusted_ca_file = old.path("both.pem");
    trust(&[&old, &new]);
    std::fs::copy(old.path("trusted.pem"), old.path("both.pem")).expect("copied");
    let (new_server, new_client) = (
        server_tls(&stranger).expect("TLS"),
        client_tls(&stranger).expect("TLS"),
    );
    trust(&[&old]);
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(
        shake_with(&server, &new_client).await,
        Err(unknown.to_owned())
    );
    assert!(shake_with(&new_server, &dialer).await.is_err());
    trust(&[&old, &new]);
    shake_with(&server, &new_client)
        .await
        .expect("believed now");
    shake_with(&new_server, &dialer)
        .await
        .expect("believed now");
    shake_with(&server, &dialer).await.expect("still believed");
    // Half a file is none.
    let both = std::fs::read(old.path("both.pem")).expect("CAs");
    std::fs::write(old.path("trusted.pem"), &both[..both.len() - 40]).expect("written");
    shake_with(&server, &new_client)
        .await
        .expect("believed still");
    trust(&[&new]);
    let mut mine = old.info("a");
    mine.trusted_ca_file = old.path("both.pem");
    let old_client = client_tls(&mine).expect("TLS");
    let error = shake_with(&server, &old_client).await.expect_err("dropped");
    assert_eq!(error, unknown);
    shake_with(&server, &new_client).await.expect("believed");
}

#[tokio::test]
async fn s37_a_list_follows_its_file_and_holds_for_whoever_was_here_before() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.issue("client", "c", &[], 2);
    authority.revoke(&[7]);
    let mut info = authority.info("server");
    info.crl_file = authority.path("crl.der");
    let server = server_tls(&info).expect("TLS");
    let client = client_tls(&authority.info("client")).expect("TLS");
    // A client that resumes sessions wherever it may.
    let mut eager = (*client.current()).clone();
    eager.resumption = rustls::client::Resumption::default();
    let eager = std::sync::Arc::new(eager);
    for _ in 0..2 {
        shake_as(server.current(), eager.clone())
            .await
            .expect("a handshake");
    }
    authority.revoke(&[2]);
    let revoked = Err("transport: certificate serial 02 revoked".to_owned());
    assert_eq!(shake_as(server.current(), eager).await, revoked);
    assert_eq!(shake_with(&server, &client).await, revoked);
    std::fs::write(authority.path("crl.der"), "nonsense").expect("written");
    assert_eq!(
        shake_with(&server, &client).await,
        revoked,
        "the last good one holds"
    );
    authority.revoke(&[]);
    shake_with(&server, &client).await.expect("forgiven");
}

/// A file system that does not answer: here a pipe that nobody writes to.
#[test]
fn s37_a_file_that_hangs_holds_up_one_connection_only() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.revoke(&[]);
    let mut info = authority.info("server");
    info.crl_file = authority.path("crl.der");
    let server = server_tls(&info).expect("TLS");
    std::fs::remove_file(&info.crl_file).expect("removed");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &info.crl_file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a pipe");
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| server.current());
        // Opening waits for a reader: the one that hangs.
        let mut pipe = std::fs::File::options()
            .write(true)
            .open(&info.crl_file)
            .expect("open");
        for _ in 0..10 {
            server.current();
        }
        assert!(!hangs.is_finished());
        std::io::Write::write_all(&mut pipe, b"nonsense").expect("written");
        // It looks a few times; each ends with the pipe's other end.
        drop(pipe);
        while !hangs.is_finished() {
            let nonblocking = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
            // Fails while nobody reads.
            drop(rustix::fs::open(
                &info.crl_file,
                nonblocking,
                rustix::fs::Mode::empty(),
            ));
            std::thread::yield_now();
        }
    });
}

/// Kubernetes exchanges a directory of files as a whole, by one symbolic link.
#[tokio::test]
async fn s37_a_pair_is_read_as_of_one_moment() {
    let authority = Authority::new();
    authority.issue("client", "c", &[], 1);
    let volume = tempfile::tempdir().expect("a directory");
    let at = |name: &str| volume.path().join(name);
    let switch = |issue: u64| {
        authority.issue("tls", "s", &["localhost"], issue);
        let inner = format!("..{issue}");
        std::fs::create_dir(at(&inner)).expect("made");
        for name in ["tls.pem", "tls.key"] {
            std::fs::copy(authority.path(name), at(&inner).join(name)).expect("copied");
        }
        std::os::unix::fs::symlink(&inner, at("..data_tmp")).expect("linked");
        std::fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
        if issue > 100 {
            std::fs::remove_dir_all(at(&format!("..{}", issue - 1))).expect("removed");
        }
    };
    switch(100);
    for name in ["tls.pem", "tls.key"] {
        let inner = std::path::Path::new("..data").join(name);
        std::os::unix::fs::symlink(inner, at(name)).expect("linked");
    }
    let mut info = authority.info("client");
    info.cert_file = at("tls.pem").display().to_string();
    info.key_file = at("tls.key").display().to_string();
    let server = server_tls(&info).expect("TLS");
    let client = client_tls(&authority.info("client")).expect("TLS");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // Opened anew, it has nothing to fall back on: a torn pair is an error.
                server_tls(&info).expect("a pair of one issue");
            }
        });
        for issue in 101..150 {
            switch(issue);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let served = shake_with(&server, &client).await.expect("a handshake");
    let (_, cert) = <x509_parser::prelude::X509Certificate<'_> as x509_parser::prelude::FromDer<
        '_,
        _,
    >>::from_der(&served)
    .expect("a certificate");
    assert_eq!(cert.tbs_certificate.serial, 149u32.into());
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
    let error = shake(&server, &client).await.expect_err("no list");
    assert_eq!(
        error,
        format!(
            "open {}: no such file or directory (--client-crl-file)",
            authority.path("crl.der")
        )
    );
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
        let bytes = std::fs::read(authority.path("x.pem")).expect("a file");
        rustls::pki_types::pem::PemObject::from_pem_slice(&bytes).expect("a certificate")
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
fn mistakes_in_files_show_at_the_start_with_flag_and_file() {
    let authority = Authority::new();
    authority.issue("a", "a", &[], 1);
    authority.issue("b", "b", &[], 2);
    std::fs::write(authority.path("empty"), "").expect("written");
    let said = |change: &dyn Fn(&mut TlsInfo)| {
        let mut info = authority.info("a");
        change(&mut info);
        server_tls(&info).expect_err("a mistake").to_string()
    };
    let path = |name: &str| authority.path(name);
    assert_eq!(
        said(&|info| info.key_file = path("b.key")),
        format!(
            "tls: private key does not match public key (--cert-file={}, --key-file={})",
            path("a.pem"),
            path("b.key")
        )
    );
    let half = said(&|info| info.key_file = String::new());
    assert_eq!(
        half,
        format!(
            "KeyFile and CertFile must both be present[key: , cert: {}]",
            path("a.pem")
        )
    );
    assert_eq!(
        said(&|info| info.trusted_ca_file = "/nonexistent".to_owned()),
        "open /nonexistent: no such file or directory (--trusted-ca-file)"
    );
    assert_eq!(
        said(&|info| info.trusted_ca_file = path("empty")),
        format!(
            "tls: failed to find any PEM data in CA certificate input (--trusted-ca-file={})",
            path("empty")
        )
    );
    assert_eq!(
        said(&|info| {
            info.side = crate::config::TlsSide::Peer;
            info.client_cert_file = path("a.pem");
            info.client_key_file = path("empty");
        }),
        format!(
            "tls: failed to find any PEM data in key input (--peer-client-key-file={})",
            path("empty")
        )
    );
    let list = said(&|info| info.crl_file = path("empty"));
    assert!(list.starts_with("x509: malformed crl: "), "{list}");
    assert!(
        list.ends_with(&format!("(--client-crl-file={})", path("empty"))),
        "{list}"
    );
}

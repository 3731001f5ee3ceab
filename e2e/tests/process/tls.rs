//! Flags of TLS, with stock etcdctl or a client that does as it is told.

use std::path::Path;

use etcd_e2e::etcdctl::{self, Output};
use etcd_e2e::http;
use etcd_e2e::https;
use etcd_e2e::ports::Port;
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Authority, Etcdctl, Leaf, Options, Pair, Process, Secure, Target};

use crate::tls_world::{WITHIN, etcdctl, flag, presenting, refused, secure_cluster, served};

#[tokio::test]
async fn client_cert_auth_alone_asks_the_machines_authorities() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let flags = server.flags("--").into_iter();
    let member = Process::start_https(
        Options::single(),
        flags.chain(["--client-cert-auth".to_owned()]),
    )
    .await
    .unwrap();
    let client = presenting(etcdctl(&member, &ours), &server);
    refused(&client).await;
    member
        .logged("x509: certificate signed by unknown authority", WITHIN)
        .await;
}

#[tokio::test]
async fn allowed_names_of_clients() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let good = ours
        .issue(&Leaf::new("good").hosts(&["app.example"]))
        .unwrap();
    let bad = ours
        .issue(&Leaf::new("bad").hosts(&["other.example"]))
        .unwrap();
    let flags = [
        flag("--trusted-ca-file", &ours.ca()),
        "--client-cert-allowed-hostname=x.example,app.example".to_owned(),
    ];
    let flags = server.flags("--").into_iter().chain(flags);
    let member = Process::start_https(Options::single(), flags)
        .await
        .unwrap();
    served(&presenting(etcdctl(&member, &ours), &good)).await;
    refused(&presenting(etcdctl(&member, &ours), &bad)).await;
    member
        .logged("client certificate authentication failed", WITHIN)
        .await;
}

#[tokio::test]
async fn s37_a_revoked_client_is_refused_on_every_listener() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let good = ours.issue(&Leaf::new("good").serial(21)).unwrap();
    let bad = ours.issue(&Leaf::new("bad").serial(22)).unwrap();
    let crl = ours.revoke(&[7, 22]).unwrap();
    let ports = [Port::reserve().unwrap(), Port::reserve().unwrap()];
    let [metrics, http] = ports
        .each_ref()
        .map(|port| port.url().replacen("http", "https", 1));
    let flags = [
        flag("--trusted-ca-file", &ours.ca()),
        flag("--client-crl-file", &crl),
        format!("--listen-metrics-urls={metrics}"),
        // gRPC has a listener of its own then, for which etcd once forgot the list.
        format!("--listen-client-http-urls={http}"),
    ];
    let flags = server.flags("--").into_iter().chain(flags);
    let member = Process::start_https(Options::single(), flags)
        .await
        .unwrap();
    served(&presenting(etcdctl(&member, &ours), &good)).await;
    refused(&presenting(etcdctl(&member, &ours), &bad)).await;
    // Where gRPC shakes hands by itself, etcd says nothing.
    if Target::from_env() == Target::Ours {
        member
            .logged("transport: certificate serial 16 revoked", WITHIN)
            .await;
    }
    for url in [metrics, http] {
        let url = format!("{url}/health");
        let client = Secure::new(&[&ours]);
        assert_eq!(
            client.clone().with(&good).get(&url).await.unwrap().status,
            200
        );
        client.with(&bad).get(&url).await.unwrap_err();
    }
}

#[tokio::test]
async fn clients_own_pair_is_checked() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let other = ours.issue(&Leaf::new("other")).unwrap();
    let mixed = Pair {
        cert: other.cert.clone(),
        key: server.key.clone(),
    };
    let flags = server.flags("--").into_iter();
    Process::start_https(
        Options::single(),
        flags.clone().chain(other.flags("--client-")),
    )
    .await
    .unwrap();
    let output = started_in_vain(flags.chain(mixed.flags("--client-")).collect()).await;
    let said = reason(&output);
    let words = "tls: private key does not match public key";
    let named = match Target::from_env() {
        Target::Stock => words.to_owned(),
        Target::Ours => format!(
            "{words} ({}, {})",
            flag("--client-cert-file", &mixed.cert),
            flag("--client-key-file", &mixed.key),
        ),
    };
    assert_eq!(said, named);
}

#[tokio::test]
async fn validity_of_certificates_of_their_own_making() {
    let flags = ["--auto-tls", "--self-signed-cert-validity=3"].map(str::to_owned);
    let member = Process::start_https(Options::single(), flags)
        .await
        .unwrap();
    let path = member.data_dir().join("fixtures/client/cert.pem");
    let not_after = until(&https::leaf(&path).unwrap());
    let years = (not_after - jiff::Timestamp::now().as_second()) as f64 / (365.0 * 86_400.0);
    assert!((2.9..3.1).contains(&years), "{years}");
    let output = started_in_vain(vec![
        "--auto-tls".to_owned(),
        "--self-signed-cert-validity=0".to_owned(),
    ])
    .await;
    assert!(
        output
            .stderr
            .contains("selfSignedCertValidity is invalid,it should be greater than 0"),
        "{}",
        output.stderr
    );
}

/// Until when a certificate is valid, in seconds since 1970: the second of two times in its validity.
fn until(der: &[u8]) -> i64 {
    // Times of this century are UTCTime, 13 bytes: YYMMDDhhmmssZ.
    let is_time = |window: &&[u8]| window.starts_with(&[0x17, 13]) && window[14] == b'Z';
    let time = der.windows(15).filter(is_time).nth(1).unwrap();
    let text = std::str::from_utf8(&time[2..14]).unwrap();
    let parsed = jiff::civil::DateTime::strptime("%y%m%d%H%M%S", text).unwrap();
    parsed
        .to_zoned(jiff::tz::TimeZone::UTC)
        .unwrap()
        .timestamp()
        .as_second()
}

/// Three members over TLS among each other and to clients, where members have one
/// certificate for their listeners and another for their own connections.
#[tokio::test]
async fn members_and_clients_over_tls() {
    let (peers, clients) = (
        Authority::new("peers").unwrap(),
        Authority::new("clients").unwrap(),
    );
    let listener = peers.issue(&Leaf::new("listener").server_only()).unwrap();
    let own = peers.issue(&Leaf::new("own").client_only()).unwrap();
    let server = clients.issue(&Leaf::new("server")).unwrap();
    let user = clients.issue(&Leaf::new("user").client_only()).unwrap();
    let flags = [
        "--peer-client-cert-auth".to_owned(),
        flag("--peer-trusted-ca-file", &peers.ca()),
        "--peer-cert-allowed-cn=listener,own".to_owned(),
        "--client-cert-auth".to_owned(),
        flag("--trusted-ca-file", &clients.ca()),
    ];
    let flags = flags
        .into_iter()
        .chain(listener.flags("--peer-"))
        .chain(own.flags("--peer-client-"))
        .chain(server.flags("--"));
    let cluster = secure_cluster(&[Target::from_env(); 3], flags, true).await;
    let endpoints: Vec<String> = cluster.iter().map(Process::https_client_url).collect();
    let etcdctl = presenting(
        Etcdctl::new(&endpoints)
            .unwrap()
            .flags([flag("--cacert", &clients.ca())]),
        &user,
    );
    served(&etcdctl).await;
    let health = etcdctl.run(&["endpoint", "health"]).await.unwrap();
    assert_eq!(health.matches("is healthy").count(), 3, "{health}");
    let hashes = etcdctl
        .run(&["endpoint", "hashkv", "-w", "simple"])
        .await
        .unwrap();
    assert_eq!(hashes.lines().count(), 3, "{hashes}");
    // X15: a user's certificate is no member's, and a listener's none for connecting.
    for (pair, why) in [
        (&user, "x509: certificate signed by unknown authority"),
        (
            &listener,
            "x509: certificate specifies an incompatible key usage",
        ),
    ] {
        let url = format!("{}/version", cluster[0].https_peer_url());
        Secure::new(&[&peers])
            .with(pair)
            .get(&url)
            .await
            .unwrap_err();
        cluster[0].logged(why, WITHIN).await;
    }
}

#[tokio::test]
async fn x15_a_clients_certificate_is_no_members() {
    // One authority for all: only names tell them apart.
    let ours = Authority::new("ours").unwrap();
    let member = ours.issue(&Leaf::new("member")).unwrap();
    let user = ours.issue(&Leaf::new("user")).unwrap();
    let elsewhere = ours
        .issue(&Leaf::new("elsewhere").hosts(&["10.255.255.1"]))
        .unwrap();
    for (allowed, why) in [
        (
            "--peer-cert-allowed-cn=member",
            "client certificate authentication failed",
        ),
        (
            "--peer-cert-allowed-hostname=member.example",
            "client certificate authentication failed",
        ),
        (
            "",
            "x509: certificate is valid for 10.255.255.1, not 127.0.0.1",
        ),
    ] {
        let named = ours
            .issue(&Leaf::new("member").hosts(&["127.0.0.1", "member.example"]))
            .unwrap();
        assert_eq!(named, member);
        let flags = [flag("--peer-trusted-ca-file", &ours.ca())];
        let flags = flags.into_iter().chain(named.flags("--peer-"));
        let flags = flags.chain(Some(allowed.to_owned()).filter(|flag| !flag.is_empty()));
        let cluster = secure_cluster(&[Target::from_env()], flags, false).await;
        let url = format!("{}/version", cluster[0].https_peer_url());
        let client = Secure::new(&[&ours]);
        assert_eq!(
            client.clone().with(&named).get(&url).await.unwrap().status,
            200
        );
        let refused = if allowed.is_empty() {
            &elsewhere
        } else {
            &user
        };
        client.with(refused).get(&url).await.unwrap_err();
        cluster[0].logged(why, WITHIN).await;
    }
}

#[tokio::test]
async fn peer_auto_tls_of_three() {
    // What can be verified of nobody is demanded of nobody.
    let flags = ["--peer-auto-tls", "--peer-client-cert-auth"].map(str::to_owned);
    let cluster = secure_cluster(&[Target::from_env(); 3], flags, false).await;
    let endpoints: Vec<String> = cluster.iter().map(Process::client_url).collect();
    served(&Etcdctl::new(&endpoints).unwrap()).await;
    let url = format!("{}/version", cluster[0].https_peer_url());
    let answer = Secure::new(&[]).get(&url).await.unwrap();
    let path = cluster[0].data_dir().join("fixtures/peer/cert.pem");
    assert_eq!(answer.leaf, https::leaf(&path).unwrap());
}

#[tokio::test]
async fn a_port_may_serve_both_kinds_of_clients() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let mut member = Process::prepare(Options::single()).unwrap();
    let both = format!("{},{}", member.client_url(), member.https_client_url());
    let options = member.options();
    options.args.extend([
        format!("--listen-client-urls={both}"),
        format!("--advertise-client-urls={both}"),
        flag("--trusted-ca-file", &ours.ca()),
        "--host-whitelist=nobody.example".to_owned(),
    ]);
    options.args.extend(server.flags("--"));
    member.spawn().unwrap();
    member.ready().await.unwrap();
    served(&Etcdctl::new(&[member.client_url()]).unwrap()).await;
    served(&presenting(etcdctl(&member, &ours), &server)).await;
    refused(&etcdctl(&member, &ours)).await;
    // Names of hosts matter where there is no TLS.
    let health = "health";
    let plain = http::get(&format!("{}/{health}", member.client_url())).await;
    assert_eq!(plain.unwrap().0, 421);
    let secure = Secure::new(&[&ours]).with(&server);
    let secure = secure
        .get(&format!("{}/{health}", member.https_client_url()))
        .await;
    assert_eq!(secure.unwrap().status, 200);
}

#[tokio::test]
async fn ours_and_stock_members_over_tls() {
    let peers = Authority::new("peers").unwrap();
    let pair = peers.issue(&Leaf::new("member")).unwrap();
    let flags = [
        "--peer-client-cert-auth".to_owned(),
        flag("--peer-trusted-ca-file", &peers.ca()),
    ];
    let flags = flags.into_iter().chain(pair.flags("--peer-"));
    let targets = [Target::Stock, Target::Ours, Target::Stock];
    let mut cluster = secure_cluster(&targets, flags, false).await;
    for (number, member) in cluster.iter().enumerate() {
        let value = number.to_string();
        member.client().put("from", &value).await.unwrap();
        for reader in &cluster {
            let found = reader.client().get("from").await.unwrap();
            assert_eq!(found.kvs[0].value, value.as_bytes());
        }
    }
    // And again on connections that ours makes, and takes, anew.
    cluster[1].restart().await.unwrap();
    cluster[1].client().put("from", "restarted").await.unwrap();
    let found = cluster[0].client().get("from").await.unwrap();
    assert_eq!(found.kvs[0].value, "restarted");
}

/// Runs a member that must end by itself, with exit code 1.
async fn started_in_vain(more: Vec<String>) -> Output {
    let scratch = Scratch::new().unwrap();
    let ports = [Port::reserve().unwrap(), Port::reserve().unwrap()];
    let [client, peer] = ports
        .each_ref()
        .map(|port| port.url().replacen("http", "https", 1));
    let peer = peer.replacen("https", "http", 1);
    let mut args = vec![
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ];
    args.extend(more);
    let program = Target::from_env().etcd().unwrap();
    let output = etcdctl::run(&program, &args, &[], scratch.path())
        .await
        .unwrap();
    assert_eq!(output.code, Some(1), "{args:?}: {output:?}");
    output
}

/// The line that says why: the last of the log, and its error.
fn reason(output: &Output) -> String {
    let lines = output.stderr.lines();
    let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut errors = parsed.filter_map(|line| line["error"].as_str().map(str::to_owned));
    errors
        .next_back()
        .unwrap_or_else(|| panic!("{}", output.stderr))
}

#[tokio::test]
async fn mistakes_end_the_start_with_file_and_flag() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let other = ours.issue(&Leaf::new("other")).unwrap();
    let empty = ours.path("empty");
    std::fs::write(&empty, "no certificate at all\n").unwrap();
    let absent = Path::new("/nonexistent/file");
    let mixed = Pair {
        cert: server.cert.clone(),
        key: other.key.clone(),
    };
    // With the words of etcd, and how ours goes on: what etcd starts with, and then serves
    // nobody, ends ours too.
    let cases: [(Vec<String>, &str, Option<&str>); 5] = [
        (
            mixed.flags("--").into(),
            "tls: private key does not match public key",
            Some("--key-file="),
        ),
        (
            Pair {
                cert: absent.into(),
                key: server.key.clone(),
            }
            .flags("--")
            .into(),
            "open /nonexistent/file: no such file or directory",
            Some("--cert-file"),
        ),
        (
            [
                server.flags("--").to_vec(),
                vec![flag("--trusted-ca-file", absent)],
            ]
            .concat(),
            "open /nonexistent/file: no such file or directory",
            Some("--trusted-ca-file"),
        ),
        (
            [
                server.flags("--").to_vec(),
                vec![flag("--trusted-ca-file", &empty)],
            ]
            .concat(),
            "tls: failed to find any PEM data in CA certificate input",
            None,
        ),
        (
            [
                server.flags("--").to_vec(),
                vec![
                    flag("--trusted-ca-file", &ours.ca()),
                    flag("--client-crl-file", &empty),
                ],
            ]
            .concat(),
            "x509: malformed crl",
            None,
        ),
    ];
    let target = Target::from_env();
    for (flags, words, rest) in cases {
        if target == Target::Stock && rest.is_none() {
            continue;
        }
        let said = reason(&started_in_vain(flags.clone()).await);
        assert!(said.starts_with(words), "{flags:?}: {said}");
        if target == Target::Ours {
            let named = flags.last().unwrap();
            let path = named.split_once('=').unwrap().1;
            let named = rest.unwrap_or(named);
            assert!(said.contains(named), "{said} does not name {named}");
            assert!(
                rest.is_some() || said.contains(path),
                "{said} does not name {path}"
            );
        }
    }
}

#[tokio::test]
async fn flags_that_contradict_each_other() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    for (flags, words) in [
        (
            vec!["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            vec!["--tls-min-version=TLS1.1"],
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            vec![
                "--tls-min-version=TLS1.3",
                "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            ],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            vec!["--cipher-suites=TLS_NO_SUCH_SUITE"],
            "unexpected TLS cipher suite \"TLS_NO_SUCH_SUITE\"",
        ),
    ] {
        let flags = flags.into_iter().map(str::to_owned);
        let output = started_in_vain(server.flags("--").into_iter().chain(flags).collect()).await;
        assert!(reason(&output).contains(words), "{}", output.stderr);
    }
    let alone = started_in_vain(Vec::new()).await;
    let words = "TLS key/cert (--cert-file, --key-file) must be provided for client url";
    assert!(reason(&alone).contains(words), "{}", alone.stderr);
}

#[tokio::test]
async fn an_expired_certificate_is_served_and_warned_of() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server").expired()).unwrap();
    let member = Process::start_https(Options::single(), server.flags("--"))
        .await
        .unwrap();
    refused(&etcdctl(&member, &ours)).await;
    if Target::from_env() == Target::Ours {
        let log = member.log();
        let told = |line: &&str| {
            line.contains("certificate has expired or is not yet valid; it will be refused")
                && line.contains(&server.cert.display().to_string())
        };
        assert_eq!(log.lines().filter(told).count(), 1, "{log}");
    }
    let careless = Etcdctl::new(&[member.https_client_url()]).unwrap();
    served(&careless.flags(["--insecure-skip-tls-verify"])).await;
}

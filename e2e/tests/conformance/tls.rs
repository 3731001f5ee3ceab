//! Who may speak to whom over TLS, and in which words a server refuses.

use std::time::Duration;

use etcd_e2e::{Authority, Etcdctl, Leaf, Options, Pair, Process, Secure};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);
const REJECTED: &str = "rejected connection on client endpoint";

/// A server's certificate of an authority, and the flags for it.
struct World {
    authority: Authority,
    server: Pair,
}

impl World {
    fn new() -> World {
        let authority = Authority::new("ours").unwrap();
        let server = authority.issue(&Leaf::new("server")).unwrap();
        World { authority, server }
    }

    async fn start(&self, more: &[&str]) -> Process {
        let flags = self.server.flags("--").into_iter();
        let flags = flags.chain(more.iter().map(|flag| (*flag).to_owned()));
        Process::start_https(Options::single(), flags)
            .await
            .unwrap()
    }

    fn ca_flag(&self) -> String {
        format!("--trusted-ca-file={}", self.authority.ca().display())
    }

    fn etcdctl(&self, url: &str) -> Etcdctl {
        Etcdctl::new(&[url.to_owned()])
            .unwrap()
            .flags(["--command-timeout=3s".to_owned()])
            .flags([format!("--cacert={}", self.authority.ca().display())])
    }
}

fn presenting(etcdctl: Etcdctl, pair: &Pair) -> Etcdctl {
    etcdctl.flags([
        format!("--cert={}", pair.cert.display()),
        format!("--key={}", pair.key.display()),
    ])
}

async fn refused(etcdctl: &Etcdctl) {
    let output = etcdctl.try_run(&["put", "a", "refused"]).await.unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
}

async fn served(etcdctl: &Etcdctl) {
    assert_eq!(etcdctl.run(&["put", "a", "1"]).await.unwrap(), "OK\n");
    assert_eq!(etcdctl.run(&["get", "a"]).await.unwrap(), "a\n1\n");
}

#[tokio::test]
async fn b167_plain_client_at_a_secure_listener() {
    let world = World::new();
    let server = world.start(&[]).await;
    let plain = Etcdctl::new(&[server.client_url()]).unwrap();
    refused(&plain.flags(["--command-timeout=3s"])).await;
    server.logged(REJECTED, WITHIN).await;
    server
        .logged(
            "tls: first record does not look like a TLS handshake",
            WITHIN,
        )
        .await;
    served(&world.etcdctl(&server.https_client_url())).await;
}

#[tokio::test]
async fn b167_secure_client_at_a_plain_listener() {
    let world = World::new();
    let server = Process::start(Options::single()).await.unwrap();
    refused(&world.etcdctl(&server.https_client_url())).await;
    served(&Etcdctl::new(&[server.client_url()]).unwrap()).await;
}

#[tokio::test]
async fn b167_plain_peer_at_a_secure_listener() {
    let world = World::new();
    let mut server = Process::prepare(Options::single()).unwrap();
    let url = server.https_peer_url();
    let args = [
        format!("--listen-peer-urls={url}"),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster=default={url}"),
        format!("--peer-trusted-ca-file={}", world.authority.ca().display()),
    ];
    server.options().args.extend(args);
    server.options().args.extend(world.server.flags("--peer-"));
    server.spawn().unwrap();
    server.ready().await.unwrap();
    let plain = server.peer_url();
    let mut stream = TcpStream::connect(plain.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    stream
        .write_all(b"GET /version HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // Closed in either way, perhaps after an alert.
    let _end = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("etcdserver"));
    server
        .logged("rejected connection on peer endpoint", WITHIN)
        .await;
    let stranger = Authority::new("theirs").unwrap();
    let foreign = stranger.issue(&Leaf::new("foreign")).unwrap();
    for who in [
        Secure::new(&[&world.authority]),
        Secure::new(&[&world.authority]).with(&foreign),
    ] {
        who.get(&format!("{url}/version")).await.unwrap_err();
    }
    let member = Secure::new(&[&world.authority]).with(&world.server);
    let version = member.get(&format!("{url}/version")).await.unwrap();
    assert_eq!(version.status, 200);
}

#[tokio::test]
async fn b167_clients_without_a_good_certificate() {
    let world = World::new();
    let server = world.start(&["--client-cert-auth", &world.ca_flag()]).await;
    let url = server.https_client_url();
    refused(&world.etcdctl(&url)).await;
    server
        .logged("tls: client didn't provide a certificate", WITHIN)
        .await;
    let foreign = Authority::new("theirs").unwrap();
    let foreign = foreign.issue(&Leaf::new("foreign")).unwrap();
    refused(&presenting(world.etcdctl(&url), &foreign)).await;
    server
        .logged("x509: certificate signed by unknown authority", WITHIN)
        .await;
    let old = world.authority.issue(&Leaf::new("old").expired()).unwrap();
    refused(&presenting(world.etcdctl(&url), &old)).await;
    server
        .logged("x509: certificate has expired or is not yet valid", WITHIN)
        .await;
    let no_client = world
        .authority
        .issue(&Leaf::new("no-client").server_only())
        .unwrap();
    refused(&presenting(world.etcdctl(&url), &no_client)).await;
    server
        .logged(
            "x509: certificate specifies an incompatible key usage",
            WITHIN,
        )
        .await;
    let client = world
        .authority
        .issue(&Leaf::new("client").client_only().hosts(&[]))
        .unwrap();
    served(&presenting(world.etcdctl(&url), &client)).await;
}

#[tokio::test]
async fn b168_cipher_suites_in_common() {
    let world = World::new();
    let server = world
        .start(&["--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"])
        .await;
    let health = format!("{}/health", server.https_client_url());
    let client = Secure::new(&[&world.authority]).version(&TLS12);
    let other = client
        .clone()
        .suite(TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    other.get(&health).await.unwrap_err();
    server
        .logged(
            "tls: no cipher suite supported by both client and server",
            WITHIN,
        )
        .await;
    let same = client.suite(TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    assert_eq!(same.get(&health).await.unwrap().status, 200);
    // The list is about TLS 1.2.
    served(&world.etcdctl(&server.https_client_url())).await;
}

#[tokio::test]
async fn b168_s40_versions_below_the_lowest() {
    let world = World::new();
    let server = world.start(&["--tls-min-version=TLS1.3"]).await;
    let health = format!("{}/health", server.https_client_url());
    let client = Secure::new(&[&world.authority]);
    client
        .clone()
        .version(&TLS12)
        .get(&health)
        .await
        .unwrap_err();
    server.logged(REJECTED, WITHIN).await;
    server
        .logged("tls: client offered only unsupported versions", WITHIN)
        .await;
    assert_eq!(
        client.version(&TLS13).get(&health).await.unwrap().status,
        200
    );
    served(&world.etcdctl(&server.https_client_url())).await;
}

#[tokio::test]
async fn b168_versions_above_the_highest() {
    let world = World::new();
    let server = world
        .start(&["--tls-min-version=TLS1.2", "--tls-max-version=TLS1.2"])
        .await;
    let health = format!("{}/health", server.https_client_url());
    let client = Secure::new(&[&world.authority]);
    client
        .clone()
        .version(&TLS13)
        .get(&health)
        .await
        .unwrap_err();
    server.logged(REJECTED, WITHIN).await;
    assert_eq!(
        client.version(&TLS12).get(&health).await.unwrap().status,
        200
    );
    served(&world.etcdctl(&server.https_client_url())).await;
}

#[tokio::test]
async fn b167_certificates_of_their_own_making() {
    // There is nothing to verify a client with, whatever is asked for.
    let flags = ["--auto-tls", "--client-cert-auth"].map(str::to_owned);
    let server = Process::start_https(Options::single(), flags)
        .await
        .unwrap();
    let folder = server.data_dir().join("fixtures/client");
    let served_leaf = |answer: etcd_e2e::https::Answer| answer.leaf;
    let health = format!("{}/health", server.https_client_url());
    let first = served_leaf(Secure::new(&[]).get(&health).await.unwrap());
    assert_eq!(
        first,
        etcd_e2e::https::leaf(&folder.join("cert.pem")).unwrap()
    );
    let believing = Etcdctl::new(&[server.https_client_url()]).unwrap();
    let believing = believing.flags([format!("--cacert={}", folder.join("cert.pem").display())]);
    served(&believing).await;
    let careless = Etcdctl::new(&[server.https_client_url()]).unwrap();
    served(&careless.flags(["--insecure-skip-tls-verify"])).await;
    let wary = Etcdctl::new(&[server.https_client_url()]).unwrap();
    refused(&wary.flags(["--command-timeout=3s"])).await;
}

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::certificates::{Leaf, issue, new_authority};

const HOST: &str = "demo-0-0.demo-peer.ns.svc";

fn authority(tag: &str) -> Pair {
    new_authority("CA", tag, 86_400, Timestamp::now()).unwrap()
}

fn certificate(ca: &Pair, names: &[&str], server: bool) -> Pair {
    let leaf = Leaf {
        common_name: "x".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        server,
        seconds: 3600,
    };
    issue(ca, &leaf, Timestamp::now()).unwrap()
}

/// A listener that shows `pair` and takes clients of `ca`; its port.
async fn listener(pair: &Pair, ca: &Pair) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.cert.as_bytes()).flatten());
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue; // a client that is not taken, which is what is looked at
            };
            let mut request = [0; 64];
            if stream.read(&mut request).await.is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
        }
    });
    port
}

fn secure(pair: &Pair, believes: &Pair) -> Secure {
    Secure {
        host: HOST.to_owned(),
        identity: Identity::new(pair, &believes.cert, b"http/1.1").unwrap(),
    }
}

#[tokio::test]
async fn a_greeting_tells_what_is_shown_and_who_is_taken() {
    let (ca, other) = (authority("1"), authority("2"));
    let shown = certificate(&ca, &[HOST], true);
    let port = listener(&shown, &ca).await;
    let greet = async |own: &Pair, believes: &Pair| {
        greet(
            "127.0.0.1",
            port,
            &secure(&certificate(own, &[], false), believes),
        )
        .await
    };
    let fingerprint = shown.seen().unwrap().fingerprint;
    let taken = greet(&ca, &ca).await;
    assert_eq!(
        (taken.served.as_ref(), taken.accepted),
        (Some(&fingerprint), Some(true))
    );
    let refused = greet(&other, &ca).await;
    assert_eq!(
        (refused.served.as_ref(), refused.accepted),
        (Some(&fingerprint), Some(false))
    );
    let not_believed = greet(&ca, &other).await;
    assert_eq!(not_believed, Greeting::default());
}

#[tokio::test]
async fn s40_another_member_at_the_address_is_not_believed() {
    let ca = authority("1");
    let other = certificate(&ca, &["demo-1-0.demo-peer.ns.svc"], true);
    let port = listener(&other, &ca).await;
    let own = secure(&certificate(&ca, &[], false), &ca);
    assert!(connect("127.0.0.1", port, &own).await.is_err());
    assert!(!format!("{own:?}").contains("KEY"));
}

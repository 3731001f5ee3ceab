//! TLS in the members' name: each shows what is in its Secret, as its pod would mount it,
//! and takes who has a certificate of the same CA.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use anyhow::{Context, Result};
use futures::Stream;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Ports that speak TLS, and what their keys in a Secret begin with.
const PORTS: [(u16, &str); 2] = [(2379, "client"), (2380, "peer")];

/// How members listen, by address and port; in plain, if it is not in here.
#[derive(Default)]
pub(super) struct Secure(Mutex<HashMap<(Ipv4Addr, u16), Arc<ServerConfig>>>);

impl Secure {
    /// Reads the Secret that a pod mounts, if it mounts one and it was not read before.
    pub(super) async fn mount(&self, client: &Client, pod: &Pod, address: Ipv4Addr) -> Result<()> {
        let Some(name) = mounted(pod) else {
            return Ok(());
        };
        if self.0.lock().contains_key(&(address, PORTS[0].0)) {
            return Ok(());
        }
        let secrets: Api<Secret> =
            Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let secret = secrets.get(&name).await;
        let secret = secret.with_context(|| format!("the Secret {name}"))?;
        for (port, purpose) in PORTS {
            let config = config(&secret, purpose).with_context(|| format!("{purpose}: {name}"))?;
            self.0.lock().insert((address, port), Arc::new(config));
        }
        Ok(())
    }

    fn of(&self, address: SocketAddr) -> Option<Arc<ServerConfig>> {
        let IpAddr::V4(ip) = address.ip() else {
            return None;
        };
        self.0.lock().get(&(ip, address.port())).cloned()
    }
}

/// The Secret with a pod's certificates.
fn mounted(pod: &Pod) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes
        .iter()
        .find(|volume| volume.name == "certificates")?;
    volume.secret.as_ref()?.secret_name.clone()
}

fn config(secret: &Secret, purpose: &str) -> Result<ServerConfig> {
    let pem = |name: &str| {
        let key = format!("{purpose}-{name}");
        let value = secret.data.as_ref().and_then(|data| data.get(&key));
        value.map(|value| value.0.as_slice()).context(key)
    };
    let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>> {
        let ders = CertificateDer::pem_slice_iter(pem(name)?);
        Ok(ders.collect::<Result<_, _>>()?)
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates("ca.crt")? {
        roots.add(authority)?;
    }
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(
            certificates("tls.crt")?,
            PrivateKeyDer::from_pem_slice(pem("tls.key")?)?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A connection, in plain or not, and from where to where it goes.
pub(super) struct Wire {
    stream: Pin<Box<dyn Duplex>>,
    between: TcpConnectInfo,
}

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// Takes connections to a port. Those that do not want HTTP/2 are answered as
/// `/version` would be.
pub(super) fn accept(
    listener: TcpListener,
    secure: Arc<Secure>,
) -> impl Stream<Item = io::Result<Wire>> {
    let (taken, wires) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (secure, taken) = (Arc::clone(&secure), taken.clone());
            tokio::spawn(async move {
                // Whoever hangs up, or is not believed, says so itself.
                if let Ok(Some(wire)) = greet(tcp, &secure).await {
                    drop(taken.send(Ok(wire)).await);
                }
            });
        }
    });
    futures::stream::unfold(wires, async |mut wires| {
        let wire = wires.recv().await?;
        Some((wire, wires))
    })
}

async fn greet(tcp: TcpStream, secure: &Secure) -> io::Result<Option<Wire>> {
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr()?;
    let between = TcpConnectInfo {
        local_addr: Some(local),
        remote_addr: tcp.peer_addr().ok(),
    };
    let Some(config) = secure.of(local) else {
        let stream = Box::pin(tcp);
        return Ok(Some(Wire { stream, between }));
    };
    let mut tls = TlsAcceptor::from(config).accept(tcp).await?;
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        let stream = Box::pin(tls);
        return Ok(Some(Wire { stream, between }));
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if tls.read_buf(&mut request).await? == 0 {
            return Ok(None);
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    tls.write_all(answer).await?;
    tls.shutdown().await?;
    Ok(None)
}

impl Connected for Wire {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.between.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(task, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(task)
    }
}

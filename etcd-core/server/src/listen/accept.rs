//! The accept loop: a task for every connection, the handshake in it, so that
//! nobody who dawdles over TLS keeps others waiting.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::bind::Listener;
use super::stream::{ConnectionInfo, Raw, Stream, keep_alive};
use crate::tls::{ServerTls, check_address, common_name, in_gos_words};

/// Pause after an accept that failed for want of something, such as files.
const PAUSE: Duration = Duration::from_millis(50);

/// TLS of a listener.
#[derive(Clone)]
pub struct Security {
    /// Certificate, versions, suites, protocols.
    pub tls: Arc<ServerTls>,
    /// Whether connections without TLS are served as well: the two are told
    /// apart by their first byte.
    pub plain_too: bool,
    /// Whether a client's certificate must name its address.
    pub check_address: bool,
    /// For the log: client or peer.
    pub endpoint: &'static str,
}

/// What those at the other end of a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a TLS handshake, and for finding out what the names in their
    /// certificate mean.
    pub handshake: Duration,
    /// Until it is clear whether they speak HTTP/1 or HTTP/2.
    pub preface: Duration,
    /// For a request's head in HTTP/1, and between requests.
    pub head: Duration,
}

impl Default for Patience {
    /// Handshake and head as in etcd, where there is no other limit.
    fn default() -> Patience {
        Patience {
            handshake: Duration::from_secs(10),
            preface: Duration::from_secs(30),
            head: Duration::from_secs(300),
        }
    }
}

/// Bounds and end of a listener.
#[derive(Clone)]
pub struct Limits {
    /// Connections at once, over all listeners that share it.
    pub connections: Arc<Semaphore>,
    /// Bounds of time.
    pub patience: Patience,
    /// Ends accepting, and asks connections to finish.
    pub stop: CancellationToken,
    /// Counts the tasks of connections.
    pub tasks: TaskTracker,
}

impl Limits {
    /// Bounds of this many connections.
    pub fn new(connections: usize) -> Limits {
        Limits {
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            patience: Patience::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Ends accepting, lets requests under way finish for `grace`, then ends
    /// all connections.
    pub async fn finish(&self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        // Connections watch the grace themselves; this is for those in a handshake.
        let _late = tokio::time::timeout(grace + PAUSE, self.tasks.wait()).await;
    }
}

/// Accepts until told to stop; `serve` gets each connection in a task of its own.
pub(super) async fn accept<F, R>(
    listener: Listener,
    security: Option<Security>,
    limits: Limits,
    serve: F,
) where
    F: Fn(Stream, ConnectionInfo) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    loop {
        let permit = tokio::select! {
            permit = limits.connections.clone().acquire_owned() => permit,
            () = limits.stop.cancelled() => return,
        };
        // Nobody closes the semaphore.
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = next(&listener) => accepted,
            () = limits.stop.cancelled() => return,
        };
        let (raw, remote, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_the_connection(&error) {
                    tracing::warn!(error = %crate::go::io_error(&error), "failed to accept a connection; retrying");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let (security, serve, patience) = (security.clone(), serve.clone(), limits.patience);
        limits.tasks.spawn(async move {
            let _permit: OwnedSemaphorePermit = permit;
            match security {
                None => serve(Stream::Plain(raw), ConnectionInfo::plain(remote, address)).await,
                Some(security) if security.plain_too && !begins_tls(&raw, patience).await => {
                    serve(Stream::Plain(raw), ConnectionInfo::plain(remote, address)).await;
                }
                Some(security) => {
                    let limit = patience.handshake;
                    if let Some((stream, info)) =
                        handshake(raw, remote, address, &security, limit).await
                    {
                        serve(stream, info).await;
                    }
                }
            }
        });
    }
}

/// Whether the other end begins with a TLS record. Who says nothing in time is
/// served plainly, and so told by what is said, or not, after that.
async fn begins_tls(raw: &Raw, patience: Patience) -> bool {
    const HANDSHAKE: u8 = 22;
    let mut first = [0];
    let Raw::Tcp(stream) = raw else {
        return true;
    };
    let peeked = tokio::time::timeout(patience.preface, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first[0] == HANDSHAKE
}

/// Errors that concern one connection and no other.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn next(listener: &Listener) -> io::Result<(Raw, String, Option<IpAddr>)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, remote) = listener.accept().await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            let address = remote.ip().to_canonical();
            let remote = std::net::SocketAddr::new(address, remote.port());
            Ok((Raw::Tcp(stream), remote.to_string(), Some(address)))
        }
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            Ok((Raw::Unix(stream), "@".to_owned(), None))
        }
    }
}

async fn handshake(
    raw: Raw,
    remote: String,
    address: Option<IpAddr>,
    security: &Security,
    limit: Duration,
) -> Option<(Stream, ConnectionInfo)> {
    let endpoint = security.endpoint;
    let tls = security.tls.clone();
    let shaken = async {
        let config = tokio::task::spawn_blocking(move || tls.current()).await?;
        TlsAcceptor::from(config).accept(raw).await
    };
    let stream = match tokio::time::timeout(limit, shaken).await {
        Ok(Ok(stream)) => stream,
        // Port scanners and health checks of load balancers say nothing at all.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!("remote-addr" = %remote, error = "EOF", "rejected connection on {endpoint} endpoint");
            return None;
        }
        Ok(Err(error)) => {
            let error = in_gos_words(error);
            tracing::warn!("remote-addr" = %remote, %error, "rejected connection on {endpoint} endpoint");
            return None;
        }
        Err(_) => {
            tracing::warn!(
                "remote-addr" = %remote, error = "handshake timed out",
                "rejected connection on {endpoint} endpoint"
            );
            return None;
        }
    };
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|certs| certs.first())
        .cloned();
    if let (true, Some(leaf), Some(address)) = (security.check_address, &leaf, address) {
        let checked = tokio::time::timeout(limit, check_address(leaf, address)).await;
        if let Err(error) = checked.unwrap_or_else(|_| Err("name lookup timed out".to_owned())) {
            tracing::warn!("remote-addr" = %remote, %error, "rejected connection on {endpoint} endpoint");
            return None;
        }
    }
    let name = leaf.and_then(|leaf| {
        let (_, cert) = X509Certificate::from_der(&leaf).ok()?;
        common_name(&cert)
    });
    let info = ConnectionInfo::secure(remote, address, name.filter(|name| !name.is_empty()));
    Some((Stream::Tls(Box::new(stream)), info))
}

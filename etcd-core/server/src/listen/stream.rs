//! One connection, of whatever kind, and who is at its other end.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::wire::Activity;

/// Silence after which the kernel asks whether the other end is there, and the
/// pause between its questions; Go's figures.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Has the kernel find out when the other end is gone without a word.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let options = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(9);
    SockRef::from(stream).set_tcp_keepalive(&options)
}

/// Who is at the other end; shared by all requests of a connection, and found
/// among each request's extensions.
#[derive(Debug, Clone)]
pub struct ConnectionInfo(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: String,
    address: Option<IpAddr>,
    secure: bool,
    common_name: Option<String>,
    activity: Activity,
}

impl ConnectionInfo {
    /// A connection without TLS.
    pub fn plain(remote: String, address: Option<IpAddr>) -> ConnectionInfo {
        ConnectionInfo(Arc::new(Inner {
            remote,
            address,
            secure: false,
            common_name: None,
            activity: Activity::default(),
        }))
    }

    /// A connection with TLS; the name is that of the client's certificate.
    pub fn secure(
        remote: String,
        address: Option<IpAddr>,
        common_name: Option<String>,
    ) -> ConnectionInfo {
        ConnectionInfo(Arc::new(Inner {
            remote,
            address,
            secure: true,
            common_name,
            activity: Activity::default(),
        }))
    }

    /// What goes on on the connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// The other end's address, for the log.
    pub fn remote(&self) -> &str {
        &self.0.remote
    }

    /// The other end's IP address; none over a unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    /// Whether the connection has TLS.
    pub fn is_secure(&self) -> bool {
        self.0.secure
    }

    /// Common name of the client's certificate, if it was verified and has one:
    /// the user that etcd's authentication takes the client for.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }
}

/// A connection before TLS.
#[derive(Debug)]
pub(super) enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// A connection that HTTP can be spoken on.
#[derive(Debug)]
pub(super) enum Stream {
    /// Plain.
    Plain(Raw),
    /// With TLS; boxed, for it is large and the plain one is not.
    Tls(Box<TlsStream<Raw>>),
}

macro_rules! each {
    ($self:expr, $kind:ident { $($variant:ident)|+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() { $($kind::$variant($stream) => $call,)+ }
    };
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, Raw { Tcp | Unix }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, Raw { Tcp | Unix }, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, Raw { Tcp | Unix }, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Raw { Tcp | Unix }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Raw { Tcp | Unix }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, Stream { Plain | Tls }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, Stream { Plain | Tls }, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, Stream { Plain | Tls }, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Stream { Plain | Tls }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Stream { Plain | Tls }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

//! Connections to other members.

use std::io;

use futures::future::BoxFuture;
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connection, as HTTP/1.1 needs it.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// Makes connections to peer URLs. The transport bounds the time it may take.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the URL's authority, with TLS if its scheme asks for it. TLS offers
    /// no ALPN, or only `http/1.1`: stock peers announce `h2` and cannot serve it.
    fn dial(&self, url: &Uri) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;
}

/// Dials `http` and `unix` URLs.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(&self, url: &Uri) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let scheme = url.scheme_str().unwrap_or_default().to_owned();
        let authority = url
            .authority()
            .map(|authority| authority.to_string())
            .unwrap_or_default();
        Box::pin(async move {
            match scheme.as_str() {
                "http" => {
                    let stream = TcpStream::connect(&authority).await?;
                    stream.set_nodelay(true)?;
                    Ok(Box::new(stream) as Box<dyn Connection>)
                }
                "unix" => {
                    Ok(Box::new(UnixStream::connect(&authority).await?) as Box<dyn Connection>)
                }
                _ => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("cannot dial {scheme}://{authority}"),
                )),
            }
        })
    }
}

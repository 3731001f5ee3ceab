//! Connections to other members, with TLS where their URLs ask for it.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::client::client_config;
use super::server::TlsError;
use crate::config::TlsInfo;
use crate::config::url::split_host_port;
use crate::peer::{Connection, Dialer};

/// Dials all four schemes.
pub struct PeerDialer {
    tls: Option<TlsConnector>,
}

impl PeerDialer {
    /// A dialer with this TLS. Without certificate and CA it dials plain URLs
    /// only, unless the machine has CAs of its own.
    pub fn new(info: &TlsInfo) -> Result<PeerDialer, TlsError> {
        let configured = !info.is_empty() || !info.trusted_ca_file.is_empty() || info.self_signed;
        let config = match client_config(info) {
            Ok(config) => Some(config),
            Err(error) if configured => return Err(error),
            Err(_) => None,
        };
        Ok(PeerDialer {
            tls: config.map(TlsConnector::from),
        })
    }
}

impl Dialer for PeerDialer {
    fn dial(&self, url: &Uri) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let scheme = url.scheme_str().unwrap_or_default().to_owned();
        let authority = url
            .authority()
            .map(|a| a.as_str().to_owned())
            .unwrap_or_default();
        let path = url.path().to_owned();
        let tls = self.tls.clone();
        Box::pin(async move {
            let secure = scheme.ends_with('s');
            let unix = scheme.starts_with("unix");
            let host = match split_host_port(&authority) {
                Ok((host, _)) => host.to_owned(),
                Err(_) => authority.clone(),
            };
            if unix {
                let address = format!("{authority}{}", path.trim_end_matches('/'));
                let stream = UnixStream::connect(address).await?;
                return finish(stream, secure.then_some(tls).flatten(), secure, host).await;
            }
            let stream = TcpStream::connect(&authority).await?;
            stream.set_nodelay(true)?;
            crate::listen::keep_alive(&stream)?;
            finish(stream, secure.then_some(tls).flatten(), secure, host).await
        })
    }
}

async fn finish<S: Connection>(
    stream: S,
    tls: Option<TlsConnector>,
    secure: bool,
    host: String,
) -> io::Result<Box<dyn Connection>> {
    if !secure {
        return Ok(Box::new(stream));
    }
    let tls: Arc<TlsConnector> = Arc::new(tls.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "no CA to verify an https peer URL with",
        )
    })?);
    let name = ServerName::try_from(host)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(Box::new(tls.connect(name, stream).await?))
}

//! Connections to other members, with TLS where their URLs ask for it.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::client::ClientTls;
use super::material::Material;
use super::server::TlsError;
use super::words::in_gos_words;
use crate::config::url::split_host_port;
use crate::peer::{Connection, Dialer};

/// Dials all four schemes.
pub struct PeerDialer {
    tls: Arc<ClientTls>,
}

impl PeerDialer {
    /// A dialer with this TLS. Without certificate and CA it dials plain URLs
    /// only, unless the machine has CAs of its own.
    pub fn new(material: &Arc<Material>) -> Result<PeerDialer, TlsError> {
        Ok(PeerDialer {
            tls: Arc::new(ClientTls::new(material.clone())?),
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
                return finish(stream, secure.then_some(tls), host).await;
            }
            let stream = TcpStream::connect(&authority).await?;
            stream.set_nodelay(true)?;
            crate::listen::keep_alive(&stream)?;
            finish(stream, secure.then_some(tls), host).await
        })
    }
}

async fn finish<S: Connection>(
    stream: S,
    tls: Option<Arc<ClientTls>>,
    host: String,
) -> io::Result<Box<dyn Connection>> {
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(host)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let config = tokio::task::spawn_blocking(move || tls.current()).await?;
    let connector = TlsConnector::from(config);
    let connected = connector.connect(name, stream).await;
    Ok(Box::new(connected.map_err(in_gos_words)?))
}

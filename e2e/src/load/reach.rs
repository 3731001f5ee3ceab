//! How the clients of a load reach a cluster.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tonic::Status;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::client::{Answer, Client};

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A connection that says nothing for this long is asked whether it is still there ...
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// ... and given up if it does not answer for this long.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The address of a host, as the network's DNS would tell it; none if there is no such host now.
pub type Names = Arc<dyn Fn(String) -> BoxFuture<'static, Option<IpAddr>> + Send + Sync>;

/// What a client shows and trusts, in PEM. A connection uses what is here when it is made.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// Certificates of the authorities that are trusted.
    pub ca: Vec<u8>,
    /// The client's own certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Bundle {
    /// How it is used for a connection to `host`.
    pub(crate) fn config(&self, host: &str) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(host);
        match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        }
    }
}

/// How a client reaches a cluster.
#[derive(Clone)]
pub struct Reach {
    /// URLs: one of the client Service, or those of some members.
    pub endpoints: Vec<String>,
    /// If set, hosts in URLs are asked of this, in place of the network's DNS.
    pub names: Option<Names>,
    /// Whether the client follows the member list.
    pub follows: bool,
    /// For `https` URLs. A test replaces the content as a Secret that is mounted is replaced.
    pub tls: Option<Arc<RwLock<Bundle>>>,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach")
            .field("endpoints", &self.endpoints)
            .field("follows", &self.follows)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl Reach {
    /// A new connection to `url`.
    ///
    /// # Errors
    /// `Unavailable` if the host has no address or does not answer in time; `InvalidArgument` if
    /// the URL or the bundle is none.
    pub async fn connect(&self, url: &str) -> Answer<Client> {
        let uri: Uri = url
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{url}: {error}")))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(2379);
        let scheme = uri.scheme_str().unwrap_or("http");
        let place = match (&self.names, host.parse::<IpAddr>()) {
            (Some(names), Err(_)) => names(host.clone())
                .await
                .ok_or_else(|| Status::unavailable(format!("{host} has no address")))?
                .to_string(),
            _ => host.clone(),
        };
        let bad = |error: tonic::transport::Error| {
            Status::invalid_argument(format!("{url}: {}", causes(&error)))
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{place}:{port}"))
            .map_err(bad)?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        if let Some(bundle) = self.tls.as_ref().filter(|_| scheme == "https") {
            let bundle = bundle.read().clone();
            endpoint = endpoint.tls_config(bundle.config(&host)).map_err(bad)?;
        }
        // The limit of an endpoint is for TCP alone.
        let channel = tokio::time::timeout(2 * CONNECT_WITHIN, endpoint.connect())
            .await
            .map_err(|_| Status::unavailable(format!("{url}: no connection in time")))?
            .map_err(|error| Status::unavailable(format!("{url}: {}", causes(&error))))?;
        let client = Client::over(channel);
        if self.tls.is_some() && scheme == "http" {
            // A port that speaks TLS takes a connection in plain, and answers nothing on it.
            let status = tokio::time::timeout(CONNECT_WITHIN, client.status()).await;
            status
                .map_err(|_| Status::unavailable(format!("{url}: no answer in plain")))?
                .map_err(|error| Status::unavailable(format!("{url}: {}", error.message())))?;
        }
        Ok(client)
    }
}

/// An error with everything that led to it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

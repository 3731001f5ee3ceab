//! All listeners of the server: bound before anything else is done, so that an
//! address that is taken shows before data is touched; served when it is time.

use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;
use tower::Layer as _;

use crate::config::{Config, TlsInfo, Url};
use crate::driver::Node;
use crate::gateway;
use crate::grpc::CallLimitsLayer;
use crate::http::{Access, HttpService};
use crate::listen::{
    BindError, ClientService, Limits, Listener, PingPolicy, Security, bind, serve_client,
    serve_metrics, serve_peer,
};
use crate::metrics::{Metrics, file_limit};
use crate::tls::{Material, ServerTls, TlsError};

/// Files the server needs for itself; clients get the rest.
const RESERVED_FILES: u64 = 150;
/// What clients and scrapers may take to finish once the server stops.
const GRACE: Duration = Duration::from_millis(300);

/// Why there are no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There are too few files to serve anybody.
    #[error(
        "file descriptor limit of etcd process is too low; please set higher (limit {limit}, needed more than {RESERVED_FILES})"
    )]
    Files {
        /// The limit.
        limit: u64,
    },
}

/// A listener and what it is for.
struct Bound {
    url: Url,
    listener: Listener,
    security: Option<Security>,
}

/// Sockets that are bound and not served yet.
pub(super) struct Listeners {
    peers: Vec<Bound>,
    clients: Vec<Bound>,
    http: Vec<Bound>,
    metrics: Vec<Bound>,
    /// Clients, who are sent away first.
    client_limits: Limits,
    /// Scrapers and probes, who are not to be kept out by clients.
    metrics_limits: Limits,
    /// Members, who are needed to the end.
    peer_limits: Limits,
}

impl Listeners {
    /// Binds every address of the configuration.
    pub(super) fn bind(
        config: &Config,
        client_tls: &Arc<Material>,
        peer_tls: &Arc<Material>,
    ) -> Result<Listeners, ListenError> {
        let limit = file_limit();
        if limit <= RESERVED_FILES {
            return Err(ListenError::Files { limit });
        }
        let shares = Shares::of(limit - RESERVED_FILES);
        let texts = |urls: &[Url]| crate::log::json(&crate::config::url::texts(urls));
        tracing::info!(
            "listen-peer-urls" = ?texts(&config.listen_peer_urls),
            "configuring peer listeners"
        );
        let peers = all(
            config,
            &config.listen_peer_urls,
            (&config.peer_tls, peer_tls),
            Side::Peer,
        )?;
        tracing::info!(
            "listen-client-urls" = ?texts(&config.listen_client_urls),
            "configuring client listeners"
        );
        Ok(Listeners {
            peers,
            clients: all(
                config,
                &config.listen_client_urls,
                (&config.client_tls, client_tls),
                Side::Client,
            )?,
            http: all(
                config,
                &config.listen_client_http_urls,
                (&config.client_tls, client_tls),
                Side::Client,
            )?,
            metrics: all(
                config,
                &config.listen_metrics_urls,
                (&config.client_tls, client_tls),
                Side::Metrics,
            )?,
            client_limits: Limits::new(shares.clients),
            metrics_limits: Limits::new(shares.metrics),
            peer_limits: Limits::new(shares.peers),
        })
    }

    /// Serves other members from now on.
    pub(super) fn serve_peers(&mut self, router: &axum::Router) {
        for bound in self.peers.drain(..) {
            tracing::info!(address = %bound.listener.address(), "serving peer traffic");
            let limits = self.peer_limits.clone();
            tokio::spawn(serve_peer(
                bound.listener,
                bound.security,
                limits,
                router.clone(),
            ));
        }
    }

    /// Serves metrics and health from now on, where they have a listener of their own.
    pub(super) fn serve_metrics(&mut self, http: &HttpService<Node>) {
        for bound in self.metrics.drain(..) {
            tracing::info!(address = %bound.url, "serving metrics");
            let limits = self.metrics_limits.clone();
            tokio::spawn(serve_metrics(
                bound.listener,
                bound.security,
                limits,
                http.metrics_router(),
            ));
        }
    }

    /// Serves clients from now on.
    pub(super) fn serve_clients(
        &mut self,
        config: &Config,
        grpc: &Routes,
        http: &HttpService<Node>,
        metrics: &Arc<Metrics>,
    ) {
        let split = !self.http.is_empty();
        let grpc = CallLimitsLayer.layer(grpc.clone());
        let gateway = match config.enable_grpc_gateway {
            true => gateway::router(&grpc, gateway_bytes(config.max_request_bytes)),
            false => axum::Router::new(),
        };
        let hosts = Arc::new(config.host_whitelist.clone());
        let origins = Arc::new(config.cors.clone());
        let clients = std::mem::take(&mut self.clients)
            .into_iter()
            .map(|bound| (bound, true, !split));
        let only_http = std::mem::take(&mut self.http)
            .into_iter()
            .map(|bound| (bound, false, true));
        for (bound, with_grpc, with_http) in clients.chain(only_http) {
            let traffic = match (with_grpc, with_http) {
                (true, true) => "grpc+http",
                (true, false) => "grpc",
                (false, _) => "http",
            };
            let address = bound.listener.address();
            let plain = bound
                .security
                .as_ref()
                .is_none_or(|security| security.plain_too);
            if bound.security.is_some() {
                tracing::info!(traffic, %address, "serving client traffic securely");
            }
            if plain {
                tracing::info!(
                    traffic, %address,
                    "serving client traffic insecurely; this is strongly discouraged!"
                );
            }
            let access = Access {
                hosts: hosts.clone(),
                origins: origins.clone(),
                secure: !plain,
            };
            let service = ClientService {
                grpc: with_grpc.then(|| grpc.clone()),
                http: with_http.then(|| http.client_router(access, gateway.clone())),
                metrics: metrics.clone(),
                max_concurrent_streams: config.max_concurrent_streams,
                keepalive: config.grpc_keepalive,
                pings: with_grpc.then(|| PingPolicy::new(config.grpc_keepalive_min_time)),
                slow_request: config.warning_unary_request_duration,
            };
            let limits = self.client_limits.clone();
            tokio::spawn(serve_client(
                bound.listener,
                bound.security,
                limits,
                service,
            ));
        }
    }

    /// Sends clients away; those that were never served lose their sockets.
    pub(super) async fn stop_clients(&mut self) {
        self.clients.clear();
        self.http.clear();
        self.metrics.clear();
        tokio::join!(
            self.client_limits.finish(GRACE),
            self.metrics_limits.finish(GRACE)
        );
    }

    /// Takes no more members' connections: one that came to a member which is
    /// ending would be told that nobody knows it.
    pub(super) fn refuse_peers(&mut self) {
        self.peers.clear();
        self.peer_limits.stop.cancel();
    }

    /// Sends members away.
    pub(super) async fn stop_peers(&mut self) {
        self.peer_limits.finish(GRACE).await;
    }
}

/// What a request in JSON may take: base64 is by a third longer, and the rest of a
/// transaction is text.
fn gateway_bytes(max_request_bytes: usize) -> usize {
    max_request_bytes.saturating_mul(2).saturating_add(1 << 20)
}

/// Connections at once. Each kind has its own, so that a flood of one keeps
/// none of the others out.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    clients: usize,
    peers: usize,
    metrics: usize,
}

impl Shares {
    /// The shares of so many files.
    fn of(files: u64) -> Shares {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let peers = (files / 8).clamp(8, 512);
        let metrics = (files / 32).clamp(8, 64);
        Shares {
            clients: files.saturating_sub(peers + metrics).max(1),
            peers,
            metrics,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Peer,
    Client,
    Metrics,
}

fn all(
    config: &Config,
    urls: &[Url],
    tls: (&TlsInfo, &Arc<Material>),
    side: Side,
) -> Result<Vec<Bound>, ListenError> {
    let mut bound: Vec<Bound> = Vec::with_capacity(urls.len());
    for url in urls {
        let security = security(url, tls, side)?;
        // One port for both, as while TLS is switched on for clients.
        let counterpart = bound.iter_mut().find(|other| {
            side == Side::Client
                && !url.scheme.is_unix()
                && other.url.address() == url.address()
                && other.security.is_some() != security.is_some()
        });
        if let Some(other) = counterpart {
            let shared = other.security.take().or(security);
            other.security = shared.map(|security| Security {
                plain_too: true,
                ..security
            });
            continue;
        }
        bound.push(Bound {
            listener: bind(url, config.socket)?,
            url: url.clone(),
            security,
        });
    }
    Ok(bound)
}

fn security(
    url: &Url,
    (info, material): (&TlsInfo, &Arc<Material>),
    side: Side,
) -> Result<Option<Security>, TlsError> {
    let kind = match side {
        Side::Peer => "peer",
        Side::Client | Side::Metrics => "client",
    };
    if !url.scheme.is_secure() {
        if !info.is_empty() && side != Side::Metrics {
            tracing::warn!(
                url = %url,
                "scheme is HTTP or unix while {kind} key and cert files are present; ignoring key and cert files"
            );
        }
        if info.client_cert_auth && side != Side::Metrics {
            tracing::warn!(
                url = %url,
                "scheme is HTTP or unix while {kind} cert auth is enabled; ignoring client cert auth for this URL"
            );
        }
        return Ok(None);
    }
    let protocols: &[&[u8]] = match side {
        Side::Client => &[b"h2", b"http/1.1"],
        // Members speak HTTP/1.1, whatever stock etcd announces.
        Side::Peer | Side::Metrics => &[b"http/1.1"],
    };
    Ok(Some(Security {
        tls: Arc::new(ServerTls::new(material.clone(), protocols)?),
        plain_too: false,
        check_address: side != Side::Client && !info.skip_client_san_verify,
        endpoint: kind,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_connection_takes_all_files() {
        for files in [1, 10, 874, 19_850, u64::MAX] {
            let shares = Shares::of(files);
            assert!(shares.clients > 0 && shares.peers > 0 && shares.metrics > 0);
        }
        let usual = Shares::of(1024 - RESERVED_FILES);
        assert_eq!((usual.clients, usual.peers, usual.metrics), (738, 109, 27));
    }
}

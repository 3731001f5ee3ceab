//! The server as a whole, from a configuration to its end.
//!
//! ```text
//! directories, certificates, sockets -> Member (data, threads) -> peers, metrics
//!     -> published in the cluster -> clients -> READY=1
//! signal | removed -> leadership handed over -> clients away -> member ends -> peers away
//! ```

mod compactor;
mod figures;
mod health;
mod listeners;
mod notify;
mod observer;

use std::sync::Arc;

use etcd_storage::disk::RealDisk;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{BootstrapError, ClusterState, Config};
use crate::directory::{Content, DirectoryError, identify, touch};
use crate::driver::Node;
use crate::http::HttpService;
use crate::log::json;
use crate::member::{Member, MemberError};
use crate::metrics::Metrics;
use crate::tls::{Material, PeerDialer, TlsError, auto};
use crate::version::SERVER_VERSION;

use listeners::{ListenError, Listeners};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("cannot access data directory: {0}")]
    Directory(#[from] DirectoryError),
    /// The data directory of a v2 proxy.
    #[error("v2 http proxy has already been deprecated in 3.6")]
    Proxy,
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The list of members.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] etcd_replica::OpenError),
    /// The member.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Signals.
    #[error("cannot handle signals: {0}")]
    Signal(std::io::Error),
    /// The runtime.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// Why a server ended that had started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By this signal.
    Signal(i32),
    /// The member was removed from its cluster.
    Removed,
}

/// Runs a server to its end.
pub fn run(config: Config) -> Result<End, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("etcd")
        .build()
        .map_err(RunError::Runtime)?;
    let end = runtime.block_on(serve(config));
    // Nothing that is left matters: the member has ended.
    runtime.shutdown_background();
    end
}

async fn serve(mut config: Config) -> Result<End, RunError> {
    let mut signals = Signals::new().map_err(RunError::Signal)?;
    prepare_directory(&config)?;
    certificates(&mut config)?;
    let client_tls = Material::new(config.client_tls.clone());
    let peer_tls = Material::new(config.peer_tls.clone());
    let mut listeners = Listeners::bind(&config, &client_tls, &peer_tls)?;
    let metrics = Arc::new(Metrics::new(config.extensive_metrics, &config.features));

    let initialized = etcd_replica::exists(&RealDisk, &config.wal_dir())?;
    announce(&config, initialized);
    if !initialized {
        match config.initial_cluster_state {
            ClusterState::New => drop(config.bootstrap_members().await?),
            ClusterState::Existing => drop(config.joining_members()?),
        }
    }
    let dialer = Arc::new(PeerDialer::new(&peer_tls)?);
    let observer = observer::MetricsObserver::new(metrics.clone());
    let observer = Some(Arc::new(observer) as Arc<dyn crate::driver::Observer>);
    let member = tokio::select! {
        started = Member::start(&config, dialer, observer, Box::new(die)) => started?,
        signal = signals.next() => return Ok(End::Signal(signal)),
    };
    let node = member.node.clone();
    let id = format!("{:x}", node.member_id());
    metrics.server.id.with(&[&id]).set(1);
    metrics.on_scrape({
        let (node, transport) = (node.clone(), member.transport.clone());
        move |metrics| figures::refresh(metrics, &node, &transport)
    });
    tokio::spawn(figures::round_trips(
        metrics.clone(),
        member.transport.clone(),
    ));
    if let Some(mode) = config.auto_compaction {
        tokio::spawn(compactor::run(node.clone(), mode));
    }

    let http = HttpService {
        member: Arc::new(node.clone()),
        metrics: metrics.clone(),
        request_timeout: config.request_timeout(),
    };
    listeners.serve_peers(&member.peer_router(&config).merge(http.version_router()));
    listeners.serve_metrics(&http);
    tracing::info!(
        "local-member-id" = %id,
        "initial-advertise-peer-urls" = ?json(&crate::config::url::texts(&config.advertise_peer_urls)),
        "advertise-client-urls" = ?json(&crate::config::url::texts(&config.advertise_client_urls)),
        "now serving peer/client/metrics"
    );

    let mut removed = node.removed();
    let end = tokio::select! {
        // Returns once the cluster knows this member, however long that takes.
        published = member.publish(&config) => published.err().map(|_| End::Removed),
        signal = signals.next() => Some(End::Signal(signal)),
        _ = removed.wait_for(|removed| *removed) => Some(End::Removed),
    };
    let end = match end {
        Some(end) => end,
        None => {
            listeners.serve_clients(&config, &member.grpc(&config), &http, &metrics);
            tracing::info!("ready to serve client requests");
            notify::ready();
            tokio::select! {
                signal = signals.next() => End::Signal(signal),
                _ = removed.wait_for(|removed| *removed) => End::Removed,
            }
        }
    };
    stop(member, listeners, &config, end).await;
    Ok(end)
}

/// Looks at the data directory, and makes it if need be.
fn prepare_directory(config: &Config) -> Result<(), RunError> {
    let directory = config.data_dir.as_path();
    if config.data_dir_is_default {
        tracing::warn!("data-dir" = %directory.display(), "'data-dir' was empty; using default");
    }
    let content = identify(directory)?;
    let (message, kind) = match content {
        Content::Member => ("server has already been initialized", "member"),
        Content::Empty => ("Initialize and start etcd server", "empty"),
        Content::Proxy => return Err(RunError::Proxy),
    };
    tracing::info!("data-dir" = %directory.display(), "dir-type" = kind, "{message}");
    Ok(touch(directory)?)
}

/// Makes the certificates that `--auto-tls` and `--peer-auto-tls` ask for.
fn certificates(config: &mut Config) -> Result<(), TlsError> {
    let fixtures = config.data_dir.join("fixtures");
    let years = config.self_signed_cert_validity_years;
    let peers: Vec<_> = config.listen_peer_urls.iter().collect();
    auto::provide(&mut config.peer_tls, &fixtures.join("peer"), &peers, years)?;
    let clients: Vec<_> = config
        .listen_client_urls
        .iter()
        .chain(&config.listen_client_http_urls)
        .collect();
    auto::provide(
        &mut config.client_tls,
        &fixtures.join("client"),
        &clients,
        years,
    )
}

/// Says what is started, with what of the configuration one asks first about.
fn announce(config: &Config, initialized: bool) {
    let texts = |urls: &[crate::config::Url]| json(&crate::config::url::texts(urls));
    tracing::info!(
        "etcd-version" = SERVER_VERSION,
        "etcd-core-version" = crate::version::CORE_VERSION,
        "max-cpu-available" = std::thread::available_parallelism().map_or(1, usize::from),
        "member-initialized" = initialized,
        name = %config.name,
        "data-dir" = %config.data_dir.display(),
        "wal-dir" = %config.wal_dir().display(),
        "member-dir" = %config.member_dir().display(),
        "force-new-cluster" = config.force_new_cluster,
        "heartbeat-interval" = ?config.heartbeat,
        "election-timeout" = ?config.election_timeout,
        "initial-election-tick-advance" = config.initial_election_tick_advance,
        "snapshot-count" = config.snapshot_count,
        "max-wals" = config.max_wals,
        "snapshot-catchup-entries" = config.snapshot_catchup_entries,
        "initial-advertise-peer-urls" = ?texts(&config.advertise_peer_urls),
        "listen-peer-urls" = ?texts(&config.listen_peer_urls),
        "advertise-client-urls" = ?texts(&config.advertise_client_urls),
        "listen-client-urls" = ?texts(&config.listen_client_urls),
        "listen-metrics-urls" = ?texts(&config.listen_metrics_urls),
        "initial-cluster" = if initialized { "" } else { config.initial_cluster.as_str() },
        "initial-cluster-state" = config.initial_cluster_state.as_str(),
        "initial-cluster-token" = %config.initial_cluster_token,
        "quota-backend-bytes" = config.quota_bytes().unwrap_or(0),
        "max-request-bytes" = config.max_request_bytes,
        "max-concurrent-streams" = config.max_concurrent_streams,
        "pre-vote" = config.pre_vote,
        "feature-gates" = %config.features,
        "max-learners" = config.max_learners,
        "starting an etcd server"
    );
}

async fn stop(member: Member, mut listeners: Listeners, config: &Config, end: End) {
    match end {
        End::Signal(number) => tracing::info!(
            signal = signal_name(number),
            "received signal; shutting down"
        ),
        End::Removed => tracing::warn!(
            "data-dir" = %config.data_dir.display(),
            "the member has been permanently removed from the cluster; the data-dir used by this member must be removed"
        ),
    }
    tracing::info!(name = %config.name, "data-dir" = %config.data_dir.display(), "closing etcd server");
    if end != End::Removed
        && tokio::time::timeout(HAND_OVER, member.hand_over())
            .await
            .is_err()
    {
        tracing::warn!("nobody has taken leadership over in time");
    }
    member.node.end_streams();
    listeners.stop_clients().await;
    listeners.refuse_peers();
    let node: Node = member.node.clone();
    tokio::task::block_in_place(|| member.stop());
    drop(node);
    listeners.stop_peers().await;
    tracing::info!(name = %config.name, "data-dir" = %config.data_dir.display(), "closed etcd server");
}

/// Time for another member to take leadership over.
const HAND_OVER: std::time::Duration = std::time::Duration::from_millis(800);

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// A signal's name, as Go has it.
fn signal_name(number: i32) -> &'static str {
    match number {
        n if n == SignalKind::terminate().as_raw_value() => "terminated",
        n if n == SignalKind::interrupt().as_raw_value() => "interrupt",
        _ => "signal",
    }
}

/// Ends the process at once: what the member can no longer do, or must not.
fn die(line: &str) {
    tracing::error!(level = "fatal", "{line}");
    std::process::exit(1);
}

//! Wiring: streams in, reconciles out, one leader among the operator's replicas.

mod artifacts;
mod backups;
mod fights;
mod figures;
mod jobs;
mod lease;
mod metrics;
mod rbac;
mod reconcile;
mod recorder;
mod requests;
mod server;
mod streams;
mod told;
mod volunteers;

pub use lease::{Lease, LeaseError};
pub use metrics::{Metrics, ReconcileOutcome};
pub use rbac::{Rule, rules};
pub use server::Health;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::{apply::Applier, observe::Probe, render::Settings};

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespaces it serves; empty: all of them.
    pub namespaces: Vec<String>,
    /// What it brings to every cluster.
    pub settings: Settings,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Namespace of the Lease; `None`: no leader election, this is the only operator.
    pub lease_namespace: Option<String>,
    /// Name of the Lease.
    pub lease_name: String,
    /// Who this is, for the Lease and for events.
    pub identity: String,
    /// Clusters reconciled at a time.
    pub concurrency: u16,
    /// Clusters whose members are restarted at a time for the operator's own sake.
    pub voluntary_updates: u16,
    /// Time between two looks at Secrets that others renew, while all is well.
    pub secrets_interval: Duration,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API server's client could not be set up.
    #[error("cannot reach the API server: {0}")]
    Client(#[from] Box<kube::Error>),
    /// The HTTP port could not be served.
    #[error("cannot serve {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// How it failed.
        source: std::io::Error,
    },
    /// Leadership was lost, or could not be sought.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// What every reconcile shares.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) applier: Applier,
    pub(crate) recorder: recorder::BoundedRecorder,
    pub(crate) metrics: Metrics,
    fights: fights::Fights,
    pub(crate) settings: Settings,
    told: told::Told,
    /// When each cluster is to be looked at again, by namespace and name.
    due: Mutex<HashMap<(String, String), Instant>>,
    pub(crate) volunteers: volunteers::Volunteers,
}

/// Runs until a signal, or until leadership is lost.
///
/// A process that has lost its Lease must not write any more, and cannot know what it
/// had in flight: the caller exits at once.
pub async fn run(config: Config, options: Options) -> Result<(), RunError> {
    let metrics = Metrics::default();
    let client = metrics.client(config).map_err(Box::new)?;
    let health = Health::default();
    server::serve(options.listen, metrics.clone(), health.clone())
        .await
        .map_err(|source| RunError::Listen {
            address: options.listen,
            source,
        })?;
    info!(address = %options.listen, "serves /metrics, /healthz and /readyz");
    health.set_ready(true); // a standby is ready: it is there to take over

    let lease = match &options.lease_namespace {
        Some(namespace) => {
            let lease = Lease::new(
                client.clone(),
                namespace,
                &options.lease_name,
                &options.identity,
            );
            tokio::select! {
                held = lease.acquire() => held?,
                () = stopped() => return Ok(()),
            }
            info!(
                lease = options.lease_name,
                identity = options.identity,
                "leads"
            );
            Some(lease)
        }
        None => None,
    };
    metrics.set_leader(true);
    let probe = Probe::default();
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), probe.clone()),
        recorder: recorder::BoundedRecorder::new(client.clone(), &options.identity),
        client,
        metrics,
        fights: fights::Fights::default(),
        settings: options.settings.clone(),
        told: told::Told::default(),
        due: Mutex::default(),
        volunteers: volunteers::Volunteers::new(options.voluntary_updates.into()),
    });
    let work = streams::run(context, probe, options.clone());
    let Some(lease) = lease else {
        work.await;
        return Ok(());
    };
    tokio::select! {
        () = work => {
            // The next leader need not wait for the Lease to run out.
            if let Err(error) = lease.release().await {
                error!(%error, "could not release the Lease");
            }
            Ok(())
        }
        error = lease.keep() => Err(error.into()),
    }
}

/// Ends with SIGTERM or SIGINT.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => error!(%error, "cannot listen for SIGTERM"),
    }
}

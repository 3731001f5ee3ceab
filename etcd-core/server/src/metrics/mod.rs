//! Metrics under etcd's names. `go_*` does not exist here: there is no Go
//! runtime to tell of.
//!
//! Handles live in [`Metrics`], one of which is shared by the whole process.
//! What is cheaper to ask for than to count is asked for when somebody reads:
//! see [`Metrics::on_scrape`].

mod groups;
mod grpc;
mod instrument;
mod process;
mod registry;

use std::time::Duration;

use parking_lot::RwLock;

pub use groups::{
    DiskMetrics, LeaseMetrics, MvccMetrics, NetworkMetrics, ServerMetrics, TransferMetrics,
};
pub use grpc::{CANCELED, CODES, CallType, GrpcMetrics, METHODS, MethodMetrics, UNKNOWN};
pub use instrument::{Counter, Family, Gauge, Histogram, exponential};
pub use process::{file_descriptors, file_limit};
pub use registry::Registry;

use crate::config::features::{FeatureGates, GATES};

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Every metric of the server.
pub struct Metrics {
    registry: Registry,
    /// The member.
    pub server: ServerMetrics,
    /// Log and store on disk.
    pub disk: DiskMetrics,
    /// Keys and watches.
    pub mvcc: MvccMetrics,
    /// Clients and peers.
    pub network: NetworkMetrics,
    /// Leases and users.
    pub lease: LeaseMetrics,
    /// Calls by method.
    pub grpc: GrpcMetrics,
    scrapes: Family<Counter>,
    refreshes: RwLock<Vec<Refresh>>,
}

impl Metrics {
    /// All metrics at zero; histograms of gRPC methods only if `extensive`.
    pub fn new(extensive: bool, features: &FeatureGates) -> Metrics {
        let mut registry = Registry::default();
        remnants(&mut registry);
        let scrapes = registry.counters(
            "promhttp_metric_handler_requests_total",
            "Reads of the metrics, by HTTP status.",
            &["code"],
        );
        for code in ["200", "500", "503"] {
            scrapes.with(&[code]);
        }
        registry
            .gauges(
                "etcd_core_build_info",
                "1 under the version of this server, which is not stock etcd.",
                &["git_sha", "version"],
            )
            .with(&[
                option_env!("ETCD_CORE_GIT_SHA").unwrap_or("unknown"),
                crate::version::CORE_VERSION,
            ])
            .set(1);
        let server = ServerMetrics::new(&mut registry);
        server
            .version
            .with(&[crate::version::SERVER_VERSION])
            .set(1);
        for gate in GATES {
            let gauge = server
                .feature_enabled
                .with(&[gate.name, gate.stage.as_str()]);
            gauge.set_bool(features.enabled(gate.name));
        }
        Metrics {
            server,
            disk: DiskMetrics::new(&mut registry),
            mvcc: MvccMetrics::new(&mut registry),
            network: NetworkMetrics::new(&mut registry),
            lease: LeaseMetrics::new(&mut registry),
            grpc: GrpcMetrics::new(&mut registry, extensive),
            scrapes,
            refreshes: RwLock::default(),
            registry,
        }
    }

    /// Calls `refresh` before every reading, to set what is not counted as it
    /// happens. It must not block.
    pub fn on_scrape(&self, refresh: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.refreshes.write().push(Box::new(refresh));
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        for refresh in self.refreshes.read().iter() {
            refresh(self);
        }
        let mut out = self.registry.render();
        process::render(&mut out);
        self.scrapes.with(&["200"]).inc();
        out
    }

    /// A write to the log took this long.
    pub fn wal_write(&self, took: Duration) {
        self.disk.wal_write_duration.observe_seconds(took);
    }

    /// A sync of the log took this long.
    pub fn wal_fsync(&self, took: Duration) {
        self.disk.wal_fsync_duration.observe_seconds(took);
    }
}

/// Metrics of things etcd 3.7 still registers and this server does not have.
/// Dashboards that show them show zero.
fn remnants(registry: &mut Registry) {
    for name in [
        "etcd_debugging_store_expires_total",
        "etcd_debugging_store_watch_requests_total",
    ] {
        registry.counter(name, "Always 0: there is no v2 store.");
    }
    registry.gauge(
        "etcd_debugging_store_watchers",
        "Always 0: there is no v2 store.",
    );
    for name in [
        "etcd_grpc_proxy_cache_hits_total",
        "etcd_grpc_proxy_cache_keys_total",
        "etcd_grpc_proxy_cache_misses_total",
        "etcd_grpc_proxy_watchers_coalescing_total",
    ] {
        registry.gauge(name, "Always 0: this is not a proxy.");
    }
    registry.counter(
        "etcd_grpc_proxy_events_coalescing_total",
        "Always 0: this is not a proxy.",
    );
    for (name, help) in [
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "Always empty: watches have no send loop.",
        ),
        (
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "Always empty: watches have no send loop.",
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "Always empty: watches have no send loop.",
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "Always empty: watches have no send loop.",
        ),
    ] {
        registry.histogram(name, help, &exponential(0.001, 2.0, 14));
    }
}

#[cfg(test)]
mod tests;

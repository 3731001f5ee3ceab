//! The operator's own metrics.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Labels of a counted step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    result: &'static str,
}

/// Labels of a cluster's gauges.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    namespace: String,
    name: String,
}

/// Counters, gauges and histograms; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    leader: Gauge,
    reconciles: Counter,
    reconcile_errors: Counter,
    reconcile_seconds: Histogram,
    steps: Family<StepLabels, Counter>,
    cluster_ready: Family<ClusterLabels, Gauge>,
    cluster_members: Family<ClusterLabels, Gauge>,
    cluster_members_ready: Family<ClusterLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ];
        let metrics = Metrics {
            registry: Arc::new(Mutex::new(Registry::with_prefix("etcd_operator"))),
            leader: Gauge::default(),
            reconciles: Counter::default(),
            reconcile_errors: Counter::default(),
            reconcile_seconds: Histogram::new(buckets),
            steps: Family::default(),
            cluster_ready: Family::default(),
            cluster_members: Family::default(),
            cluster_members_ready: Family::default(),
        };
        {
            let mut registry = metrics.registry.lock();
            let m = &metrics;
            registry.register("leader", "1 if this replica leads", m.leader.clone());
            registry.register(
                "reconciles",
                "Reconciles of a cluster",
                m.reconciles.clone(),
            );
            registry.register(
                "reconcile_errors",
                "Reconciles that failed",
                m.reconcile_errors.clone(),
            );
            registry.register(
                "reconcile_duration_seconds",
                "Time a reconcile took",
                m.reconcile_seconds.clone(),
            );
            registry.register("steps", "Steps carried out, by result", m.steps.clone());
            registry.register(
                "cluster_ready",
                "1 if the cluster is Ready",
                m.cluster_ready.clone(),
            );
            registry.register(
                "cluster_members",
                "Members of the cluster",
                m.cluster_members.clone(),
            );
            registry.register(
                "cluster_members_ready",
                "Members of the cluster that serve",
                m.cluster_members_ready.clone(),
            );
        }
        metrics
    }
}

impl Metrics {
    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A reconcile ended.
    pub fn reconciled(&self, took: Duration, failed: bool) {
        self.reconciles.inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
        if failed {
            self.reconcile_errors.inc();
        }
    }

    /// A step was attempted.
    pub fn step(&self, step: &'static str, failed: bool) {
        let result = if failed { "error" } else { "ok" };
        self.steps.get_or_create(&StepLabels { step, result }).inc();
    }

    /// How a cluster is.
    pub fn cluster(&self, namespace: &str, name: &str, ready: bool, members: i32, serving: i32) {
        let labels = ClusterLabels {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.cluster_ready
            .get_or_create(&labels)
            .set(i64::from(ready));
        self.cluster_members
            .get_or_create(&labels)
            .set(i64::from(members));
        self.cluster_members_ready
            .get_or_create(&labels)
            .set(i64::from(serving));
    }

    /// A cluster is no more.
    pub fn forget(&self, namespace: &str, name: &str) {
        let labels = ClusterLabels {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.cluster_ready.remove(&labels);
        self.cluster_members.remove(&labels);
        self.cluster_members_ready.remove(&labels);
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

//! The operator's own metrics.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::api::{EtcdCluster, EtcdClusterStatus};

use super::{
    backups::Backups,
    figures::Clusters,
    requests::{self, Requests},
};

/// Labels of a counted step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    result: &'static str,
}

/// Labels of a counted reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// The cluster is as its spec says.
    Settled,
    /// A step was taken, or is waited for.
    Working,
    /// The cluster is gone.
    Gone,
    /// A write met another's: looked at again at once.
    Conflict,
    /// It failed, and is tried again.
    Error,
}

impl ReconcileOutcome {
    fn as_str(self) -> &'static str {
        match self {
            ReconcileOutcome::Settled => "settled",
            ReconcileOutcome::Working => "working",
            ReconcileOutcome::Gone => "gone",
            ReconcileOutcome::Conflict => "conflict",
            ReconcileOutcome::Error => "error",
        }
    }
}

/// Counters, gauges and histograms; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    leader: Gauge,
    reconciles: Family<OutcomeLabels, Counter>,
    reconcile_seconds: Histogram,
    running: Gauge,
    late_seconds: Histogram,
    steps: Family<StepLabels, Counter>,
    requests: Requests,
    clusters: Clusters,
    backups: Backups,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ];
        let metrics = Metrics {
            registry: Arc::new(Mutex::new(Registry::with_prefix("etcd_operator"))),
            leader: Gauge::default(),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(buckets),
            running: Gauge::default(),
            late_seconds: Histogram::new(buckets),
            steps: Family::default(),
            requests: Requests::default(),
            clusters: Clusters::default(),
            backups: Backups::default(),
        };
        {
            let mut registry = metrics.registry.lock();
            let m = &metrics;
            registry.register("leader", "1 if this replica leads", m.leader.clone());
            registry.register(
                "reconciles",
                "Reconciles of a cluster, by outcome",
                m.reconciles.clone(),
            );
            registry.register(
                "reconcile_duration_seconds",
                "Time a reconcile took",
                m.reconcile_seconds.clone(),
            );
            registry.register(
                "reconciles_running",
                "Reconciles under way; at --concurrency the others wait",
                m.running.clone(),
            );
            registry.register(
                "reconcile_late_seconds",
                "Time between when a cluster was to be looked at again and when it was: the queue",
                m.late_seconds.clone(),
            );
            registry.register("steps", "Steps carried out, by result", m.steps.clone());
            registry.register(
                "api_requests",
                "Requests to the API server, by verb, resource and HTTP status",
                m.requests.clone(),
            );
            registry.register_collector(Box::new(m.clusters.clone()));
            registry.register_collector(Box::new(m.backups.clone()));
        }
        metrics
    }
}

impl Metrics {
    /// A client for the API server whose requests are counted here.
    ///
    /// # Errors
    /// If the configuration makes no client.
    pub fn client(&self, config: kube::Config) -> Result<Client, kube::Error> {
        requests::client(config, &self.requests)
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A reconcile begins, this long after it was due.
    pub fn begins(&self, late: Option<Duration>) {
        self.running.inc();
        if let Some(late) = late {
            self.late_seconds.observe(late.as_secs_f64());
        }
    }

    /// A reconcile ended.
    pub fn reconciled(&self, took: Duration, outcome: ReconcileOutcome) {
        self.running.dec();
        let outcome = outcome.as_str();
        self.reconciles
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// A step was attempted.
    pub fn step(&self, step: &'static str, failed: bool) {
        let result = if failed { "error" } else { "ok" };
        self.steps.get_or_create(&StepLabels { step, result }).inc();
    }

    /// How a cluster is now. The leader before, if another one leads now.
    pub fn cluster(
        &self,
        namespace: &str,
        cluster: &EtcdCluster,
        status: &EtcdClusterStatus,
        now: Timestamp,
    ) -> Option<String> {
        self.clusters.told(namespace, cluster, status, now)
    }

    /// The figures of backups.
    pub(super) fn backups(&self) -> &Backups {
        &self.backups
    }

    /// A cluster is no more.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.backups.forget_cluster(namespace, name);
        self.clusters.forget(namespace, name);
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(leader: &str) -> EtcdCluster {
        serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n"}, "spec": {"replicas": 3},
            "status": {
                "observedGeneration": 1, "phase": "Updating", "leader": leader, "replicas": 3,
                "readyReplicas": 2, "nextSerial": 3,
                "plan": {"step": "RestartPod", "blockedBy": [{"guard": "Unhealthy", "message": ""}]},
                "conditions": [
                    {"type": "Available", "status": "True", "reason": "Quorum", "message": "",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "BackedUp", "status": "False", "reason": "TooOld", "message": "",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Ready", "status": "False", "reason": "Reconciling", "message": "",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"}
                ]
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_is_told_of_and_forgotten() {
        let metrics = Metrics::default();
        let tell = |leader: &str| {
            let cluster = cluster(leader);
            let status = cluster.status.clone().unwrap();
            metrics.cluster("n", &cluster, &status, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(tell("demo-0"), None);
        assert_eq!(tell("demo-1"), Some("demo-0".to_owned()));
        let text = metrics.text().unwrap();
        for line in [
            r#"etcd_operator_cluster_members_desired{namespace="n",name="demo"} 3"#,
            r#"etcd_operator_cluster_members_ready{namespace="n",name="demo"} 2"#,
            r#"etcd_operator_cluster_phase{namespace="n",name="demo",phase="Updating"} 1"#,
            r#"etcd_operator_cluster_condition{namespace="n",name="demo",type="Available"} 1"#,
            r#"etcd_operator_cluster_not_backed_up{namespace="n",name="demo",reason="TooOld"} 1"#,
            r#"etcd_operator_cluster_step{namespace="n",name="demo",step="RestartPod"} 1"#,
            r#"etcd_operator_cluster_held_back{namespace="n",name="demo",guard="Unhealthy"} 1"#,
            r#"etcd_operator_cluster_leader_changes_total{namespace="n",name="demo"} 1"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert!(!text.contains(r#"type="Ready""#), "it is not true:\n{text}");
        metrics.forget("n", "demo");
        let text = metrics.text().unwrap();
        assert!(!text.contains("demo"), "{text}");
    }
}

//! Figures of backups: kept in one table, written out when they are asked for.

use std::{collections::BTreeMap, fmt::Error, sync::Arc};

use kube::ResourceExt;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::api::{BackupPhase, EtcdBackup, EtcdBackupStatus, RunKind};

use super::figures::Text;

/// Namespace and name of a cluster or a schedule.
type Key = (String, String);

/// What is told of a cluster's backups.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// When the newest proven one was taken, in seconds since 1970.
    last_success: f64,
    /// How long it took, in seconds, if that is known.
    duration: Option<f64>,
    size: i64,
    stored: i64,
    revision: i64,
    /// Backups that were given up, by reason.
    failures: BTreeMap<String, u64>,
}

/// The figures of all clusters and schedules. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Backups(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    clusters: BTreeMap<Key, Figures>,
    /// Lag of increments in seconds, by schedule.
    lag: BTreeMap<Key, u64>,
}

impl Backups {
    /// Takes in a backup as it is: an operator that starts finds most of them done.
    pub(super) fn seen(&self, backup: &EtcdBackup) {
        if let Some(status) = &backup.status {
            let mut tables = self.0.lock();
            tables.clusters.entry(key(backup)).or_default().take(status);
        }
    }

    /// Takes in the status that a backup is about to have.
    pub(super) fn told(&self, backup: &EtcdBackup, after: &EtcdBackupStatus) {
        let before = backup.status.as_ref();
        let mut tables = self.0.lock();
        let figures = tables.clusters.entry(key(backup)).or_default();
        let phase = before.and_then(|before| before.phase);
        if after.phase == Some(BackupPhase::Failed) && phase != after.phase {
            let reason = after.failure.as_ref().map(|it| it.reason.clone());
            *figures
                .failures
                .entry(reason.unwrap_or_default())
                .or_default() += 1;
        }
        figures.take(after);
    }

    /// How far a schedule's increments are behind.
    pub(super) fn lags(&self, namespace: &str, schedule: &str, seconds: u64) {
        let key = (namespace.to_owned(), schedule.to_owned());
        self.0.lock().lag.insert(key, seconds);
    }

    /// A schedule is no more, or has no increments.
    pub(super) fn forget_schedule(&self, namespace: &str, schedule: &str) {
        let key = (namespace.to_owned(), schedule.to_owned());
        self.0.lock().lag.remove(&key);
    }

    /// A cluster is no more.
    pub(super) fn forget_cluster(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().clusters.remove(&key);
    }
}

impl Figures {
    /// Takes in a backup, if it is proven and no older than the newest so far.
    fn take(&mut self, status: &EtcdBackupStatus) {
        let proven = status
            .conditions
            .iter()
            .any(|c| c.type_ == "Verified" && c.status == "True");
        let Some(artifact) = status.artifact.as_ref().filter(|_| proven) else {
            return;
        };
        let taken = artifact.taken_at.as_ref().map_or(0.0, |at| seconds(at.0));
        if taken < self.last_success {
            return;
        }
        let other = taken > self.last_success;
        self.last_success = taken;
        self.size = artifact.size_bytes;
        self.stored = artifact.stored_bytes;
        self.revision = artifact.revision;
        let began = status.started_at.as_ref().map(|at| seconds(at.0));
        let ended = status.verified_at.as_ref().map(|at| seconds(at.0));
        // The time of a proof long after it says nothing about how long it took.
        let first = status.run.as_ref().map(|run| run.kind) == Some(RunKind::Snapshot);
        match (began, ended) {
            (Some(began), Some(ended)) if first => self.duration = Some((ended - began).max(0.0)),
            _ if other => self.duration = None,
            _ => {}
        }
    }
}

/// Namespace and name of the cluster it is of.
fn key(backup: &EtcdBackup) -> Key {
    (
        backup.namespace().unwrap_or_default(),
        backup.spec.cluster_ref.name.clone(),
    )
}

fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Name and help of a figure, and where it is.
type Gauge = (&'static str, &'static str, fn(&Figures) -> Option<f64>);

impl Collector for Backups {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let tables = self.0.lock();
        let gauges: [Gauge; 5] = [
            (
                "backup_last_success_timestamp_seconds",
                "When the newest proven backup of the cluster was taken, in seconds since 1970",
                |f| Some(f.last_success),
            ),
            (
                "backup_last_duration_seconds",
                "How long it took to be taken, stored and proven",
                |f| f.duration,
            ),
            ("backup_last_size_bytes", "Its size", |f| {
                Some(f.size as f64)
            }),
            (
                "backup_last_stored_bytes",
                "Its size as stored, compressed and encrypted",
                |f| Some(f.stored as f64),
            ),
            ("backup_last_revision", "Its revision", |f| {
                Some(f.revision as f64)
            }),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let taken = tables.clusters.iter().filter(|(_, f)| f.last_success > 0.0);
            for ((namespace, cluster), figures) in taken {
                let labels = [("namespace", Text(namespace)), ("cluster", Text(cluster))];
                if let Some(value) = value(figures) {
                    metric.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(
            "backup_failures",
            "Backups that were given up, by reason",
            None,
            MetricType::Counter,
        )?;
        for ((namespace, cluster), figures) in &tables.clusters {
            for (reason, count) in &figures.failures {
                let labels = [
                    ("namespace", Text(namespace)),
                    ("cluster", Text(cluster)),
                    ("reason", Text(reason)),
                ];
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(count, None)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "backup_increments_lag_seconds",
            "Age of the oldest change that is not stored, by schedule",
            None,
            MetricType::Gauge,
        )?;
        for ((namespace, schedule), lag) in &tables.lag {
            let labels = [("namespace", Text(namespace)), ("schedule", Text(schedule))];
            metric
                .encode_family(&labels)?
                .encode_gauge(&i64::try_from(*lag).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::{Value, json};

    use super::*;

    fn backup(status: Value) -> EtcdBackup {
        serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "b", "namespace": "n"},
            "spec": {"clusterRef": {"name": "demo"}, "destination": {}}, "status": status,
        }))
        .unwrap()
    }

    /// Taken that many seconds after 12:00, verified after another forty.
    fn proven(taken: i64, verified: &str, run: &str) -> Value {
        let noon: jiff::Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |seconds: i64| (noon + jiff::SignedDuration::from_secs(seconds)).to_string();
        json!({
            "phase": "Completed", "startedAt": at(taken - 2), "verifiedAt": at(taken + 40),
            "run": {"kind": run, "attempt": 1, "serial": 1, "job": "j", "startedAt": at(taken - 2)},
            "artifact": {"uri": "", "sizeBytes": 2048, "size": "2.0 KiB", "storedBytes": 512,
                "sha256": "", "revision": 70 + taken, "totalKeys": 1, "kvHash": "", "etcdVersion": "",
                "clusterID": "c", "member": "", "takenAt": at(taken)},
            "conditions": [{"type": "Verified", "status": verified, "reason": "Restore", "message": "",
                "lastTransitionTime": at(taken)}],
        })
    }

    fn text(backups: &Backups) -> String {
        let mut registry = Registry::with_prefix("etcd_operator");
        registry.register_collector(Box::new(backups.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_newest_proven_backup_is_told_of_also_after_a_start() {
        let all = Backups::default();
        all.seen(&backup(Value::Null));
        assert_eq!(text(&all), "", "nothing is known, and nothing is told");
        all.seen(&backup(proven(0, "True", "Snapshot")));
        let told = text(&all);
        for line in [
            r#"etcd_operator_backup_last_success_timestamp_seconds{namespace="n",cluster="demo"} 1767268800.0"#,
            r#"etcd_operator_backup_last_duration_seconds{namespace="n",cluster="demo"} 42.0"#,
            r#"etcd_operator_backup_last_size_bytes{namespace="n",cluster="demo"} 2048.0"#,
            r#"etcd_operator_backup_last_stored_bytes{namespace="n",cluster="demo"} 512.0"#,
            r#"etcd_operator_backup_last_revision{namespace="n",cluster="demo"} 70.0"#,
        ] {
            assert!(told.contains(line), "no {line} in\n{told}");
        }
        // An older one, one that is bad, and a drill change nothing.
        all.seen(&backup(proven(-60, "True", "Snapshot")));
        all.seen(&backup(proven(60, "False", "Snapshot")));
        all.seen(&backup(proven(0, "True", "Verify")));
        assert_eq!(text(&all), told);
        // How long a newer one took is not known once it was verified again.
        all.seen(&backup(proven(60, "True", "Verify")));
        let newer = text(&all);
        assert!(
            newer.contains(r#"revision{namespace="n",cluster="demo"} 130.0"#),
            "{newer}"
        );
        assert!(!newer.contains("duration"), "{newer}");
        all.forget_cluster("n", "demo");
        assert_eq!(text(&all), "");
    }

    #[test]
    fn what_was_given_up_is_counted_once_by_its_reason() {
        let all = Backups::default();
        let running = backup(json!({"phase": "Running"}));
        let failed = backup(
            json!({"phase": "Failed", "failure": {"reason": "NoSuchBucket", "message": "",
            "transient": false, "at": "2026-01-01T12:00:00Z"}}),
        );
        let after = failed.status.clone().unwrap();
        all.told(&running, &after);
        all.told(&failed, &after);
        all.seen(&failed);
        let line = r#"etcd_operator_backup_failures_total{namespace="n",cluster="demo",reason="NoSuchBucket"} 1"#;
        assert_eq!(text(&all), line);
    }

    #[test]
    fn increments_that_lag_are_told_of_until_there_are_none() {
        let all = Backups::default();
        all.lags("n", "nightly", 4);
        let line =
            r#"etcd_operator_backup_increments_lag_seconds{namespace="n",schedule="nightly"} 4"#;
        assert_eq!(text(&all), line);
        all.forget_schedule("n", "nightly");
        assert_eq!(text(&all), "");
    }
}

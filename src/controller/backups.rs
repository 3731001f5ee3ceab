//! Figures of backups: kept in one table, written out when they are asked for.

use std::{collections::BTreeMap, fmt::Error, sync::Arc};

use kube::ResourceExt;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::api::{BackupPhase, EtcdBackup, EtcdBackupStatus};

use super::figures::Text;

/// Namespace and name of a cluster or a schedule.
type Key = (String, String);

/// What is told of a cluster's backups.
#[derive(Clone, Debug, Default)]
struct Figures {
    /// When the newest proven one was taken, in seconds since 1970.
    last_success: f64,
    /// How long it took, in seconds.
    duration: f64,
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
    /// Takes in the status that a backup is about to have.
    pub(super) fn told(&self, backup: &EtcdBackup, after: &EtcdBackupStatus) {
        let key = (
            backup.namespace().unwrap_or_default(),
            backup.spec.cluster_ref.name.clone(),
        );
        let before = backup.status.as_ref();
        let mut tables = self.0.lock();
        let figures = tables.clusters.entry(key).or_default();
        let phase = before.and_then(|before| before.phase);
        if after.phase == Some(BackupPhase::Failed) && phase != after.phase {
            let reason = after.failure.as_ref().map(|it| it.reason.clone());
            *figures
                .failures
                .entry(reason.unwrap_or_default())
                .or_default() += 1;
        }
        let proven = after
            .conditions
            .iter()
            .any(|c| c.type_ == "Verified" && c.status == "True");
        let Some(artifact) = after.artifact.as_ref().filter(|_| proven) else {
            return;
        };
        let taken = artifact.taken_at.as_ref().map_or(0.0, |at| seconds(at.0));
        if taken < figures.last_success {
            return;
        }
        figures.last_success = taken;
        figures.size = artifact.size_bytes;
        figures.stored = artifact.stored_bytes;
        figures.revision = artifact.revision;
        let began = after.started_at.as_ref().map(|at| seconds(at.0));
        let ended = after.verified_at.as_ref().map(|at| seconds(at.0));
        // A drill long after it says nothing about how long it took.
        if let (Some(began), Some(ended), true) =
            (began, ended, phase != Some(BackupPhase::Verifying))
        {
            figures.duration = (ended - began).max(0.0);
        }
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

fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Name and help of a figure, and where it is.
type Gauge = (&'static str, &'static str, fn(&Figures) -> f64);

impl Collector for Backups {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let tables = self.0.lock();
        let gauges: [Gauge; 5] = [
            (
                "backup_last_success_timestamp_seconds",
                "When the newest proven backup of the cluster was taken, in seconds since 1970",
                |f| f.last_success,
            ),
            (
                "backup_last_duration_seconds",
                "How long it took to be taken, stored and proven",
                |f| f.duration,
            ),
            ("backup_last_size_bytes", "Its size", |f| f.size as f64),
            (
                "backup_last_stored_bytes",
                "Its size as stored, compressed and encrypted",
                |f| f.stored as f64,
            ),
            ("backup_last_revision", "Its revision", |f| {
                f.revision as f64
            }),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let taken = tables.clusters.iter().filter(|(_, f)| f.last_success > 0.0);
            for ((namespace, cluster), figures) in taken {
                let labels = [("namespace", Text(namespace)), ("cluster", Text(cluster))];
                metric
                    .encode_family(&labels)?
                    .encode_gauge(&value(figures))?;
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

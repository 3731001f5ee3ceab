//! Metrics of each cluster: kept in one table, written out when they are asked for,
//! and gone with the cluster.

use std::{
    collections::BTreeMap,
    fmt::{Error, Write},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelValue, LabelValueEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::api::{ConditionType, EtcdCluster, EtcdClusterStatus};

/// Namespace and name.
type Key = (String, String);

/// What is told of a cluster.
#[derive(Clone, Debug, Default)]
struct Figures {
    desired: i64,
    members: i64,
    ready: i64,
    phase: String,
    /// Types of the conditions that are true.
    conditions: Vec<String>,
    /// The plan's step, if there is one.
    step: Option<String>,
    /// Why it is not backed up, if it is not.
    not_backed_up: Option<String>,
    /// Guards that hold something back.
    guards: Vec<String>,
    leader: Option<String>,
    leader_changes: u64,
    /// Seconds since the epoch.
    looked_at: f64,
}

/// The figures of all clusters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Clusters(Arc<Mutex<BTreeMap<Key, Figures>>>);

impl Clusters {
    /// Takes in a cluster's new status. The leader before, if another one leads now.
    pub(super) fn told(
        &self,
        namespace: &str,
        cluster: &EtcdCluster,
        status: &EtcdClusterStatus,
        now: Timestamp,
    ) -> Option<String> {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let mut all = self.0.lock();
        let figures = all.entry((namespace.to_owned(), name)).or_default();
        figures.desired = i64::from(cluster.spec.replicas);
        figures.members = i64::from(status.replicas);
        figures.ready = i64::from(status.ready_replicas);
        figures.phase = status
            .phase
            .map_or_else(String::new, |phase| format!("{phase:?}"));
        let conditions = status.conditions.iter().filter(|c| c.status == "True");
        figures.conditions = conditions.map(|c| c.type_.clone()).collect();
        figures.not_backed_up = status
            .conditions
            .iter()
            .find(|c| c.type_ == ConditionType::BackedUp.as_str() && c.status == "False")
            .map(|c| c.reason.clone());
        let plan = status.plan.as_ref();
        figures.step = plan
            .map(|plan| plan.step.clone())
            .filter(|step| step != "None");
        figures.guards = plan
            .map(|plan| {
                plan.blocked_by
                    .iter()
                    .map(|held| held.guard.clone())
                    .collect()
            })
            .unwrap_or_default();
        // A moment without a leader is no second change.
        let changed = match (&figures.leader, &status.leader) {
            (Some(before), Some(after)) if before != after => Some(before.clone()),
            _ => None,
        };
        if changed.is_some() {
            figures.leader_changes += 1;
        }
        if status.leader.is_some() {
            figures.leader.clone_from(&status.leader);
        }
        figures.looked_at = now.as_millisecond() as f64 / 1000.0;
        changed
    }

    /// A cluster is no more.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().remove(&key);
    }
}

/// Name and help of a figure, and where it is.
type Gauge = (&'static str, &'static str, fn(&Figures) -> i64);
/// Name and help of what has a line for each of its values, and their label.
type List = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Figures) -> Vec<&str>,
);

impl Collector for Clusters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let all = self.0.lock();
        let gauges: [Gauge; 3] = [
            ("cluster_members_desired", "Members wanted", |f| f.desired),
            ("cluster_members", "Members there are; 0 when asleep", |f| {
                f.members
            }),
            ("cluster_members_ready", "Members that serve", |f| f.ready),
        ];
        for (name, help, value) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, figures) in all.iter() {
                metric
                    .encode_family(&labels(key))?
                    .encode_gauge(&value(figures))?;
            }
        }
        let lists: [List; 5] = [
            (
                "cluster_phase",
                "1 for the phase the cluster is in",
                "phase",
                |f| {
                    Some(f.phase.as_str())
                        .filter(|phase| !phase.is_empty())
                        .into_iter()
                        .collect()
                },
            ),
            (
                "cluster_condition",
                "1 for each condition that is true; there is no line for one that is not",
                "type",
                |f| f.conditions.iter().map(String::as_str).collect(),
            ),
            (
                "cluster_step",
                "1 for the step that is taken; no line if there is none",
                "step",
                |f| f.step.as_deref().into_iter().collect(),
            ),
            (
                "cluster_not_backed_up",
                "1 for the reason why the cluster is not backed up; no line if it is",
                "reason",
                |f| f.not_backed_up.as_deref().into_iter().collect(),
            ),
            (
                "cluster_held_back",
                "1 for each guard that holds something back",
                "guard",
                |f| f.guards.iter().map(String::as_str).collect(),
            ),
        ];
        for (name, help, label, values) in lists {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, figures) in all.iter() {
                for value in values(figures) {
                    let [namespace, cluster] = labels(key);
                    metric
                        .encode_family(&[namespace, cluster, (label, Text(value))])?
                        .encode_gauge(&1_i64)?;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(
            "cluster_leader_changes",
            "Times another member was seen to lead than before",
            None,
            MetricType::Counter,
        )?;
        for (key, figures) in all.iter() {
            metric
                .encode_family(&labels(key))?
                .encode_counter::<NoLabelSet, _, f64>(&figures.leader_changes, None)?;
        }
        let mut metric = encoder.encode_descriptor(
            "cluster_last_reconcile_timestamp_seconds",
            "When the cluster was last looked at, in seconds since 1970",
            None,
            MetricType::Gauge,
        )?;
        for (key, figures) in all.iter() {
            metric
                .encode_family(&labels(key))?
                .encode_gauge(&figures.looked_at)?;
        }
        Ok(())
    }
}

/// A label's value that is borrowed.
pub(super) struct Text<'a>(pub(super) &'a str);

impl EncodeLabelValue for Text<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), Error> {
        encoder.write_str(self.0)
    }
}

fn labels(key: &Key) -> [(&'static str, Text<'_>); 2] {
    [("namespace", Text(&key.0)), ("name", Text(&key.1))]
}

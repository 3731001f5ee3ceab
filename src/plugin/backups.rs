//! `kubectl etcd backups`: what there is of a cluster, and how far its schedules are.
//! Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, LABEL_SCHEDULE},
    jobs::{Worth, worth},
};

use super::{
    backup,
    text::{bytes_text, or_dash, span, table},
    view::ConditionView,
};

/// The backups of a cluster; what `-o json` and `-o yaml` print.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Backups {
    pub(super) cluster: String,
    pub(super) namespace: String,
    /// The cluster's condition `BackedUp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backed_up: Option<ConditionView>,
    /// The newest first.
    pub(super) backups: Vec<BackupLine>,
    pub(super) schedules: Vec<ScheduleLine>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackupLine {
    pub(super) name: String,
    pub(super) phase: String,
    /// Seconds since the snapshot was taken, or since the object was made.
    pub(super) age_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stored_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_keys: Option<i64>,
    /// Whether it was proven; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified: Option<bool>,
    /// Seconds since the last proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "clusterID")]
    pub(super) cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri: Option<String>,
    /// What it is at, or what is wrong with it; absent if it is stored and proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleLine {
    pub(super) name: String,
    pub(super) schedule: String,
    pub(super) suspended: bool,
    pub(super) kept: i32,
    /// Seconds since the newest good backup was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_success_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Timestamp>,
    /// How far increments are behind; absent without increments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lag: Option<String>,
    /// Revision up to which all changes are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stored_revision: Option<i64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

impl Backups {
    /// Of `cluster`, from what there is in its namespace.
    pub(super) fn new(
        cluster: &EtcdCluster,
        backups: &[EtcdBackup],
        schedules: &[EtcdBackupSchedule],
        now: Timestamp,
    ) -> Backups {
        let name = cluster.name_any();
        let status = cluster.status.iter();
        let condition = status
            .flat_map(|status| &status.conditions)
            .find(|condition| condition.type_ == "BackedUp");
        let of = backups.iter().filter(|b| b.spec.cluster_ref.name == name);
        let mut lines: Vec<BackupLine> = of.map(|backup| line(backup, now)).collect();
        lines.sort_by(|a, b| (a.age_seconds, &a.name).cmp(&(b.age_seconds, &b.name)));
        let of = schedules.iter().filter(|s| s.spec.cluster_ref.name == name);
        let mut schedules: Vec<ScheduleLine> = of.map(|it| schedule(it, now)).collect();
        schedules.sort_by(|a, b| a.name.cmp(&b.name));
        Backups {
            namespace: cluster.namespace().unwrap_or_default(),
            backed_up: condition.map(|condition| ConditionView::new(condition, now)),
            cluster: name,
            backups: lines,
            schedules,
        }
    }
}

fn line(backup: &EtcdBackup, now: Timestamp) -> BackupLine {
    let status = backup.status.clone().unwrap_or_default();
    let seconds = |then: Timestamp| (now.as_second() - then.as_second()).max(0);
    let artifact = status.artifact.as_ref();
    let taken = artifact.and_then(|artifact| artifact.taken_at.as_ref());
    let made = backup.metadata.creation_timestamp.as_ref();
    let worth = worth(backup);
    let deleting = backup.metadata.deletion_timestamp.is_some();
    let message = match (worth, &status.failure) {
        (Worth::Proven, None) => None,
        (_, Some(failure)) => Some(format!("{}: {}", failure.reason, failure.message)),
        (Worth::Unfinished | Worth::Stored, None) => Some(backup::told(backup)),
        (_, None) => status
            .conditions
            .iter()
            .find(|c| c.type_ == "Verified")
            .map(|c| c.message.clone())
            .filter(|message| !message.is_empty()),
    };
    BackupLine {
        name: backup.name_any(),
        phase: match status.phase {
            _ if deleting => "Deleting".to_owned(),
            Some(phase) => format!("{phase:?}"),
            None => "Pending".to_owned(),
        },
        age_seconds: taken.or(made).map_or(0, |then| seconds(then.0)),
        size_bytes: artifact.map(|artifact| artifact.size_bytes),
        stored_bytes: artifact.map(|artifact| artifact.stored_bytes),
        revision: artifact.map(|artifact| artifact.revision),
        total_keys: artifact.map(|artifact| artifact.total_keys),
        verified: match worth {
            Worth::Proven => Some(true),
            Worth::Bad => Some(false),
            _ => None,
        },
        verified_seconds: status.verified_at.as_ref().map(|at| seconds(at.0)),
        schedule: backup.labels().get(LABEL_SCHEDULE).cloned(),
        cluster_id: artifact.map(|artifact| artifact.cluster_id.clone()),
        uri: artifact.map(|artifact| artifact.uri.clone()),
        message,
    }
}

fn schedule(schedule: &EtcdBackupSchedule, now: Timestamp) -> ScheduleLine {
    let status = schedule.status.clone().unwrap_or_default();
    let spec = &schedule.spec;
    let increments = status
        .increments
        .as_ref()
        .filter(|_| spec.increments.is_some());
    let wrong = status.conditions.iter().find(|c| {
        let stalled = c.type_ == "Stalled" && c.status == "True";
        let broken = c.type_ == "Continuous" && c.status == "False" && spec.increments.is_some();
        stalled || broken
    });
    ScheduleLine {
        name: schedule.name_any(),
        schedule: match &spec.time_zone {
            Some(zone) => format!("{} ({zone})", spec.schedule),
            None => spec.schedule.clone(),
        },
        suspended: spec.suspend,
        kept: status.kept,
        last_success_seconds: status
            .last_success_time
            .as_ref()
            .map(|at| (now.as_second() - at.0.as_second()).max(0)),
        next: status
            .next_schedule_time
            .as_ref()
            .filter(|_| !spec.suspend)
            .map(|at| at.0),
        lag: increments.and_then(|increments| increments.lag.clone()),
        stored_revision: increments.and_then(|increments| increments.revision),
        message: wrong.map(|c| match c.message.is_empty() {
            true => c.reason.clone(),
            false => format!("{}: {}", c.reason, c.message),
        }),
    }
}

/// What is printed.
pub(super) fn text(view: &Backups, wide: bool) -> String {
    let mut text = format!("{} in {}: ", view.cluster, view.namespace);
    match &view.backed_up {
        Some(condition) => {
            let is = if condition.status == "True" {
                "backed up"
            } else {
                "not backed up"
            };
            text.push_str(&format!(
                "{is} ({}): {}\n",
                condition.reason, condition.message
            ));
        }
        None => text.push_str("the operator has not judged yet whether it is backed up\n"),
    }
    text.push_str("\nBackups\n");
    if view.backups.is_empty() {
        text.push_str("  none\n");
    } else {
        text.push_str(&backup_table(view, wide));
    }
    text.push_str("\nSchedules\n");
    if view.schedules.is_empty() {
        text.push_str("  none\n");
    } else {
        text.push_str(&schedule_table(view));
    }
    text
}

fn backup_table(view: &Backups, wide: bool) -> String {
    let mut head = vec![
        "NAME", "PHASE", "AGE", "SIZE", "STORED", "REVISION", "VERIFIED",
    ];
    if wide {
        head.extend(["KEYS", "CLUSTER ID", "SCHEDULE", "WHERE"]);
    }
    let number = |number: Option<i64>| or_dash(number.map(|n| n.to_string()).as_deref());
    let size = |bytes: Option<i64>| or_dash(bytes.map(bytes_text).as_deref());
    let rows = view.backups.iter().map(|line| {
        let mut row = vec![
            line.name.clone(),
            line.phase.clone(),
            span(line.age_seconds),
            size(line.size_bytes),
            size(line.stored_bytes),
            number(line.revision),
            match (line.verified, line.verified_seconds) {
                (Some(true), Some(seconds)) => format!("{} ago", span(seconds)),
                (Some(true), None) => "yes".to_owned(),
                (Some(false), _) => "BAD".to_owned(),
                (None, _) => "-".to_owned(),
            },
        ];
        if wide {
            row.push(number(line.total_keys));
            row.push(or_dash(line.cluster_id.as_deref()));
            row.push(or_dash(line.schedule.as_deref()));
            row.push(or_dash(line.uri.as_deref()));
        }
        row
    });
    let mut text = table(&head, rows, "  ");
    for line in &view.backups {
        if let Some(message) = &line.message {
            text.push_str(&format!("  {}: {message}\n", line.name));
        }
    }
    text
}

fn schedule_table(view: &Backups) -> String {
    let head = [
        "NAME",
        "KEPT",
        "LAST",
        "LAG",
        "STORED UP TO",
        "NEXT",
        "WHEN",
    ];
    let rows = view.schedules.iter().map(|line| {
        let ago = line
            .last_success_seconds
            .map(|s| format!("{} ago", span(s)));
        let next = match line.next {
            _ if line.suspended => "suspended".to_owned(),
            Some(next) => next.to_string(),
            None => "-".to_owned(),
        };
        vec![
            line.name.clone(),
            line.kept.to_string(),
            or_dash(ago.as_deref()),
            or_dash(line.lag.as_deref()),
            or_dash(line.stored_revision.map(|r| r.to_string()).as_deref()),
            next,
            line.schedule.clone(),
        ]
    });
    let mut text = table(&head, rows, "  ");
    for line in &view.schedules {
        if let Some(message) = &line.message {
            text.push_str(&format!("  {}: {message}\n", line.name));
        }
    }
    text
}

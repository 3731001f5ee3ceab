//! Changes of the EtcdCluster that have a command of their own.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api::{ANNOTATION_RESTARTED, EtcdCluster};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `spec.paused: true`.
    Pause,
    /// `spec.paused: false`.
    Resume,
    /// The annotation that asks for a restart of every member.
    Restart,
}

/// The patch to merge.
pub(super) fn patch(change: Change, now: Timestamp) -> Value {
    match change {
        Change::Pause => json!({"spec": {"paused": true}}),
        Change::Resume => json!({"spec": {"paused": false}}),
        Change::Restart => {
            let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            json!({"metadata": {"annotations": {ANNOTATION_RESTARTED: now}}})
        }
    }
}

/// What to say if there is nothing to change.
pub(super) fn idle(cluster: &EtcdCluster, change: Change) -> Option<String> {
    let name = cluster.name_any();
    match (change, cluster.spec.paused) {
        (Change::Pause, true) => Some(format!("{name} is paused already")),
        (Change::Resume, false) => Some(format!("{name} is not paused")),
        _ => None,
    }
}

/// What to say when it was changed.
pub(super) fn said(before: &EtcdCluster, change: Change) -> String {
    let name = before.name_any();
    match change {
        Change::Pause => format!(
            "{name} is paused: its members run on, the operator changes nothing until `kubectl etcd resume {name}`"
        ),
        Change::Resume => format!("{name} is no longer paused"),
        Change::Restart if before.spec.paused => format!(
            "{name} will restart once it is resumed: it is paused (`kubectl etcd resume {name}`)"
        ),
        Change::Restart => format!(
            "{name} restarts, one member at a time, the leader last; `kubectl etcd status {name}` shows how far it is"
        ),
    }
}

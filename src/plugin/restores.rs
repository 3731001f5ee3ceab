//! Restores of a cluster that are not over: pure, from the EtcdCluster, the EtcdRestores
//! of its namespace, and the time.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::{
    api::{ClusterRestore, EtcdRestore, RestoreKind},
    jobs::{restore, source},
};

use super::view::View;

/// A restore of the cluster that is not over.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoreView {
    /// The EtcdRestore, if it is done for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What is restored, in words.
    pub(super) source: String,
    /// How far it is, in one word.
    pub(super) stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replaces: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost_revisions: Option<i64>,
    /// The first member of the new cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    pub(super) since_seconds: i64,
    /// What it waits for, in words; may be empty.
    pub(super) message: String,
}

impl View {
    /// With what the EtcdRestores of the namespace say of it.
    pub(super) fn restored_by(mut self, restores: &[EtcdRestore], now: Timestamp) -> View {
        for object in restores {
            if object.spec.cluster_ref.name != self.name || restore::is_over(object) {
                continue;
            }
            let name = object.name_any();
            let status = object.status.clone().unwrap_or_default();
            let same = |view: &&mut RestoreView| view.name.as_ref() == Some(&name);
            if let Some(view) = self.restores.iter_mut().find(same) {
                view.source = source_of(object);
                view.lost_revisions = status.lost_revisions;
                continue;
            }
            let made = object.metadata.creation_timestamp.as_ref();
            let says = ["Stalled", "Reconciling"].into_iter().find_map(|type_| {
                let found = status.conditions.iter().find(|c| c.type_ == type_)?;
                (found.status == "True").then(|| found.message.clone())
            });
            self.restores.push(RestoreView {
                source: source_of(object),
                stage: status
                    .phase
                    .map_or("Pending".to_owned(), |phase| format!("{phase:?}")),
                replaces: Some(object.spec.replaces.clone()),
                lost_revisions: status.lost_revisions,
                member: None,
                since_seconds: made.map_or(0, |made| (now.as_second() - made.0.as_second()).max(0)),
                message: says.unwrap_or_default(),
                name: Some(name),
            });
        }
        self
    }
}

fn source_of(restore: &EtcdRestore) -> String {
    source::words(&restore.spec.source, restore.spec.target.as_ref())
}

/// The restore that the cluster's own plan is at, if it is at one.
pub(super) fn under_way(record: Option<&ClusterRestore>, now: Timestamp) -> Vec<RestoreView> {
    let record = record.filter(|record| !record.stage.is_over());
    record.map(|record| of(record, now)).into_iter().collect()
}

fn of(record: &ClusterRestore, now: Timestamp) -> RestoreView {
    RestoreView {
        name: record.name.clone(),
        source: match record.kind {
            RestoreKind::Backup => "a backup",
            RestoreKind::Survivor => "the most advanced member that is left",
            RestoreKind::QuorumLoss => {
                "the most advanced member that is left, as recovery.quorumLoss.policy says"
            }
        }
        .to_owned(),
        stage: format!("{:?}", record.stage),
        replaces: record.replaces.clone(),
        lost_revisions: None,
        member: record.member.clone(),
        since_seconds: (now.as_second() - record.started_at.0.as_second()).max(0),
        message: record.message.clone(),
    }
}

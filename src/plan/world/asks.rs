//! What users ask for besides clusters: backups, schedules, restores.

use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{NAME, World};
use crate::api::{BackupPhase, EtcdBackup, EtcdBackupSchedule, EtcdRestore, RestorePhase};

fn object<K: DeserializeOwned>(kind: &str, spec: Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": "ns", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

fn destination() -> Value {
    json!({"s3": {"bucket": "b23", "region": "x"}})
}

impl World {
    /// A backup, whose artifact goes with it if `delete`.
    pub(in crate::plan) fn back_up(&mut self, name: &str, delete: bool) {
        let policy = if delete { "Delete" } else { "Retain" };
        let backup: EtcdBackup = object(
            "EtcdBackup",
            json!({
                "clusterRef": {"name": NAME}, "destination": destination(),
                "deletionPolicy": policy,
            }),
        );
        self.api.backups.create(&mut self.api.ids, name, backup);
    }

    /// Asks for a backup to be verified once more.
    pub(in crate::plan) fn verify(&mut self, name: &str, token: &str) {
        self.api.backups.change(&mut self.api.ids, name, |backup| {
            let annotations = backup.annotations_mut();
            annotations.insert(crate::api::ANNOTATION_VERIFY.to_owned(), token.to_owned());
        });
    }

    /// A backup is deleted by a person.
    pub(in crate::plan) fn delete_backup(&mut self, name: &str) {
        self.api.backups.doom(&mut self.api.ids, name);
        self.api.backups.reap(name);
    }

    /// A schedule.
    pub(in crate::plan) fn back_up_by(&mut self, name: &str, spec: Value) {
        let mut all = json!({
            "clusterRef": {"name": NAME},
            "template": {"spec": {"destination": destination()}},
        });
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        let schedule: EtcdBackupSchedule = object("EtcdBackupSchedule", all);
        self.api.schedules.create(&mut self.api.ids, name, schedule);
    }

    /// A restore of a backup, or of a survivor, in place of the cluster as it is.
    pub(in crate::plan) fn restore_from(&mut self, name: &str, backup: Option<&str>) {
        let source = match backup {
            Some(backup) => json!({"backupRef": {"name": backup}}),
            None => json!({"survivor": {}}),
        };
        let status = self.cluster.status.as_ref();
        let current = status.and_then(|status| status.cluster_id.clone());
        let restore: EtcdRestore = object(
            "EtcdRestore",
            json!({
                "clusterRef": {"name": NAME}, "replaces": current.unwrap_or_default(),
                "source": source,
            }),
        );
        self.api.restores.create(&mut self.api.ids, name, restore);
    }

    /// A restore is deleted by a person.
    pub(in crate::plan) fn delete_restore(&mut self, name: &str) {
        self.api.restores.remove(name);
    }

    /// What a backup is at.
    pub(in crate::plan) fn backup(&self, name: &str) -> Option<EtcdBackup> {
        self.api
            .backups
            .items
            .get(name)
            .map(|it| EtcdBackup::clone(it))
    }

    /// The backups there are, and what they are at.
    pub(in crate::plan) fn backups(&self) -> Vec<(String, Option<BackupPhase>)> {
        let backups = self.api.backups.items.values();
        let phase = |it: &EtcdBackup| it.status.as_ref().and_then(|status| status.phase);
        backups.map(|it| (it.name_any(), phase(it))).collect()
    }

    /// Whether a backup was given up whose runs were all evicted: what is to be restored
    /// from it waits for good, and the cluster serves.
    pub(in crate::plan) fn lacks_its_backup(&self) -> bool {
        let mut backups = self.backups().into_iter();
        self.is_ready() && backups.any(|(_, phase)| phase == Some(BackupPhase::Failed))
    }

    /// What a restore is at.
    pub(in crate::plan) fn restored(&self, name: &str) -> Option<RestorePhase> {
        self.api.restores.items.get(name)?.status.as_ref()?.phase
    }

    /// What restores are at.
    pub(in crate::plan) fn restores(&self) -> Vec<String> {
        let restores = self.api.restores.items.values();
        let phase = |it: &EtcdRestore| it.status.as_ref().and_then(|status| status.phase);
        restores
            .map(|it| format!("{}: {:?}", it.name_any(), phase(it)))
            .collect()
    }

    /// What every backup and restore says of itself, for a message.
    pub(in crate::plan) fn tales(&self) -> String {
        let backups = self.api.backups.items.values().map(|it| {
            (
                it.name_any(),
                it.status.as_ref().map(|s| s.conditions.clone()),
            )
        });
        let restores = self.api.restores.items.values().map(|it| {
            (
                it.name_any(),
                it.status.as_ref().map(|s| s.conditions.clone()),
            )
        });
        backups
            .chain(restores)
            .map(|(name, conditions)| {
                let conditions = conditions.unwrap_or_default();
                let told = conditions.iter().filter(|c| c.status == "True");
                let told: Vec<String> = told
                    .map(|c| format!("{} {}: {}", c.type_, c.reason, c.message))
                    .collect();
                format!("\n{name}: {}", told.join("; "))
            })
            .collect()
    }

    /// A restore.
    pub(in crate::plan) fn restore_object(&self, name: &str) -> EtcdRestore {
        EtcdRestore::clone(&self.api.restores.items[name])
    }

    /// Someone applies a manifest once more.
    pub(in crate::plan) fn apply_restore(&mut self, restore: EtcdRestore) {
        let name = restore.name_any();
        let new = EtcdRestore {
            status: None,
            ..restore
        };
        self.api.restores.create(&mut self.api.ids, &name, new);
    }

    /// A backup object that was there before the cluster.
    pub(in crate::plan) fn keep_backup(&mut self, backup: EtcdBackup) {
        let name = backup.name_any();
        let item = std::sync::Arc::new(backup);
        self.api.backups.items.insert(name, item);
    }

    /// The last revision on a member's volume.
    pub(in crate::plan) fn revision_of(&self, member: &str) -> Option<i64> {
        let pod = self
            .api
            .pods
            .items
            .get(&crate::identity::pod_name(member))?;
        Some(self.log_of(pod)?.revision as i64)
    }

    /// The newest revision of any member.
    pub(in crate::plan) fn newest_revision(&self) -> u64 {
        let running = self.running();
        running
            .iter()
            .map(|(_, log)| log.revision)
            .max()
            .unwrap_or(0)
    }

    /// What acknowledged revisions each restore of a survivor has lost.
    pub(in crate::plan) fn lost(&self) -> &[u64] {
        &self.etcd.lost
    }

    /// Marks a node that is off for ever.
    pub(in crate::plan) fn put_out_of_service(&mut self, node: usize) {
        self.out_of_service.insert(node.to_string());
        // Kubernetes then takes away the pods that are told to go.
        for name in self.api.pods.items.keys().cloned().collect::<Vec<_>>() {
            let pod = &self.api.pods.items[&name];
            let there = pod.spec.as_ref().and_then(|it| it.node_name.as_ref());
            if there == Some(&node.to_string()) && pod.meta().deletion_timestamp.is_some() {
                self.api.pods.remove(&name);
            }
        }
    }
}

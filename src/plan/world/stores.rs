//! Stores that fill up, alarms, and volumes that grow.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{World, api::Refusal, kubelet};
use crate::{
    identity,
    observe::{EtcdSeen, RaisedAlarm},
};

/// The members' stores, and the class of their volumes.
#[derive(Clone, Default)]
pub(in crate::plan) struct Stores {
    /// Bytes taken and in use, by member ID; what is not here is empty.
    pub(in crate::plan) bytes: BTreeMap<u64, (i64, i64)>,
    /// Bytes in use that are history, in every store.
    pub(in crate::plan) history: i64,
    /// Members that raised NOSPACE.
    pub(in crate::plan) no_space: BTreeSet<u64>,
    /// Quota of every member.
    pub(in crate::plan) quota: i64,
    /// Newest revision.
    pub(in crate::plan) revision: i64,
    /// Members that say CORRUPT of themselves.
    pub(in crate::plan) corrupt: BTreeSet<u64>,
    /// Whether the class refuses to grow volumes.
    pub(in crate::plan) fixed: bool,
    /// Whether a file system grows only when a pod mounts it.
    pub(in crate::plan) unmounted: bool,
    /// Attempts that the class refused.
    pub(in crate::plan) refusals: usize,
}

impl Stores {
    pub(super) fn seen(&self, id: u64) -> EtcdSeen {
        let (db_size, db_size_in_use) = self.bytes.get(&id).copied().unwrap_or_default();
        let raised = |ids: &BTreeSet<u64>, kind: &str| -> Vec<RaisedAlarm> {
            let alarm = |member_id: &u64| RaisedAlarm {
                member_id: *member_id,
                kind: kind.to_owned(),
            };
            ids.iter().map(alarm).collect()
        };
        let mut alarms = raised(&self.no_space, "NOSPACE");
        alarms.extend(raised(&self.corrupt, "CORRUPT"));
        EtcdSeen {
            db_size,
            db_size_in_use,
            quota: self.quota,
            revision: self.revision,
            alarms,
            ..EtcdSeen::default()
        }
    }

    pub(super) fn compact(&mut self, revision: i64) {
        assert!(revision <= self.revision);
        let history = std::mem::take(&mut self.history);
        for (_, in_use) in self.bytes.values_mut() {
            *in_use -= history;
        }
    }

    pub(super) fn defragment(&mut self, id: u64) {
        if let Some((taken, in_use)) = self.bytes.get_mut(&id) {
            *taken = *in_use;
        }
    }

    pub(super) fn disarm(&mut self, id: u64) {
        let (taken, _) = self.bytes.get(&id).copied().unwrap_or_default();
        assert!(taken < self.quota, "disarmed without room");
        self.no_space.remove(&id);
    }
}

fn asked(
    claim: &PersistentVolumeClaim,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")
}

fn capacity(
    claim: &PersistentVolumeClaim,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}

impl World {
    /// Claims get the volumes they ask for; those that ask for more get it one at a time.
    pub(super) fn run_storage(&mut self) {
        let claims = self.api.claims.items.iter();
        let behind: Vec<(String, bool)> = claims
            .filter(|(_, claim)| capacity(claim) != asked(claim))
            .map(|(name, claim)| (name.clone(), capacity(claim).is_none()))
            .collect();
        let growing = behind.iter().filter(|(_, new)| !new).count();
        let operators = 1 + usize::from(self.rivals);
        assert!(growing <= operators, "one volume grows at a time");
        for (name, new) in behind {
            if self.stores.unmounted && !new && !self.is_mounted_anew(&name) {
                continue;
            }
            self.api.claims.change(&mut self.api.ids, &name, |claim| {
                let size = asked(claim).cloned().unwrap();
                let status = claim.status.get_or_insert_default();
                status.capacity = Some(BTreeMap::from([("storage".to_owned(), size)]));
                status.conditions = None;
            });
        }
    }

    /// Whether a pod was made since the volume has grown; else, that it waits for one.
    fn is_mounted_anew(&mut self, claim: &str) -> bool {
        let object = &self.api.claims.items[claim];
        let pod = identity::pod_name(&kubelet::member_of(&object.metadata));
        let conditions = object.status.as_ref().and_then(|s| s.conditions.as_ref());
        let since = conditions.and_then(|all| all.first()?.last_transition_time.clone());
        let Some(since) = since else {
            let pending = PersistentVolumeClaimCondition {
                type_: "FileSystemResizePending".to_owned(),
                status: "True".to_owned(),
                message: Some("waiting for a pod that mounts it".to_owned()),
                last_transition_time: Some(Time(self.now)),
                ..PersistentVolumeClaimCondition::default()
            };
            self.api.claims.change(&mut self.api.ids, claim, |claim| {
                claim.status.get_or_insert_default().conditions = Some(vec![pending]);
            });
            return false;
        };
        let pod = self.api.pods.items.get(&pod);
        pod.and_then(|pod| pod.metadata.creation_timestamp.as_ref())
            .is_some_and(|made| made.0 > since.0)
    }

    /// What the API server says to a volume that is to grow.
    pub(super) fn judge_growth(&mut self, patch: &serde_json::Value) -> Result<(), Refusal> {
        if self.stores.fixed && patch.pointer("/spec/resources").is_some() {
            self.stores.refusals += 1;
            let why = "only claims of a class that supports resize can grow";
            return Err(Refusal::Forbidden(why.to_owned()));
        }
        Ok(())
    }

    /// How large the volume of a claim is.
    pub(in crate::plan) fn size_of(&self, claim: &str) -> String {
        let claim = &self.api.claims.items[claim];
        capacity(claim).map_or_else(String::new, |size| size.0.clone())
    }

    /// Fills every store: bytes taken, in use, and of these in history.
    pub(in crate::plan) fn fill(&mut self, taken: i64, in_use: i64, history: i64) {
        self.stores.history = history;
        for id in self.etcd.members.keys() {
            self.stores.bytes.insert(*id, (taken, in_use));
        }
    }

    /// The IDs of the members, in the order of their names.
    pub(in crate::plan) fn ids(&self) -> Vec<u64> {
        let mut members: Vec<_> = self.etcd.members.values().collect();
        members.sort_by_key(|member| member.name.clone());
        members.iter().map(|member| member.id).collect()
    }

    /// Members whose voters serve.
    pub(in crate::plan) fn serving_names(&self) -> Vec<String> {
        let serving = self.serving();
        let members = self.etcd.members.values();
        members
            .filter(|member| serving.contains(&member.id))
            .map(|member| member.name.clone())
            .collect()
    }

    /// The images that run.
    pub(in crate::plan) fn images(&self) -> Vec<String> {
        self.api
            .pods
            .items
            .values()
            .map(|pod| kubelet::image(pod))
            .collect()
    }

    /// How far behind the leader's log a member's is, which is held back so.
    pub(in crate::plan) fn hold_back(&mut self, member: &str, entries: u64) {
        let pod = identity::pod_name(member);
        let running = self.running();
        let newest = running.iter().map(|(_, log)| log.revision).max().unwrap();
        let log = running.iter().find(|(name, _)| *name == pod).unwrap().1;
        let revision = newest - entries;
        self.set_log(&pod, Some(super::etcd::Log { revision, ..log }));
    }

    /// Writes so many entries at once, to every log.
    pub(in crate::plan) fn write_entries(&mut self, entries: u64) {
        for (pod, log) in self.running() {
            let revision = log.revision + entries;
            self.set_log(&pod, Some(super::etcd::Log { revision, ..log }));
        }
    }
}

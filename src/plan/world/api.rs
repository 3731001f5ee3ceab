//! A model of the API server: objects with UIDs and resourceVersions, server-side
//! apply, merge patches, deletions with preconditions, and the past that caches show.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Pod, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdRestore},
    plan::{Kind, Manifest},
    turn::Fault,
};

/// Why a call of the operator failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::plan) enum Refusal {
    /// No such object.
    #[error("{0} not found")]
    NotFound(String),
    /// A precondition does not hold.
    #[error("conflict: {0}")]
    Conflict(String),
    /// What is asked is not allowed.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// etcd refused.
    #[error("etcd: {0}")]
    Etcd(String),
    /// etcd, or the world, has to catch up first.
    #[error("not yet: {0}")]
    NotYet(String),
    /// No answer came: the call may be done or not.
    #[error("no answer")]
    NoAnswer,
    /// The namespace is going away.
    #[error("forbidden: the namespace is being terminated")]
    Terminating,
    /// The operator is dead.
    #[error("the operator is dead")]
    Dead,
}

impl Fault for Refusal {
    fn is_gone(&self) -> bool {
        matches!(self, Refusal::NotFound(_) | Refusal::Conflict(_))
    }

    fn is_refused(&self) -> bool {
        matches!(self, Refusal::Forbidden(_))
    }

    fn is_transient(&self) -> bool {
        matches!(self, Refusal::Conflict(_) | Refusal::NotYet(_))
    }

    fn is_terminating(&self) -> bool {
        *self == Refusal::Terminating
    }
}

/// What UIDs, resourceVersions and times are made of.
#[derive(Clone)]
pub(super) struct Ids {
    pub(super) version: u64,
    uid: u64,
    pub(super) now: Timestamp,
}

impl Ids {
    pub(super) fn version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    pub(super) fn uid(&mut self, of: &str) -> Option<String> {
        self.uid += 1;
        Some(format!("{of}-{}", self.uid))
    }
}

/// Objects of one kind, by name.
pub(super) type Items<K> = BTreeMap<String, Arc<K>>;

/// Objects of one kind, and what was last applied of each.
#[derive(Clone)]
pub(super) struct Shelf<K> {
    pub(super) items: Items<K>,
    applied: BTreeMap<String, Value>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Shelf {
            items: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }
}

impl<K> Shelf<K>
where
    K: Resource<DynamicType = ()> + Clone + PartialEq + Serialize + DeserializeOwned,
{
    /// Puts a new object there.
    pub(super) fn create(&mut self, ids: &mut Ids, name: &str, mut object: K) {
        let meta = object.meta_mut();
        meta.name = Some(name.to_owned());
        meta.uid = ids.uid(&K::kind(&()));
        meta.resource_version = ids.version();
        meta.creation_timestamp = Some(Time(ids.now));
        self.items.insert(name.to_owned(), Arc::new(object));
    }

    /// A controller's own write: no precondition.
    pub(super) fn change(&mut self, ids: &mut Ids, name: &str, change: impl FnOnce(&mut K)) {
        let Some(item) = self.items.get_mut(name) else {
            return;
        };
        let mut object = K::clone(item);
        change(&mut object);
        if object != **item {
            object.meta_mut().resource_version = ids.version();
            *item = Arc::new(object);
        }
    }

    /// Marks as being deleted.
    pub(super) fn doom(&mut self, ids: &mut Ids, name: &str) {
        let now = ids.now;
        self.change(ids, name, |object| {
            object
                .meta_mut()
                .deletion_timestamp
                .get_or_insert(Time(now));
        });
    }

    /// Takes away what is being deleted and held by nobody any more.
    pub(super) fn reap(&mut self, name: &str) {
        let gone = self.items.get(name).is_some_and(|item| {
            let meta = item.meta();
            let held = meta.finalizers.as_ref().is_some_and(|all| !all.is_empty());
            meta.deletion_timestamp.is_some() && !held
        });
        if gone {
            self.remove(name);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.items.remove(name);
        self.applied.remove(name);
    }

    /// Refuses a precondition that does not hold.
    pub(super) fn check(
        &self,
        name: &str,
        uid: Option<&str>,
        version: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(item) = self.items.get(name) else {
            return Err(Refusal::NotFound(format!("{} {name}", K::kind(&()))));
        };
        let meta = item.meta();
        if uid.is_some() && meta.uid.as_deref() != uid {
            return Err(Refusal::Conflict(format!("{name} has another UID")));
        }
        if version.is_some() && meta.resource_version.as_deref() != version {
            return Err(Refusal::Conflict(format!("{name} has changed")));
        }
        Ok(())
    }

    fn apply(&mut self, ids: &mut Ids, manifest: &Manifest) -> Result<(), Refusal> {
        let (name, body) = (&manifest.name, &manifest.body);
        let uid = body["metadata"]["uid"].as_str();
        let known = match self.check(name, uid, None) {
            Err(Refusal::NotFound(what)) if uid.is_some() => return Err(Refusal::Conflict(what)),
            Err(Refusal::NotFound(_)) => None,
            Err(refusal) => return Err(refusal),
            Ok(()) => self.items.get(name),
        };
        let mut wanted = body.clone();
        if let Some(known) = known {
            let mut live = serde_json::to_value(&**known).unwrap();
            if let Some(before) = self.applied.get(name) {
                forget(&mut live, before, body);
            }
            merge(&mut live, body);
            wanted = live;
        }
        let object: K = serde_json::from_value(wanted).unwrap();
        if self.items.contains_key(name) {
            self.change(ids, name, |live| *live = object);
        } else {
            self.create(ids, name, object);
        }
        self.applied.insert(name.clone(), body.clone());
        Ok(())
    }

    fn patch(&mut self, ids: &mut Ids, name: &str, patch: &Value) -> Result<(), Refusal> {
        let uid = patch["metadata"]["uid"].as_str();
        assert!(uid.is_some(), "a patch without a UID: {patch}");
        let version = patch["metadata"]["resourceVersion"].as_str();
        self.check(name, uid, version)?;
        let mut live = serde_json::to_value(&*self.items[name]).unwrap();
        merge(&mut live, patch);
        let object: K = serde_json::from_value(live).unwrap();
        self.change(ids, name, |live| *live = object);
        Ok(())
    }
}

/// Merges as RFC 7386 says: null removes.
fn merge(live: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *live = patch.clone();
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Default::default());
    }
    let live = live.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            live.remove(key);
        } else {
            merge(live.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Removes from `live` what `before` set and `now` does not.
fn forget(live: &mut Value, before: &Value, now: &Value) {
    let (Some(live), Some(before)) = (live.as_object_mut(), before.as_object()) else {
        return;
    };
    for (key, value) in before {
        match (now.get(key), live.get_mut(key)) {
            (None, _) if key != "uid" => {
                live.remove(key);
            }
            (Some(now), Some(live)) => forget(live, value, now),
            _ => {}
        }
    }
}

/// Everything the API server holds of one cluster's objects.
#[derive(Clone)]
pub(super) struct ApiServer {
    pub(super) ids: Ids,
    pub(super) sets: Shelf<StatefulSet>,
    pub(super) pods: Shelf<Pod>,
    pub(super) claims: Shelf<PersistentVolumeClaim>,
    pub(super) services: Shelf<Service>,
    pub(super) budgets: Shelf<PodDisruptionBudget>,
    pub(super) jobs: Shelf<Job>,
    /// Pods of Jobs, by the Job's name.
    pub(super) run_pods: Shelf<Pod>,
    /// Jobs that are gone and whose pods work on, by the pod's name.
    pub(super) orphans: Items<Job>,
    pub(super) deployments: Shelf<Deployment>,
    pub(super) backups: Shelf<EtcdBackup>,
    pub(super) schedules: Shelf<EtcdBackupSchedule>,
    pub(super) restores: Shelf<EtcdRestore>,
}

/// The same at one time, as a cache or a list shows it.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    pub(super) cluster: Option<Arc<EtcdCluster>>,
    pub(super) sets: Items<StatefulSet>,
    pub(super) pods: Items<Pod>,
    pub(super) claims: Items<PersistentVolumeClaim>,
    pub(super) services: Items<Service>,
    pub(super) budgets: Items<PodDisruptionBudget>,
    pub(super) jobs: Items<Job>,
    pub(super) run_pods: Items<Pod>,
    pub(super) deployments: Items<Deployment>,
    pub(super) backups: Items<EtcdBackup>,
    pub(super) schedules: Items<EtcdBackupSchedule>,
    pub(super) restores: Items<EtcdRestore>,
}

impl ApiServer {
    pub(super) fn new(now: Timestamp) -> ApiServer {
        let ids = Ids {
            version: 0,
            uid: 0,
            now,
        };
        ApiServer {
            ids,
            sets: Shelf::default(),
            pods: Shelf::default(),
            claims: Shelf::default(),
            services: Shelf::default(),
            budgets: Shelf::default(),
            jobs: Shelf::default(),
            run_pods: Shelf::default(),
            orphans: Items::new(),
            deployments: Shelf::default(),
            backups: Shelf::default(),
            schedules: Shelf::default(),
            restores: Shelf::default(),
        }
    }

    pub(super) fn snapshot(&self, cluster: Option<Arc<EtcdCluster>>) -> Snapshot {
        Snapshot {
            cluster,
            sets: self.sets.items.clone(),
            pods: self.pods.items.clone(),
            claims: self.claims.items.clone(),
            services: self.services.items.clone(),
            budgets: self.budgets.items.clone(),
            jobs: self.jobs.items.clone(),
            run_pods: self.run_pods.items.clone(),
            deployments: self.deployments.items.clone(),
            backups: self.backups.items.clone(),
            schedules: self.schedules.items.clone(),
            restores: self.restores.items.clone(),
        }
    }

    pub(super) fn apply(&mut self, manifest: &Manifest) -> Result<(), Refusal> {
        let ids = &mut self.ids;
        match manifest.kind {
            Kind::Service => self.services.apply(ids, manifest),
            Kind::DisruptionBudget => self.budgets.apply(ids, manifest),
            Kind::StatefulSet => self.sets.apply(ids, manifest),
            Kind::Pod => self.pods.apply(ids, manifest),
            Kind::Claim => self.claims.apply(ids, manifest),
            Kind::Secret | Kind::Certificate => panic!("{} is not on these shelves", manifest.kind),
            Kind::Job => self.jobs.apply(ids, manifest),
            Kind::Deployment => self.deployments.apply(ids, manifest),
            Kind::Backup => self.backups.apply(ids, manifest),
        }
    }

    pub(super) fn patch(&mut self, kind: Kind, name: &str, patch: &Value) -> Result<(), Refusal> {
        let ids = &mut self.ids;
        match kind {
            Kind::Service => self.services.patch(ids, name, patch),
            Kind::DisruptionBudget => self.budgets.patch(ids, name, patch),
            Kind::StatefulSet => self.sets.patch(ids, name, patch),
            Kind::Pod => self.pods.patch(ids, name, patch),
            Kind::Claim => self.claims.patch(ids, name, patch),
            Kind::Secret | Kind::Certificate => panic!("the operator never patches a {kind}"),
            Kind::Job => self.jobs.patch(ids, name, patch),
            Kind::Deployment => self.deployments.patch(ids, name, patch),
            Kind::Backup => {
                self.backups.patch(ids, name, patch)?;
                self.backups.reap(name);
                Ok(())
            }
        }
    }

    /// Takes a Job away. Its pod is told to go, and works on until it hears of it.
    pub(super) fn orphan(&mut self, name: &str) {
        let job = self.jobs.items.get(name).cloned();
        let pod = self.run_pods.items.get(name).cloned();
        self.jobs.remove(name);
        self.run_pods.remove(name);
        let (Some(job), Some(pod)) = (job, pod) else {
            return;
        };
        // A Job that is made once more under the name has another pod.
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let orphan = format!("{name}-{uid}");
        self.run_pods.items.insert(orphan.clone(), pod);
        self.run_pods.doom(&mut self.ids, &orphan);
        self.orphans.insert(orphan, job);
    }

    /// Deletes. Pods and claims only begin to go: the kubelet and the protection of
    /// claims in use have their say.
    pub(super) fn delete(
        &mut self,
        kind: Kind,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<(), Refusal> {
        let ids = &mut self.ids;
        let uid = Some(uid);
        let checked = match kind {
            Kind::StatefulSet => self.sets.check(name, uid, version),
            Kind::Pod => self.pods.check(name, uid, version),
            Kind::Claim => self.claims.check(name, uid, version),
            Kind::Job => self.jobs.check(name, uid, version),
            Kind::Deployment => self.deployments.check(name, uid, version),
            Kind::Backup => self.backups.check(name, uid, version),
            Kind::Service | Kind::DisruptionBudget | Kind::Secret | Kind::Certificate => {
                panic!("the operator never deletes a {kind}")
            }
        };
        match checked {
            Err(Refusal::NotFound(_)) => return Ok(()),
            checked => checked?,
        }
        match kind {
            Kind::Pod => self.pods.doom(ids, name),
            Kind::Claim => self.claims.doom(ids, name),
            Kind::Backup => {
                self.backups.doom(ids, name);
                self.backups.reap(name);
            }
            Kind::Job => self.orphan(name),
            Kind::Deployment => self.deployments.remove(name),
            _ => self.sets.remove(name),
        }
        Ok(())
    }
}

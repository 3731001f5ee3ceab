//! Turns of the operator for backups, schedules and restores, in the model.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    World,
    api::{ApiServer, Items, Refusal, Shelf, Snapshot},
};
use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore, LABEL_RUN_OF, LABEL_SCHEDULE},
    jobs::{
        self, RunSeen, backup, pins, restore, schedule,
        turn::{Object, Surroundings},
    },
    observe::Source,
    plan::Call,
    render::run_of,
};

/// A kind that the model keeps.
pub(super) trait Kept:
    Object + PartialEq + Serialize + DeserializeOwned + Clone + 'static
{
    fn shelf(api: &mut ApiServer) -> &mut Shelf<Self>;
    fn items(seen: &Snapshot) -> &Items<Self>;
    fn write(&mut self, status: Self::Status);
    fn around(&self, world: &World, seen: &Snapshot) -> Self::Observed;
    fn is_over(&self) -> bool;
}

fn runs(seen: &Snapshot, kind: &str, name: &str) -> Vec<RunSeen> {
    let of = run_of(kind, name);
    let jobs = seen.jobs.values();
    let jobs: Vec<_> = jobs
        .filter(|job| job.labels().get(LABEL_RUN_OF) == Some(&of))
        .cloned()
        .collect();
    jobs::runs(&jobs, &run_pods(seen, kind, name))
}

fn run_pods(seen: &Snapshot, kind: &str, name: &str) -> Vec<Arc<Pod>> {
    let of = run_of(kind, name);
    let pods = seen.run_pods.values();
    let pods = pods.filter(|pod| pod.labels().get(LABEL_RUN_OF) == Some(&of));
    pods.cloned().collect()
}

impl Kept for EtcdBackup {
    fn shelf(api: &mut ApiServer) -> &mut Shelf<Self> {
        &mut api.backups
    }

    fn items(seen: &Snapshot) -> &Items<Self> {
        &seen.backups
    }

    fn write(&mut self, status: Self::Status) {
        self.status = Some(status);
    }

    fn around(&self, world: &World, seen: &Snapshot) -> backup::Observed {
        let restores: Vec<Arc<EtcdRestore>> = seen.restores.values().cloned().collect();
        let cluster = seen.cluster.clone();
        let clusters: Vec<_> = cluster.iter().cloned().collect();
        backup::Observed {
            cluster: cluster.filter(|it| it.name_any() == self.spec.cluster_ref.name),
            runs: runs(seen, "backup", &self.name_any()),
            writer: jobs::writer(&run_pods(seen, "backup", &self.name_any())),
            pinned_by: pins::of(self, &restores, &clusters),
            terminating: world.terminating,
        }
    }

    fn is_over(&self) -> bool {
        let status = self.status.clone().unwrap_or_default();
        let ended = status.artifact.is_some() || status.completed_at.is_some();
        ended && status.verifying.is_none() && self.metadata.deletion_timestamp.is_none()
    }
}

impl Kept for EtcdBackupSchedule {
    fn shelf(api: &mut ApiServer) -> &mut Shelf<Self> {
        &mut api.schedules
    }

    fn items(seen: &Snapshot) -> &Items<Self> {
        &seen.schedules
    }

    fn write(&mut self, status: Self::Status) {
        self.status = Some(status);
    }

    fn around(&self, _: &World, seen: &Snapshot) -> schedule::Observed {
        let restores: Vec<Arc<EtcdRestore>> = seen.restores.values().cloned().collect();
        let clusters: Vec<_> = seen.cluster.iter().cloned().collect();
        let mine = |backup: &&Arc<EtcdBackup>| {
            backup.labels().get(LABEL_SCHEDULE) == Some(&self.name_any())
        };
        let backups: Vec<_> = seen.backups.values().filter(mine).cloned().collect();
        let pinned = backups.iter().filter_map(|backup| {
            Some((backup.name_any(), pins::of(backup, &restores, &clusters)?))
        });
        schedule::Observed {
            cluster: seen.cluster.clone(),
            pinned: pinned.collect(),
            backups,
            follower: None,
        }
    }

    fn is_over(&self) -> bool {
        true
    }
}

impl Kept for EtcdRestore {
    fn shelf(api: &mut ApiServer) -> &mut Shelf<Self> {
        &mut api.restores
    }

    fn items(seen: &Snapshot) -> &Items<Self> {
        &seen.restores
    }

    fn write(&mut self, status: Self::Status) {
        self.status = Some(status);
    }

    fn around(&self, world: &World, seen: &Snapshot) -> restore::Observed {
        let named = self.spec.source.backup_ref.as_ref();
        let running = world.running();
        let newest = running.iter().map(|(_, log)| log.revision as i64).max();
        restore::Observed {
            cluster: seen.cluster.clone(),
            revision: newest,
            backup: named.and_then(|named| seen.backups.get(&named.name).cloned()),
            runs: runs(seen, "restore", &self.name_any()),
        }
    }

    fn is_over(&self) -> bool {
        // One that names a backup that is gone waits for it for ever.
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        let waits = conditions.into_iter().any(|c| c.reason == "BackupNotFound");
        restore::is_over(self) || waits
    }
}

/// The operator's senses and hands, for one object.
pub(super) struct Keeper<'a> {
    pub(super) world: &'a mut World,
    pub(super) name: String,
}

impl<K: Kept> Surroundings<K> for Keeper<'_> {
    type Error = Refusal;

    fn now(&self) -> Timestamp {
        self.world.now
    }

    async fn object(&mut self) -> Result<Option<K>, Refusal> {
        let item = K::shelf(&mut self.world.api).items.get(&self.name);
        Ok(item.map(|item| K::clone(item)))
    }

    async fn observe(&mut self, object: &K, source: Source) -> Result<K::Observed, Refusal> {
        let world = &mut *self.world;
        let seen = match source {
            Source::Cache => world.cached_snapshot(),
            Source::Live => {
                let cluster = Arc::new(world.cluster.clone());
                world.api.snapshot(Some(cluster))
            }
        };
        Ok(object.around(world, &seen))
    }

    async fn write_status(&mut self, object: &mut K, status: K::Status) -> Result<(), Refusal> {
        self.world.attempt(|world| {
            let name = object.name_any();
            let version = object.resource_version();
            let shelf = K::shelf(&mut world.api);
            shelf.check(&name, object.uid().as_deref(), version.as_deref())?;
            let mut ids = world.api.ids.clone();
            K::shelf(&mut world.api).change(&mut ids, &name, |live| live.write(status.clone()));
            world.api.ids = ids;
            *object = K::clone(&K::shelf(&mut world.api).items[&name]);
            Ok(())
        })
    }

    async fn call(&mut self, object: &K, call: &Call) -> Result<(), Refusal> {
        self.world
            .attempt(|world| world.keep(object.name_any(), call))
    }

    async fn announce(&mut self, _: &K, _: &K::Status) {}

    async fn stepped(&mut self, object: &K, why: &str, result: Result<(), &str>) {
        let step = format!("  {} {}: {why}", K::kind(&()), object.name_any());
        self.world.steps.push(match result {
            Ok(()) => step,
            Err(error) => format!("{step}: failed: {error}"),
        });
    }
}

impl World {
    /// A call for an object that Jobs carry out.
    fn keep(&mut self, of: String, call: &Call) -> Result<(), Refusal> {
        match call {
            Call::Apply(manifest) => {
                if self.terminating {
                    return Err(Refusal::Terminating);
                }
                self.api.apply(manifest)
            }
            Call::Patch {
                kind, name, patch, ..
            } => self.api.patch(*kind, name, patch),
            Call::Delete {
                kind, name, uid, ..
            } => self.api.delete(*kind, name, uid, None),
            Call::Record(_) | Call::Etcd(_) | Call::Certificates(_) => {
                panic!("{of} is no cluster: {call:?}")
            }
        }
    }

    /// A turn for every backup, schedule and restore.
    pub(super) fn turn_keepers(&mut self) {
        self.turn_kind::<EtcdBackupSchedule>();
        self.turn_kind::<EtcdBackup>();
        self.turn_kind::<EtcdRestore>();
    }

    fn turn_kind<K: Kept>(&mut self) {
        let cached = self.cached_snapshot();
        let items: Vec<Arc<K>> = K::items(&cached).values().cloned().collect();
        let settings = self.settings.clone();
        for item in items {
            let mut keeper = Keeper {
                name: item.name_any(),
                world: self,
            };
            let turn = jobs::turn::turn::<K, _>(&mut keeper, &item, &settings);
            if let Err(error) = futures::executor::block_on(turn) {
                let step = format!("  the turn of {} failed: {error}", item.name_any());
                self.steps.push(step);
            }
        }
    }

    /// Whether nothing is left to do for any of them.
    pub(super) fn keepers_rest(&self) -> bool {
        fn rest<K: Kept>(world: &World) -> bool {
            let seen = world.api.snapshot(Some(Arc::new(world.cluster.clone())));
            K::items(&seen).values().all(|item| {
                let observed = item.around(world, &seen);
                let plan = K::plan(item, &observed, &world.settings, world.now);
                plan.calls.is_empty() && item.is_over()
            })
        }
        rest::<EtcdBackup>(self) && rest::<EtcdBackupSchedule>(self) && rest::<EtcdRestore>(self)
    }
}

//! Watches and controllers of backups, schedules and restores: what wakes which of them.
//!
//! ```text
//! Jobs, pods, Deployments of runs -> cache -> by the label run-of ─┐
//! backups  -> cache -> their cluster, their schedule ──────────────┼-> three controllers
//! restores, schedules -> cache -> their cluster ───────────────────┘   and the clusters'
//! ```

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Config, Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates,
        reflector::{self, ObjectRef},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore, LABEL_RUN, LABEL_SCHEDULE},
    causes::causes,
    observe::{ArtifactCaches, Cache, Trim, Trimmed, cache_by, managed},
};

use super::{
    jobs::{self, Kept},
    stopped,
    streams::{Guarded, api, watched},
};

/// Wakes that wait for a controller. It takes them as they come; a full queue holds the
/// watch up, and nothing is lost.
const QUEUE: usize = 1024;

/// Wakes of one controller.
type Wakes<K> = BoxStream<'static, ObjectRef<DeserializeGuard<K>>>;

/// Senders of wakes, by kind.
#[derive(Clone)]
struct Bells {
    backups: mpsc::Sender<ObjectRef<DeserializeGuard<EtcdBackup>>>,
    schedules: mpsc::Sender<ObjectRef<DeserializeGuard<EtcdBackupSchedule>>>,
    restores: mpsc::Sender<ObjectRef<DeserializeGuard<EtcdRestore>>>,
    clusters: mpsc::Sender<ObjectRef<Guarded>>,
}

impl Bells {
    /// Wakes what a run belongs to.
    async fn run(&self, namespace: &str, of: &str) {
        let Some((kind, name)) = of.split_once('.') else {
            return;
        };
        let rung = match kind {
            "backup" => ring(&self.backups, namespace, name).await,
            "schedule" => ring(&self.schedules, namespace, name).await,
            "restore" => ring(&self.restores, namespace, name).await,
            _ => true,
        };
        if !rung {
            debug!(of, "its controller has ended");
        }
    }

    /// Wakes a cluster.
    async fn cluster(&self, namespace: &str, name: &str) {
        ring(&self.clusters, namespace, name).await;
    }
}

async fn ring<K>(bell: &mpsc::Sender<ObjectRef<K>>, namespace: &str, name: &str) -> bool
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let whom = ObjectRef::new(name).within(namespace);
    bell.send(whom).await.is_ok()
}

fn received<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed()
}

/// What there is for backups, schedules and restores in one scope.
pub(super) struct Artifacts {
    pub(super) caches: ArtifactCaches,
    /// Clusters whose backups, schedules or restores have changed.
    clusters: BoxStream<'static, ObjectRef<Guarded>>,
    watches: Vec<BoxFuture<'static, ()>>,
    backups: Wakes<EtcdBackup>,
    schedules: Wakes<EtcdBackupSchedule>,
    restores: Wakes<EtcdRestore>,
}

impl Artifacts {
    pub(super) fn new(
        client: &Client,
        namespace: Option<&str>,
        clusters: reflector::Store<Guarded>,
    ) -> Artifacts {
        let (backup_bell, backups) = mpsc::channel(QUEUE);
        let (schedule_bell, schedules) = mpsc::channel(QUEUE);
        let (restore_bell, restores) = mpsc::channel(QUEUE);
        let (cluster_bell, woken) = mpsc::channel(QUEUE);
        let bells = Bells {
            backups: backup_bell,
            schedules: schedule_bell,
            restores: restore_bell,
            clusters: cluster_bell,
        };
        let runs = format!("{},{LABEL_RUN}", managed());
        let (jobs, run_jobs) = run_watch::<Job>(client, namespace, &runs, &bells);
        let (pods, run_pods) = run_watch::<Pod>(client, namespace, &runs, &bells);
        let (deployments, run_deployments) =
            run_watch::<Deployment>(client, namespace, &runs, &bells);
        let (kept_backups, watch_backups) = kind_watch::<EtcdBackup>(client, namespace, &bells);
        let (kept_schedules, watch_schedules) =
            kind_watch::<EtcdBackupSchedule>(client, namespace, &bells);
        let (kept_restores, watch_restores) = kind_watch::<EtcdRestore>(client, namespace, &bells);
        Artifacts {
            caches: ArtifactCaches {
                jobs,
                pods,
                deployments,
                backups: kept_backups,
                schedules: kept_schedules,
                restores: kept_restores,
                clusters,
            },
            clusters: received(woken),
            watches: vec![
                run_jobs,
                run_pods,
                run_deployments,
                watch_backups,
                watch_schedules,
                watch_restores,
            ],
            backups: received(backups),
            schedules: received(schedules),
            restores: received(restores),
        }
    }

    /// What wakes clusters, and the rest.
    pub(super) fn split(mut self) -> (BoxStream<'static, ObjectRef<Guarded>>, Artifacts) {
        let nobody = futures::stream::empty().boxed();
        let clusters = std::mem::replace(&mut self.clusters, nobody);
        (clusters, self)
    }

    /// Runs the controllers until a signal.
    pub(super) async fn run(
        self,
        client: Client,
        namespace: Option<String>,
        worker: Arc<jobs::Worker>,
    ) {
        let namespace = namespace.as_deref();
        let watches = futures::future::join_all(self.watches);
        let controllers = futures::future::join3(
            control(&client, namespace, self.backups, &worker),
            control(&client, namespace, self.schedules, &worker),
            control(&client, namespace, self.restores, &worker),
        );
        // The watches have no end of their own.
        tokio::select! {
            _ = watches => {}
            _ = controllers => {}
        }
    }
}

/// A cache of objects of runs, and the watch that fills it and wakes whom they belong to.
fn run_watch<K>(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
    bells: &Bells,
) -> (Cache<K>, BoxFuture<'static, ()>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Trimmed
        + Trim
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
{
    let (cache, mut filler) = cache_by::<K>(K::by);
    let config = watched().labels(labels);
    let events = watcher(api::<K>(client, namespace), config)
        .default_backoff()
        .modify(Trim::trim);
    let bells = bells.clone();
    let work = async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if let Some((namespace, of)) = filler.take(event) {
                        bells.run(&namespace, &of).await;
                    }
                }
                Err(error) => interrupted::<K>(&error),
            }
        }
    };
    (cache, work.boxed())
}

fn interrupted<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    // Tried again, less and less often; meanwhile the cache is behind.
    warn!(kind = %K::kind(&()), error = causes(error), "a watch was interrupted");
}

/// A cache of one of our kinds, and the watch that fills it and wakes the cluster they
/// are of, and the schedule that made them.
fn kind_watch<K>(
    client: &Client,
    namespace: Option<&str>,
    bells: &Bells,
) -> (Cache<K>, BoxFuture<'static, ()>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Trimmed
        + Trim
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
{
    let (cache, mut filler) = cache_by::<K>(K::by);
    let api = api::<DeserializeGuard<K>>(client, namespace);
    let events = watcher(api, watched()).default_backoff();
    let bells = bells.clone();
    let work = async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    interrupted::<K>(&error);
                    continue;
                }
            };
            let Some(event) = readable(event) else {
                continue;
            };
            let schedule = schedule_of(&event);
            if let Some((namespace, cluster)) = filler.take(event) {
                bells.cluster(&namespace, &cluster).await;
                if let Some(schedule) = schedule {
                    bells.run(&namespace, &format!("schedule.{schedule}")).await;
                }
            }
        }
    };
    (cache, work.boxed())
}

fn schedule_of<K: Resource<DynamicType = ()>>(event: &watcher::Event<K>) -> Option<String> {
    match event {
        watcher::Event::Apply(it) | watcher::Event::Delete(it) | watcher::Event::InitApply(it) => {
            it.labels().get(LABEL_SCHEDULE).cloned()
        }
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// An event of an object that can be read; one that cannot must not end the watch.
fn readable<K: Trim>(event: watcher::Event<DeserializeGuard<K>>) -> Option<watcher::Event<K>> {
    let read = |guard: DeserializeGuard<K>| {
        let mut object = guard.0.ok()?;
        object.trim();
        Some(object)
    };
    Some(match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(it) => watcher::Event::InitApply(read(it)?),
        watcher::Event::Apply(it) => watcher::Event::Apply(read(it)?),
        watcher::Event::Delete(it) => watcher::Event::Delete(read(it)?),
    })
}

/// The controller of one kind.
async fn control<K: Kept>(
    client: &Client,
    namespace: Option<&str>,
    wakes: impl Stream<Item = ObjectRef<DeserializeGuard<K>>> + Send + 'static,
    worker: &Arc<jobs::Worker>,
) {
    let api: Api<DeserializeGuard<K>> = api(client, namespace);
    let (reader, writer) = reflector::store();
    // Our own writes of status are not news; an annotation may ask for something, and a
    // finalizer is a step of ours that is over.
    let news = predicates::generation
        .combine(predicates::annotations)
        .combine(predicates::finalizers);
    let objects = watcher(api, watched())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(news, PredicateConfig::default());
    Controller::for_stream(objects, reader)
        .with_config(
            Config::default()
                .concurrency(worker.concurrency)
                .debounce(Duration::from_millis(20)),
        )
        .reconcile_on(wakes)
        .graceful_shutdown_on(stopped())
        .run(
            jobs::reconcile::<K>,
            jobs::error_policy::<K>,
            Arc::clone(worker),
        )
        .for_each(async |result| match result {
            Ok(_) => {}
            Err(controller::Error::ObjectNotFound(gone)) => {
                worker.forget::<K>(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
            }
            Err(error) => debug!(%error, "reconcile"), // the error policy has told it
        })
        .await;
}

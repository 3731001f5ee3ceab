//! Watches: one set of caches and one controller per namespace that is served, or one
//! for all.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod, Service},
        policy::v1::PodDisruptionBudget,
    },
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
use tracing::{debug, info, warn};

use crate::{
    api::EtcdCluster,
    causes::causes,
    observe::{Cache, Caches, Observer, Probe, Trim, cache, managed},
};

use super::{Context, Options, artifacts::Artifacts, jobs, reconcile, stopped};

/// What the controller watches: an object that cannot be read must not end the watch.
pub(super) type Guarded = DeserializeGuard<EtcdCluster>;

/// Runs the controllers until a signal.
pub(super) async fn run(context: Arc<Context>, probe: Probe, options: Options) {
    let scopes: Vec<Option<String>> = if options.namespaces.is_empty() {
        vec![None]
    } else {
        options.namespaces.iter().cloned().map(Some).collect()
    };
    let controllers = scopes.into_iter().map(|namespace| {
        let context = Arc::clone(&context);
        let (probe, options) = (probe.clone(), options.clone());
        async move {
            info!(
                namespace = namespace.as_deref().unwrap_or("*"),
                "watches EtcdClusters"
            );
            controller(context, probe, namespace.as_deref(), &options).await;
        }
    });
    join_all(controllers).await;
}

/// Objects that a list brings at once. A page is whole until it is trimmed, and all caches
/// are filled at the same time when an operator starts.
const PAGE: u32 = 100;

/// How everything is watched.
pub(super) fn watched() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

pub(super) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn controller(
    context: Arc<Context>,
    probe: Probe,
    namespace: Option<&str>,
    options: &Options,
) {
    let client = &context.client;
    let (sets, set_stream) = watch::<StatefulSet>(client, namespace);
    let (pods, pod_stream) = watch::<Pod>(client, namespace);
    let (claims, claim_stream) = watch::<PersistentVolumeClaim>(client, namespace);
    let (services, service_stream) = watch::<Service>(client, namespace);
    let (budgets, budget_stream) = watch::<PodDisruptionBudget>(client, namespace);
    let caches = Caches {
        client: client.clone(),
        stateful_sets: sets,
        pods,
        claims,
        services,
        budgets,
    };
    let clusters: Api<Guarded> = api(client, namespace);
    let (reader, writer) = reflector::store();
    let artifacts = Artifacts::new(client, namespace, reader.clone());
    let observer = Observer::new(
        caches,
        artifacts.caches.clone(),
        probe,
        options.secrets_interval,
    );
    let worker = Arc::new(reconcile::Worker {
        context: Arc::clone(&context),
        observer: observer.clone(),
    });
    let keeper = Arc::new(jobs::Worker {
        context: Arc::clone(&context),
        observer,
        concurrency: options.concurrency,
    });
    // Our own writes of status are not news; an annotation may ask for a restart.
    let specs = watcher(clusters, watched())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            PredicateConfig::default(),
        );
    let (woken, artifacts) = artifacts.split();
    let keepers = artifacts.run(client.clone(), namespace.map(str::to_owned), keeper);
    let keepers = tokio::spawn(keepers);
    Controller::for_stream(specs, reader)
        .with_config(
            Config::default()
                .concurrency(options.concurrency)
                .debounce(Duration::from_millis(20)),
        )
        .reconcile_on(set_stream)
        .reconcile_on(pod_stream)
        .reconcile_on(claim_stream)
        .reconcile_on(service_stream)
        .reconcile_on(budget_stream)
        .reconcile_on(woken)
        .graceful_shutdown_on(stopped())
        .run(reconcile::reconcile, reconcile::error_policy, worker)
        .for_each(async |result| {
            match result {
                Ok(_) => {}
                Err(controller::Error::ObjectNotFound(gone)) => {
                    context.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error) => debug!(%error, "reconcile"), // the error policy has told it
            }
        })
        .await;
    if let Err(error) = keepers.await {
        warn!(%error, "the controllers of backups ended");
    }
}

/// A cache of everything of one kind that the operator made, and the stream that fills
/// it: the clusters whose objects have changed.
fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
) -> (Cache<K>, BoxStream<'static, ObjectRef<Guarded>>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Trim
        + Send
        + Sync
        + 'static,
{
    let (reader, mut filler) = cache::<K>();
    let config = watched().labels(&managed());
    let kind = K::kind(&());
    let stream = watcher(api::<K>(client, namespace), config)
        .default_backoff()
        .modify(Trim::trim)
        .filter_map(move |event| {
            let owner = match event {
                Ok(event) => filler.take(event),
                Err(error) => {
                    // Tried again, less and less often; meanwhile the cache is behind.
                    warn!(%kind, error = causes(&error), "a watch was interrupted");
                    None
                }
            };
            let cluster = owner.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace));
            std::future::ready(cluster)
        })
        .boxed();
    (reader, stream)
}

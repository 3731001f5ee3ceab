//! What there is around backups, schedules and restores: their Jobs and pods, and each
//! other.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::debug;

use crate::{
    api::{
        EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdRestore, LABEL_RUN_OF, LABEL_SCHEDULE,
        QuorumLossPolicy,
    },
    jobs::{self, backup, follow, pins, restore, schedule},
    plan::restore::under_way,
    render::run_of,
};

use super::{Cache, ObserveError, Observed, Observer, Probe, Source, Trim, objects::managed};

/// The taint of a node that is off for ever.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Caches of what is around backups, schedules and restores.
#[derive(Clone)]
pub(crate) struct ArtifactCaches {
    /// Jobs of runs, by what they are runs of.
    pub(crate) jobs: Cache<Job>,
    /// Pods of runs, by the same.
    pub(crate) pods: Cache<Pod>,
    /// Deployments of increments, by the same.
    pub(crate) deployments: Cache<Deployment>,
    /// Backups, by their cluster.
    pub(crate) backups: Cache<EtcdBackup>,
    /// Schedules, by their cluster.
    pub(crate) schedules: Cache<EtcdBackupSchedule>,
    /// Restores, by their cluster.
    pub(crate) restores: Cache<EtcdRestore>,
    /// Clusters.
    pub(crate) clusters: Store<DeserializeGuard<EtcdCluster>>,
}

/// A kind that is cached with only what is read of it.
pub(crate) trait Trimmed: Resource<DynamicType = ()> {
    /// What it is kept by.
    fn by(&self) -> Option<String>;
}

fn run(object: &impl ResourceExt) -> Option<String> {
    object.labels().get(LABEL_RUN_OF).cloned()
}

impl Trimmed for Job {
    fn by(&self) -> Option<String> {
        run(self)
    }
}

impl Trimmed for Pod {
    fn by(&self) -> Option<String> {
        run(self)
    }
}

impl Trimmed for Deployment {
    fn by(&self) -> Option<String> {
        run(self)
    }
}

impl Trimmed for EtcdBackup {
    fn by(&self) -> Option<String> {
        Some(self.spec.cluster_ref.name.clone())
    }
}

impl Trimmed for EtcdBackupSchedule {
    fn by(&self) -> Option<String> {
        Some(self.spec.cluster_ref.name.clone())
    }
}

impl Trimmed for EtcdRestore {
    fn by(&self) -> Option<String> {
        Some(self.spec.cluster_ref.name.clone())
    }
}

impl Trim for Job {
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(spec) = &mut self.spec {
            spec.template.spec = None;
        }
    }
}

impl Trim for Deployment {
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(spec) = &mut self.spec {
            spec.template.spec = None;
        }
    }
}

macro_rules! keeps_all_but_managed_fields {
    ($($kind:ty),*) => {
        $(impl Trim for $kind {
            fn trim(&mut self) {
                self.metadata.managed_fields = None;
            }
        })*
    };
}

keeps_all_but_managed_fields!(EtcdBackup, EtcdBackupSchedule, EtcdRestore);

/// A read that failed.
fn failed(kind: &'static str) -> impl FnOnce(kube::Error) -> ObserveError {
    move |source| ObserveError::List {
        kind,
        source: Box::new(source),
    }
}

impl ArtifactCaches {
    async fn filled(&self) -> Result<(), ObserveError> {
        let filled = self.jobs.filled().await
            && self.pods.filled().await
            && self.deployments.filled().await
            && self.backups.filled().await
            && self.schedules.filled().await
            && self.restores.filled().await
            && self.clusters.wait_until_ready().await.is_ok();
        if filled {
            Ok(())
        } else {
            Err(ObserveError::Stopped)
        }
    }
}

/// A cluster, unless it is one that cannot be read.
fn readable(found: &DeserializeGuard<EtcdCluster>) -> Option<Arc<EtcdCluster>> {
    found.0.as_ref().ok().cloned().map(Arc::new)
}

/// A kind's objects and what reads them.
trait Listed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + 'static
{
}

impl<K> Listed for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + 'static
{
}

impl Observer {
    fn client(&self) -> &Client {
        &self.caches.client
    }

    fn api<K: Listed>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client().clone(), namespace)
    }

    /// Objects that go with a run, or whatever they are labelled by.
    async fn labelled<K: Listed>(
        &self,
        kind: &'static str,
        cache: &Cache<K>,
        (namespace, of): (&str, &str),
        source: Source,
    ) -> Result<Vec<Arc<K>>, ObserveError> {
        let items = match source {
            Source::Cache => cache.of(namespace, of),
            Source::Live => {
                let selector = format!("{},{LABEL_RUN_OF}={of}", managed());
                let list = self.api::<K>(namespace);
                let list = list.list(&ListParams::default().labels(&selector)).await;
                list.map_err(failed(kind))?.items
            }
        };
        Ok(items.into_iter().map(Arc::new).collect())
    }

    /// An object by its name.
    async fn named<K: Listed>(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, ObserveError> {
        let found = self.api::<K>(namespace).get_opt(name).await;
        Ok(found.map_err(failed(kind))?.map(Arc::new))
    }

    async fn cluster_of(
        &self,
        namespace: &str,
        name: &str,
        source: Source,
    ) -> Result<Option<Arc<EtcdCluster>>, ObserveError> {
        match source {
            Source::Cache => {
                let of = ObjectRef::new(name).within(namespace);
                let found = self.artifacts.clusters.get(&of);
                Ok(found.and_then(|found| readable(&found)))
            }
            Source::Live => self.named("EtcdClusters", namespace, name).await,
        }
    }

    /// The runs of an object, and how far those are that are at work; and the pods of
    /// runs, also of those whose Jobs are gone.
    async fn runs(
        &self,
        namespace: &str,
        of: &str,
        source: Source,
    ) -> Result<(Vec<jobs::RunSeen>, Vec<Arc<Pod>>), ObserveError> {
        let caches = &self.artifacts;
        let at = (namespace, of);
        let found = self.labelled("Jobs", &caches.jobs, at, source).await?;
        let pods = self.labelled("Pods", &caches.pods, at, source).await?;
        let mut runs = jobs::runs(&found, &pods);
        for run in &mut runs {
            if let Some(ip) = run
                .ip
                .clone()
                .filter(|_| run.state == jobs::RunState::Active)
            {
                run.progress = self.probe.progress(&ip).await;
            }
        }
        Ok((runs, pods))
    }

    /// Restores of a namespace, and clusters that may begin with a backup.
    fn users(&self, namespace: &str) -> (Vec<Arc<EtcdRestore>>, Vec<Arc<EtcdCluster>>) {
        let caches = &self.artifacts;
        let restores = caches.restores.within(namespace);
        let clusters = caches.clusters.state().into_iter();
        let here = clusters.filter(|it| it.namespace().as_deref() == Some(namespace));
        // Copied are only those few: each schedule asks this of all clusters beside it.
        let here = here.filter(|it| it.0.as_ref().is_ok_and(pins::may_begin));
        (
            restores.into_iter().map(Arc::new).collect(),
            here.filter_map(|found| readable(&found)).collect(),
        )
    }

    /// Everything around a backup.
    pub(crate) async fn around_backup(
        &self,
        it: &EtcdBackup,
        source: Source,
    ) -> Result<backup::Observed, ObserveError> {
        self.artifacts.filled().await?;
        let namespace = it.namespace().unwrap_or_default();
        let name = &it.spec.cluster_ref.name;
        let of = run_of("backup", &it.name_any());
        // Only a deletion asks who uses it.
        let pinned_by = it.metadata.deletion_timestamp.as_ref().and_then(|_| {
            let (restores, clusters) = self.users(&namespace);
            pins::of(it, &restores, &clusters)
        });
        let (runs, pods) = self.runs(&namespace, &of, source).await?;
        Ok(backup::Observed {
            cluster: self.cluster_of(&namespace, name, source).await?,
            runs,
            writer: jobs::writer(&pods),
            pinned_by,
            terminating: false,
        })
    }

    /// Everything around a schedule.
    pub(crate) async fn around_schedule(
        &self,
        it: &EtcdBackupSchedule,
        source: Source,
    ) -> Result<schedule::Observed, ObserveError> {
        self.artifacts.filled().await?;
        let namespace = it.namespace().unwrap_or_default();
        let cluster = &it.spec.cluster_ref.name;
        let mine =
            |backup: &EtcdBackup| backup.labels().get(LABEL_SCHEDULE) == Some(&it.name_any());
        let backups = match source {
            Source::Cache => self.artifacts.backups.of(&namespace, cluster),
            Source::Live => {
                let selector = format!("{LABEL_SCHEDULE}={}", it.name_any());
                let list = self.api::<EtcdBackup>(&namespace);
                let list = list.list(&ListParams::default().labels(&selector)).await;
                list.map_err(failed("EtcdBackups"))?.items
            }
        };
        let backups: Vec<Arc<EtcdBackup>> =
            backups.into_iter().filter(mine).map(Arc::new).collect();
        let (restores, clusters) = self.users(&namespace);
        let pinned = backups.iter().filter_map(|backup| {
            let by = pins::of(backup, &restores, &clusters)?;
            Some((backup.name_any(), by))
        });
        let pinned = pinned.collect();
        let of = run_of("schedule", &it.name_any());
        let (caches, at) = (&self.artifacts, (namespace.as_str(), of.as_str()));
        let found = self
            .labelled("Deployments", &caches.deployments, at, source)
            .await?;
        let pods = self.labelled("Pods", &caches.pods, at, source).await?;
        let mut follower = follow::Seen::of(&found, &pods);
        if let Some(seen) = &mut follower
            && let Some(ip) = &seen.ip
        {
            seen.progress = self.probe.progress(ip).await;
        }
        Ok(schedule::Observed {
            cluster: self.cluster_of(&namespace, cluster, source).await?,
            backups,
            pinned,
            follower,
        })
    }

    /// Everything around a restore.
    pub(crate) async fn around_restore(
        &self,
        it: &EtcdRestore,
        source: Source,
    ) -> Result<restore::Observed, ObserveError> {
        self.artifacts.filled().await?;
        let namespace = it.namespace().unwrap_or_default();
        let of = run_of("restore", &it.name_any());
        let cluster = self
            .cluster_of(&namespace, &it.spec.cluster_ref.name, source)
            .await?;
        let stored = it.status.as_ref().and_then(|status| status.stored.as_ref());
        let named = it
            .spec
            .source
            .backup_ref
            .as_ref()
            .filter(|_| stored.is_none());
        let backup = match named {
            Some(named) => self.named("EtcdBackups", &namespace, &named.name).await?,
            None => None,
        };
        let revision = match &cluster {
            Some(cluster) if !restore::is_over(it) => self.revision(cluster).await?,
            _ => None,
        };
        Ok(restore::Observed {
            cluster,
            revision,
            backup,
            runs: self.runs(&namespace, &of, source).await?.0,
        })
    }

    /// The newest revision that any member of a cluster answers with.
    async fn revision(&self, cluster: &EtcdCluster) -> Result<Option<i64>, ObserveError> {
        let observed = Box::pin(self.observe(cluster, Source::Cache)).await?;
        let members = observed.members.values();
        let seen = members.filter_map(|member| member.pod.as_ref()?.etcd.as_ref());
        Ok(seen.map(|seen| seen.revision).max())
    }

    /// What backups, schedules and restores have to do with a cluster.
    pub(super) async fn artifacts_of(
        &self,
        cluster: &EtcdCluster,
        source: Source,
        observed: &mut Observed,
    ) -> Result<(), ObserveError> {
        let caches = &self.artifacts;
        caches.filled().await?;
        let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let all = caches.backups.of(&namespace, &name);
        observed.backups = all.into_iter().map(Arc::new).collect();
        let all = caches.schedules.of(&namespace, &name);
        observed.schedules = all.into_iter().map(Arc::new).collect();
        let mut restores = caches.restores.of(&namespace, &name);
        // What is about to be done for a restore is done for what it is now; and one that
        // is gone is gone for certain.
        if source == Source::Live && (!restores.is_empty() || under_way(cluster).is_some()) {
            let list = self.api::<EtcdRestore>(&namespace);
            let list = list.list(&ListParams::default()).await;
            restores = list.map_err(failed("EtcdRestores"))?.items;
            restores.retain(|restore| restore.spec.cluster_ref.name == name);
        }
        observed.restores = restores.into_iter().map(Arc::new).collect();
        let formed = cluster
            .status
            .as_ref()
            .is_some_and(|it| it.cluster_id.is_some());
        let begins = cluster
            .spec
            .bootstrap
            .as_ref()
            .and_then(|it| it.restore.as_ref());
        let named = begins.and_then(|begins| begins.from.backup_ref.as_ref());
        if let Some(named) = named.filter(|_| !formed) {
            observed.begins_with = self.named("EtcdBackups", &namespace, &named.name).await?;
        }
        Ok(())
    }

    /// Which nodes that members were on are off for ever. Only asked where the operator
    /// may decide by it.
    pub(super) async fn nodes_off(&self, cluster: &EtcdCluster, observed: &mut Observed) {
        let policy = cluster.spec.recovery.quorum_loss.policy;
        let asked = policy == QuorumLossPolicy::Automatic || under_way(cluster).is_some();
        let Some(status) = cluster.status.as_ref().filter(|_| asked) else {
            return;
        };
        if observed.membership.is_some() || status.cluster_id.is_none() {
            return;
        }
        let api: Api<Node> = Api::all(self.client().clone());
        for node in status
            .members
            .iter()
            .filter_map(|member| member.node.as_ref())
        {
            if observed.out_of_service.contains(node) {
                continue;
            }
            match api.get_opt(node).await {
                Ok(Some(found)) if is_off(&found) => {
                    observed.out_of_service.insert(node.clone());
                }
                // One that is gone proves nothing.
                Ok(_) => {}
                // Where it serves single namespaces the operator may not read nodes.
                Err(error) => debug!(node, %error, "cannot be read"),
            }
        }
    }
}

fn is_off(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints
        .into_iter()
        .flatten()
        .any(|taint| taint.key == OUT_OF_SERVICE)
}

impl Probe {
    /// How far the run is in the pod at `ip`; `None` if it does not say.
    pub(crate) async fn progress(&self, ip: &str) -> Option<crate::backup::run::Progress> {
        use crate::backup::run::{PROGRESS_PATH, PROGRESS_PORT};
        let (status, body) = self.get(ip, PROGRESS_PORT, PROGRESS_PATH).await.ok()?;
        if !status.is_success() {
            return None;
        }
        serde_json::from_slice(&body).ok()
    }
}

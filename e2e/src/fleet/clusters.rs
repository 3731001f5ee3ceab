//! Many EtcdClusters, and when each of them became Ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Where they all are.
const NAMESPACE: &str = "fleet";

/// The clusters of the bench.
pub struct Clusters {
    client: Client,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Conditions that are true of each cluster.
    conditions: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// When each was first Ready.
    ready: Mutex<BTreeMap<String, Instant>>,
    changed: Notify,
}

impl Clusters {
    /// Makes the namespace and begins to watch.
    pub async fn new(client: &Client) -> Result<Clusters> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("the namespace")?;
        let clusters = Clusters {
            client: client.clone(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&clusters.seen);
        let watch = watcher(clusters.clusters(), watcher::Config::default());
        let watch = watch.default_backoff().applied_objects();
        tokio::spawn(async move {
            let mut watch = std::pin::pin!(watch);
            while let Some(event) = watch.next().await {
                match event {
                    Ok(cluster) => seen.cluster(&cluster),
                    Err(error) => eprintln!("watching the clusters: {error}"),
                }
            }
        });
        Ok(clusters)
    }

    fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("etcd-core.io", "v1alpha1", "EtcdCluster");
        Api::namespaced_with(
            self.client.clone(),
            NAMESPACE,
            &ApiResource::from_gvk(&kind),
        )
    }

    /// Creates clusters number `from` to `to`, and waits until they are Ready. How long each took.
    pub async fn grow(
        &self,
        from: usize,
        to: usize,
        spec: &Value,
        limit: Duration,
    ) -> Result<Vec<Duration>> {
        let api = self.clusters();
        let made: Vec<(String, Instant)> = futures::stream::iter(from..to)
            .map(|number| {
                let api = api.clone();
                async move {
                    let name = format!("bench-{number}");
                    let cluster: DynamicObject = serde_json::from_value(json!({
                        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
                    }))?;
                    let at = Instant::now();
                    api.create(&PostParams::default(), &cluster)
                        .await
                        .with_context(|| format!("creating {name}"))?;
                    Ok::<_, anyhow::Error>((name, at))
                }
            })
            .buffer_unordered(32)
            .try_collect()
            .await?;
        let what = format!("{} clusters are Ready", made.len());
        self.until(limit, &what, || {
            let ready = self.seen.ready.lock();
            made.iter().all(|(name, _)| ready.contains_key(name))
        })
        .await?;
        let ready = self.seen.ready.lock();
        let took = made.iter().map(|(name, at)| ready[name] - *at);
        Ok(took.collect())
    }

    /// Waits until that many clusters have a condition.
    pub async fn until_all(&self, clusters: usize, condition: &str, limit: Duration) -> Result<()> {
        self.until(
            limit,
            &format!("{clusters} clusters are {condition}"),
            || {
                let all = self.seen.conditions.lock();
                let those = all.values().filter(|true_| true_.contains(condition));
                those.count() == clusters
            },
        )
        .await
    }

    async fn until(&self, limit: Duration, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let wait = async {
            loop {
                let changed = self.seen.changed.notified();
                if holds() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limit, wait).await.is_err() {
            let ready = self.seen.ready.lock().len();
            bail!("not within {limit:?}: {what} (Ready: {ready})");
        }
        Ok(())
    }

    /// UIDs of all pods, by name.
    pub async fn pods(&self) -> Result<BTreeMap<String, String>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods = api.list(&ListParams::default()).await.context("the pods")?;
        Ok(pods
            .into_iter()
            .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
            .collect())
    }
}

impl Seen {
    fn cluster(&self, cluster: &DynamicObject) {
        let name = cluster.name_any();
        let conditions: BTreeSet<String> = cluster.data["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|condition| condition["status"] == "True")
            .filter_map(|condition| condition["type"].as_str().map(str::to_owned))
            .collect();
        if conditions.contains("Ready") {
            self.ready
                .lock()
                .entry(name.clone())
                .or_insert_with(Instant::now);
        }
        self.conditions.lock().insert(name, conditions);
        self.changed.notify_waiters();
    }
}

//! A cluster's data, by stock etcdctl against its pods, and what clients need for it.

use etcd_e2e::load::Bundle;
use etcd_e2e::{Client, Etcdctl, eventually};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::Api;

use crate::members::address;
use crate::traffic::bundle_of;
use crate::world::{LIMIT, World};

/// Whether this pod's etcd is to be spoken to with TLS.
pub(crate) fn speaks_tls(pod: &Pod) -> bool {
    let schemes = pod.annotations().get("etcd-core.io/schemes");
    schemes.is_some_and(|schemes| !schemes.contains("client=http,"))
}

/// The cluster this pod is of.
fn cluster_of(pod: &Pod) -> &str {
    &pod.labels()["etcd-core.io/cluster"]
}

impl World {
    /// The Secrets of the namespace.
    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What clients of a cluster mount; while the API server is away, what was read last.
    pub(crate) async fn bundle(&self, cluster: &str) -> Option<Bundle> {
        let secret = self.secrets().get_opt(&format!("{cluster}-client")).await;
        let Ok(secret) = secret else {
            return self.bundles.lock().get(cluster).cloned();
        };
        let bundle = bundle_of(&secret?)?;
        let mut bundles = self.bundles.lock();
        bundles.insert(cluster.to_owned(), bundle.clone());
        Some(bundle)
    }

    /// The bundle that a client of this pod needs, if it needs any.
    async fn bundle_for(&self, pod: &Pod) -> Option<Bundle> {
        if !speaks_tls(pod) {
            return None;
        }
        self.bundle(cluster_of(pod)).await
    }

    /// Stock etcdctl against these pods.
    pub(crate) async fn etcdctl(&self, pods: &[Pod]) -> Etcdctl {
        let first = pods.first().expect("a pod");
        let bundle = self.bundle_for(first).await;
        let scheme = if bundle.is_some() { "https" } else { "http" };
        let endpoints: Vec<String> = pods
            .iter()
            .filter_map(address)
            .map(|ip| format!("{scheme}://{ip}:2379"))
            .collect();
        assert!(!endpoints.is_empty(), "no pod has an address");
        let etcdctl = Etcdctl::new(&endpoints).unwrap();
        match bundle {
            Some(bundle) => etcdctl.showing(&bundle).unwrap(),
            None => etcdctl,
        }
    }

    /// A client of the member in this pod alone, which has to be that member.
    pub(crate) async fn client_of(&self, pod: &Pod) -> Client {
        let ip = address(pod).unwrap();
        match self.bundle_for(pod).await {
            None => Client::new(&format!("http://{ip}:2379")),
            Some(bundle) => {
                let (name, cluster) = (pod.name_any(), cluster_of(pod));
                let host = format!("{name}.{cluster}-peer.{}.svc", self.namespace);
                Client::secure(&format!("https://{ip}:2379"), &host, &bundle)
            }
        }
    }

    /// Writes through the cluster's pods.
    pub(crate) async fn put(&self, cluster: &str, key: &str, value: &str) {
        eventually(LIMIT, "a write", async || {
            let pods = self.pods_of(cluster).await;
            self.etcdctl(&pods).await.run(&["put", key, value]).await
        })
        .await;
    }

    /// Every pod of the cluster, asked alone, reads that value.
    pub(crate) async fn every_pod_reads(&self, cluster: &str, key: &str, value: &str) {
        for pod in self.pods_of(cluster).await {
            let one = self.etcdctl(std::slice::from_ref(&pod)).await;
            let read = eventually(LIMIT, "a read", async || {
                one.run(&["get", key, "--print-value-only"]).await
            })
            .await;
            assert_eq!(read.trim(), value, "{:?}", pod.metadata.name);
        }
    }
}

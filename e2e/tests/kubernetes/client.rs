//! A cluster's data, by stock etcdctl against its pods.

use etcd_e2e::{Etcdctl, eventually};
use k8s_openapi::api::core::v1::Pod;

use crate::world::{LIMIT, World};

/// Stock etcdctl against these pods.
pub(crate) fn etcdctl(pods: &[Pod]) -> Etcdctl {
    let endpoints: Vec<String> = pods
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref())
        .map(|ip| format!("http://{ip}:2379"))
        .collect();
    assert!(!endpoints.is_empty(), "no pod has an address");
    Etcdctl::new(&endpoints).unwrap()
}

impl World {
    /// Writes through the cluster's pods.
    pub(crate) async fn put(&self, cluster: &str, key: &str, value: &str) {
        eventually(LIMIT, "a write", async || {
            let pods = self.pods_of(cluster).await;
            etcdctl(&pods).run(&["put", key, value]).await
        })
        .await;
    }

    /// Every pod of the cluster, asked alone, reads that value.
    pub(crate) async fn every_pod_reads(&self, cluster: &str, key: &str, value: &str) {
        for pod in self.pods_of(cluster).await {
            let one = etcdctl(std::slice::from_ref(&pod));
            let read = eventually(LIMIT, "a read", async || {
                one.run(&["get", key, "--print-value-only"]).await
            })
            .await;
            assert_eq!(read.trim(), value, "{:?}", pod.metadata.name);
        }
    }
}

//! TLS: on from the start, switched on a live cluster, while CAs are replaced, and from others.
//!
//! Those of one cluster share it: each begins with certificates of the operator's own CAs, and
//! leaves it so.

mod cert_manager;
mod foreign;
mod rotation;
mod switching;

use std::future::Future;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use crate::world::{World, condition, with_kept};

/// The cluster that these tests share, as the sample makes it.
const SHARED: &str = "tls";

/// Clients of these tests load what they mount at once.
const SETTLE: &str = "3s";

/// A cluster of three with TLS as given and more of its spec.
fn manifest(name: &str, tls: &str, more: &str) -> String {
    format!(
        "apiVersion: etcd-core.io/v1alpha1\nkind: EtcdCluster\nmetadata: {{name: {name}}}\n\
         spec: {{replicas: 3, storage: {{persistentVolumeClaim: {{size: 1Gi}}}}, tls: {tls}{more}}}\n"
    )
}

/// The condition TLSReady.
fn told(status: &Value) -> Option<&Value> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == "TLSReady");
    found.next()
}

/// Its reason.
fn reason(status: &Value) -> &str {
    let found = told(status).and_then(|told| told["reason"].as_str());
    found.unwrap_or_default()
}

/// Its message.
fn message(status: &Value) -> &str {
    let found = told(status).and_then(|told| told["message"].as_str());
    found.unwrap_or_default()
}

/// Whether certificates are what they should be, everywhere.
fn in_effect(status: &Value) -> bool {
    reason(status) == "InEffect" && condition(status, "Ready") == "True"
}

/// With the cluster that these tests share, whatever its certificates are from.
fn shared<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send) {
    with_kept("tls", async |world| {
        if world.clusters().get_opt(SHARED).await.unwrap().is_none() {
            world.own_cas().await;
        }
        world.cluster_when(SHARED, "TLS", in_effect).await;
        test(world).await;
    });
}

/// What tells pods, and starts of their containers, apart.
fn lives(pods: &[Pod]) -> Vec<(String, i32)> {
    let life = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let restarts = containers
            .iter()
            .map(|container| container.restart_count)
            .sum();
        (pod.uid().unwrap(), restarts)
    };
    pods.iter().map(life).collect()
}

impl World {
    /// Gives the shared cluster certificates of its own CAs.
    async fn own_cas(&self) {
        let path = format!("{}/../config/samples/tls.yaml", env!("CARGO_MANIFEST_DIR"));
        let sample = std::fs::read_to_string(path).unwrap();
        let settle = format!("settleDuration: {SETTLE}");
        self.apply(&sample.replace("settleDuration: 1m", &settle))
            .await;
        self.cluster_when(SHARED, "certificates of its own CAs", |status| {
            let tls = &status["tls"];
            in_effect(status)
                && tls["client"]["mode"] == "Operator"
                && tls["peer"]["mode"] == "Operator"
        })
        .await;
    }

    /// Changes `spec.tls` of a cluster.
    async fn patch_tls(&self, cluster: &str, tls: &str) {
        let patch = format!(r#"{{"spec":{{"tls":{tls}}}}}"#);
        let args = [
            "patch",
            "etcdcluster",
            cluster,
            "--type=merge",
            "-p",
            &patch,
        ];
        self.kubectl(&args).await;
    }

    /// Text of a Secret.
    async fn text(&self, secret: &str, key: &str) -> String {
        let found = self.secrets().get(secret).await.unwrap();
        let bytes = found.data.unwrap_or_default().remove(key);
        String::from_utf8(bytes.map(|bytes| bytes.0).unwrap_or_default()).unwrap()
    }

    /// How many CAs every member trusts for that purpose, at most.
    async fn trusted(&self, cluster: &str, purpose: &str) -> usize {
        let mut most = 0;
        for pod in self.pods_of(cluster).await {
            let member = pod.labels()["etcd-core.io/member"].clone();
            let (secret, key) = (format!("{member}-tls"), format!("{purpose}-ca.crt"));
            let text = self.text(&secret, &key).await;
            most = most.max(text.matches("BEGIN CERTIFICATE").count());
        }
        most
    }

    /// Runs stock etcdctl in a pod that mounts the bundle and nothing else; what it printed.
    async fn etcdctl_in_a_pod(&self, cluster: &str, name: &str, args: &[&str]) -> String {
        let command: Vec<&str> = ["/usr/local/bin/etcdctl"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let bundle = format!("{cluster}-client");
        let from = serde_json::json!({"secretKeyRef": {"name": bundle, "key": "endpoints"}});
        let file = |name: &str, key: &str| serde_json::json!({"name": name, "value": format!("/bundle/{key}")});
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "restartPolicy": "OnFailure",
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "etcdctl",
                    "image": "localhost/etcd-development/etcd:v3.7.3",
                    "command": command,
                    "env": [
                        {"name": "ETCDCTL_ENDPOINTS", "valueFrom": from},
                        file("ETCDCTL_CACERT", "ca.crt"),
                        file("ETCDCTL_CERT", "tls.crt"),
                        file("ETCDCTL_KEY", "tls.key"),
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "bundle", "mountPath": "/bundle"}],
                }],
                "volumes": [{
                    "name": "bundle",
                    "secret": {"secretName": bundle, "defaultMode": 288},
                }],
            },
        });
        self.apply(&pod.to_string()).await;
        self.object_when(self.pods(), name, "has ended", |found: Option<&Pod>| {
            let status = found.and_then(|pod| pod.status.as_ref());
            status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
        })
        .await;
        let said = self.kubectl(&["logs", name]).await;
        self.kubectl(&["delete", "pod", name, "--wait=false"]).await;
        said
    }
}

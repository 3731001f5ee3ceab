//! TLS: on from the start, on a live cluster, while CAs are replaced, and with Secrets
//! that are no good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_e2e::client::put;
use etcd_proto::etcdserverpb::kv_client::KvClient;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::Value;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::client::etcdctl;
use crate::world::{World, condition, with};

/// A cluster of three in its pods only, with TLS as given.
fn manifest(name: &str, tls: &str) -> String {
    format!(
        "apiVersion: etcd-core.io/v1alpha1\nkind: EtcdCluster\nmetadata: {{name: {name}}}\n\
         spec: {{replicas: 3, storage: {{emptyDir: {{}}}}, tls: {tls}}}\n"
    )
}

/// What clients of a cluster mount, as PEM: CAs, certificate, key.
struct Bundle {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl World {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn bundle(&self, cluster: &str) -> Bundle {
        let secret = self
            .secrets()
            .get(&format!("{cluster}-client"))
            .await
            .unwrap();
        let data = secret.data.unwrap();
        let read = |key: &str| data[key].0.clone();
        assert!(
            String::from_utf8(read("endpoints"))
                .unwrap()
                .starts_with("https://")
        );
        Bundle {
            ca: read("ca.crt"),
            cert: read("tls.crt"),
            key: read("tls.key"),
        }
    }

    /// The PEM of the CA that signs.
    async fn authority(&self, secret: &str) -> Vec<u8> {
        self.secrets().get(secret).await.unwrap().data.unwrap()["tls.crt"]
            .0
            .clone()
    }

    /// Runs stock etcdctl in a pod that mounts the bundle and nothing else; what it printed.
    async fn etcdctl_in_a_pod(&self, cluster: &str, name: &str, args: &[&str]) -> String {
        let endpoint = format!("https://{cluster}-client.{}.svc:2379", self.namespace);
        let env = [
            ("ETCDCTL_ENDPOINTS", endpoint.as_str()),
            ("ETCDCTL_CACERT", "/bundle/ca.crt"),
            ("ETCDCTL_CERT", "/bundle/tls.crt"),
            ("ETCDCTL_KEY", "/bundle/tls.key"),
        ]
        .map(|(name, value)| serde_json::json!({"name": name, "value": value}));
        let command: Vec<&str> = ["/usr/local/bin/etcdctl"]
            .iter()
            .chain(args)
            .copied()
            .collect();
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
                    "env": env,
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "bundle", "mountPath": "/bundle"}],
                }],
                "volumes": [{
                    "name": "bundle",
                    "secret": {"secretName": format!("{cluster}-client"), "defaultMode": 288},
                }],
            },
        });
        self.apply(&pod.to_string()).await;
        self.object_when(self.pods(), name, "has ended", |found: Option<&Pod>| {
            let status = found.and_then(|pod| pod.status.as_ref());
            status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
        })
        .await;
        self.kubectl(&["logs", name]).await
    }

    /// Every member answers that its peers are found by this scheme.
    fn peers_by(status: &Value, stage: Option<&str>) -> bool {
        status["tls"]["peer"]["stage"].as_str() == stage
    }
}

/// One write over a connection of its own, believed only under the cluster's name.
async fn write(bundle: &Bundle, host: &str, ip: &str, key: &str) -> Result<(), String> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&bundle.ca))
        .identity(Identity::from_pem(&bundle.cert, &bundle.key))
        .domain_name(host);
    let channel = Endpoint::from_shared(format!("https://{ip}:2379"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| format!("{error:?}"))?
        .timeout(Duration::from_secs(10))
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let written = KvClient::new(channel).put(put(key, "x")).await;
    written.map(|_| ()).map_err(|error| format!("{error:?}"))
}

fn reason(status: &Value) -> String {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == "TLSReady");
    found
        .next()
        .and_then(|condition| condition["reason"].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn s37_x15_cas_are_replaced_under_load_and_no_request_fails() {
    with("tls", async |world| {
        let both =
            "{client: {mode: Operator, operator: {settleDuration: 5s}}, peer: {mode: Operator}}";
        world.apply(&manifest("secure", both)).await;
        let status = world.ready("secure", 3).await;
        assert_eq!(condition(&status, "TLSReady"), "True", "{status}");
        assert_eq!(reason(&status), "InEffect");

        // With the bundle from a pod; not without it.
        let written = world
            .etcdctl_in_a_pod("secure", "writer", &["put", "greeting", "hello"])
            .await;
        assert_eq!(written.trim(), "OK");
        let read = world
            .etcdctl_in_a_pod(
                "secure",
                "reader",
                &["get", "greeting", "--print-value-only"],
            )
            .await;
        assert_eq!(read.trim(), "hello");
        let pods = world.pods_of("secure").await;
        let plain = etcdctl(&pods)
            .try_run(&["--command-timeout=2s", "get", "greeting"])
            .await
            .unwrap();
        assert_ne!(plain.code, Some(0), "plaintext is served: {}", plain.stdout);

        // The CAs of clients and of peers are two, and neither is the other's.
        let before = [
            world.authority("secure-client-ca").await,
            world.authority("secure-peer-ca").await,
        ];
        assert_ne!(before[0], before[1]);
        let stop = Arc::new(AtomicBool::new(false));
        let writes = AtomicUsize::new(0);
        let host = format!("secure-client.{}.svc", world.namespace);
        let ips: Vec<String> = pods
            .iter()
            .map(|pod| pod.status.clone().unwrap().pod_ip.unwrap())
            .collect();
        let load = async {
            let mut failures = Vec::new();
            let mut pause = tokio::time::interval(Duration::from_millis(100));
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                pause.tick().await;
                let bundle = world.bundle("secure").await;
                let key = format!("load/{number}");
                if let Err(error) = write(&bundle, &host, &ips[number % ips.len()], &key).await {
                    failures.push(format!("write {number}: {error}"));
                }
                number += 1;
                writes.store(number, Ordering::Relaxed);
            }
            failures
        };
        let rotation = async {
            let start = std::time::Instant::now();
            world
                .kubectl(&[
                    "annotate",
                    "etcdcluster",
                    "secure",
                    "etcd-core.io/rotate-ca=first",
                ])
                .await;
            world
                .cluster_when("secure", "CAs are being replaced", |status| {
                    reason(status) == "Rotating"
                })
                .await;
            world
                .cluster_when("secure", "both CAs were replaced", |status| {
                    reason(status) == "InEffect"
                })
                .await;
            stop.store(true, Ordering::Relaxed);
            start.elapsed()
        };
        let (failures, took) = tokio::join!(load, rotation);
        let count = writes.load(Ordering::Relaxed);
        println!(
            "both CAs replaced in {took:.1?}: {} of {count} writes failed",
            failures.len()
        );
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(count > 20, "{count} writes are no load");
        for (secret, before) in ["secure-client-ca", "secure-peer-ca"]
            .into_iter()
            .zip(before)
        {
            assert_ne!(world.authority(secret).await, before, "{secret}");
        }
        // Nobody was restarted for it.
        let after = world.pods_of("secure").await;
        let uids = |pods: &[Pod]| {
            pods.iter()
                .map(|pod| pod.uid().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(uids(&pods), uids(&after));
        let restarts = after.iter().flat_map(|pod| {
            let status = pod.status.clone().unwrap();
            status.container_statuses.unwrap_or_default()
        });
        assert_eq!(
            restarts
                .map(|container| container.restart_count)
                .sum::<i32>(),
            0
        );
    });
}

#[test]
fn tls_is_switched_on_on_a_live_cluster() {
    with("tls-on", async |world| {
        world
            .apply(&manifest(
                "live",
                "{client: {mode: Disabled}, peer: {mode: Disabled}}",
            ))
            .await;
        let before = world.ready("live", 3).await;
        assert!(World::peers_by(&before, None));
        world.put("live", "kept", "yes").await;
        let patch = r#"{"spec":{"tls":{"peer":{"mode":"Operator"},"client":{"mode":"Operator","plaintext":"Allowed"}}}}"#;
        world
            .kubectl(&["patch", "etcdcluster", "live", "--type=merge", "-p", patch])
            .await;
        world
            .cluster_when("live", "TLS in effect", |status| {
                World::peers_by(status, Some("Secured"))
                    && reason(status) == "InEffect"
                    && condition(status, "Ready") == "True"
            })
            .await;
        let after = world.ready("live", 3).await;
        assert_eq!(before["clusterID"], after["clusterID"]);
        // Both are served: whoever still speaks in plain, and whoever has moved.
        world.every_pod_reads("live", "kept", "yes").await;
        let pods = world.pods_of("live").await;
        let list = etcdctl(&pods).run(&["member", "list"]).await.unwrap();
        assert_eq!(
            list.matches("https://live-").count(),
            6,
            "peer and client URLs: {list}"
        );
        assert_eq!(
            list.matches("http://live-").count(),
            3,
            "client URLs: {list}"
        );
        let read = world
            .etcdctl_in_a_pod("live", "reader", &["get", "kept", "--print-value-only"])
            .await;
        assert_eq!(read.trim(), "yes");

        let patch = r#"{"spec":{"tls":{"client":{"plaintext":"Denied"}}}}"#;
        world
            .kubectl(&["patch", "etcdcluster", "live", "--type=merge", "-p", patch])
            .await;
        world
            .cluster_when("live", "plaintext denied", |status| {
                status["tls"]["client"]["plaintext"] == "Denied"
                    && reason(status) == "InEffect"
                    && condition(status, "Ready") == "True"
            })
            .await;
        let pods = world.pods_of("live").await;
        let plain = etcdctl(&pods)
            .try_run(&["--command-timeout=2s", "get", "kept"])
            .await
            .unwrap();
        assert_ne!(plain.code, Some(0), "plaintext is served: {}", plain.stdout);
    });
}

#[test]
fn a_users_secret_that_is_no_good_is_named_and_mended() {
    with("tls-secret", async |world| {
        let tls = "{client: {mode: Disabled}, peer: {mode: Secret, secretRef: {name: mine}}}";
        world.apply(&manifest("named", tls)).await;
        let told = |wanted: &'static str| {
            move |status: &Value| {
                condition(status, "TLSReady") == "False" && reason(status) == wanted
            }
        };
        let status = world
            .cluster_when("named", "names the Secret", told("SecretMissing"))
            .await;
        assert!(
            status["plan"]["reason"].as_str().unwrap().contains("mine"),
            "{status}"
        );
        world
            .kubectl(&[
                "create",
                "secret",
                "generic",
                "mine",
                "--from-literal=tls.crt=x",
                "--from-literal=ca.crt=x",
            ])
            .await;
        let status = world
            .cluster_when("named", "names the key", told("KeyMissing"))
            .await;
        assert!(
            status.to_string().contains("mine lacks tls.key"),
            "{status}"
        );
        assert!(
            world.pods_of("named").await.is_empty(),
            "nothing was made for it"
        );

        // Mended: by a CA and a certificate for all members, of a person's own making.
        let made = std::process::Command::new("bash")
            .args(["-euc", MAKE])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let folder = String::from_utf8(made.stdout).unwrap();
        let folder = folder.trim();
        world.kubectl(&["delete", "secret", "mine"]).await;
        let files =
            ["tls.crt", "tls.key", "ca.crt"].map(|key| format!("--from-file={key}={folder}/{key}"));
        let mut create = vec!["create", "secret", "generic", "mine"];
        create.extend(files.iter().map(String::as_str));
        world.kubectl(&create).await;
        std::fs::remove_dir_all(folder).unwrap();
        let status = world.ready("named", 3).await;
        assert_eq!(condition(&status, "TLSReady"), "True", "{status}");
        world.put("named", "greeting", "hello").await;
        world.every_pod_reads("named", "greeting", "hello").await;
    });
}

/// Prints a folder with a CA and a certificate of it.
const MAKE: &str = r#"
d=$(mktemp -d); cd "$d"
{
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=mine \
    -keyout ca.key -out ca.crt -addext 'keyUsage=critical,keyCertSign'
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=members -keyout tls.key -out tls.csr
  printf '%s\n' 'subjectAltName=DNS:*.named-peer.tls-secret.svc,DNS:named-peer.tls-secret.svc' \
    'extendedKeyUsage=serverAuth,clientAuth' > ext
  openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -extfile ext -out tls.crt
} >&2
echo "$d"
"#;

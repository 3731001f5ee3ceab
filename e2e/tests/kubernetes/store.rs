//! A store that pods reach by the name the samples have for it, and the kinds that use it.

use etcd_e2e::client::{delete, range};
use etcd_e2e::minio::{Credentials, Minio};
use etcd_e2e::{Bucket, Client, Gate, eventually, http};
use etcd_proto::mvccpb::KeyValue;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::members::address;
use crate::world::{LIMIT, World, condition};

/// The address of the machine that the nodes are plugged into.
pub(crate) const IP: &str = "172.31.0.1";
/// Its name in the samples, with the port 9000.
const HOST: &str = "minio.minio.svc";
/// The bucket of the samples.
pub(crate) const BUCKET: &str = "etcd-backups";

/// MinIO with the bucket of the samples.
pub(crate) struct Store {
    pub(crate) minio: Minio,
    pub(crate) bucket: Bucket,
}

impl Store {
    /// Starts it behind the Service, with the Secrets of the samples in the test's namespace.
    pub(crate) async fn start(world: &World) -> Store {
        let minio = Minio::start_at(IP, &[HOST]).await.unwrap();
        let port = minio.port();
        Store::served(world, minio, port).await
    }

    /// As [`Store::start`], with a gate on the way from the Service to it.
    pub(crate) async fn start_behind_a_gate(world: &World) -> (Store, Gate) {
        let minio = Minio::start_at(IP, &[HOST]).await.unwrap();
        let gate = Gate::open_at(IP, &minio.address()).await.unwrap();
        let (_, port) = gate.address().rsplit_once(':').unwrap();
        let port = port.parse().unwrap();
        (Store::served(world, minio, port).await, gate)
    }

    async fn served(world: &World, minio: Minio, port: u16) -> Store {
        let bucket = minio.bucket(BUCKET).await.unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "minio"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "minio", "namespace": "minio"},
                "spec": {"ports": [{"name": "s3", "port": 9000}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "minio-test", "namespace": "minio",
                    "labels": {"kubernetes.io/service-name": "minio"}},
                "addressType": "IPv4", "endpoints": [{"addresses": [IP]}],
                "ports": [{"name": "s3", "port": port}]},
        ]});
        let apply = ["apply", "-f", "-"];
        let kubectl = &world.kubectl;
        kubectl.run_with(&apply, &list.to_string()).await.unwrap();
        let store = Store { minio, bucket };
        let authority = store.minio.authority().unwrap().pem();
        world
            .secret("backup-ca", json!({"ca.crt": authority}))
            .await;
        let credentials = store.minio.credentials();
        world.credentials("backup-credentials", credentials).await;
        store
    }

    /// A destination in it, as the samples write one.
    pub(crate) fn destination(bucket: &str, prefix: &str, credentials: &str) -> Value {
        json!({"s3": {"bucket": bucket, "prefix": prefix, "endpoint": format!("https://{HOST}:9000"),
            "endpointNetwork": "Private", "forcePathStyle": true,
            "credentialsSecretRef": {"name": credentials}, "caSecretRef": {"name": "backup-ca"}}})
    }
}

impl World {
    /// Makes a Secret, or changes it.
    pub(crate) async fn secret(&self, name: &str, data: Value) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.apply(&secret.to_string()).await;
    }

    /// A Secret with what S3 wants to see.
    pub(crate) async fn credentials(&self, name: &str, credentials: &Credentials) {
        let data = json!({"AWS_ACCESS_KEY_ID": credentials.id, "AWS_SECRET_ACCESS_KEY": credentials.secret});
        self.secret(name, data).await;
    }

    /// Makes an object of this group.
    pub(crate) async fn make(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({"apiVersion": "etcd-core.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.apply(&object.to_string()).await;
    }

    /// Objects of a kind of this group, in the namespace.
    pub(crate) fn kind(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("etcd-core.io", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until the status of an object speaks of its present spec and `wanted` holds; that status.
    pub(crate) async fn told(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Value {
        let holds = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| {
                let status = &object.data["status"];
                status["observedGeneration"].as_i64() == object.metadata.generation
                    && wanted(status)
            })
        };
        let wait = await_condition(self.kind(kind), name, holds);
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found.unwrap().unwrap().data["status"].clone(),
            Err(_) => panic!(
                "{kind} {name} not within {LIMIT:?}: {what}\n{}",
                self.tell_runs().await
            ),
        }
    }

    /// Waits until the object is as its spec says; its status. One that is stuck ends the test at once.
    pub(crate) async fn done(&self, kind: &str, name: &str) -> Value {
        let status = self
            .told(kind, name, "done", |status| {
                condition(status, "Ready") == "True" || condition(status, "Stalled") == "True"
            })
            .await;
        assert_eq!(
            condition(&status, "Ready"),
            "True",
            "{kind} {name}: {status}\n{}",
            self.tell_runs().await
        );
        status
    }

    /// Waits until a run of that object has a pod that runs.
    pub(crate) async fn pod_of_run(&self, of: &str, run: &str) {
        let labels = format!("etcd-core.io/run-of={of},etcd-core.io/run={run}");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        eventually(LIMIT, &format!("a pod of {labels}"), async || {
            let pods = pods
                .list(&ListParams::default().labels(&labels))
                .await
                .unwrap();
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            let phases: Vec<_> = pods.items.iter().map(phase).collect();
            match phases
                .iter()
                .any(|phase| phase.as_deref() == Some("Running"))
            {
                true => Ok(()),
                false => Err(phases),
            }
        })
        .await;
    }

    /// Waits until a run whose pod bears these labels tells of progress as wanted.
    pub(crate) async fn progress(&self, labels: &str, what: &str, wanted: impl Fn(&Value) -> bool) {
        let pods = ListParams::default().labels(labels);
        eventually(LIMIT, what, async || {
            let mut told = Vec::new();
            for pod in self.pods().list(&pods).await.map_err(|e| e.to_string())? {
                let Some(ip) = address(&pod).map(str::to_owned) else {
                    continue;
                };
                let url = format!("http://{ip}:8081/progress");
                let answer = http::get(&url).await.map_err(|e| e.to_string())?;
                let progress: Value = serde_json::from_str(&answer.1).unwrap_or_default();
                if wanted(&progress) {
                    return Ok(());
                }
                told.push(progress);
            }
            Err(format!("{told:?}"))
        })
        .await;
    }

    /// Waits until only a human can help the object; why.
    pub(crate) async fn stalled(&self, kind: &str, name: &str) -> (String, String) {
        let status = self
            .told(kind, name, "stalled", |status| {
                condition(status, "Stalled") == "True"
            })
            .await;
        reason_of(&status, "Stalled")
    }

    /// What a person would look at when a run does not come to its end.
    pub(crate) async fn tell_runs(&self) -> String {
        let mut text = self.tell("").await;
        let looks: [&[&str]; 3] = [
            &[
                "get",
                "etcdbackup,etcdbackupschedule,etcdrestore,job,deployment",
                "-o",
                "yaml",
            ],
            &["logs", "-l", "etcd-core.io/run", "--tail=30", "--prefix"],
            &[
                "logs",
                "-l",
                "etcd-core.io/cluster",
                "-c",
                "restore",
                "--tail=30",
                "--prefix",
            ],
        ];
        for args in looks {
            let here = [&["--namespace", self.namespace.as_str()], args].concat();
            match self.kubectl.try_run(&here, "").await {
                Ok(output) => text.push_str(&format!("{}{}\n", output.stdout, output.stderr)),
                Err(error) => text.push_str(&format!("{error:#}\n")),
            }
        }
        text
    }

    /// A client of one of the cluster's members.
    pub(crate) async fn member(&self, cluster: &str) -> Client {
        let pods = self.pods_of(cluster).await;
        self.client_of(pods.first().expect("a member's pod")).await
    }

    /// Writes that many keys, some of them twice, deletes one in ten; the revision then.
    pub(crate) async fn fill(&self, cluster: &str, under: &str, keys: usize) -> i64 {
        let client = self.member(cluster).await;
        for number in 0..keys {
            let key = format!("{under}{number:05}");
            for round in 0..=number % 2 {
                client
                    .put(&key, &format!("{under} {number} {round}"))
                    .await
                    .unwrap();
            }
            if number % 10 == 0 {
                client.delete(delete(&key)).await.unwrap();
            }
        }
        client.revision().await.unwrap()
    }

    /// Every key of the cluster, with all that etcd keeps of it.
    pub(crate) async fn everything(&self, cluster: &str) -> Vec<KeyValue> {
        let answer = eventually(LIMIT, "a read of everything", async || {
            let client = self.member(cluster).await;
            client.range(range([0], [0])).await
        })
        .await;
        answer.kvs
    }
}

/// Reason and message of a condition.
pub(crate) fn reason_of(status: &Value, kind: &str) -> (String, String) {
    let all = status["conditions"].as_array().into_iter().flatten();
    let found = all.filter(|condition| condition["type"] == kind);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found
        .map(|condition| (text(&condition["reason"]), text(&condition["message"])))
        .next()
        .unwrap_or_default()
}

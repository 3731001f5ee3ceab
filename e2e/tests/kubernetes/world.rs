//! The one Kubernetes that all tests share, and a namespace for each of them.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_e2e::kubernetes::{Kubernetes, Machine, TEST_STATE, Tool};
use etcd_e2e::load::Bundle;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::Value;

/// The operator's namespace and release.
pub(crate) const SYSTEM: &str = "etcd-system";
/// How long anything may take. Everything takes seconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

static SHARED: Mutex<Option<Kubernetes>> = Mutex::new(None);

/// A test's own namespace, and the tools to work in it.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) kubectl: Tool,
    pub(crate) helm: Tool,
    pub(crate) machine: Machine,
    pub(crate) namespace: String,
    pub(crate) tag: String,
    /// What clients of clusters were last seen to mount.
    pub(crate) bundles: parking_lot::Mutex<HashMap<String, Bundle>>,
}

/// Runs `test` in a new namespace of that name, with the Kubernetes to itself. The namespace goes
/// with it, unless the test fails.
pub(crate) fn with<F: Future<Output = ()>>(namespace: &str, test: impl FnOnce(World) -> F + Send) {
    run(namespace, false, test);
}

/// As [`with`], in a namespace that is made by the first of the tests that share it, and stays.
pub(crate) fn with_kept<F: Future<Output = ()>>(
    namespace: &str,
    test: impl FnOnce(World) -> F + Send,
) {
    run(namespace, true, test);
}

fn run<F: Future<Output = ()>>(namespace: &str, keep: bool, test: impl FnOnce(World) -> F + Send) {
    // A test that failed has not broken the Kubernetes for the next one.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = shared.is_none();
    let kubernetes = &*shared.get_or_insert_with(|| {
        let start = Instant::now();
        let kubernetes = Kubernetes::start(Path::new(TEST_STATE)).unwrap();
        println!("Kubernetes is ready after {:.1?}", start.elapsed());
        kubernetes
    });
    std::thread::scope(|scope| {
        let work = || {
            kubernetes.enter().unwrap();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async {
                    let world = World::new(kubernetes, namespace).await;
                    if first {
                        world.install(&[]).await;
                    }
                    let start = Instant::now();
                    world.make_namespace(keep).await;
                    let kubectl = world.kubectl.clone();
                    test(world).await;
                    println!("\n  {namespace}: {:.1?}", start.elapsed());
                    if !keep {
                        // Its pods would take time from the next test; nobody waits for them.
                        let gone = ["delete", "namespace", namespace, "--wait=false"];
                        kubectl.run(&gone).await.unwrap();
                    }
                });
        };
        // The network is a thread's: this one enters it and ends with the test.
        if let Err(panic) = scope.spawn(work).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl World {
    async fn new(kubernetes: &Kubernetes, namespace: &str) -> World {
        let file = Kubeconfig::read_from(kubernetes.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .unwrap();
        World {
            client: Client::try_from(config).unwrap(),
            kubectl: kubernetes.kubectl(),
            helm: kubernetes.helm(),
            machine: kubernetes.machine(),
            namespace: namespace.to_owned(),
            tag: kubernetes.tag().to_owned(),
            bundles: parking_lot::Mutex::default(),
        }
    }

    /// Installs the chart, or upgrades it to these values.
    pub(crate) async fn install(&self, set: &[&str]) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/etcd-operator");
        let tag = format!("image.tag={}", self.tag);
        let mut args = vec!["upgrade", "--install", "etcd-operator", chart];
        args.extend([
            "--namespace",
            SYSTEM,
            "--create-namespace",
            "--wait",
            "--timeout",
            "4m",
        ]);
        args.extend([
            "--set",
            "image.repository=localhost/etcd-core",
            "--set",
            &tag,
            "--set",
            "secretsInterval=5",
        ]);
        for value in set {
            args.extend(["--set", value]);
        }
        self.helm.run(&args).await.unwrap();
        self.restrict(SYSTEM).await;
    }

    async fn make_namespace(&self, keep: bool) {
        let look = ["get", "namespace", &self.namespace];
        if keep && self.kubectl.try_run(&look, "").await.unwrap().success {
            return;
        }
        let old = [
            "delete",
            "namespace",
            &self.namespace,
            "--ignore-not-found",
            "--wait",
        ];
        self.kubectl.run(&old).await.unwrap();
        self.kubectl
            .run(&["create", "namespace", &self.namespace])
            .await
            .unwrap();
        self.restrict(&self.namespace).await;
    }

    async fn restrict(&self, namespace: &str) {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl
            .run(&["label", "--overwrite", "namespace", namespace, label])
            .await
            .unwrap();
    }

    /// kubectl in the test's namespace; it must succeed. What it printed.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> String {
        self.kubectl.run(&self.here(args)).await.unwrap()
    }

    /// kubectl in the test's namespace with `manifest` on standard input; it must be refused. The reason.
    pub(crate) async fn refused(&self, args: &[&str], manifest: &str) -> String {
        let output = self
            .kubectl
            .try_run(&self.here(args), manifest)
            .await
            .unwrap();
        assert!(
            !output.success,
            "accepted: {args:?} {manifest}\n{}",
            output.stdout
        );
        output.stderr
    }

    fn here<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["--namespace", self.namespace.as_str()], args].concat()
    }

    /// Applies a file of `config/samples/`.
    pub(crate) async fn apply_sample(&self, name: &str) {
        let path = format!("{}/../config/samples/{name}", env!("CARGO_MANIFEST_DIR"));
        self.kubectl(&["apply", "-f", &path]).await;
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) {
        self.kubectl
            .run_with(&self.here(&["apply", "-f", "-"]), manifest)
            .await
            .unwrap();
    }

    /// The EtcdClusters of the namespace.
    pub(crate) fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("etcd-core.io", "v1alpha1", "EtcdCluster");
        Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::from_gvk(&kind),
        )
    }

    /// The pods of the namespace.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the cluster's status speaks of its present spec and `wanted` holds; that status.
    pub(crate) async fn cluster_when(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool + Send,
    ) -> Value {
        let condition = |cluster: Option<&DynamicObject>| {
            cluster.is_some_and(|cluster| {
                let status = &cluster.data["status"];
                status["observedGeneration"].as_i64() == cluster.metadata.generation
                    && wanted(status)
            })
        };
        let wait = await_condition(self.clusters(), name, condition);
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found.unwrap().unwrap().data["status"].clone(),
            Err(_) => panic!(
                "{name} not within {LIMIT:?}: {what}\n{}",
                self.tell(name).await
            ),
        }
    }

    /// Waits until the cluster has that many members, all of them ready and voting; its status.
    pub(crate) async fn ready(&self, name: &str, members: i64) -> Value {
        self.cluster_when(name, &format!("ready with {members} members"), |status| {
            condition(status, "Ready") == "True"
                && status["readyReplicas"].as_i64() == Some(members)
                && status["members"].as_array().is_some_and(|list| {
                    list.iter()
                        .filter(|member| member["role"] == "Voter")
                        .count() as i64
                        == members
                })
        })
        .await
    }

    /// Waits for one object.
    pub(crate) async fn object_when<K>(
        &self,
        api: Api<K>,
        name: &str,
        what: &str,
        wanted: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Send
            + serde::de::DeserializeOwned
            + 'static,
    {
        let wait = await_condition(api, name, wanted);
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found.unwrap(),
            Err(_) => panic!(
                "{name} not within {LIMIT:?}: {what}\n{}",
                self.tell("").await
            ),
        }
    }

    /// The pods of a cluster, by name.
    pub(crate) async fn pods_of(&self, cluster: &str) -> Vec<Pod> {
        let selector = format!("etcd-core.io/cluster={cluster}");
        self.pods()
            .list(&ListParams::default().labels(&selector))
            .await
            .unwrap()
            .items
    }

    /// What a person would look at when something does not come.
    pub(crate) async fn tell(&self, cluster: &str) -> String {
        let mut text = String::new();
        let looks: [&[&str]; 4] = [
            &["get", "etcdcluster", cluster, "-o", "yaml"],
            &["get", "pods,statefulsets,pvc,events", "-o", "wide"],
            &[
                "logs",
                "-l",
                "etcd-core.io/cluster",
                "-c",
                "etcd",
                "--tail=15",
                "--prefix",
            ],
            &[
                "logs",
                "-n",
                SYSTEM,
                "deployment/etcd-operator",
                "--tail=40",
            ],
        ];
        for args in looks {
            let args: Vec<&str> = args.iter().copied().filter(|arg| !arg.is_empty()).collect();
            match self.kubectl.try_run(&self.here(&args), "").await {
                Ok(output) => text.push_str(&format!("{}{}\n", output.stdout, output.stderr)),
                Err(error) => text.push_str(&format!("{error:#}\n")),
            }
        }
        text
    }
}

/// The state of a condition in a status: `True`, `False`, `Unknown`, or empty if it has none.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or_default()
}

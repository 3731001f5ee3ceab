//! The API server's own storage, restored in place while everything runs on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use etcd_e2e::etcdctl::run;
use etcd_e2e::kubernetes::{Places, TEST_STATE};
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Etcdctl, eventually};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use serde_json::json;

use crate::world::{LIMIT, SYSTEM, World, with};

/// Where the API server finds its storage, and where its storage would find peers.
const CLIENT: &str = "http://127.0.0.1:2379";
const PEER: &str = "http://127.0.0.1:2380";
/// What runs on, each with its connections and caches.
const PROGRAMS: [&str; 3] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// ConfigMaps of the test by name, and what each says.
type Maps = BTreeMap<String, String>;

fn said(maps: impl Iterator<Item = ConfigMap>) -> Maps {
    let ours = maps.filter(|map| map.name_any().starts_with("map-"));
    ours.map(|map| {
        let text = map.data.clone().unwrap_or_default().remove("says");
        (map.name_any(), text.unwrap_or_default())
    })
    .collect()
}

impl World {
    async fn say(&self, name: &str, text: &str) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"says": text}});
        self.apply(&map.to_string()).await;
    }

    /// The operator's pods and how often their containers were started.
    async fn operators(&self) -> Vec<(Option<String>, i32)> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let list = pods.list(&ListParams::default()).await.unwrap();
        let restarts = |pod: &Pod| {
            let status = pod.status.clone().unwrap_or_default();
            let all = status.container_statuses.unwrap_or_default();
            all.iter().map(|container| container.restart_count).sum()
        };
        list.iter().map(|pod| (pod.uid(), restarts(pod))).collect()
    }

    fn running(&self) -> Vec<Vec<i32>> {
        let pids = |program: &&str| self.machine.pids(program);
        PROGRAMS.iter().map(pids).collect()
    }
}

/// Puts a snapshot in the place of the storage's data directory, with revisions raised and marked
/// as compacted; what was there is put aside.
async fn swap(snapshot: &Path, folder: &Path) {
    let places = Places::find().unwrap();
    let data = Path::new(TEST_STATE).join("etcd");
    let new = Path::new(TEST_STATE).join("etcd-restored");
    let (snapshot, target) = (snapshot.to_str().unwrap(), new.to_str().unwrap());
    let args = [
        "snapshot",
        "restore",
        snapshot,
        "--data-dir",
        target,
        "--name=storage",
        &format!("--initial-cluster=storage={PEER}"),
        &format!("--initial-advertise-peer-urls={PEER}"),
        "--bump-revision=1000000000",
        "--mark-compacted",
    ];
    let output = run(&places.product.join("etcdutl"), &args, &[], folder)
        .await
        .unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    std::fs::rename(&data, folder.join("etcd-before")).unwrap();
    std::fs::rename(&new, &data).unwrap();
}

#[test]
fn o23_the_api_servers_storage_is_restored_under_it_and_nobody_sees_what_is_no_more() {
    with("storage", async |world| {
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
        let (store, writer) = reflector::store();
        let stream = watcher(maps.clone(), watcher::Config::default())
            .default_backoff()
            .reflect(writer);
        let informer = tokio::spawn(stream.for_each(|_| async {}));
        let informed = || said(store.state().iter().map(|map| (**map).clone()));
        let until = async |what: &str, wanted: &Maps| {
            eventually(LIMIT, what, async || match informed() {
                seen if seen == *wanted => Ok(()),
                seen => Err(seen),
            })
            .await;
        };

        world.say("map-changed", "before").await;
        world.say("map-deleted", "before").await;
        let then = Maps::from(
            ["map-changed", "map-deleted"].map(|name| (name.to_owned(), "before".to_owned())),
        );
        until("the informer knows what is backed up", &then).await;
        let scratch = Scratch::new().unwrap();
        let snapshot = scratch.path().join("snapshot.db");
        let etcdctl = Etcdctl::new(&[CLIENT.to_owned()]).unwrap();
        etcdctl
            .run(&["snapshot", "save", snapshot.to_str().unwrap()])
            .await
            .unwrap();

        world.say("map-changed", "after").await;
        world.say("map-made", "after").await;
        world.kubectl(&["delete", "configmap", "map-deleted"]).await;
        let now = Maps::from(
            ["map-changed", "map-made"].map(|name| (name.to_owned(), "after".to_owned())),
        );
        until("the informer knows what came after", &now).await;
        let running = world.running();
        assert!(running.iter().all(|pids| pids.len() == 1), "{running:?}");
        let operators = world.operators().await;

        let taken = world.machine.take_storage().unwrap();
        let down = Instant::now();
        swap(&snapshot, scratch.path()).await;
        drop(taken);
        until("the informer knows what was restored", &then).await;
        println!(
            "\n  an informer had relisted {:.1?} after the storage was stopped",
            down.elapsed()
        );

        // The API server's cache and its storage say the same.
        for version in ["", "0"] {
            let list = ListParams {
                resource_version: (!version.is_empty()).then(|| version.to_owned()),
                ..ListParams::default()
            };
            let listed = maps.list(&list).await.unwrap();
            assert_eq!(
                said(listed.into_iter()),
                then,
                "resourceVersion {version:?}"
            );
        }
        assert_eq!(world.running(), running, "something was started again");
        assert_eq!(world.operators().await, operators);

        // Controllers, scheduler, kubelets and the operator go on: a cluster needs them all.
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        println!("\n  a new cluster was ready {:.1?} after", down.elapsed());
        world.put("one", "greeting", "hello").await;
        world.every_pod_reads("one", "greeting", "hello").await;
        assert_eq!(world.running(), running, "something was started again");
        assert_eq!(world.operators().await, operators);
        informer.abort();
    });
}

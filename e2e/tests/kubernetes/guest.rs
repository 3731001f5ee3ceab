//! An API server whose storage is an EtcdCluster, restored in place by an EtcdRestore while the
//! API server, its controllers and its clients run on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_e2e::kubernetes::{Guest, GuestStorage, Places, TEST_STATE, Tool};
use etcd_e2e::load::Bundle;
use etcd_e2e::{Authority, Etcdctl, Leaf, eventually};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::Store as Informed;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::members::address;
use crate::store::{BUCKET, Store, reason_of};
use crate::world::{LIMIT, World, with};

/// The namespace of the guest that everything is made in.
const INSIDE: &str = "default";
/// How long the sampler waits for one answer: the API server itself waits longer for its storage.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Objects of a kind by name: what tells one from another of that name, and its version.
type Objects = BTreeMap<String, (String, String)>;

fn objects<'a, K: kube::ResourceExt + 'a>(list: impl Iterator<Item = &'a K>) -> Objects {
    list.map(|object| {
        let version = object.resource_version().unwrap_or_default();
        (
            object.name_any(),
            (object.uid().unwrap_or_default(), version),
        )
    })
    .collect()
}

/// Which objects they are, whatever was written into them.
fn same(objects: &Objects) -> BTreeSet<(&String, &String)> {
    let each = objects.iter();
    each.map(|(name, (uid, _))| (name, uid)).collect()
}

/// The same, of what belongs to the Deployment that was never deleted.
fn of_kept(objects: &Objects) -> Vec<(&String, &String)> {
    let all = same(objects).into_iter();
    all.filter(|(name, _)| name.starts_with("kept-")).collect()
}

/// What one kind's informer believes, and the kind itself to compare it with.
struct Informer<K: kube::Resource<DynamicType = ()> + Clone + 'static> {
    api: Api<K>,
    store: Informed<K>,
    task: JoinHandle<()>,
}

impl<K> Informer<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + serde::de::DeserializeOwned
        + 'static,
{
    fn start(client: &Client) -> Informer<K> {
        let api: Api<K> = Api::namespaced(client.clone(), INSIDE);
        let (store, writer) = reflector::store();
        let stream = watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .reflect(writer);
        let task = tokio::spawn(stream.for_each(|_| async {}));
        Informer { api, store, task }
    }

    fn believed(&self) -> Objects {
        let state = self.store.state();
        objects(state.iter().map(|object| &**object))
    }

    async fn listed(&self) -> Result<Objects, String> {
        let list = self.api.list(&ListParams::default()).await;
        list.map(|list| objects(list.items.iter()))
            .map_err(|error| error.to_string())
    }

    /// Waits until the informer and a fresh list say the same; that.
    async fn agreed(&self) -> Objects {
        eventually(LIMIT, "an informer and a fresh list agree", async || {
            let (listed, believed) = (self.listed().await?, self.believed());
            match listed == believed {
                true => Ok(listed),
                false => Err(format!("listed {listed:?}, believed {believed:?}")),
            }
        })
        .await
    }
}

/// Informers of what controllers make of each other.
struct Informers {
    maps: Informer<ConfigMap>,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

impl Informers {
    fn start(client: &Client) -> Informers {
        Informers {
            maps: Informer::start(client),
            deployments: Informer::start(client),
            sets: Informer::start(client),
            pods: Informer::start(client),
        }
    }

    /// What there is of each kind, once every informer knows it.
    async fn agreed(&self) -> [Objects; 4] {
        [
            self.maps.agreed().await,
            self.deployments.agreed().await,
            self.sets.agreed().await,
            self.pods.agreed().await,
        ]
    }

    /// The version of each Deployment's spec, and how many pods each ReplicaSet is to have.
    async fn specs(&self) -> (BTreeMap<String, Option<i64>>, BTreeMap<String, Option<i32>>) {
        let list = ListParams::default();
        let deployments = self.deployments.api.list(&list).await.unwrap();
        let sets = self.sets.api.list(&list).await.unwrap();
        (
            deployments
                .iter()
                .map(|found| (found.name_any(), found.metadata.generation))
                .collect(),
            sets.iter()
                .map(|found| {
                    let spec = found.spec.as_ref();
                    (found.name_any(), spec.and_then(|spec| spec.replicas))
                })
                .collect(),
        )
    }

    /// Waits until there are so many pods of each of these Deployments and of no other, by a fresh
    /// list, and its Deployments say so of themselves.
    async fn pods_are(&self, wanted: &[(&str, i32)]) {
        let wanted: BTreeMap<String, i32> = wanted
            .iter()
            .map(|(app, pods)| ((*app).to_owned(), *pods))
            .collect();
        eventually(
            LIMIT,
            "controllers have made and removed pods",
            async || {
                let list = ListParams::default();
                let pods = self.pods.api.list(&list).await.map_err(|e| e.to_string())?;
                let mut found: BTreeMap<String, i32> = BTreeMap::new();
                for pod in pods {
                    let app = pod.labels().get("app").cloned().unwrap_or_default();
                    *found.entry(app).or_default() += 1;
                }
                let all = self.deployments.api.list(&list).await;
                let mut told = BTreeMap::new();
                for deployment in all.map_err(|e| e.to_string())? {
                    let (name, generation) =
                        (deployment.name_any(), deployment.metadata.generation);
                    let status = deployment.status.unwrap_or_default();
                    if status.observed_generation == generation {
                        told.insert(name, status.updated_replicas.unwrap_or(0));
                    }
                }
                match found == wanted && told == wanted {
                    true => Ok(()),
                    false => Err(format!("pods {found:?}, Deployments {told:?}")),
                }
            },
        )
        .await;
    }

    fn end(self) {
        self.maps.task.abort();
        self.deployments.task.abort();
        self.sets.task.abort();
        self.pods.task.abort();
    }
}

/// Versions of lists as they were answered, of the storage and of the API server's cache, and the
/// longest time without an answer.
#[derive(Debug, Default)]
struct Samples {
    highest: BTreeMap<&'static str, u64>,
    fell: Vec<String>,
    answers: usize,
    longest_gap: Duration,
}

fn sample(client: &Client) -> (Arc<Mutex<Samples>>, JoinHandle<()>) {
    let shared: Arc<Mutex<Samples>> = Arc::default();
    let (maps, samples): (Api<ConfigMap>, _) =
        (Api::namespaced(client.clone(), INSIDE), shared.clone());
    let task = tokio::spawn(async move {
        let mut last = Instant::now();
        let mut clock = tokio::time::interval(SAMPLE_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            for from in ["", "0"] {
                let list = ListParams {
                    resource_version: (!from.is_empty()).then(|| from.to_owned()),
                    ..ListParams::default()
                };
                let answer = tokio::time::timeout(ANSWER_WITHIN, maps.list(&list)).await;
                let Ok(Ok(answer)) = answer else {
                    continue;
                };
                let version = answer.metadata.resource_version.unwrap_or_default();
                let version: u64 = version.parse().unwrap();
                let mut samples = samples.lock();
                let highest = samples.highest.entry(from).or_default();
                let before = *highest;
                *highest = before.max(version);
                if version < before {
                    samples
                        .fell
                        .push(format!("{from:?}: {version} after {before}"));
                }
                samples.answers += 1;
                if from.is_empty() {
                    samples.longest_gap = samples.longest_gap.max(last.elapsed());
                    last = Instant::now();
                }
            }
        }
    });
    (shared, task)
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "none", "image": "nobody/runs-this"}]}}}})
}

fn map(name: &str, says: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"says": says}})
}

/// kubectl, as the guest's administrator.
struct Hands(Tool);

impl Hands {
    async fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.0
            .run_with(&["apply", "-f", "-"], &list.to_string())
            .await
            .unwrap();
    }

    async fn run(&self, args: &[&str]) {
        self.0.run(args).await.unwrap();
    }
}

impl World {
    /// Secrets with certificates of a user's CAs for a cluster: all that mode Secret wants, and
    /// what the cluster's own clients show.
    async fn own_certificates(&self, cluster: &str) -> Bundle {
        let namespace = &self.namespace;
        let members = format!("*.{cluster}-peer.{namespace}.svc");
        let service = format!("{cluster}-client.{namespace}.svc");
        let domain = format!("{cluster}-peer.{namespace}.svc");
        let (clients, peers) = (Authority::new("clients"), Authority::new("peers"));
        let (clients, peers) = (clients.unwrap(), peers.unwrap());
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let mut own = None;
        for (secret, authority, leaf) in [
            (
                "mine",
                &clients,
                Leaf::new("mine").hosts(&[&members, &service]),
            ),
            (
                "peers",
                &peers,
                Leaf::new("peers").hosts(&[&members, &domain]),
            ),
            ("operators", &clients, Leaf::new("operators").client_only()),
            ("guests", &clients, Leaf::new("guests").client_only()),
        ] {
            let pair = authority.issue(&leaf).unwrap();
            let (certificate, key) = (read(&pair.cert), read(&pair.key));
            let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem()});
            self.secret(secret, data).await;
            own = Some((certificate.into_bytes(), key.into_bytes()));
        }
        Bundle {
            ca: clients.pem().into(),
            identity: own,
        }
    }

    /// The cluster's revision, by its members.
    async fn revision_of(&self, cluster: &str, bundle: &Bundle) -> i64 {
        let pods = self.pods_of(cluster).await;
        let host = address(&pods[0]).unwrap().to_owned();
        let etcdctl = Etcdctl::new(&[format!("https://{host}:2379")]).unwrap();
        let etcdctl = etcdctl.showing(bundle).unwrap();
        let said = etcdctl
            .run(&["get", "nothing", "-w", "json"])
            .await
            .unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        said["header"]["revision"].as_i64().unwrap()
    }
}

#[test]
fn o23_an_api_server_and_its_controllers_live_through_a_restore_of_their_storage() {
    with("guest", async |world| {
        let _store = Store::start(&world).await;
        let bundle = world.own_certificates("three").await;
        let tls = json!({"client": {"mode": "Secret", "secretRef": {"name": "mine"}, "operatorSecretRef": {"name": "operators"}},
            "peer": {"mode": "Secret", "secretRef": {"name": "peers"}}});
        let spec = json!({"replicas": 3, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}, "tls": tls});
        world.make("EtcdCluster", "three", spec).await;
        let before = world.ready("three", 3).await;
        let id = before["clusterID"].as_str().unwrap();

        let services: Api<Service> = Api::namespaced(world.client.clone(), &world.namespace);
        let service = services.get("three-client").await.unwrap();
        let storage = GuestStorage {
            host: format!("three-client.{}.svc", world.namespace),
            ip: service.spec.unwrap().cluster_ip.unwrap(),
            bundle: bundle.clone(),
        };
        let places = Places::find().unwrap();
        let begun = Instant::now();
        let mut guest = Guest::start(&places, Path::new(TEST_STATE), &storage)
            .await
            .unwrap();
        println!(
            "\n  an API server on it served after {:.1?}",
            begun.elapsed()
        );
        let lives = guest.lives().unwrap();
        let hands = Hands(guest.tool(places.bin.join("kubectl")));
        let file = Kubeconfig::read_from(guest.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options);
        let client = Client::try_from(config.await.unwrap()).unwrap();
        let informers = Informers::start(&client);
        let (samples, sampler) = sample(&client);

        // What is backed up, by a run that has a user's certificates only.
        hands
            .apply(&[
                deployment("kept", 2),
                deployment("deleted", 1),
                map("changed", "before"),
                map("deleted", "before"),
            ])
            .await;
        informers.pods_are(&[("deleted", 1), ("kept", 2)]).await;
        let then = informers.agreed().await;
        let specs = informers.specs().await;
        let destination = Store::destination(BUCKET, "guest", "backup-credentials");
        let spec = json!({"clusterRef": {"name": "three"}, "destination": destination});
        world.make("EtcdBackup", "good", spec).await;
        let status = world.done("EtcdBackup", "good").await;
        assert_eq!(reason_of(&status, "Verified").0, "Restore", "{status}");
        assert_eq!(
            then,
            informers.agreed().await,
            "it was written to meanwhile"
        );

        // What is lost: changes, what was made, and what was deleted.
        hands
            .apply(&[
                deployment("made", 1),
                map("changed", "after"),
                map("made", "after"),
            ])
            .await;
        hands
            .run(&["scale", "deployment/kept", "--replicas=4"])
            .await;
        hands
            .run(&["delete", "deployment/deleted", "configmap/deleted"])
            .await;
        informers.pods_are(&[("kept", 4), ("made", 1)]).await;
        let lost = informers.agreed().await;
        let stale = informers.maps.api.get("changed").await.unwrap();
        let highest_before = samples.lock().highest.values().copied().max().unwrap();

        let restore = json!({"clusterRef": {"name": "three"}, "replaces": id, "source": {"backupRef": {"name": "good"}}});
        let begun = Instant::now();
        world.make("EtcdRestore", "back", restore).await;
        let status = world.done("EtcdRestore", "back").await;
        assert_eq!(status["phase"], "Completed", "{status}");
        assert!(status["lostRevisions"].as_i64() > Some(0), "{status}");

        // Every client sees what was backed up, to the version, and nothing else.
        informers.pods_are(&[("deleted", 1), ("kept", 2)]).await;
        let restored = informers.agreed().await;
        println!(
            "\n  informers knew what was restored {:.1?} after the EtcdRestore",
            begun.elapsed()
        );
        let [maps, deployments, sets, pods] = &restored;
        assert_eq!(maps, &then[0], "ConfigMaps; before: {:?}", lost[0]);
        // Controllers write what they see into status, and may have begun before they saw it all.
        assert_eq!(same(deployments), same(&then[1]), "before: {:?}", lost[1]);
        // The garbage collector remembers owners that were deleted, and may collect what is theirs
        // though they are back; its own controller then makes it again.
        assert_eq!(of_kept(sets), of_kept(&then[2]), "before: {:?}", lost[2]);
        eventually(LIMIT, "specs are as backed up", async || {
            match informers.specs().await {
                found if found == specs => Ok(()),
                found => Err(found),
            }
        })
        .await;
        let kept = same(pods).intersection(&same(&then[3])).count();
        println!(
            "\n  {kept} of {} pods are those that were backed up",
            then[3].len()
        );
        let cached = ListParams {
            resource_version: Some("0".to_owned()),
            ..ListParams::default()
        };
        let cached = informers.maps.api.list(&cached).await.unwrap();
        assert_eq!(
            objects(cached.items.iter()),
            then[0],
            "the API server's cache"
        );
        let refused = informers
            .maps
            .api
            .replace("changed", &Default::default(), &stale)
            .await;
        match refused {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => panic!("what was read before is written after: {other:?}"),
        }

        // The controllers act on that, and on what comes now: made, scaled, collected.
        hands
            .apply(&[deployment("new", 3), map("new", "now")])
            .await;
        hands
            .run(&["scale", "deployment/kept", "--replicas=3"])
            .await;
        hands.run(&["delete", "deployment/deleted"]).await;
        informers.pods_are(&[("kept", 3), ("new", 3)]).await;
        let [_, _, sets, _] = informers.agreed().await;
        let owners: BTreeSet<&str> = sets
            .keys()
            .filter_map(|set| set.rsplit_once('-').map(|(name, _)| name))
            .collect();
        assert_eq!(owners, BTreeSet::from(["kept", "new"]));
        println!(
            "\n  controllers had done all of it {:.1?} after the EtcdRestore",
            begun.elapsed()
        );
        assert_eq!(guest.lives().unwrap(), lives, "something was started again");

        sampler.abort();
        let samples = std::mem::take(&mut *samples.lock());
        println!(
            "\n  {} lists, none for {:.1?} at most; revision {} at the end",
            samples.answers, samples.longest_gap, samples.highest[""]
        );
        assert_eq!(samples.fell, [""; 0], "resourceVersion fell");
        let made = informers.maps.api.get("new").await.unwrap();
        let version: u64 = made.resource_version().unwrap().parse().unwrap();
        assert!(
            version > highest_before,
            "{version} is not above {highest_before}"
        );
        let revision = world.revision_of("three", &bundle).await;
        assert!(revision >= 1_000_000_000, "{revision}");
        informers.end();
    });
}

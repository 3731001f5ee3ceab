//! A model of the world around the operator: an API server with its caches, the
//! controllers and kubelets of Kubernetes, `admit`, volumes, and etcd's membership. The
//! operator in it is the real one: its turns are those of `turn.rs`, its objects are
//! rendered and read as ever, only calls and time are the model's. It can be cut off
//! at any call, and what must never happen is asserted at every one.

mod api;
mod artifacts;
mod asks;
mod blows;
mod etcd;
mod faults;
mod invariants;
mod issuers;
mod keepers;
mod kubelet;
mod rivals;
mod runs;
mod secrets;
mod stores;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

pub(super) use faults::{Faults, Seed, Stop};
pub(super) use rivals::Rivals;

use self::{
    api::{ApiServer, Snapshot},
    artifacts::Artifacts,
    etcd::Etcd,
    kubelet::{Node, Process, Volume},
    stores::Stores,
    view::Caches,
};
use super::{Step, plan};
use crate::{
    api::{ANNOTATION_RETIRED, Engine, EtcdCluster, EtcdClusterSpec},
    render::Settings,
};

/// What a member says whose log is damaged.
const CORRUPT_WORDS: &str = "the write-ahead log is damaged";

/// The world around one cluster.
#[derive(Clone)]
pub(super) struct World {
    /// The cluster as the API server has it. A test edits its spec as a user does.
    pub(super) cluster: EtcdCluster,
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    /// Members whose next pods cannot start, as with an image that cannot be pulled.
    pub(super) stuck: BTreeSet<String>,
    /// Images that cannot be pulled.
    pub(super) missing: BTreeSet<String>,
    /// Stores, alarms and the class of the volumes.
    pub(super) stores: Stores,
    /// Whether two operators are at work.
    pub(super) rivals: bool,
    /// What is stored of backups, and how the store is.
    pub(super) artifacts: Artifacts,
    /// Members that the operator, and only it, does not hear.
    pub(super) unheard: BTreeSet<String>,
    /// What goes wrong.
    pub(super) faults: Faults,
    /// Every step planned, for asserting and for reading.
    pub(super) steps: Vec<String>,
    /// Calls the operator has made.
    pub(super) calls: usize,
    last_step: Step,
    api: ApiServer,
    seen_spec: EtcdClusterSpec,
    past: VecDeque<Snapshot>,
    forgotten: usize,
    caches: Caches,
    nodes: Vec<Node>,
    addresses: u8,
    /// What runs in pods, by their UID.
    processes: BTreeMap<String, Process>,
    /// UIDs of pods that were made while their member was stuck.
    bad_pods: BTreeSet<String>,
    /// By the UID of their claim.
    volumes: BTreeMap<String, Volume>,
    etcd: Etcd,
    secrets: secrets::Secrets,
    /// Nodes that are off for ever.
    pub(super) out_of_service: BTreeSet<String>,
    /// Whether the namespace is going away.
    pub(super) terminating: bool,
    /// Pods that tickets were made out to, by member ID: one each, ever.
    tickets: BTreeMap<String, String>,
    /// Members of which status knows nothing any more.
    buried: BTreeSet<String>,
}

pub(super) const NAME: &str = "demo";

impl World {
    pub(super) fn new(replicas: i32) -> World {
        let mut cluster = EtcdCluster::new(
            NAME,
            EtcdClusterSpec {
                replicas,
                ..Default::default()
            },
        );
        cluster.metadata.namespace = Some("ns".to_owned());
        cluster.metadata.uid = Some("uid-of-demo".to_owned());
        cluster.metadata.generation = Some(1);
        cluster.metadata.resource_version = Some("0".to_owned());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let node = Node {
            up: true,
            cut: false,
            silent_since: None,
        };
        World {
            seen_spec: cluster.spec.clone(),
            cluster,
            settings: Settings {
                default_image: "etcd:v3.7.3".to_owned(),
                operator_image: "operator:1".to_owned(),
            },
            now,
            stuck: BTreeSet::new(),
            missing: BTreeSet::new(),
            stores: Stores::default(),
            rivals: false,
            artifacts: Artifacts::default(),
            unheard: BTreeSet::new(),
            faults: Faults::none(),
            steps: Vec::new(),
            calls: 0,
            last_step: Step::None,
            api: ApiServer::new(now),
            past: VecDeque::new(),
            forgotten: 0,
            caches: Caches::default(),
            nodes: vec![node; 8],
            addresses: 0,
            processes: BTreeMap::new(),
            bad_pods: BTreeSet::new(),
            volumes: BTreeMap::new(),
            etcd: Etcd::default(),
            secrets: secrets::Secrets::default(),
            out_of_service: BTreeSet::new(),
            terminating: false,
            tickets: BTreeMap::new(),
            buried: BTreeSet::new(),
        }
    }

    pub(super) fn on_empty_dir(mut self) -> World {
        self.cluster.spec.storage.persistent_volume_claim = None;
        self.cluster.spec.storage.empty_dir = Some(Default::default());
        self
    }

    fn persistent(&self) -> bool {
        self.cluster.spec.storage.persistent_volume_claim.is_some()
    }

    /// A second passes: Kubernetes makes and ends pods, admit admits, etcd runs.
    pub(super) fn settle(&mut self) {
        self.pass(1);
    }

    /// So many seconds pass at once.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.api.ids.now = self.now;
        self.run_controllers();
        self.run_storage();
        self.run_scheduler();
        self.run_kubelets();
        self.issue();
        self.mount();
        self.run_jobs();
        self.run_etcd();
        self.remember();
    }

    /// Turns of the operator, a second between them.
    pub(super) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.settle();
            self.turn(None);
        }
    }

    /// Runs until nothing is left to do; panics if that does not happen.
    pub(super) fn converge(&mut self) {
        for _ in 0..400 {
            self.settle();
            if self.turn(None) == Step::None {
                if self.is_settled() {
                    return;
                }
                self.pass(5);
            }
        }
        panic!("does not converge{}", self.trace());
    }

    /// Whether status says Ready.
    pub(super) fn is_ready(&self) -> bool {
        self.says("Ready")
    }

    fn says(&self, type_: &str) -> bool {
        let status = self.cluster.status.as_ref();
        let conditions = status.map(|status| status.conditions.as_slice());
        let mut conditions = conditions.unwrap_or_default().iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
    }

    /// Whether a cluster has formed.
    pub(super) fn is_formed(&self) -> bool {
        !self.etcd.formed.is_empty()
    }

    /// Whether the operator has stopped for a human, and rightly so.
    pub(super) fn gave_up(&self) -> bool {
        if !self.says("Stalled") {
            return false;
        }
        let whole = |id: &&u64| {
            let mut volumes = self.volumes.values();
            volumes
                .any(|volume| !volume.corrupt && volume.log.is_some_and(|log| log.member == **id))
        };
        let voters = self.etcd.members.iter().filter(|(_, line)| !line.learner);
        let left = voters.map(|(id, _)| id).filter(whole).count();
        assert!(
            !self.is_formed() || left < super::quorum(self.voters()),
            "{left} of {} voters could serve{}",
            self.voters(),
            self.trace()
        );
        true
    }

    pub(super) fn is_settled(&self) -> bool {
        plan(&self.cluster, &self.observe(), &self.settings, self.now).is_settled()
            && self.keepers_rest()
            && self.api.orphans.is_empty()
    }

    /// Names of the steps taken, without the pauses between them.
    pub(super) fn taken(&self) -> Vec<&str> {
        let names = self.steps.iter().filter_map(|step| step.split(':').next());
        names
            .filter(|name| *name != "None" && !name.starts_with(' '))
            .collect()
    }

    /// Members that have a pod.
    pub(super) fn members(&self) -> Vec<String> {
        let pods = self.api.pods.items.values();
        pods.map(|pod| kubelet::member_of(&pod.metadata)).collect()
    }

    /// Claims, and whether each was retired.
    pub(super) fn claims(&self) -> Vec<(String, bool)> {
        let claims = self.api.claims.items.iter();
        let retired = |(name, claim): (&String, &std::sync::Arc<_>)| {
            let claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim = claim;
            let annotations = claim.metadata.annotations.as_ref();
            let retired = annotations.is_some_and(|all| all.contains_key(ANNOTATION_RETIRED));
            (name.clone(), retired)
        };
        claims.map(retired).collect()
    }

    /// Names of the members etcd has.
    pub(super) fn etcd_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.etcd.members.values().map(|m| m.name.clone()).collect();
        names.sort();
        names
    }

    /// Its ID.
    pub(super) fn leader_id(&self) -> Option<u64> {
        self.etcd.leader
    }

    /// The member that leads.
    pub(super) fn leader(&self) -> Option<String> {
        let leader = self.etcd.leader?;
        Some(self.etcd.members.get(&leader)?.name.clone())
    }

    pub(super) fn forms_one_cluster_of(&self, replicas: usize) {
        let status = self.cluster.status.as_ref();
        let restored = status.is_some_and(|status| status.restore.is_some());
        assert!(
            self.etcd.formed.len() == 1 || restored,
            "one cluster ID, ever"
        );
        let latched = status.and_then(|status| status.cluster_id.as_deref());
        let current = self.etcd.cluster.map(crate::identity::hex);
        assert_eq!(latched, current.as_deref(), "{}", self.trace());
        assert_eq!(
            (self.voters(), self.serving().len()),
            (replicas, replicas),
            "{}",
            self.trace()
        );
        assert_eq!(self.etcd.members.len(), replicas, "no learner is left over");
        let sets = self.api.sets.items.len();
        assert_eq!(
            sets,
            replicas,
            "no StatefulSet is left over{}",
            self.trace()
        );
    }
}

/// Which server an image of this world holds.
fn engine_of(image: &str) -> Engine {
    if image.contains("stock") {
        Engine::Etcd
    } else {
        Engine::EtcdCore
    }
}

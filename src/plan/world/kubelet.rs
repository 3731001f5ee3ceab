//! A model of Kubernetes' own controllers, of the kubelets and of `admit`: who makes
//! pods, who ends them, and what becomes of those whose node is dead or cut off.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodCondition, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};

use crate::{
    admission::TicketPaper,
    api::{ANNOTATION_START, ANNOTATION_TICKET, LABEL_MEMBER, TicketKind},
    backup::run::{Failure, RUN_VARIABLE, RestoreRun},
    identity,
};

use super::{World, engine_of, etcd::Log};

/// How long a node may be silent before its pods count as not ready.
const SILENT: SignedDuration = SignedDuration::from_secs(40);
/// How long before its pods are told to go; they cannot, until it is back.
const EVICTED: SignedDuration = SignedDuration::from_secs(100);
/// Addresses of pods; few, so that they are used again.
const ADDRESSES: u8 = 24;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) up: bool,
    /// Alive, but nobody hears it, and it hears nobody.
    pub(super) cut: bool,
    pub(super) silent_since: Option<Timestamp>,
}

/// What runs in a pod, as its kubelet knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Whether etcd runs.
    pub(super) up: bool,
    /// Whether a ticket was used in this pod.
    pub(super) used: bool,
    /// What an emptyDir holds.
    disk: Option<Log>,
    pub(super) crashes: i32,
    last_words: Option<String>,
    /// How its restore failed the last time.
    pub(super) failure: Option<Failure>,
}

/// What a claim stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct Volume {
    pub(super) log: Option<Log>,
    pub(super) corrupt: bool,
    /// Token of the restore that made a new cluster of what was on it.
    pub(super) revived: Option<String>,
    /// The node it is bound to.
    pub(super) node: Option<usize>,
}

pub(super) fn member_of(meta: &ObjectMeta) -> String {
    meta.labels.as_ref().unwrap()[LABEL_MEMBER].clone()
}

/// What a pod is there for in a restore.
pub(super) enum Start {
    Held(String),
    Restored(Box<RestoreRun>),
}

pub(super) fn start(pod: &Pod) -> Option<Start> {
    let text = pod.metadata.annotations.as_ref()?.get(ANNOTATION_START)?;
    if let Some(id) = text.strip_prefix("held:") {
        return Some(Start::Held(id.to_owned()));
    }
    let init = pod.spec.as_ref()?.init_containers.as_ref()?;
    let restore = init
        .iter()
        .find(|container| container.name == "restore")
        .unwrap();
    let env = restore.env.as_ref().unwrap();
    let run = env.iter().find(|env| env.name == RUN_VARIABLE).unwrap();
    let run = serde_json::from_str(run.value.as_ref().unwrap()).unwrap();
    Some(Start::Restored(run))
}

fn is_owned_by(meta: &ObjectMeta, uid: Option<&String>) -> bool {
    let owners: &[OwnerReference] = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| Some(&owner.uid) == uid)
}

/// The image of etcd.
fn image_of(containers: &[Container]) -> String {
    let etcd = containers.iter().find(|container| container.name == "etcd");
    etcd.and_then(|etcd| etcd.image.clone()).unwrap_or_default()
}

/// The image that a pod runs.
pub(super) fn image(pod: &Pod) -> String {
    image_of(pod.spec.as_ref().map_or(&[], |spec| &spec.containers))
}

impl World {
    pub(super) fn node_of(&self, pod: &Pod) -> Option<&Node> {
        let name = pod.spec.as_ref()?.node_name.as_ref()?;
        self.nodes.get(name.parse::<usize>().ok()?)
    }

    fn volume_of(&self, pod: &Pod) -> Option<&Volume> {
        let name = identity::claim_name(&member_of(&pod.metadata));
        let claim = self.api.claims.items.get(&name)?;
        self.volumes.get(claim.metadata.uid.as_deref()?)
    }

    /// What lies on the disk that a pod has.
    pub(super) fn log_of(&self, pod: &Pod) -> Option<Log> {
        if self.persistent() {
            self.volume_of(pod)?.log
        } else {
            self.processes.get(pod.metadata.uid.as_deref()?)?.disk
        }
    }

    pub(super) fn set_log(&mut self, pod: &str, log: Option<Log>) {
        let Some(pod) = self.api.pods.items.get(pod) else {
            return;
        };
        let uid = pod.metadata.uid.clone().unwrap();
        let claim = identity::claim_name(&member_of(&pod.metadata));
        if !self.persistent() {
            self.processes.entry(uid).or_default().disk = log;
        } else if let Some(claim) = self.api.claims.items.get(&claim) {
            let uid = claim.metadata.uid.clone().unwrap();
            self.volumes.entry(uid).or_default().log = log;
        }
    }

    /// Kubernetes' controllers: garbage, StatefulSets, eviction, claims in use.
    pub(super) fn run_controllers(&mut self) {
        let owner = self.cluster.metadata.uid.clone();
        let api = &mut self.api;
        let orphan = |meta: &ObjectMeta| {
            let owners = meta.owner_references.as_ref();
            owners.is_some_and(|owners| !owners.is_empty()) && !is_owned_by(meta, owner.as_ref())
        };
        api.sets.items.retain(|_, set| !orphan(&set.metadata));
        api.services.items.retain(|_, it| !orphan(&it.metadata));
        api.budgets.items.retain(|_, it| !orphan(&it.metadata));
        for name in api.claims.items.keys().cloned().collect::<Vec<_>>() {
            if orphan(&api.claims.items[&name].metadata) {
                api.claims.doom(&mut api.ids, &name);
            }
        }
        let pods: Vec<String> = api.pods.items.keys().cloned().collect();
        for name in pods {
            let meta = &api.pods.items[&name].metadata;
            let set = api.sets.items.get(&member_of(meta));
            let wanted = set.is_some_and(|set| {
                is_owned_by(meta, set.metadata.uid.as_ref())
                    && set.spec.as_ref().and_then(|spec| spec.replicas) != Some(0)
            });
            if !wanted {
                api.pods.doom(&mut api.ids, &name);
            }
        }
        for (member, set) in api.sets.items.clone() {
            let name = identity::pod_name(&member);
            let spec = set.spec.as_ref().unwrap();
            if spec.replicas == Some(0) || api.pods.items.contains_key(&name) {
                continue;
            }
            let template = spec.template.metadata.clone().unwrap_or_default();
            let containers: Vec<Container> = spec
                .template
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .map(|container| Container {
                    name: container.name.clone(),
                    image: container.image.clone(),
                    ..Container::default()
                })
                .collect();
            let image = image_of(&containers);
            let pod = Pod {
                metadata: ObjectMeta {
                    labels: template.labels,
                    annotations: template.annotations,
                    owner_references: Some(vec![OwnerReference {
                        uid: set.metadata.uid.clone().unwrap(),
                        ..OwnerReference::default()
                    }]),
                    ..ObjectMeta::default()
                },
                spec: Some(k8s_openapi::api::core::v1::PodSpec {
                    containers: containers.clone(),
                    init_containers: spec
                        .template
                        .spec
                        .as_ref()
                        .and_then(|it| it.init_containers.clone()),
                    ..Default::default()
                }),
                status: None,
            };
            api.pods.create(&mut api.ids, &name, pod);
            if self.stuck.contains(&member) || self.missing.contains(&image) {
                let uid = api.pods.items[&name].metadata.uid.clone().unwrap();
                self.bad_pods.insert(uid);
            }
        }
        self.evict();
        self.protect_claims();
    }

    fn evict(&mut self) {
        for name in self.api.pods.items.keys().cloned().collect::<Vec<_>>() {
            let node = self.node_of(&self.api.pods.items[&name]);
            let since = node.and_then(|node| node.silent_since);
            if since.is_some_and(|since| self.now.duration_since(since) > EVICTED) {
                self.api.pods.doom(&mut self.api.ids, &name);
            }
        }
    }

    /// A claim that is being deleted goes when no pod uses it, and its volume with it.
    fn protect_claims(&mut self) {
        let pods = &self.api.pods.items;
        let used = |member: &str| pods.contains_key(&identity::pod_name(member));
        let claims = self.api.claims.items.iter();
        let gone: Vec<(String, String)> = claims
            .filter(|(_, claim)| claim.metadata.deletion_timestamp.is_some())
            .filter(|(_, claim)| !used(&member_of(&claim.metadata)))
            .map(|(name, claim)| (name.clone(), claim.metadata.uid.clone().unwrap()))
            .collect();
        for (name, uid) in gone {
            self.api.claims.remove(&name);
            self.volumes.remove(&uid);
        }
    }

    /// Places pods: on the node of their volume, else where fewest are.
    pub(super) fn run_scheduler(&mut self) {
        for name in self.api.pods.items.keys().cloned().collect::<Vec<_>>() {
            let pod = self.api.pods.items[&name].clone();
            if self.node_of(&pod).is_some() || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let live = |node: usize| self.nodes[node].silent_since.is_none();
            let claim = identity::claim_name(&member_of(&pod.metadata));
            let claim = self.api.claims.items.get(&claim);
            let uid = claim.and_then(|claim| claim.metadata.uid.clone());
            let bound = uid.as_ref().and_then(|uid| self.volumes.get(uid)?.node);
            let count = |node: usize| {
                let name = node.to_string();
                let on = |pod: &&std::sync::Arc<Pod>| {
                    pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name)
                };
                self.api.pods.items.values().filter(on).count()
            };
            let place = match (self.persistent(), claim, bound) {
                (true, None, _) => Err("persistentvolumeclaim not found".to_owned()),
                (true, _, Some(node)) if live(node) => Ok(node),
                (true, _, Some(_)) => {
                    Err("0/3 nodes are available: volume node affinity conflict".to_owned())
                }
                _ => (0..self.nodes.len())
                    .filter(|node| live(*node))
                    .min_by_key(|node| count(*node))
                    .ok_or_else(|| "0/3 nodes are available".to_owned()),
            };
            match place {
                Ok(node) => {
                    if let Some(uid) = uid {
                        self.volumes.entry(uid).or_default().node = Some(node);
                    }
                    let address = self.free_address();
                    self.api.pods.change(&mut self.api.ids, &name, |pod| {
                        pod.spec.get_or_insert_default().node_name = Some(node.to_string());
                        pod.status = Some(PodStatus {
                            pod_ip: Some(address),
                            ..PodStatus::default()
                        });
                    });
                }
                Err(why) => self.api.pods.change(&mut self.api.ids, &name, |pod| {
                    let condition = PodCondition {
                        type_: "PodScheduled".to_owned(),
                        status: "False".to_owned(),
                        reason: Some("Unschedulable".to_owned()),
                        message: Some(why),
                        ..PodCondition::default()
                    };
                    pod.status.get_or_insert_default().conditions = Some(vec![condition]);
                }),
            }
        }
    }

    /// An address no pod has now, but others may have had.
    fn free_address(&mut self) -> String {
        let pods = self.api.pods.items.values();
        let taken: Vec<String> = pods
            .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .collect();
        loop {
            self.addresses = self.addresses % ADDRESSES + 1;
            let address = format!("10.0.0.{}", self.addresses);
            if !taken.contains(&address) {
                return address;
            }
        }
    }

    /// Every kubelet that is up and heard: ends pods, starts pods, tells how they are.
    pub(super) fn run_kubelets(&mut self) {
        for node in &mut self.nodes {
            let heard = node.up && !node.cut;
            node.silent_since = match node.silent_since {
                _ if heard => None,
                None => Some(self.now),
                since => since,
            };
        }
        for name in self.api.pods.items.keys().cloned().collect::<Vec<_>>() {
            let pod = self.api.pods.items[&name].clone();
            let uid = pod.metadata.uid.clone().unwrap();
            match self.node_of(&pod).cloned() {
                None if pod.metadata.deletion_timestamp.is_some() => self.api.pods.remove(&name),
                None => {}
                Some(node) if !node.up => {
                    if let Some(process) = self.processes.get_mut(&uid) {
                        process.up = false;
                    }
                    self.tell(&name);
                }
                Some(node) if node.cut => self.tell(&name),
                Some(_) if pod.metadata.deletion_timestamp.is_some() => {
                    self.processes.remove(&uid);
                    self.api.pods.remove(&name);
                }
                Some(_) => {
                    self.admit(&name);
                    self.tell(&name);
                }
            }
        }
        let live: BTreeMap<String, ()> = self
            .api
            .pods
            .items
            .values()
            .map(|pod| (pod.metadata.uid.clone().unwrap(), ()))
            .collect();
        self.processes.retain(|uid, _| live.contains_key(uid));
    }

    /// What `admit` does at every start, and etcd after it.
    fn admit(&mut self, name: &str) {
        let pod = self.api.pods.items[name].clone();
        let uid = pod.metadata.uid.clone().unwrap();
        if self.bad_pods.contains(&uid) {
            return;
        }
        let corrupt = self.volume_of(&pod).is_some_and(|volume| volume.corrupt);
        let log = self.log_of(&pod);
        let allowed = log.is_none_or(|log| self.etcd.allows(log));
        let engine = engine_of(&image(&pod));
        let start = start(&pod);
        if let Some(log) = log
            && let Some(Start::Held(id)) = &start
            && !self.is_revived(&pod, id)
        {
            self.hold(name, log);
            return;
        }
        let process = self.processes.entry(uid.clone()).or_default();
        if let Some(log) = log {
            if !engine.reads(log.engine) {
                process.up = false; // reported, and not started
                return;
            }
            process.up = allowed && !corrupt;
            if process.up && engine != log.engine {
                self.set_log(name, Some(Log { engine, ..log }));
            } else if !process.up {
                process.crashes += 1;
                process.last_words = Some(if corrupt {
                    super::CORRUPT_WORDS.to_owned()
                } else {
                    "the member has been permanently removed from the cluster".to_owned()
                });
            }
            return;
        }
        process.up = false;
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(ANNOTATION_TICKET)) else {
            return;
        };
        let paper: TicketPaper = serde_json::from_str(text).unwrap();
        assert_eq!(paper.pod_uid, uid, "a ticket is for one pod");
        if process.used {
            return;
        }
        if let Some(Start::Restored(run)) = start {
            assert_eq!(
                paper.kind,
                TicketKind::Restore,
                "a ticket for something else"
            );
            self.restore(name, &run, &paper);
            return;
        }
        if matches!(paper.kind, TicketKind::Restore | TicketKind::Revive) {
            return; // `admit` refuses it: the pod is not there for that
        }
        process.used = true;
        process.up = true;
        let member = member_of(&pod.metadata);
        let log = self.etcd.start(&member, &paper, engine);
        self.set_log(name, Some(log));
    }

    fn is_revived(&self, pod: &Pod, id: &str) -> bool {
        let volume = self.volume_of(pod);
        let token = volume.and_then(|volume| volume.revived.as_ref());
        token.is_some_and(|token| token.starts_with(id))
    }

    /// A member that is held starts nothing, until it has a ticket to make a new cluster
    /// of what it has.
    fn hold(&mut self, name: &str, log: Log) {
        let pod = self.api.pods.items[name].clone();
        let uid = pod.metadata.uid.clone().unwrap();
        let process = self.processes.entry(uid.clone()).or_default();
        process.up = false;
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(ANNOTATION_TICKET)) else {
            return;
        };
        let paper: TicketPaper = serde_json::from_str(text).unwrap();
        assert_eq!(paper.pod_uid, uid, "a ticket is for one pod");
        if paper.kind != TicketKind::Revive {
            return;
        }
        process.up = true;
        process.used = true;
        let member = member_of(&pod.metadata);
        let new = self.etcd.start(&member, &paper, log.engine);
        self.etcd
            .lost
            .push(self.etcd.committed.saturating_sub(log.revision));
        self.set_log(
            name,
            Some(Log {
                revision: log.revision,
                term: log.term,
                ..new
            }),
        );
        let claim = &self.api.claims.items[&identity::claim_name(&member)];
        let uid = claim.metadata.uid.clone().unwrap();
        self.volumes.entry(uid).or_default().revived = Some(paper.token);
    }

    /// The init container makes the data directory of a backup.
    fn restore(&mut self, name: &str, run: &RestoreRun, paper: &TicketPaper) {
        let pod = self.api.pods.items[name].clone();
        let uid = pod.metadata.uid.clone().unwrap();
        assert_eq!(run.token, paper.token, "a ticket for another restore");
        let found = self.source(&run.source);
        let process = self.processes.entry(uid).or_default();
        let stored = match found {
            Err(failure) => {
                process.failure = Some(failure);
                return;
            }
            Ok((_, stored)) => stored,
        };
        process.failure = None;
        process.used = true;
        process.up = true;
        let engine = engine_of(&image(&pod));
        let log = self.etcd.start(&run.member, paper, engine);
        self.set_log(
            name,
            Some(Log {
                revision: stored.revision,
                ..log
            }),
        );
    }

    /// Writes the pod's status, as the kubelet or the node controller does.
    fn tell(&mut self, name: &str) {
        let pod = &self.api.pods.items[name];
        let uid = pod.metadata.uid.clone().unwrap();
        let silent = self.node_of(pod).and_then(|node| node.silent_since);
        let known_dead = silent.map(|since| self.now.duration_since(since) > SILENT);
        if known_dead == Some(false) {
            return;
        }
        let process = self.processes.get(&uid).cloned().unwrap_or_default();
        let serves = self
            .log_of(pod)
            .is_some_and(|log| self.etcd_says(log).serving);
        let ready = process.up && serves && known_dead.is_none();
        let bad = self.bad_pods.contains(&uid);
        let now = self.now;
        self.api.pods.change(&mut self.api.ids, name, |pod| {
            let image = image(pod);
            let status = pod.status.get_or_insert_default();
            let text = if ready { "True" } else { "False" };
            let before = status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == "Ready");
            if before.is_none_or(|before| before.status != text) {
                status.conditions = Some(vec![PodCondition {
                    type_: "Ready".to_owned(),
                    status: text.to_owned(),
                    last_transition_time: Some(Time(now)),
                    ..PodCondition::default()
                }]);
            }
            let waiting = bad.then(|| ContainerStateWaiting {
                reason: Some("ErrImagePull".to_owned()),
                message: Some("no such image".to_owned()),
            });
            let terminated = process.last_words.map(|words| ContainerStateTerminated {
                exit_code: 1,
                message: Some(words),
                ..ContainerStateTerminated::default()
            });
            status.container_statuses = Some(vec![ContainerStatus {
                name: "etcd".to_owned(),
                image,
                restart_count: process.crashes.min(5),
                state: Some(ContainerState {
                    waiting,
                    ..ContainerState::default()
                }),
                last_state: terminated.map(|terminated| ContainerState {
                    terminated: Some(terminated),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]);
        });
    }
}

//! A tiny model of the world for the tests of the plan: StatefulSets and a kubelet,
//! volumes, `admit`, and etcd's membership. It carries steps out as `apply` does,
//! can be cut off between any two of its writes, and asserts what must never happen.

mod writes;

use std::collections::{BTreeMap, BTreeSet};

use writes::Writes;

use jiff::{SignedDuration, Timestamp};

use super::{Step, plan, quorum};
use crate::{
    admission::{Found, Report, TicketPaper},
    api::{EtcdCluster, EtcdClusterSpec, MemberRole, RetentionPolicy, Ticket, TicketKind},
    identity,
    observe::{
        ClaimSeen, EtcdMember, EtcdSeen, MemberObjects, Membership, Observed, PodSeen,
        StatefulSetSeen,
    },
    render::{self, Settings},
    status::{Outcome, status},
};

#[derive(Clone, Debug)]
struct Set {
    uid: String,
    replicas: i32,
    template: String,
    pod_spec: String,
    voter: bool,
}

#[derive(Clone, Debug, Default)]
struct Claim {
    uid: String,
    ids: Option<(u64, u64)>,
    retired: bool,
    log: Option<Log>,
}

/// What a volume holds once its member has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Log {
    cluster: u64,
    member: u64,
}

#[derive(Clone, Debug)]
struct Pod {
    uid: String,
    created: Timestamp,
    template: String,
    voter: bool,
    ticket: Option<TicketPaper>,
    used: bool,
    /// What an emptyDir would hold.
    log: Option<Log>,
    up: bool,
    /// Cannot start for now, as with an image that cannot be pulled.
    stuck: bool,
}

/// The world around one cluster.
pub(super) struct World {
    pub(super) cluster: EtcdCluster,
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    sets: BTreeMap<String, Set>,
    claims: BTreeMap<String, Claim>,
    pods: BTreeMap<String, Pod>,
    shared: Option<render::Shared>,
    members: BTreeMap<u64, EtcdMember>,
    /// The lists of bootstraps that have not formed (yet), by cluster ID.
    lists: BTreeMap<u64, BTreeMap<u64, EtcdMember>>,
    /// Cluster IDs that ever held a quorum: there must never be two.
    formed: BTreeSet<u64>,
    /// Member IDs that ever started on an empty disk: none may twice.
    started: BTreeSet<u64>,
    leader: Option<u64>,
    /// Members whose next pods are stuck.
    pub(super) stuck: BTreeSet<String>,
    serial: u64,
    /// Every step taken, for asserting and for reading.
    pub(super) steps: Vec<String>,
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
        World {
            cluster,
            settings: Settings {
                default_image: "etcd:v3.7.3".to_owned(),
                operator_image: "operator:1".to_owned(),
            },
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            sets: BTreeMap::new(),
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
            shared: None,
            members: BTreeMap::new(),
            lists: BTreeMap::new(),
            formed: BTreeSet::new(),
            started: BTreeSet::new(),
            leader: None,
            stuck: BTreeSet::new(),
            serial: 0,
            steps: Vec::new(),
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

    fn uid(&mut self, of: &str) -> String {
        self.serial += 1;
        format!("{of}-{}", self.serial)
    }

    fn log(&self, member: &str) -> Option<Log> {
        if self.persistent() {
            self.claims.get(member).filter(|claim| !claim.retired)?.log
        } else {
            self.pods.get(member)?.log
        }
    }

    fn set_log(&mut self, member: &str, log: Option<Log>) {
        if self.persistent() {
            if let Some(claim) = self.claims.get_mut(member) {
                claim.log = log;
            }
        } else if let Some(pod) = self.pods.get_mut(member) {
            pod.log = log;
        }
    }

    /// Time passes: StatefulSets make pods, admit admits, etcd starts.
    pub(super) fn settle(&mut self) {
        self.now += SignedDuration::from_secs(1);
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            let set = self.sets[&name].clone();
            if set.replicas == 0 {
                self.pods.remove(&name);
            } else if !self.pods.contains_key(&name)
                && (!self.persistent() || self.claims.contains_key(&name))
            {
                let (uid, created) = (self.uid("pod"), self.now);
                self.pods.insert(
                    name.clone(),
                    Pod {
                        uid,
                        created,
                        template: set.template,
                        voter: set.voter,
                        ticket: None,
                        used: false,
                        log: None,
                        up: false,
                        stuck: self.stuck.contains(&name),
                    },
                );
            }
        }
        self.pods.retain(|name, _| self.sets.contains_key(name));
        for name in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.admit(&name);
        }
        self.form();
        if self.serving().len() < quorum(self.voters().max(1)) {
            self.leader = None;
        } else if self
            .leader
            .is_none_or(|leader| !self.serving().contains(&leader))
        {
            self.leader = self.serving().first().copied();
        }
    }

    fn admit(&mut self, name: &str) {
        let pod = self.pods[name].clone();
        if pod.stuck || pod.up {
            return;
        }
        if self.log(name).is_some() {
            self.pods.get_mut(name).unwrap().up = true;
            return;
        }
        let Some(paper) = pod.ticket.filter(|_| !pod.used) else {
            return;
        };
        assert_eq!(paper.pod_uid, pod.uid, "a ticket is for one pod");
        let member = identity::parse_hex(&paper.member_id).unwrap();
        let cluster = identity::parse_hex(&paper.cluster_id).unwrap();
        assert!(
            self.started.insert(member),
            "member {} starts on an empty disk twice",
            paper.member_id
        );
        let list = match paper.kind {
            TicketKind::Join => &mut self.members,
            // A late one of the list finds the cluster formed; a first one forms it.
            TicketKind::Bootstrap if self.formed.contains(&cluster) => &mut self.members,
            TicketKind::Bootstrap => self.lists.entry(cluster).or_insert_with(|| list_of(&paper)),
        };
        let line = list.get_mut(&member);
        line.unwrap_or_else(|| panic!("{name} starts as {member:x}, which is no member"))
            .name = name.to_owned();
        self.pods.get_mut(name).unwrap().used = true;
        self.pods.get_mut(name).unwrap().up = true;
        self.set_log(name, Some(Log { cluster, member }));
    }

    /// A bootstrap forms its cluster when a quorum of its list runs.
    fn form(&mut self) {
        let up = |id: &u64, cluster: u64| {
            self.pods.keys().any(|name| {
                self.pods[name].up
                    && self.log(name)
                        == Some(Log {
                            cluster,
                            member: *id,
                        })
            })
        };
        let formed = self.lists.iter().find(|(cluster, list)| {
            list.keys().filter(|id| up(id, **cluster)).count() >= quorum(list.len())
        });
        let Some(cluster) = formed.map(|(cluster, _)| *cluster) else {
            return;
        };
        self.formed.insert(cluster);
        assert_eq!(
            self.formed.len(),
            1,
            "one cluster ID, ever: {:x?}",
            self.formed
        );
        self.members = self.lists.remove(&cluster).unwrap();
    }

    pub(super) fn voters(&self) -> usize {
        self.members
            .values()
            .filter(|member| !member.learner)
            .count()
    }

    fn id_of(&self, name: &str) -> Option<u64> {
        let log = self.log(name)?;
        let up = self.pods.get(name).is_some_and(|pod| pod.up);
        (up && self.members.contains_key(&log.member)).then_some(log.member)
    }

    /// Voters that are up.
    fn serving(&self) -> Vec<u64> {
        let up = self.pods.keys().filter_map(|name| self.id_of(name));
        up.filter(|id| !self.members[id].learner).collect()
    }

    pub(super) fn has_quorum(&self) -> bool {
        self.voters() > 0 && self.serving().len() >= quorum(self.voters())
    }

    pub(super) fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        if let Some(shared) = &self.shared {
            observed.peer_service = Some(shared.peer_service.clone());
            observed.client_service = Some(shared.client_service.clone());
            observed.disruption_budget = Some(shared.disruption_budget.clone());
        }
        let quorum = self.has_quorum();
        let names: BTreeSet<&String> = self
            .sets
            .keys()
            .chain(self.claims.keys())
            .chain(self.pods.keys())
            .collect();
        for name in names {
            let mut objects = MemberObjects::default();
            if let Some(set) = self.sets.get(name) {
                objects.stateful_set = Some(StatefulSetSeen {
                    uid: set.uid.clone(),
                    replicas: set.replicas,
                    template: set.template.clone(),
                    pod_spec: set.pod_spec.clone(),
                    voter: set.voter,
                    deleting: false,
                });
            }
            if let Some(claim) = self.claims.get(name) {
                if claim.retired {
                    observed.retired_claims.push(identity::claim_name(name));
                    continue;
                }
                objects.claim = Some(ClaimSeen {
                    uid: claim.uid.clone(),
                    cluster_id: claim.ids.map(|ids| ids.0),
                    member_id: claim.ids.map(|ids| ids.1),
                    size: "8Gi".to_owned(),
                    owned: false,
                    deleting: false,
                });
            }
            objects.pod = self
                .pods
                .get(name)
                .map(|pod| self.pod_seen(name, pod, quorum));
            observed.members.insert(name.clone(), objects);
        }
        if quorum {
            let cluster_id = *self.formed.first().unwrap();
            let members = self.members.values().cloned().collect();
            observed.membership = Some(Membership {
                cluster_id,
                members,
            });
        }
        observed
    }

    fn pod_seen(&self, name: &str, pod: &Pod, quorum: bool) -> PodSeen {
        let mut seen = PodSeen {
            uid: pod.uid.clone(),
            resource_version: "1".to_owned(),
            ip: Some("10.0.0.1".to_owned()),
            created: Some(pod.created),
            template: pod.template.clone(),
            voter: pod.voter,
            ticketed: pod.ticket.is_some(),
            ready: pod.up,
            ..PodSeen::default()
        };
        if pod.stuck {
            seen.trouble = Some("ErrImagePull: no such image".to_owned());
        } else if let Some(log) = self.log(name).filter(|_| pod.up) {
            let learner = self.members.get(&log.member).is_some_and(|m| m.learner);
            seen.etcd = Some(EtcdSeen {
                member_id: log.member,
                cluster_id: log.cluster,
                version: "3.7.3".to_owned(),
                leader: self.leader.filter(|_| quorum).unwrap_or(0),
                learner,
                raft_term: 2,
                serving: quorum && self.members.contains_key(&log.member),
                ..EtcdSeen::default()
            });
        } else if !pod.up {
            seen.report = Some(Report {
                pod_uid: pod.uid.clone(),
                found: if pod.used { Found::Spent } else { Found::Empty },
                version: Some("3.7.3".to_owned()),
                message: None,
            });
        }
        seen
    }

    /// One turn of the operator. With `cut`, it dies after that many of its writes.
    pub(super) fn turn(&mut self, cut: Option<usize>) -> Step {
        let observed = self.observe();
        let next = plan(&self.cluster, &observed, &self.settings, self.now);
        let mut writes = Writes::until(cut);
        let told = status(
            &self.cluster,
            &observed,
            &next,
            &Outcome::default(),
            &self.settings,
            self.now,
        );
        if writes.next() {
            self.cluster.status = Some(told);
            self.steps
                .push(format!("{}: {}", next.step.name(), next.reason));
            self.apply(&next.step, &observed, &mut writes);
        }
        next.step
    }

    fn apply(&mut self, step: &Step, observed: &Observed, writes: &mut Writes) {
        self.guard(step);
        match step.clone() {
            Step::None => {}
            Step::ApplyShared => {
                if writes.next() {
                    let roster = super::Roster::new(&self.cluster, observed);
                    let voters = roster.voters().count();
                    self.shared = Some(render::Shared::of(&self.cluster, voters));
                }
            }
            Step::Adopt {
                cluster_id,
                members,
            } => {
                if writes.next() {
                    let status = self.cluster.status.get_or_insert_default();
                    status.cluster_id = Some(identity::hex(cluster_id));
                    for (name, id) in members {
                        let line = status.member_mut(&name);
                        line.id = Some(identity::hex(id));
                        line.role = MemberRole::Voter;
                    }
                }
            }
            Step::CreateMember {
                member: name,
                serial,
            } => {
                if writes.next() {
                    let status = self.cluster.status.get_or_insert_default();
                    assert!(
                        serial >= status.next_serial,
                        "serial {serial} is used twice"
                    );
                    status.next_serial = serial + 1;
                    status.member_mut(&name);
                }
                self.make(&name, true, writes);
            }
            Step::EnsureMember { member } => {
                let roster = super::Roster::new(&self.cluster, observed);
                let blank = roster
                    .get(&member)
                    .is_none_or(|m| m.id.is_none() && !m.has_ticket());
                self.make(&member, blank, writes);
            }
            Step::BeginBootstrap { bootstrap } => {
                if writes.next() {
                    self.cluster.status.get_or_insert_default().bootstrap = Some(bootstrap);
                }
            }
            Step::AbandonBootstrap { members } => {
                if writes.next() {
                    assert!(
                        self.formed.is_empty(),
                        "a bootstrap that formed is never given up"
                    );
                    for name in members {
                        self.line(&name).role = MemberRole::Removed;
                    }
                }
            }
            Step::DiscardCandidate { member } => {
                if writes.next() {
                    assert!(self.log(&member).is_none(), "{member} has data");
                    self.line(&member).role = MemberRole::Removed;
                }
            }
            Step::ForgetMember { member } => {
                if writes.next() {
                    self.cluster
                        .status
                        .get_or_insert_default()
                        .members
                        .retain(|m| m.name != member);
                }
            }
            Step::IssueTicket { member, ticket } => self.issue(&member, &ticket, writes),
            Step::AddMember { member, peer_url } => {
                if writes.next() {
                    assert!(
                        !self.members.values().any(|m| m.learner),
                        "one learner at a time"
                    );
                    self.serial += 1;
                    let id = 0x1000 + self.serial;
                    let line = EtcdMember {
                        id,
                        name: String::new(),
                        peer_urls: vec![peer_url],
                        learner: true,
                    };
                    self.members.insert(id, line);
                    if writes.next() {
                        self.line(&member).id = Some(identity::hex(id));
                        self.line(&member).role = MemberRole::Learner;
                    }
                }
            }
            Step::PromoteMember { id, .. } => {
                if writes.next() {
                    self.members.get_mut(&id).unwrap().learner = false;
                }
            }
            Step::RemoveMember { id, .. } => {
                if writes.next() {
                    self.members.remove(&id);
                    for name in self.pods.keys().cloned().collect::<Vec<_>>() {
                        if self.log(&name).is_some_and(|log| log.member == id) {
                            self.pods.get_mut(&name).unwrap().up = false;
                        }
                    }
                }
            }
            Step::MoveLeader { to_id, .. } => {
                if writes.next() {
                    self.leader = Some(to_id);
                }
            }
            Step::DeleteStatefulSet { member, uid } => {
                if writes.next() {
                    assert_eq!(self.sets[&member].uid, uid);
                    self.sets.remove(&member);
                }
            }
            Step::ReleaseClaim { member, policy, .. } => {
                if writes.next() {
                    assert!(!self.pods.contains_key(&member), "the claim goes last");
                    match policy {
                        RetentionPolicy::Delete => {
                            assert!(self.log(&member).is_none(), "nobody asked to delete data");
                            self.claims.remove(&member);
                        }
                        RetentionPolicy::Retain => {
                            self.claims.get_mut(&member).unwrap().retired = true;
                        }
                    }
                }
            }
            Step::TagMember { member } => self.tag(&member, writes),
            Step::GrowClaim { .. } => {}
            Step::SetReplicas { members, replicas } => {
                for member in members {
                    if writes.next() {
                        let fresh = self.fresh(&member, replicas);
                        let set = self.sets.get_mut(&member).unwrap();
                        if replicas == 0 {
                            set.replicas = 0;
                        } else {
                            *set = Set {
                                uid: set.uid.clone(),
                                ..fresh
                            };
                        }
                    }
                }
            }
            Step::UpdateMember { member } => {
                if writes.next() {
                    let fresh = self.fresh(&member, 1);
                    let set = self.sets.get_mut(&member).unwrap();
                    *set = Set {
                        uid: set.uid.clone(),
                        ..fresh
                    };
                }
            }
            Step::RestartPod {
                member, pod_uid, ..
            } => {
                if writes.next() {
                    assert_eq!(self.pods[&member].uid, pod_uid);
                    self.pods.remove(&member);
                }
            }
        }
    }

    /// Never voluntarily below quorum, and never two at a time.
    fn guard(&self, step: &Step) {
        let (member, asleep) = match step {
            Step::RemoveMember { member, .. } | Step::RestartPod { member, .. } => (member, false),
            Step::SetReplicas { replicas: 0, .. } => (&String::new(), true),
            _ => return,
        };
        assert!(step.is_disruptive());
        if asleep || !self.has_quorum() {
            return; // told to; or nothing is left to break
        }
        let id = self.id_of(member);
        let serving = self.serving();
        let left = serving
            .iter()
            .filter(|serving| Some(**serving) != id)
            .count();
        let removes = matches!(step, Step::RemoveMember { .. });
        let voter = id.is_none_or(|id| !self.members[&id].learner);
        let after = if removes && voter {
            self.voters() - 1
        } else {
            self.voters()
        };
        let single = self.voters() == 1 && !removes;
        assert!(
            left >= quorum(after.max(1)) || single || !voter,
            "{step:?} leaves {left} of {after} voters\n{}",
            self.steps.join("\n")
        );
        if !removes && serving.contains(&id.unwrap_or(0)) {
            assert_eq!(
                serving.len(),
                self.voters(),
                "two are disrupted at once: {step:?}"
            );
            assert!(
                self.leader != id || self.voters() == 1,
                "the leader is restarted: {step:?}"
            );
        }
    }

    fn line(&mut self, name: &str) -> &mut crate::api::MemberStatus {
        self.cluster.status.get_or_insert_default().member_mut(name)
    }

    fn fresh(&mut self, name: &str, replicas: i32) -> Set {
        let observed = self.observe();
        let roster = super::Roster::new(&self.cluster, &observed);
        let voter = roster.get(name).is_some_and(super::Member::is_voter);
        Set {
            uid: self.uid("set"),
            replicas,
            template: render::template_digest(&self.cluster, name, &self.settings),
            pod_spec: render::pod_spec_digest(&self.cluster),
            voter,
        }
    }

    fn make(&mut self, name: &str, blank: bool, writes: &mut Writes) {
        if self.persistent() && !self.claims.contains_key(name) && blank && writes.next() {
            let uid = self.uid("claim");
            self.claims.insert(
                name.to_owned(),
                Claim {
                    uid,
                    ..Claim::default()
                },
            );
        }
        if writes.next() {
            let set = self.fresh(name, 1);
            self.sets.entry(name.to_owned()).or_insert(set);
        }
    }

    fn issue(&mut self, name: &str, paper: &TicketPaper, writes: &mut Writes) {
        let ticket = Ticket {
            kind: paper.kind,
            pod_uid: paper.pod_uid.clone(),
            member_id: paper.member_id.clone(),
        };
        let before = self.line(name).ticket.clone();
        assert!(
            before.as_ref().is_none_or(|before| *before == ticket),
            "two tickets for {name}"
        );
        if before.is_none() && writes.next() {
            self.line(name).id = Some(ticket.member_id.clone());
            self.line(name).ticket = Some(ticket);
        }
        if writes.next() {
            let pod = self.pods.get_mut(name).unwrap();
            assert_eq!(pod.uid, paper.pod_uid);
            pod.ticket = Some(paper.clone());
        }
        if self.persistent() && writes.next() {
            let cluster = identity::parse_hex(&paper.cluster_id);
            let member = identity::parse_hex(&paper.member_id);
            self.claims.get_mut(name).unwrap().ids = cluster.zip(member);
        }
    }

    fn tag(&mut self, name: &str, writes: &mut Writes) {
        let observed = self.observe();
        let roster = super::Roster::new(&self.cluster, &observed);
        let known = roster.get(name).unwrap();
        let (voter, id, serving) = (known.is_voter(), known.id, known.is_serving());
        if writes.next()
            && let Some(set) = self.sets.get_mut(name)
        {
            set.voter = voter;
        }
        if writes.next()
            && let Some(pod) = self.pods.get_mut(name)
        {
            pod.voter = voter;
        }
        let cluster = self.formed.first().copied();
        if serving
            && writes.next()
            && let Some(claim) = self.claims.get_mut(name)
        {
            claim.ids = cluster.zip(id);
        }
    }

    // What befalls the world.

    pub(super) fn kill_pod(&mut self, nth: usize) {
        if let Some(name) = self.pods.keys().nth(nth % self.pods.len().max(1)).cloned() {
            self.pods.remove(&name);
        }
    }

    /// A volume is emptied, and its pod restarts.
    pub(super) fn empty_volume(&mut self, name: &str) {
        if let Some(claim) = self.claims.get_mut(name) {
            claim.log = None;
        }
        self.pods.remove(name);
    }

    pub(super) fn members(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    pub(super) fn delete_set(&mut self, nth: usize) {
        if let Some(name) = self.sets.keys().nth(nth % self.sets.len().max(1)).cloned() {
            self.sets.remove(&name);
            self.pods.remove(&name);
        }
    }

    /// The EtcdCluster is deleted, with all it owns, and made again: a new object.
    pub(super) fn recreate(&mut self) {
        self.cluster.metadata.uid = Some("uid-of-demo-again".to_owned());
        self.cluster.status = None;
        self.sets.clear();
        self.pods.clear();
        self.shared = None;
    }

    /// Runs until nothing is left to do; panics if that does not happen.
    pub(super) fn converge(&mut self) {
        for _ in 0..300 {
            self.settle();
            if self.turn(None) == Step::None && self.is_settled() {
                return;
            }
        }
        panic!(
            "does not converge; the last steps were\n{}",
            self.steps[self.steps.len() - 40..].join("\n")
        );
    }

    pub(super) fn is_settled(&self) -> bool {
        plan(&self.cluster, &self.observe(), &self.settings, self.now).is_settled()
    }

    /// Names of the steps taken, without the pauses between them.
    pub(super) fn taken(&self) -> Vec<&str> {
        let names = self.steps.iter().filter_map(|step| step.split(':').next());
        names.filter(|name| *name != "None").collect()
    }

    pub(super) fn forms_one_cluster_of(&self, replicas: usize) {
        assert_eq!(self.formed.len(), 1);
        assert_eq!((self.voters(), self.serving().len()), (replicas, replicas));
        assert_eq!(self.members.len(), replicas, "no learner is left over");
        assert_eq!(self.sets.len(), replicas, "no StatefulSet is left over");
    }
}

fn list_of(paper: &TicketPaper) -> BTreeMap<u64, EtcdMember> {
    let line = |line: &String| {
        let url = line.split_once('=').unwrap().1.to_owned();
        let id = identity::member_id(&url, &paper.token);
        let member = EtcdMember {
            id,
            name: String::new(),
            peer_urls: vec![url],
            learner: false,
        };
        (id, member)
    };
    paper.initial_cluster.iter().map(line).collect()
}

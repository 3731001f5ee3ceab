//! A model of etcd's membership: what a quorum of live, started voters may change, how
//! logs follow the leader's, and what must never be lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    admission::TicketPaper,
    api::{Engine, TicketKind},
    identity,
    observe::{EtcdMember, EtcdSeen, Membership},
    plan::{EtcdCall, Reply, quorum},
};

use super::{World, api::Refusal};

/// How many revisions a log can take over in a second.
const CATCH_UP: u64 = 40;

/// What a volume holds once its member has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) cluster: u64,
    pub(super) member: u64,
    /// Last revision in it.
    pub(super) revision: u64,
    /// Term of its last entry.
    pub(super) term: u64,
    /// Whose store lies beside it.
    pub(super) engine: Engine,
}

/// etcd, as all its members together know it.
#[derive(Clone, Default)]
pub(super) struct Etcd {
    pub(super) members: BTreeMap<u64, EtcdMember>,
    /// The lists of bootstraps that have not formed (yet), by cluster ID.
    lists: BTreeMap<u64, BTreeMap<u64, EtcdMember>>,
    /// Cluster IDs that ever held a quorum: another one only by a restore.
    pub(super) formed: BTreeSet<u64>,
    /// The one whose members these are.
    pub(super) cluster: Option<u64>,
    /// Clusters before it. Should their members start again, they are what they were.
    former: BTreeMap<u64, Former>,
    /// Cluster IDs of lists that a restore makes.
    founding: BTreeSet<u64>,
    /// What acknowledged revisions each restore of a survivor has lost.
    pub(super) lost: Vec<u64>,
    /// How much the revisions of clusters were raised that were made of a survivor.
    raised: BTreeMap<u64, i64>,
    /// Member IDs that ever started on an empty disk: none may twice.
    started: BTreeSet<u64>,
    pub(super) leader: Option<u64>,
    term: u64,
    /// Last revision a quorum has: what a client was told is safe.
    pub(super) committed: u64,
    ids: u64,
}

/// A cluster that was replaced.
#[derive(Clone)]
struct Former {
    members: BTreeMap<u64, EtcdMember>,
    term: u64,
    committed: u64,
}

impl Former {
    fn has_quorum(&self, running: &[(String, Log)]) -> bool {
        let voters = self.members.values().filter(|line| !line.learner);
        let up = |id: u64| running.iter().any(|(_, log)| log.member == id);
        let (all, up) = voters.fold((0, 0), |(all, count), line| {
            (all + 1, count + usize::from(up(line.id)))
        });
        all > 0 && up >= quorum(all)
    }
}

impl Etcd {
    pub(super) fn voters(&self) -> usize {
        self.members.values().filter(|m| !m.learner).count()
    }

    pub(super) fn is_voter(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| !member.learner)
    }

    /// Whether a member of this log may run: unknown or not yet formed clusters say
    /// nothing, the cluster that has formed knows whom it removed.
    pub(super) fn allows(&self, log: Log) -> bool {
        match self.former.get(&log.cluster) {
            Some(former) => former.members.contains_key(&log.member),
            None => self.cluster != Some(log.cluster) || self.members.contains_key(&log.member),
        }
    }

    /// A member starts on an empty disk. `None`: its cluster has removed it.
    pub(super) fn start(&mut self, name: &str, paper: &TicketPaper, engine: Engine) -> Log {
        let member = identity::parse_hex(&paper.member_id).unwrap();
        let cluster = identity::parse_hex(&paper.cluster_id).unwrap();
        assert!(
            self.started.insert(member),
            "member {member:x} starts on an empty disk twice"
        );
        let list = match paper.kind {
            TicketKind::Join => &mut self.members,
            // A late one of the list finds the cluster formed; a first one forms it.
            TicketKind::Bootstrap if self.formed.contains(&cluster) => &mut self.members,
            TicketKind::Bootstrap => self.lists.entry(cluster).or_insert_with(|| list_of(paper)),
            TicketKind::Restore | TicketKind::Revive => {
                self.founding.insert(cluster);
                if paper.kind == TicketKind::Revive {
                    self.raised.insert(cluster, paper.bump_revision);
                }
                self.lists.entry(cluster).or_insert_with(|| list_of(paper))
            }
        };
        // One that was removed between ticket and start exits by itself.
        if let Some(line) = list.get_mut(&member) {
            line.name = name.to_owned();
        }
        Log {
            cluster,
            member,
            revision: 0,
            term: 0,
            engine,
        }
    }
}

impl World {
    /// Logs of members that run and reach each other, with the names of their pods.
    pub(super) fn running(&self) -> Vec<(String, Log)> {
        let pods = self.api.pods.items.iter();
        pods.filter_map(|(name, pod)| {
            let process = self.processes.get(pod.metadata.uid.as_deref()?)?;
            let reachable = self.node_of(pod).is_some_and(|node| node.up && !node.cut);
            let log = self.log_of(pod)?;
            (process.up && reachable).then(|| (name.clone(), log))
        })
        .collect()
    }

    /// Voters that run and reach each other.
    pub(super) fn serving(&self) -> BTreeSet<u64> {
        let running = self.running();
        let ids = running.iter().map(|(_, log)| log.member);
        ids.filter(|id| self.etcd.is_voter(*id)).collect()
    }

    pub(in crate::plan) fn voters(&self) -> usize {
        self.etcd.voters()
    }

    pub(in crate::plan) fn has_quorum(&self) -> bool {
        self.voters() > 0 && self.serving().len() >= quorum(self.voters())
    }

    /// A second passes in etcd: bootstraps form, leaders are elected, logs follow.
    pub(super) fn run_etcd(&mut self) {
        self.form();
        let running = self.running();
        if !self.has_quorum() {
            self.etcd.leader = None;
            return;
        }
        let voters: Vec<&(String, Log)> = running
            .iter()
            .filter(|(_, log)| self.etcd.is_voter(log.member))
            .collect();
        let leads = |id: u64| voters.iter().any(|(_, log)| log.member == id);
        if !self.etcd.leader.is_some_and(leads) {
            // Of those that are equally far the first.
            let next = voters
                .iter()
                .rev()
                .max_by_key(|(_, log)| (log.term, log.revision));
            let log = next.map(|(_, log)| *log).unwrap();
            assert!(
                log.revision >= self.etcd.committed,
                "writes are lost: {} is the last revision of the new leader, {} was committed",
                log.revision,
                self.etcd.committed
            );
            self.etcd.leader = Some(log.member);
            self.etcd.term += 1;
        }
        let leader = self.etcd.leader.unwrap();
        let head = voters.iter().find(|(_, log)| log.member == leader);
        let head = head.map(|(_, log)| log.revision + 1).unwrap();
        let mut reached: Vec<u64> = Vec::new();
        for (name, log) in &running {
            if !self.etcd.members.contains_key(&log.member) {
                continue;
            }
            let revision = match log.member == leader {
                true => head,
                false => head.min(log.revision + CATCH_UP),
            };
            let term = self.etcd.term;
            self.set_log(
                name,
                Some(Log {
                    revision,
                    term,
                    ..*log
                }),
            );
            if self.etcd.is_voter(log.member) {
                reached.push(revision);
            }
        }
        reached.sort_unstable_by(|a, b| b.cmp(a));
        let committed = reached[quorum(self.voters()) - 1];
        self.etcd.committed = self.etcd.committed.max(committed);
    }

    /// A list forms its cluster when a quorum of it runs; one that was replaced goes on
    /// when a quorum of it runs again.
    fn form(&mut self) {
        let running = self.running();
        let formed = self.etcd.lists.iter().find(|(cluster, list)| {
            let up = running
                .iter()
                .filter(|(_, log)| log.cluster == **cluster && list.contains_key(&log.member));
            up.count() >= quorum(list.len())
        });
        if let Some(cluster) = formed.map(|(cluster, _)| *cluster) {
            self.take_over(cluster, &running);
        }
        let former = self.etcd.former.iter();
        let again = former
            .filter(|(_, former)| former.has_quorum(&running))
            .map(|(id, _)| *id)
            .next();
        if let Some(cluster) = again {
            assert!(
                !self.has_quorum(),
                "{cluster:x}, which was replaced, serves beside its successor{}",
                self.trace()
            );
            let former = self.etcd.former.remove(&cluster).unwrap();
            self.replace(cluster, former);
        }
    }

    /// A cluster forms for the first time.
    fn take_over(&mut self, cluster: u64, running: &[(String, Log)]) {
        let restored = self.etcd.founding.contains(&cluster);
        assert!(
            self.etcd.formed.is_empty() || restored,
            "one cluster ID, ever: {cluster:x} beside {:x?}{}",
            self.etcd.formed,
            self.trace()
        );
        let before = self.etcd.cluster;
        assert!(
            !running.iter().any(|(_, log)| Some(log.cluster) == before),
            "{cluster:x} forms while members of {before:x?} run{}",
            self.trace()
        );
        self.etcd.formed.insert(cluster);
        let members = self.etcd.lists.remove(&cluster).unwrap();
        let founders = running.iter().filter(|(_, log)| log.cluster == cluster);
        let committed = founders.map(|(_, log)| log.revision).max().unwrap_or(0);
        let new = Former {
            members,
            term: self.etcd.term,
            committed,
        };
        self.replace(cluster, new);
    }

    fn replace(&mut self, cluster: u64, new: Former) {
        let etcd = &mut self.etcd;
        let before = Former {
            members: std::mem::replace(&mut etcd.members, new.members),
            term: std::mem::replace(&mut etcd.term, new.term),
            committed: std::mem::replace(&mut etcd.committed, new.committed),
        };
        if let Some(id) = etcd.cluster.replace(cluster) {
            etcd.former.insert(id, before);
        }
        etcd.leader = None;
    }

    /// What the member of this log says of itself.
    pub(super) fn etcd_says(&self, log: Log) -> EtcdSeen {
        let etcd = &self.etcd;
        let learner = etcd.members.get(&log.member).is_some_and(|m| m.learner);
        let leader = etcd
            .leader
            .filter(|_| etcd.members.contains_key(&log.member));
        let stores = self.stores.seen(log.member);
        let raised = etcd.raised.get(&log.cluster);
        EtcdSeen {
            revision: raised.map_or(stores.revision, |raised| log.revision as i64 + raised),
            member_id: log.member,
            cluster_id: log.cluster,
            version: "3.7.3".to_owned(),
            leader: leader.unwrap_or(0),
            learner,
            raft_term: etcd.term,
            raft_index: log.revision,
            raft_applied: log.revision,
            serving: leader.is_some(),
            ..stores
        }
    }

    /// The member list, if a quorum answers.
    pub(super) fn member_list(&self) -> Option<Membership> {
        self.etcd.leader.filter(|_| self.has_quorum())?;
        Some(Membership {
            cluster_id: self.etcd.cluster?,
            members: self.etcd.members.values().cloned().collect(),
        })
    }

    /// A call of the operator on etcd, by etcd's rules.
    pub(super) fn ask_etcd(&mut self, call: &EtcdCall) -> Result<Reply, Refusal> {
        if !self.has_quorum() || self.etcd.leader.is_none() {
            return Err(Refusal::NotYet("no quorum".to_owned()));
        }
        let serving = self.serving();
        let voters = self.voters();
        let whole = serving.len() == voters;
        match call {
            EtcdCall::AddLearner { peer_url, .. } => {
                let known = |m: &EtcdMember| m.peer_urls.contains(peer_url);
                if self.etcd.members.values().any(known) {
                    return Err(Refusal::Etcd("Peer URLs already exists".to_owned()));
                }
                if self.etcd.members.values().any(|member| member.learner) {
                    return Err(Refusal::Etcd("too many learner members".to_owned()));
                }
                if !whole {
                    return Err(Refusal::NotYet("unhealthy cluster".to_owned()));
                }
                self.etcd.ids += 1;
                let id = 0x1000 + self.etcd.ids;
                let line = EtcdMember {
                    id,
                    name: String::new(),
                    peer_urls: vec![peer_url.clone()],
                    learner: true,
                };
                self.etcd.members.insert(id, line);
                return Ok(Reply::Added(id));
            }
            EtcdCall::UpdatePeers { id, peer_url, .. } => {
                let Some(line) = self.etcd.members.get_mut(id) else {
                    return Err(Refusal::Etcd("member not found".to_owned()));
                };
                line.peer_urls = vec![peer_url.clone()];
            }
            EtcdCall::Promote { id, .. } => {
                let running = self.running();
                let log = running.iter().find(|(_, log)| log.member == *id);
                let in_sync = log.is_some_and(|(_, log)| log.revision >= self.etcd.committed);
                match self.etcd.members.get_mut(id) {
                    None => return Err(Refusal::Etcd("member not found".to_owned())),
                    Some(line) if !line.learner => {
                        return Err(Refusal::Etcd("can only promote a learner".to_owned()));
                    }
                    Some(_) if !in_sync => return Err(Refusal::NotYet("not in sync".to_owned())),
                    Some(line) => line.learner = false,
                }
            }
            EtcdCall::Remove { id, .. } => {
                let left = serving.len() - usize::from(serving.contains(id));
                if serving.contains(id) && left < quorum(voters - 1) {
                    return Err(Refusal::Etcd("not enough started members".to_owned()));
                }
                self.etcd.members.remove(id);
                self.etcd.leader = self.etcd.leader.filter(|leader| leader != id);
            }
            EtcdCall::MoveLeader { to_id, .. } => {
                if !serving.contains(to_id) {
                    return Err(Refusal::Etcd("bad leader transferee".to_owned()));
                }
                // Only one that has all of the log may follow.
                let running = self.running();
                let all = running
                    .iter()
                    .find(|(_, log)| log.member == *to_id)
                    .is_some_and(|(_, log)| log.revision >= self.etcd.committed);
                if !all {
                    return Err(Refusal::Etcd("leader transfer timed out".to_owned()));
                }
                self.etcd.leader = Some(*to_id);
                self.etcd.term += 1;
            }
            EtcdCall::Compact { revision } => self.stores.compact(*revision),
            EtcdCall::Defragment { member } => {
                let running = self.running();
                let pod = identity::pod_name(member);
                let log = running.iter().find(|(name, _)| *name == pod);
                let log = log.ok_or_else(|| Refusal::NotYet(format!("{member} is down")))?;
                self.stores.defragment(log.1.member);
            }
            EtcdCall::DisarmNoSpace { id } => self.stores.disarm(*id),
        }
        Ok(Reply::Done)
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

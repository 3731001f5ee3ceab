//! Members that are only told of: which etcd would run at which pod's address, and what
//! it would answer. They remember their tickets as a volume would, across their pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use serde::Deserialize;
use sha1::{Digest, Sha1};

/// What every member answers for its version.
pub(super) const VERSION: &str = "3.7.3";

/// All of them.
#[derive(Default)]
pub(super) struct Members(Mutex<State>);

#[derive(Default)]
struct State {
    /// Pods by their address.
    pods: HashMap<Ipv4Addr, Place>,
    /// Addresses by the pods' UID.
    addresses: HashMap<String, Ipv4Addr>,
    given: u32,
    /// Clusters by namespace and name.
    clusters: BTreeMap<String, Etcd>,
}

struct Place {
    uid: String,
    cluster: String,
    member: String,
}

/// A cluster as its members would have it.
#[derive(Clone, Default)]
struct Etcd {
    id: u64,
    members: Vec<Line>,
    /// Names of those that have data.
    started: BTreeSet<String>,
}

/// A line of the member list.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) learner: bool,
}

/// The operator's ticket, as it stands on the pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    kind: String,
    #[serde(rename = "memberID")]
    member_id: String,
    #[serde(rename = "clusterID")]
    cluster_id: String,
    token: String,
    initial_cluster: Vec<String>,
}

/// What runs at an address.
pub(super) enum Runs {
    /// No pod has it.
    Nothing,
    /// A pod that waits for its ticket; its UID.
    Admission(String),
    /// etcd.
    Etcd(Answer),
}

/// What an etcd knows.
pub(super) struct Answer {
    pub(super) cluster: u64,
    pub(super) member: u64,
    pub(super) learner: bool,
    /// 0: there is no quorum.
    pub(super) leader: u64,
    pub(super) members: Vec<Line>,
}

impl Members {
    /// Takes in a pod that was scheduled: its address, and whether etcd runs there.
    pub(super) fn seen(&self, pod: &Pod) -> Result<(Ipv4Addr, bool)> {
        let label = |name: &str| pod.labels().get(name).cloned();
        let cluster = label("etcd-core.io/cluster").context("a pod of no cluster")?;
        let member = label("etcd-core.io/member").context("a pod of no member")?;
        let cluster = format!("{}/{cluster}", pod.namespace().unwrap_or_default());
        let uid = pod.uid().unwrap_or_default();
        let state = &mut *self.0.lock();
        let address = *state.addresses.entry(uid.clone()).or_insert_with(|| {
            state.given += 1;
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + state.given)
        });
        state.pods.entry(address).or_insert_with(|| Place {
            uid,
            cluster: cluster.clone(),
            member: member.clone(),
        });
        let etcd = state.clusters.entry(cluster).or_default();
        if let Some(ticket) = pod.annotations().get("etcd-core.io/ticket") {
            let ticket = serde_json::from_str(ticket).context("a ticket")?;
            etcd.admit(&member, &ticket)?;
        }
        Ok((address, etcd.started.contains(&member)))
    }

    /// The pod is gone, and its address with it.
    pub(super) fn gone(&self, pod: &Pod) {
        let state = &mut *self.0.lock();
        if let Some(address) = state.addresses.remove(&pod.uid().unwrap_or_default()) {
            state.pods.remove(&address);
        }
    }

    /// What runs at that address.
    pub(super) fn at(&self, address: Ipv4Addr) -> Runs {
        let state = self.0.lock();
        let Some(place) = state.pods.get(&address) else {
            return Runs::Nothing;
        };
        let etcd = &state.clusters[&place.cluster];
        let line = etcd.members.iter().find(|line| line.name == place.member);
        match line {
            Some(line) if etcd.started.contains(&place.member) => Runs::Etcd(Answer {
                cluster: etcd.id,
                member: line.id,
                learner: line.learner,
                leader: etcd.leader(),
                members: etcd.members.clone(),
            }),
            _ => Runs::Admission(place.uid.clone()),
        }
    }

    /// Changes the cluster that answers at that address.
    pub(super) fn change<T>(
        &self,
        address: Ipv4Addr,
        change: impl FnOnce(&mut Vec<Line>) -> T,
    ) -> Option<T> {
        let state = &mut *self.0.lock();
        let cluster = &state.pods.get(&address)?.cluster;
        Some(change(&mut state.clusters.get_mut(cluster)?.members))
    }
}

impl Etcd {
    fn admit(&mut self, member: &str, ticket: &Ticket) -> Result<()> {
        let hex = |text: &str| u64::from_str_radix(text, 16).with_context(|| format!("ID {text}"));
        if ticket.kind == "Bootstrap" && self.started.is_empty() {
            self.id = hex(&ticket.cluster_id)?;
            let lines = ticket.initial_cluster.iter().map(|entry| {
                let (name, url) = entry.split_once('=').context("name=url")?;
                Ok(Line {
                    id: member_id(url, &ticket.token),
                    name: name.to_owned(),
                    url: url.to_owned(),
                    learner: false,
                })
            });
            self.members = lines.collect::<Result<_>>()?;
        }
        let id = hex(&ticket.member_id)?;
        if let Some(line) = self.members.iter_mut().find(|line| line.id == id) {
            line.name = member.to_owned();
            self.started.insert(member.to_owned());
        }
        Ok(())
    }

    /// The first voter that runs, if enough do.
    fn leader(&self) -> u64 {
        let voters = || self.members.iter().filter(|line| !line.learner);
        let run = || voters().filter(|line| self.started.contains(&line.name));
        if run().count() > voters().count() / 2 {
            run().next().map_or(0, |line| line.id)
        } else {
            0
        }
    }
}

/// The member ID etcd derives at a static bootstrap.
fn member_id(url: &str, token: &str) -> u64 {
    let digest: [u8; 20] = Sha1::digest(format!("{url}{token}")).into();
    digest[..8]
        .iter()
        .fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

/// Any ID will do for a member that joins.
pub(super) fn new_id(url: &str) -> u64 {
    member_id(url, "joined")
}

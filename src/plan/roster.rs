//! The members, each seen at once through status, objects and etcd.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    admission::Found,
    api::{EtcdCluster, MemberRole, MemberStatus, TicketKind, TlsStatus},
    identity,
    observe::{EtcdMember, EtcdSeen, MemberObjects, Observed, PodSeen},
};

use super::{Plan, StalledReason, repair, upgrade::Outgoing};

/// Everyone who is, was or may become a member, by serial.
pub struct Roster<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Whether members keep their data in claims.
    pub persistent: bool,
    /// The cluster ID once it is latched.
    pub cluster_id: Option<u64>,
    /// The members.
    pub members: Vec<Member<'a>>,
    /// Members of etcd that are nobody we know.
    pub strangers: Vec<&'a EtcdMember>,
    /// Whether etcd's member list was read (a quorum answered).
    pub quorum: bool,
    /// Serial of the next member.
    pub next_serial: i64,
    /// Nodes that are off, for ever.
    pub out_of_service: &'a BTreeSet<String>,
    /// The voter that makes room for a new member; the plan fills it in.
    pub outgoing: Option<Outgoing>,
    /// Whether members listen with TLS for each other, or are being made to.
    pub secure_peers: bool,
}

/// One member.
pub struct Member<'a> {
    /// Its name.
    pub name: String,
    /// Its serial.
    pub serial: i64,
    /// What status remembers.
    pub status: Option<&'a MemberStatus>,
    /// Its objects.
    pub objects: &'a MemberObjects,
    /// Its line in etcd's member list.
    pub etcd: Option<&'a EtcdMember>,
    /// Its member ID, from wherever it is known.
    pub id: Option<u64>,
    /// Whether the member list was read and it is not on it, though it has an ID.
    pub removed: bool,
    cluster_id: Option<u64>,
}

static NOTHING: MemberObjects = MemberObjects {
    stateful_set: None,
    pod: None,
    claim: None,
};

impl<'a> Roster<'a> {
    /// Joins what status, objects and etcd say.
    pub fn new(cluster: &'a EtcdCluster, observed: &'a Observed) -> Roster<'a> {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
        let status = cluster.status.as_ref();
        let cluster_id = status
            .and_then(|status| status.cluster_id.as_deref())
            .and_then(identity::parse_hex);
        let bootstrap_id = status
            .and_then(|status| status.bootstrap.as_ref())
            .and_then(|bootstrap| identity::parse_hex(&bootstrap.cluster_id));
        // A list of another cluster says nothing about this one.
        let membership = observed.membership.as_ref().filter(|list| {
            cluster_id
                .or(bootstrap_id)
                .is_none_or(|id| id == list.cluster_id)
        });

        let mut serials: BTreeMap<i64, String> = BTreeMap::new();
        let known = status
            .map(|status| status.members.as_slice())
            .unwrap_or_default();
        let names = known.iter().map(|member| member.name.as_str());
        for member in names.chain(observed.members.keys().map(String::as_str)) {
            if let Some(serial) = identity::member_serial(name, member) {
                serials.insert(serial, member.to_owned());
            }
        }
        for line in membership
            .map(|list| list.members.as_slice())
            .unwrap_or_default()
        {
            if let Some(serial) = serial_of(name, namespace, line) {
                serials.insert(serial, identity::member_name(name, serial));
            }
        }
        let latched = status.map_or(0, |status| status.next_serial);
        let used = serials.keys().next_back().map_or(0, |serial| serial + 1);
        let retired = observed
            .retired_claims
            .iter()
            .filter_map(|claim| claim.strip_prefix("data-"))
            .filter_map(|member| identity::member_serial(name, member))
            .map(|serial| serial + 1)
            .max()
            .unwrap_or(0);

        let members: Vec<Member<'a>> = serials
            .into_iter()
            .map(|(serial, member)| {
                let status = known.iter().find(|status| status.name == member);
                let objects = observed.members.get(&member).unwrap_or(&NOTHING);
                let is_url = |url: &String| identity::is_peer_url(url, name, namespace, &member);
                let known_id = status
                    .and_then(|status| status.id.as_deref())
                    .and_then(identity::parse_hex)
                    .or_else(|| objects.claim.as_ref().and_then(|claim| claim.member_id));
                let etcd = membership.and_then(|list| {
                    list.members
                        .iter()
                        .find(|line| Some(line.id) == known_id)
                        .or_else(|| {
                            list.members
                                .iter()
                                .find(|line| line.peer_urls.iter().any(is_url))
                        })
                });
                let was_removed = status.is_some_and(|status| status.role == MemberRole::Removed);
                let removed =
                    was_removed || (membership.is_some() && etcd.is_none() && known_id.is_some());
                let id = etcd.map(|line| line.id).or(known_id);
                Member {
                    name: member,
                    serial,
                    status,
                    objects,
                    etcd,
                    id,
                    removed,
                    cluster_id,
                }
            })
            .collect();
        let strangers = membership
            .map(|list| list.members.as_slice())
            .unwrap_or_default()
            .iter()
            .filter(|line| !members.iter().any(|member| member.id == Some(line.id)))
            .collect();
        Roster {
            cluster: name,
            namespace,
            persistent: cluster.spec.storage.persistent_volume_claim.is_some(),
            cluster_id,
            strangers,
            quorum: membership.is_some(),
            next_serial: latched.max(used).max(retired),
            secure_peers: status
                .and_then(|status| status.tls.as_ref())
                .is_some_and(TlsStatus::secures_peers),
            members,
            out_of_service: &observed.out_of_service,
            outgoing: None,
        }
    }

    /// Whether the cluster has formed: its ID is latched.
    pub fn formed(&self) -> bool {
        self.cluster_id.is_some()
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Members that vote, by etcd's list, or by memory when there is no quorum.
    pub fn voters(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.is_voter())
    }

    /// The learner, if there is one.
    pub fn learner(&self) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.is_learner())
    }

    /// Members-to-be: no ID yet, and no ticket.
    pub fn candidates(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.is_candidate())
    }

    /// Voters that serve.
    pub fn serving(&self) -> usize {
        self.voters().filter(|member| member.is_serving()).count()
    }

    /// Member that leads, as those that serve see it; the one of the highest term.
    pub fn leader(&self) -> Option<&Member<'a>> {
        let seen = self
            .members
            .iter()
            .filter_map(Member::etcd_seen)
            .filter(|seen| seen.leader != 0)
            .max_by_key(|seen| seen.raft_term)?;
        self.members
            .iter()
            .find(|member| member.id == Some(seen.leader))
    }

    /// Members of etcd, voters and learners, that are ours.
    pub fn joined(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.is_voter() || member.is_learner())
            .count()
    }

    /// Stalls when a pod of ours runs etcd for another cluster than the latched one.
    pub(super) fn foreign_cluster(&self) -> Option<Plan> {
        let latched = self.cluster_id?;
        let other = self.members.iter().find_map(|member| {
            let seen = member.pod()?.etcd.as_ref()?;
            (seen.cluster_id != latched && !member.removed).then_some((member, seen))
        });
        let (member, seen) = other?;
        Some(Plan::stalled(
            StalledReason::ForeignCluster,
            format!(
                "{} answers for cluster {} and not for {}; its volume belongs to another cluster. Nothing is changed until it is taken away.",
                member.name,
                identity::hex(seen.cluster_id),
                identity::hex(latched)
            ),
        ))
    }
}

/// A quorum of that many voters.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn serial_of(cluster: &str, namespace: &str, line: &EtcdMember) -> Option<i64> {
    line.peer_urls.iter().find_map(|url| {
        let host = url.split("://").nth(1)?;
        let member = host.split('.').next()?.strip_suffix("-0")?;
        let serial = identity::member_serial(cluster, member)?;
        identity::is_peer_url(url, cluster, namespace, member).then_some(serial)
    })
}

impl<'a> Member<'a> {
    /// Its pod, unless it is being deleted.
    pub fn pod(&self) -> Option<&'a PodSeen> {
        self.objects.pod.as_ref().filter(|pod| !pod.deleting)
    }

    /// What its etcd says, if it is this cluster's.
    pub fn etcd_seen(&self) -> Option<&'a EtcdSeen> {
        let seen = self.pod()?.etcd.as_ref()?;
        let ours = self.cluster_id.is_none_or(|id| id == seen.cluster_id);
        (ours && self.id.is_none_or(|id| id == seen.member_id)).then_some(seen)
    }

    /// Whether it votes. Without a quorum memory must do.
    pub fn is_voter(&self) -> bool {
        match self.etcd {
            Some(line) => !line.learner,
            None => !self.removed && self.status.is_some_and(|s| s.role == MemberRole::Voter),
        }
    }

    /// Whether it is a learner.
    pub fn is_learner(&self) -> bool {
        match self.etcd {
            Some(line) => line.learner,
            None => !self.removed && self.status.is_some_and(|s| s.role == MemberRole::Learner),
        }
    }

    /// Whether it is no member yet and holds no ticket.
    pub fn is_candidate(&self) -> bool {
        self.id.is_none() && !self.removed && !self.has_ticket()
    }

    /// Whether a ticket was ever issued for it.
    pub fn has_ticket(&self) -> bool {
        self.status.is_some_and(|status| status.ticket.is_some())
    }

    /// Whether its etcd answers and serves.
    pub fn is_serving(&self) -> bool {
        self.etcd_seen().is_some_and(|seen| seen.serving)
    }

    /// Whether its pod waits, on an empty disk and with an etcd that runs, for a ticket.
    pub fn waits(&self) -> bool {
        let report = self.pod().and_then(|pod| pod.report.as_ref());
        self.found() == Some(Found::Empty) && report.is_some_and(|report| report.version.is_some())
    }

    pub(super) fn found(&self) -> Option<Found> {
        let pod = self.pod()?;
        let report = pod.report.as_ref()?;
        (report.pod_uid == pod.uid).then_some(report.found)
    }

    /// Whether its ticket is made out to the pod that is there now.
    pub fn ticket_is_current(&self) -> bool {
        let ticket = self.status.and_then(|status| status.ticket.as_ref());
        matches!((ticket, self.pod()), (Some(ticket), Some(pod)) if ticket.pod_uid == pod.uid)
    }

    /// Whether a ticket may be issued to its pod: it waits, and none was issued for
    /// its member ID, or the one that was is made out to this very pod.
    pub fn may_get_ticket(&self) -> bool {
        self.waits() && (!self.has_ticket() || self.ticket_is_current())
    }

    /// Whether its data is gone for certain.
    pub fn lost_data(&self, persistent: bool) -> bool {
        repair::loss(self, persistent).is_some()
    }

    /// Which kind of ticket it was given.
    pub fn ticket_kind(&self) -> Option<TicketKind> {
        Some(self.status?.ticket.as_ref()?.kind)
    }

    /// What keeps it from running, in words.
    pub fn trouble(&self) -> String {
        if let Some(pod) = &self.objects.pod {
            if pod.deleting {
                return "its pod is being deleted".to_owned();
            }
            if let Some(trouble) = &pod.trouble {
                return trouble.clone();
            }
            if let Some(message) = pod
                .report
                .as_ref()
                .and_then(|report| report.message.clone())
            {
                return message;
            }
            if pod.report.is_some() {
                return "it waits for its ticket".to_owned();
            }
            if let Some(seen) = &pod.etcd {
                return match (seen.leader, seen.errors.first()) {
                    (0, _) => "it knows no leader".to_owned(),
                    (_, Some(error)) => error.clone(),
                    (_, None) => "it does not pass its health check".to_owned(),
                };
            }
            return "it does not answer yet".to_owned();
        }
        match &self.objects.stateful_set {
            Some(set) if set.replicas == 0 => "it is asleep".to_owned(),
            Some(_) => "its pod has not been made yet".to_owned(),
            None => "its StatefulSet has not been made yet".to_owned(),
        }
    }
}

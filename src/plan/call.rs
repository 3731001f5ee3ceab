//! The calls a step consists of, as data: `apply` makes them of the API server and of
//! members, the simulation of its model of both. So the order in which a step writes
//! is in one place, and is what the simulation cuts off before and after each call.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::{
    api::{
        Ancestor, Bootstrap, ClusterRestore, Departure, EtcdBackup, EtcdClusterStatus, HistoryMark,
        MemberRole, RefusedResize, RestoreStage, Ticket, TlsStatus,
    },
    certificates::{Phase, Purpose},
    identity, render,
};

use super::{Choice, Grant};

/// Ancestors that are remembered.
const LINEAGE_MAX: usize = 16;

/// One call of a step. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Record something in status, at the resourceVersion status was read at.
    Record(Record),
    /// Server-side apply of a whole object.
    Apply(Manifest),
    /// Merge patch of a part of an object. The patch names the UID it is meant for.
    Patch {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The patch.
        patch: Value,
        /// Recorded if the API server says that this very object is not there, so
        /// that the patch cannot have been applied.
        otherwise: Option<Record>,
    },
    /// Delete an object, if it still is the one that was looked at.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// resourceVersion it was judged by, where that matters.
        resource_version: Option<String>,
    },
    /// Make or change Secrets of certificates. Keys are made by `apply`.
    Certificates(CertificateCall),
    /// Ask etcd.
    Etcd(EtcdCall),
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it, with apiVersion and kind.
    pub body: Value,
    /// Whether it was seen among ours. If not, an object of that name that is someone
    /// else's is left alone.
    pub seen: bool,
}

/// Kinds of objects the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Service.
    Service,
    /// A PodDisruptionBudget.
    DisruptionBudget,
    /// A member's StatefulSet.
    StatefulSet,
    /// A member's pod.
    Pod,
    /// A member's claim.
    Claim,
    /// A Secret. Only deleted this way: keys are made by `apply`.
    Secret,
    /// A Certificate of cert-manager.
    Certificate,
    /// The Job of a run.
    Job,
    /// The Deployment of increments.
    Deployment,
    /// An EtcdBackup.
    Backup,
}

/// A call about certificates: reads a Secret, and writes it if it is not what it
/// should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateCall {
    /// Make a CA, if there is none.
    MakeAuthority {
        /// What for.
        purpose: Purpose,
    },
    /// Take a CA to that phase, if it is in the one before.
    RotateAuthority {
        /// Which one.
        purpose: Purpose,
        /// The phase.
        to: Phase,
        /// The request it answers.
        request: String,
    },
    /// The Secret of a member.
    Member {
        /// The member.
        member: String,
        /// What it may be given.
        grants: Vec<Grant>,
    },
    /// The Secret for clients.
    Clients {
        /// What it may be given.
        grant: Grant,
        /// Where clients are to go.
        endpoints: String,
    },
}

/// A call of a member's gRPC services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdCall {
    /// Add a member as learner. The reply names its ID.
    AddLearner {
        /// The member.
        member: String,
        /// Its peer URL.
        peer_url: String,
    },
    /// Make a learner a voter.
    Promote {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
    },
    /// Remove a member.
    Remove {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
    },
    /// Name the URL under which a member listens to its peers.
    UpdatePeers {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
        /// The URL.
        peer_url: String,
    },
    /// Move leadership; asked of the member that leads.
    MoveLeader {
        /// Member that leads.
        from: String,
        /// Member that shall lead.
        to: String,
        /// Its ID.
        to_id: u64,
    },
    /// Drop history up to a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
    /// Have a member give back what its store does not use.
    Defragment {
        /// The member.
        member: String,
    },
    /// Disarm the alarm NOSPACE of a member.
    DisarmNoSpace {
        /// ID of the member that raised it.
        id: u64,
    },
}

/// What a call answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// A member of this ID was added.
    Added(u64),
}

/// What is recorded in status before, or because of, an act.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A restore is about to begin.
    Restore(ClusterRestore),
    /// It goes on to another stage.
    RestoreStage {
        /// The stage.
        stage: RestoreStage,
        /// What came of it so far.
        message: String,
    },
    /// A member is about to found the new cluster.
    Founder {
        /// The member.
        member: String,
        /// Its serial, which is spent by this, if it is a new one.
        serial: Option<i64>,
        /// The new cluster's ID.
        cluster_id: u64,
        /// Why it is the one, if it is one of those that are left.
        choice: Option<Choice>,
    },
    /// It is given up.
    FounderGone {
        /// The member.
        member: String,
    },
    /// The new cluster serves, in place of the one before.
    Succeeded {
        /// Its first member.
        member: String,
        /// That member's ID.
        id: u64,
        /// The cluster's ID.
        cluster_id: u64,
        /// Cluster whose backup it was made of, in hex, if that is known.
        source: Option<String>,
        /// Claims of the members before.
        volumes: Vec<String>,
        /// Revision it begins with.
        revision: i64,
        /// Revision of the survivor it was made of, before it was raised.
        restored: Option<i64>,
        /// When.
        at: Timestamp,
    },
    /// A member of that serial is about to be made; the serial is spent.
    Serial {
        /// The member.
        member: String,
        /// Its serial.
        serial: i64,
    },
    /// A cluster that was found is this one.
    Adopted {
        /// Its ID.
        cluster_id: u64,
        /// Its members, with their IDs.
        members: Vec<(String, u64)>,
    },
    /// Who bootstraps.
    Bootstrap(Bootstrap),
    /// These are members no more, and will not be.
    Removed {
        /// The members.
        members: Vec<String>,
    },
    /// A member is about to be removed.
    Leaving {
        /// The member.
        member: String,
        /// Why.
        departure: Departure,
    },
    /// Nothing is left of a member.
    Forgotten {
        /// The member.
        member: String,
    },
    /// A ticket is about to be handed out.
    Ticket {
        /// The member.
        member: String,
        /// The ticket.
        ticket: Ticket,
    },
    /// How clients and members talk from now on.
    Transport(TlsStatus),
    /// A ticket was not handed out, for certain.
    TicketReturned {
        /// The member.
        member: String,
    },
    /// Volumes are about to grow from this size, which their quota still follows.
    VolumeSize {
        /// The size.
        size: String,
    },
    /// The API server refused to let a volume grow.
    ResizeRefused(RefusedResize),
    /// How far history will be compacted; `None`: not at all.
    History(Option<HistoryMark>),
    /// It was.
    Compacted,
    /// A member is about to be defragmented: one that cannot is not asked again and again.
    Defragmented {
        /// The member.
        member: String,
        /// When.
        at: Timestamp,
    },
    /// A member was added as learner.
    Joined {
        /// The member.
        member: String,
        /// Its ID.
        id: u64,
    },
}

impl Call {
    /// What is to be recorded because of the reply.
    pub fn consequence(&self, reply: Reply) -> Option<Record> {
        match (self, reply) {
            // Should this be lost, the member list names it by its peer URL.
            (Call::Etcd(EtcdCall::AddLearner { member, .. }), Reply::Added(id)) => {
                let member = member.clone();
                Some(Record::Joined { member, id })
            }
            _ => None,
        }
    }

    /// What is to be recorded if the object of the call is gone for certain.
    pub fn otherwise(&self) -> Option<&Record> {
        match self {
            Call::Patch { otherwise, .. } => otherwise.as_ref(),
            _ => None,
        }
    }

    /// What is to be recorded if the API server refuses it for what it asks.
    pub fn refused(&self, at: Timestamp, message: &str) -> Option<Record> {
        let Call::Patch {
            kind: Kind::Claim,
            patch,
            ..
        } = self
        else {
            return None;
        };
        let size = patch.pointer("/spec/resources/requests/storage")?;
        Some(Record::ResizeRefused(RefusedResize {
            size: size.as_str()?.to_owned(),
            at: Time(at),
            message: message.to_owned(),
        }))
    }

    /// What it does, for errors and for traces of the simulation.
    pub fn what(&self) -> String {
        match self {
            Call::Record(record) => format!("records {record:?}"),
            Call::Apply(manifest) => format!("applies {} {}", manifest.kind, manifest.name),
            Call::Patch { kind, name, .. } => format!("patches {kind} {name}"),
            Call::Delete { kind, name, .. } => format!("deletes {kind} {name}"),
            Call::Etcd(EtcdCall::AddLearner { member, .. }) => format!("adds {member}"),
            Call::Etcd(EtcdCall::Promote { member, .. }) => format!("promotes {member}"),
            Call::Etcd(EtcdCall::Remove { member, .. }) => format!("removes {member}"),
            Call::Etcd(EtcdCall::UpdatePeers { member, .. }) => {
                format!("names the peer URL of {member}")
            }
            Call::Certificates(CertificateCall::MakeAuthority { purpose }) => {
                format!("makes the {} CA", purpose.as_str())
            }
            Call::Certificates(CertificateCall::RotateAuthority { purpose, to, .. }) => {
                format!("takes the {} CA to phase {}", purpose.as_str(), to.as_str())
            }
            Call::Certificates(CertificateCall::Member { member, .. }) => {
                format!("certifies {member}")
            }
            Call::Certificates(CertificateCall::Clients { .. }) => "certifies clients".to_owned(),
            Call::Etcd(EtcdCall::MoveLeader { to, .. }) => format!("moves leadership to {to}"),
            Call::Etcd(EtcdCall::Compact { revision }) => format!("compacts up to {revision}"),
            Call::Etcd(EtcdCall::Defragment { member }) => format!("defragments {member}"),
            Call::Etcd(EtcdCall::DisarmNoSpace { .. }) => "disarms NOSPACE".to_owned(),
        }
    }
}

impl Record {
    /// Writes it into `status`.
    pub fn write(&self, status: &mut EtcdClusterStatus) {
        match self {
            Record::Serial { member, serial } => {
                status.next_serial = status.next_serial.max(serial + 1);
                status.member_mut(member);
            }
            Record::Adopted {
                cluster_id,
                members,
            } => {
                status.cluster_id = Some(identity::hex(*cluster_id));
                for (name, id) in members {
                    let member = status.member_mut(name);
                    member.id = Some(identity::hex(*id));
                    member.role = MemberRole::Voter;
                }
            }
            Record::Restore(restore) => status.restore = Some(restore.clone()),
            Record::RestoreStage { stage, message } => {
                if let Some(restore) = &mut status.restore {
                    restore.stage = *stage;
                    restore.message.clone_from(message);
                }
            }
            Record::Founder {
                member,
                serial,
                cluster_id,
                choice,
            } => {
                let next = serial.map_or(0, |serial| serial + 1);
                status.next_serial = status.next_serial.max(next);
                found(status, member, *cluster_id, choice.as_ref());
            }
            Record::FounderGone { member } => {
                if let Some(restore) = &mut status.restore {
                    restore.member = None;
                    restore.cluster_id = None;
                }
                let line = status.member_mut(member);
                line.role = MemberRole::Removed;
                line.departure = Some(Departure::Restored);
            }
            Record::Succeeded {
                member,
                id,
                cluster_id,
                source,
                volumes,
                revision,
                restored,
                at,
            } => {
                let before = ancestor(status, source.as_ref(), volumes, *at);
                status.lineage.extend(before.map(|before| Ancestor {
                    next_revision: Some(*revision),
                    restored_revision: *restored,
                    ..before
                }));
                let more = status.lineage.len().saturating_sub(LINEAGE_MAX);
                status.lineage.drain(..more);
                succeed(status, member, *id, *cluster_id);
            }
            Record::Bootstrap(bootstrap) => status.bootstrap = Some(bootstrap.clone()),
            Record::Removed { members } => {
                for name in members {
                    status.member_mut(name).role = MemberRole::Removed;
                }
            }
            Record::Leaving { member, departure } => {
                status.member_mut(member).departure = Some(*departure);
            }
            Record::Forgotten { member } => status.members.retain(|m| m.name != *member),
            Record::Ticket { member, ticket } => {
                let line = status.member_mut(member);
                line.id = Some(ticket.member_id.clone());
                line.ticket = Some(ticket.clone());
            }
            Record::VolumeSize { size } => status.volume_size = Some(size.clone()),
            Record::ResizeRefused(refused) => status.refused_resize = Some(refused.clone()),
            Record::History(mark) => status.history = mark.clone(),
            Record::Compacted => {
                if let Some(mark) = &mut status.history {
                    mark.compacted = true;
                }
            }
            Record::Defragmented { member, at } => {
                status.member_mut(member).defragmented_at = Some(Time(*at));
            }
            Record::Transport(tls) => status.tls = Some(tls.clone()),
            Record::TicketReturned { member } => status.member_mut(member).ticket = None,
            Record::Joined { member, id } => {
                let line = status.member_mut(member);
                line.id = Some(identity::hex(*id));
                line.role = MemberRole::Learner;
            }
        }
    }
}

/// A member founds the new cluster; what it was to the one before is over.
fn found(status: &mut EtcdClusterStatus, member: &str, cluster_id: u64, choice: Option<&Choice>) {
    let Some(restore) = &mut status.restore else {
        return;
    };
    restore.attempt += 1;
    restore.stage = RestoreStage::Founding;
    restore.member = Some(member.to_owned());
    restore.cluster_id = Some(identity::hex(cluster_id));
    if let Some(choice) = choice {
        restore.message.clone_from(&choice.message);
        restore.lost_revisions = choice.lost_revisions;
        restore.bump_revision = Some(choice.bump_revision);
    }
    let line = status.member_mut(member);
    line.ticket = None;
    line.id = None;
}

/// What a new cluster came from: the one it replaces, or the one whose backup it began
/// with.
fn ancestor(
    status: &EtcdClusterStatus,
    source: Option<&String>,
    volumes: &[String],
    at: Timestamp,
) -> Option<Ancestor> {
    let restore = status.restore.as_ref()?;
    Some(Ancestor {
        cluster_id: status.cluster_id.as_ref().or(source)?.clone(),
        until: Time(at),
        last_revision: restore.last_revision,
        next_revision: None,
        restored_revision: None,
        lost_revisions: restore.lost_revisions,
        restore: restore.id.clone(),
        volumes: volumes.to_vec(),
    })
}

/// The new cluster takes the place of the one before.
fn succeed(status: &mut EtcdClusterStatus, member: &str, id: u64, cluster_id: u64) {
    let Some(restore) = &mut status.restore else {
        return;
    };
    restore.stage = RestoreStage::Done;
    let replaced = restore.members.clone();
    status.cluster_id = Some(identity::hex(cluster_id));
    status.bootstrap = None;
    status.last_leader = None;
    status.history = None;
    for name in replaced.iter().filter(|name| *name != member) {
        let line = status.member_mut(name);
        line.role = MemberRole::Removed;
        line.departure = Some(Departure::Restored);
    }
    let line = status.member_mut(member);
    line.id = Some(identity::hex(id));
    line.role = MemberRole::Voter;
}

impl Kind {
    /// Its API.
    pub fn resource(self) -> ApiResource {
        use k8s_openapi::api::{
            apps::v1::{Deployment, StatefulSet},
            batch::v1::Job,
            core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
            policy::v1::PodDisruptionBudget,
        };
        match self {
            Kind::Secret => ApiResource::erase::<Secret>(&()),
            Kind::Certificate => {
                let gvk = GroupVersionKind::gvk(render::CERT_MANAGER, "v1", "Certificate");
                ApiResource::from_gvk(&gvk)
            }
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::DisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Kind::Pod => ApiResource::erase::<Pod>(&()),
            Kind::Claim => ApiResource::erase::<PersistentVolumeClaim>(&()),
            Kind::Job => ApiResource::erase::<Job>(&()),
            Kind::Deployment => ApiResource::erase::<Deployment>(&()),
            Kind::Backup => ApiResource::erase::<EtcdBackup>(&()),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Service => "Service",
            Kind::DisruptionBudget => "PodDisruptionBudget",
            Kind::StatefulSet => "StatefulSet",
            Kind::Pod => "Pod",
            Kind::Claim => "PersistentVolumeClaim",
            Kind::Secret => "Secret",
            Kind::Certificate => "Certificate",
            Kind::Job => "Job",
            Kind::Deployment => "Deployment",
            Kind::Backup => "EtcdBackup",
        })
    }
}

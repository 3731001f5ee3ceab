//! The world as plain data: what the API server holds of a cluster and what its
//! members say. Everything after this folder works on [`Observed`] alone.

mod artifacts;
mod cache;
mod certificates;
mod damage;
mod dial;
mod listeners;
mod members;
mod objects;
mod probe;
mod trim;

pub(crate) use artifacts::{ArtifactCaches, Trimmed};
pub use cache::{Cache, Filler, cache, cache_by};
#[cfg(test)]
pub(crate) use certificates::facts_of;
pub use certificates::{CertificatesSeen, ClientsSeen, LeafSeen, OfferSeen, Problem, RequestSeen};
pub(crate) use certificates::{
    Offer, Sought, Texts, clients_offer, leaf, needs, offer, origins, previous, read_authority,
    texts,
};
pub use dial::{Greeting, Identity};
#[cfg(test)]
pub(crate) use objects::assemble;
pub use objects::{Caches, ObserveError, Source};
pub(crate) use objects::{managed, trouble};
pub use probe::{Probe, ProbeError};
pub use trim::Trim;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use certificates::Keyring;
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, policy::v1::PodDisruptionBudget};

use crate::{
    admission::Report,
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdRestore},
    certificates::Purpose,
};

/// Everything known of one cluster at one time.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The headless Service.
    pub peer_service: Option<Service>,
    /// The Service clients use.
    pub client_service: Option<Service>,
    /// The PodDisruptionBudget.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// Objects of each member, by member name.
    pub members: BTreeMap<String, MemberObjects>,
    /// Claims whose members have left; never mounted again.
    pub retired_claims: Vec<String>,
    /// Objects in the way: they bear our names and labels, but belong to a former
    /// `EtcdCluster` of this name.
    pub foreign: Vec<String>,
    /// etcd's member list by a linearizable read; `None` without a quorum.
    pub membership: Option<Membership>,
    /// Certificates, as far as they concern this cluster.
    pub certificates: Arc<CertificatesSeen>,
    /// Its backups.
    pub backups: Vec<Arc<EtcdBackup>>,
    /// Its schedules of backups.
    pub schedules: Vec<Arc<EtcdBackupSchedule>>,
    /// Its restores.
    pub restores: Vec<Arc<EtcdRestore>>,
    /// Nodes that members were on and that bear the taint out-of-service: they are off,
    /// for ever. Only looked for while no quorum answers.
    pub out_of_service: BTreeSet<String>,
    /// The backup it is to begin with, if it names one and it is there.
    pub begins_with: Option<Arc<EtcdBackup>>,
}

/// What there is of one member in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberObjects {
    /// Its StatefulSet.
    pub stateful_set: Option<StatefulSetSeen>,
    /// Its pod.
    pub pod: Option<PodSeen>,
    /// Its claim.
    pub claim: Option<ClaimSeen>,
}

/// A StatefulSet of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatefulSetSeen {
    /// Its UID.
    pub uid: String,
    /// `spec.replicas`, 0 or 1.
    pub replicas: i32,
    /// Digest of its pod template, as rendered.
    pub template: String,
    /// Digest of the part of the spec it was rendered from.
    pub pod_spec: String,
    /// Whether its template bears the label of a voter.
    pub voter: bool,
    /// What its pods are there for in a restore.
    pub start: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A pod of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSeen {
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion, a precondition of acts on it.
    pub resource_version: String,
    /// Its IP address, once it has one.
    pub ip: Option<String>,
    /// Node it is on, once it has one.
    pub node: Option<String>,
    /// What it is there for in a restore.
    pub start: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Digest of the template it was made from.
    pub template: String,
    /// Image of its etcd.
    pub image: String,
    /// Whether it bears the label of a voter.
    pub voter: bool,
    /// Whether it bears a ticket.
    pub ticketed: bool,
    /// Whether the kubelet calls it ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Why it does not run, if Kubernetes says so: `Unschedulable: ...`, `ErrImagePull: ...`.
    pub trouble: Option<String>,
    /// What its etcd said when it ended, the last of several times, if that names
    /// damaged files.
    pub damage: Option<String>,
    /// Cluster whose backup its data directory was made of, in hex, by its init container.
    pub made_of: Option<String>,
    /// What `admit` says, while it waits.
    pub report: Option<Report>,
    /// What etcd says, while it runs.
    pub etcd: Option<EtcdSeen>,
    /// What it listens with, as its template says.
    pub schemes: Schemes,
    /// Fingerprints of the certificates its listeners show.
    pub served: BTreeMap<Purpose, String>,
    /// Whether its listeners take a certificate of the CA with that fingerprint.
    pub accepts: BTreeMap<(Purpose, String), bool>,
}

/// Schemes of a pod's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemes {
    /// Whether clients may speak TLS.
    pub client_tls: bool,
    /// Whether clients may speak in plain.
    pub client_plain: bool,
    /// Whether members speak TLS to it; else in plain.
    pub peer_tls: bool,
}

impl Default for Schemes {
    fn default() -> Self {
        Schemes {
            client_tls: false,
            client_plain: true,
            peer_tls: false,
        }
    }
}

impl Schemes {
    /// Reads the annotation of a pod's template.
    pub fn parse(text: &str) -> Schemes {
        let is = |part: &str| text.split(',').any(|found| found == part);
        let both = is("client=both");
        Schemes {
            client_tls: both || is("client=https"),
            client_plain: both || !is("client=https"),
            peer_tls: is("peer=https"),
        }
    }
}

/// A claim of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimSeen {
    /// Its UID.
    pub uid: String,
    /// Cluster ID its data belongs to; `None`: blank.
    pub cluster_id: Option<u64>,
    /// Member ID its data belongs to.
    pub member_id: Option<u64>,
    /// What it asks for, as written.
    pub size: String,
    /// How large its volume is, as the claim's status says; `None` until it is bound.
    pub capacity: Option<String>,
    /// Its StorageClass.
    pub class: Option<String>,
    /// What Kubernetes says of its growth: `Resizing`, `FileSystemResizePending`, ...
    /// with the message, if it is being grown.
    pub resizing: Option<String>,
    /// Since when its volume is larger and its file system grows only when a pod
    /// mounts it anew, as `FileSystemResizePending` says.
    pub remount_since: Option<Timestamp>,
    /// Whether the cluster owns it, so that it goes when the cluster goes.
    pub owned: bool,
    /// Whether its member's log names peers by https URLs.
    pub secure_peers: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What a running etcd says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EtcdSeen {
    /// Its member ID.
    pub member_id: u64,
    /// Its cluster ID.
    pub cluster_id: u64,
    /// Its version.
    pub version: String,
    /// Member ID of the leader it knows; 0 for none.
    pub leader: u64,
    /// Whether it is a learner.
    pub learner: bool,
    /// Its Raft term.
    pub raft_term: u64,
    /// Index of its last log entry.
    pub raft_index: u64,
    /// Index of the last entry it applied.
    pub raft_applied: u64,
    /// Whether it answers its own health check: readiness for a voter, liveness
    /// for a learner.
    pub serving: bool,
    /// Alarms and errors it names.
    pub errors: Vec<String>,
    /// Kinds of the alarms that are raised, wherever in the cluster: `NOSPACE`, `CORRUPT`.
    pub alarms: Vec<RaisedAlarm>,
    /// Newest revision of its store.
    pub revision: i64,
    /// Bytes its store takes.
    pub db_size: i64,
    /// Bytes of them that are in use.
    pub db_size_in_use: i64,
    /// Its quota in bytes; 0 if it does not say.
    pub quota: i64,
}

/// An alarm that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedAlarm {
    /// Member that raised it.
    pub member_id: u64,
    /// Its kind, as etcd writes it.
    pub kind: String,
}

/// etcd's own view of who belongs to the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// The cluster ID.
    pub cluster_id: u64,
    /// The members.
    pub members: Vec<EtcdMember>,
}

/// A line of etcd's member list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EtcdMember {
    /// Member ID.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// Whether it is a learner.
    pub learner: bool,
}

/// Reads the world around one cluster.
#[derive(Clone)]
pub struct Observer {
    caches: Caches,
    artifacts: ArtifactCaches,
    probe: Probe,
    keyring: Keyring,
}

impl Observer {
    /// An observer over these caches, which looks that often at Secrets that others
    /// renew.
    pub(crate) fn new(
        caches: Caches,
        artifacts: ArtifactCaches,
        probe: Probe,
        secrets_interval: Duration,
    ) -> Self {
        Observer {
            caches,
            artifacts,
            probe,
            keyring: Keyring::new(secrets_interval),
        }
    }

    /// Looks at everything that belongs to `cluster`. [`Source::Live`] asks the API
    /// server; both ask the members.
    pub async fn observe(
        &self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> Result<Observed, ObserveError> {
        let mut observed = self.caches.read(cluster, source).await?;
        self.artifacts_of(cluster, source, &mut observed).await?;
        let (seen, access) = self
            .keyring
            .read(&self.caches.client, cluster, &observed, source)
            .await?;
        observed.certificates = seen;
        listeners::greet(&self.probe, cluster, &mut observed, &access).await;
        listeners::introduce(&self.probe, cluster, &observed, &access);
        members::ask(&self.probe, &mut observed, source).await;
        listeners::note(&self.probe, &mut observed);
        self.nodes_off(cluster, &mut observed).await;
        Ok(observed)
    }

    /// Forgets a cluster that is gone, and the keys to it.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.keyring.forget(namespace, name);
    }

    /// The way to the members.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }
}

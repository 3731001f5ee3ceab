//! The only writer. Carries out one step; every call is safe to repeat.
//!
//! What must be remembered is recorded in status before the act it speaks of, with
//! the resourceVersion it was read at, so of two operators only one gets through.
//! Deletions and patches of single objects carry the UID they were decided for.

use std::fmt::Debug;

use etcd_proto::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest,
    cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod, Service},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::{
    admission::TicketPaper,
    api::{
        ANNOTATION_RETIRED, ANNOTATION_TICKET, EtcdCluster, EtcdClusterStatus, LABEL_CLUSTER,
        LABEL_ROLE, MANAGED_BY, MemberRole, ROLE_VOTER, RetentionPolicy, Ticket,
    },
    identity,
    observe::{Observed, Probe, ProbeError},
    plan::{Member, Roster, Step},
    render::{self, Settings},
};

/// Field manager of specs.
const MANAGER: &str = MANAGED_BY;
/// Field manager of `EtcdCluster.status`.
const STATUS_MANAGER: &str = "etcd-operator-status";

/// Why a step was not carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused or did not answer.
    #[error("{what}: {source}")]
    Kube {
        /// What was attempted.
        what: String,
        /// How it failed.
        source: Box<kube::Error>,
    },
    /// An object of that name exists and is not ours.
    #[error("{0} exists and does not belong to this EtcdCluster; rename or delete it")]
    NameTaken(String),
    /// A member refused or did not answer.
    #[error("{what}: {source}")]
    Etcd {
        /// What was attempted.
        what: String,
        /// How it failed.
        source: ProbeError,
    },
    /// The step cannot be done yet; the world has to catch up.
    #[error("{0}")]
    NotYet(String),
}

impl ApplyError {
    /// Whether it is only a matter of looking again.
    pub fn is_transient(&self) -> bool {
        match self {
            ApplyError::NotYet(_) => true,
            ApplyError::Kube { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if status.is_conflict())
            }
            ApplyError::NameTaken(_) | ApplyError::Etcd { .. } => false,
        }
    }
}

fn kube_error(what: impl Into<String>) -> impl FnOnce(kube::Error) -> ApplyError {
    let what = what.into();
    move |source| ApplyError::Kube {
        what,
        source: Box::new(source),
    }
}

/// Writes to the API server and to members.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    probe: Probe,
    settings: Settings,
}

impl Applier {
    /// A writer with the operator's settings.
    pub fn new(client: Client, probe: Probe, settings: Settings) -> Self {
        Applier {
            client,
            probe,
            settings,
        }
    }

    /// Carries out `step` for `cluster`, which was read live, as `observed` was.
    /// `cluster` is brought up to date when status is recorded on the way.
    pub async fn apply(
        &self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        step: &Step,
    ) -> Result<(), ApplyError> {
        match step {
            Step::None => Ok(()),
            Step::ApplyShared => self.apply_shared(cluster, observed).await,
            Step::Adopt {
                cluster_id,
                members,
            } => {
                self.record(cluster, |status| {
                    status.cluster_id = Some(identity::hex(*cluster_id));
                    for (name, id) in members {
                        let member = status.member_mut(name);
                        member.id = Some(identity::hex(*id));
                        member.role = MemberRole::Voter;
                    }
                })
                .await
            }
            Step::CreateMember { member, serial } => {
                self.record(cluster, |status| {
                    status.next_serial = status.next_serial.max(serial + 1);
                    status.member_mut(member);
                })
                .await?;
                self.make_member(cluster, observed, member).await
            }
            Step::EnsureMember { member } => self.make_member(cluster, observed, member).await,
            Step::BeginBootstrap { bootstrap } => {
                self.record(cluster, |status| status.bootstrap = Some(bootstrap.clone()))
                    .await
            }
            Step::AbandonBootstrap { members } => {
                self.record(cluster, |status| {
                    for name in members {
                        status.member_mut(name).role = MemberRole::Removed;
                    }
                })
                .await
            }
            Step::DiscardCandidate { member } => {
                self.record(cluster, |status| {
                    status.member_mut(member).role = MemberRole::Removed
                })
                .await
            }
            Step::ForgetMember { member } => {
                self.record(cluster, |status| {
                    status.members.retain(|m| m.name != *member)
                })
                .await
            }
            Step::IssueTicket { member, ticket } => {
                self.issue_ticket(cluster, observed, member, ticket).await
            }
            Step::AddMember { member, peer_url } => {
                self.add_member(cluster, observed, member, peer_url).await
            }
            Step::PromoteMember { member, id } => {
                let request = MemberPromoteRequest { id: *id };
                let mut etcd = ClusterClient::new(self.any_voter(cluster, observed).await?);
                match etcd.member_promote(request).await {
                    Ok(_) => Ok(()),
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        Err(ApplyError::NotYet(format!(
                            "{member} has not caught up yet: {}",
                            status.message()
                        )))
                    }
                    Err(status) => Err(refused(format!("promotes {member}"), status)),
                }
            }
            Step::RemoveMember { member, id } => {
                let request = MemberRemoveRequest { id: *id };
                let mut etcd = ClusterClient::new(self.any_voter(cluster, observed).await?);
                match etcd.member_remove(request).await {
                    Ok(_) => Ok(()),
                    Err(status) if status.code() == Code::NotFound => Ok(()),
                    Err(status) => Err(refused(format!("removes {member}"), status)),
                }
            }
            Step::MoveLeader { from, to, to_id } => {
                let roster = Roster::new(cluster, observed);
                let ip = roster.get(from).and_then(address).ok_or_else(|| {
                    ApplyError::NotYet(format!("the pod of {from} has no address"))
                })?;
                let mut etcd = MaintenanceClient::new(self.connect(ip).await?);
                let request = MoveLeaderRequest { target_id: *to_id };
                let moved = etcd.move_leader(request).await;
                moved
                    .map(|_| ())
                    .map_err(|s| refused(format!("moves leadership to {to}"), s))
            }
            Step::DeleteStatefulSet { member, uid } => {
                self.delete::<StatefulSet>(cluster, member, uid, None).await
            }
            Step::ReleaseClaim {
                member,
                uid,
                policy,
                why,
            } => {
                let name = identity::claim_name(member);
                match policy {
                    RetentionPolicy::Delete => {
                        self.delete::<PersistentVolumeClaim>(cluster, &name, uid, None)
                            .await
                    }
                    RetentionPolicy::Retain => {
                        let patch = json!({"metadata": {"uid": uid, "annotations": {ANNOTATION_RETIRED: why}}});
                        self.merge::<PersistentVolumeClaim>(cluster, &name, &patch)
                            .await
                    }
                }
            }
            Step::TagMember { member } => self.tag_member(cluster, observed, member).await,
            Step::GrowClaim { member, size } => {
                let uid = observed
                    .members
                    .get(member)
                    .and_then(|objects| objects.claim.as_ref())
                    .map(|claim| claim.uid.clone());
                let patch = json!({
                    "metadata": {"uid": uid},
                    "spec": {"resources": {"requests": {"storage": size}}},
                });
                let name = identity::claim_name(member);
                self.merge::<PersistentVolumeClaim>(cluster, &name, &patch)
                    .await
            }
            Step::SetReplicas {
                members,
                replicas: 0,
            } => {
                for member in members {
                    let patch = json!({"spec": {"replicas": 0}});
                    self.merge::<StatefulSet>(cluster, member, &patch).await?;
                }
                Ok(())
            }
            Step::SetReplicas { members, .. } => {
                // Waking is a planned restart: it takes the newest template.
                for member in members {
                    self.apply_stateful_set(cluster, observed, member).await?;
                }
                Ok(())
            }
            Step::UpdateMember { member } => {
                self.apply_stateful_set(cluster, observed, member).await
            }
            Step::RestartPod {
                member,
                pod_uid,
                resource_version,
            } => {
                let name = identity::pod_name(member);
                self.delete::<Pod>(cluster, &name, pod_uid, Some(resource_version))
                    .await
            }
        }
    }

    /// Writes `status`, if `cluster` still is what it was when it was read.
    pub async fn write_status(
        &self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> Result<(), ApplyError> {
        if cluster.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<EtcdCluster> = self.api(cluster);
        let patch = json!({
            "apiVersion": EtcdCluster::api_version(&()),
            "kind": EtcdCluster::kind(&()),
            "metadata": {"resourceVersion": cluster.resource_version()},
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        *cluster = api
            .patch_status(&cluster.name_any(), &params, &Patch::Apply(patch))
            .await
            .map_err(kube_error("writes status"))?;
        Ok(())
    }

    /// Records something in status before it is acted upon.
    async fn record(
        &self,
        cluster: &mut EtcdCluster,
        change: impl FnOnce(&mut EtcdClusterStatus),
    ) -> Result<(), ApplyError> {
        let mut status = cluster.status.clone().unwrap_or_default();
        change(&mut status);
        self.write_status(cluster, status).await
    }

    async fn apply_shared(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
    ) -> Result<(), ApplyError> {
        let voters = Roster::new(cluster, observed).voters().count();
        let wanted = render::Shared::of(cluster, voters);
        let (peer, client) = (
            observed.peer_service.is_some(),
            observed.client_service.is_some(),
        );
        self.ssa::<Service>(cluster, &wanted.peer_service, peer)
            .await?;
        self.ssa::<Service>(cluster, &wanted.client_service, client)
            .await?;
        let budget = observed.disruption_budget.is_some();
        self.ssa::<PodDisruptionBudget>(cluster, &wanted.disruption_budget, budget)
            .await
    }

    /// Makes what a member lacks: a blank claim, never one for a member that has data
    /// on record, and its StatefulSet.
    async fn make_member(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        member: &str,
    ) -> Result<(), ApplyError> {
        let roster = Roster::new(cluster, observed);
        let blank = roster
            .get(member)
            .is_none_or(|m| m.id.is_none() && !m.has_ticket());
        let has_claim = observed
            .members
            .get(member)
            .is_some_and(|m| m.claim.is_some());
        if let Some(spec) = cluster.spec.storage.persistent_volume_claim.as_ref()
            && !has_claim
            && blank
        {
            let claim = render::claim(cluster, member, spec, None);
            self.ssa::<PersistentVolumeClaim>(cluster, &claim, false)
                .await?;
        }
        self.apply_stateful_set(cluster, observed, member).await
    }

    async fn apply_stateful_set(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        member: &str,
    ) -> Result<(), ApplyError> {
        let roster = Roster::new(cluster, observed);
        let known = roster.get(member);
        let voter = known.is_some_and(Member::is_voter);
        // A cluster that is formed and to sleep has no pods; one that forms needs them.
        let asleep = roster.formed() && cluster.spec.replicas == 0;
        let set = render::stateful_set(cluster, member, &self.settings, i32::from(!asleep), voter);
        let seen = known.is_some_and(|known| known.objects.stateful_set.is_some());
        self.ssa::<StatefulSet>(cluster, &set, seen).await
    }

    /// Status first, then the pod, then the claim. A pod that is gone for certain
    /// never had the ticket, so it is taken back.
    async fn issue_ticket(
        &self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        member: &str,
        paper: &TicketPaper,
    ) -> Result<(), ApplyError> {
        let ticket = Ticket {
            kind: paper.kind,
            pod_uid: paper.pod_uid.clone(),
            member_id: paper.member_id.clone(),
        };
        let line = cluster
            .status
            .as_ref()
            .and_then(|status| status.members.iter().find(|line| line.name == member));
        let before = line.and_then(|line| line.ticket.clone());
        match &before {
            Some(before) if *before != ticket => {
                return Err(ApplyError::NotYet(format!(
                    "{member} already has a ticket, made out to pod {}",
                    before.pod_uid
                )));
            }
            Some(_) => {}
            None => {
                self.record(cluster, |status| {
                    let line = status.member_mut(member);
                    line.id = Some(ticket.member_id.clone());
                    line.ticket = Some(ticket.clone());
                })
                .await?;
            }
        }
        let text = serde_json::to_string(paper).expect("a ticket is JSON");
        let patch = json!({
            "metadata": {"uid": paper.pod_uid, "annotations": {ANNOTATION_TICKET: text}},
        });
        match self
            .merge::<Pod>(cluster, &identity::pod_name(member), &patch)
            .await
        {
            Ok(()) => {}
            Err(ApplyError::Kube { source, .. }) if before.is_none() && never_reached(&source) => {
                self.record(cluster, |status| status.member_mut(member).ticket = None)
                    .await?;
                return Err(ApplyError::NotYet(format!(
                    "the pod of {member} was replaced before it had its ticket"
                )));
            }
            Err(error) => return Err(error),
        }
        self.annotate_claim(
            cluster,
            observed,
            member,
            &paper.cluster_id,
            &paper.member_id,
        )
        .await
    }

    async fn annotate_claim(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        member: &str,
        cluster_id: &str,
        member_id: &str,
    ) -> Result<(), ApplyError> {
        let spec = cluster.spec.storage.persistent_volume_claim.clone();
        let seen = observed
            .members
            .get(member)
            .and_then(|objects| objects.claim.as_ref());
        let ids = identity::parse_hex(cluster_id).zip(identity::parse_hex(member_id));
        let (Some(mut spec), Some(seen)) = (spec, seen) else {
            return Ok(());
        };
        spec.size = seen.size.clone(); // growing is a step of its own
        let claim = render::claim(cluster, member, &spec, ids);
        self.ssa::<PersistentVolumeClaim>(cluster, &claim, true)
            .await
    }

    async fn tag_member(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        member: &str,
    ) -> Result<(), ApplyError> {
        let roster = Roster::new(cluster, observed);
        let Some(known) = roster.get(member) else {
            return Ok(());
        };
        let role = known.is_voter().then_some(ROLE_VOTER);
        if known.etcd.is_some() {
            if let Some(set) = &known.objects.stateful_set {
                let patch = json!({
                    "metadata": {"uid": set.uid},
                    "spec": {"template": {"metadata": {"labels": {LABEL_ROLE: role}}}},
                });
                self.merge::<StatefulSet>(cluster, member, &patch).await?;
            }
            if let Some(pod) = known.pod() {
                let patch = json!({"metadata": {"uid": pod.uid, "labels": {LABEL_ROLE: role}}});
                self.merge::<Pod>(cluster, &identity::pod_name(member), &patch)
                    .await?;
            }
        }
        let Some(claim) = &known.objects.claim else {
            return Ok(());
        };
        let serving = known.is_serving();
        let cluster_id = if serving {
            roster.cluster_id
        } else {
            claim.cluster_id
        };
        let member_id = if serving { known.id } else { claim.member_id };
        let hex = |id: Option<u64>| id.map(identity::hex).unwrap_or_default();
        self.annotate_claim(cluster, observed, member, &hex(cluster_id), &hex(member_id))
            .await
    }

    async fn add_member(
        &self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        member: &str,
        peer_url: &str,
    ) -> Result<(), ApplyError> {
        let request = MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let mut etcd = ClusterClient::new(self.any_voter(cluster, observed).await?);
        let added = match etcd.member_add(request).await {
            Ok(added) => added.into_inner(),
            // etcd wants to have seen every member for some seconds first.
            Err(status) if status.code() == Code::Unavailable => {
                let why = format!("{member} cannot be added yet: {}", status.message());
                return Err(ApplyError::NotYet(why));
            }
            Err(status) => return Err(refused(format!("adds {member}"), status)),
        };
        let Some(id) = added.member.map(|line| line.id) else {
            return Err(ApplyError::NotYet(format!("etcd named no ID for {member}")));
        };
        // Should this be lost, the member list names it by its peer URL.
        self.record(cluster, |status| {
            let line = status.member_mut(member);
            line.id = Some(identity::hex(id));
            line.role = MemberRole::Learner;
        })
        .await
    }

    /// A connection to a voter that serves, the leader if it can be.
    async fn any_voter(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
    ) -> Result<Channel, ApplyError> {
        let roster = Roster::new(cluster, observed);
        let leader = roster.leader().filter(|leader| leader.is_serving());
        let voter = leader.or_else(|| roster.voters().find(|voter| voter.is_serving()));
        match voter.and_then(address) {
            Some(ip) => self.connect(ip).await,
            None => Err(ApplyError::NotYet("no voter serves".to_owned())),
        }
    }

    async fn connect(&self, ip: &str) -> Result<Channel, ApplyError> {
        self.probe
            .channel(ip)
            .await
            .map_err(|source| ApplyError::Etcd {
                what: format!("connects to {ip}"),
                source,
            })
    }

    fn api<K>(&self, cluster: &EtcdCluster) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(
            self.client.clone(),
            &cluster.namespace().unwrap_or_default(),
        )
    }

    /// Server-side apply of a whole object. One that was not `seen` among ours is
    /// looked up first: an object of that name that is someone else's is left alone.
    async fn ssa<K>(&self, cluster: &EtcdCluster, object: &K, seen: bool) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = self.api(cluster);
        let name = object.name_any();
        let kind = K::kind(&()).into_owned();
        if !seen {
            let live = api.get_metadata_opt(&name).await;
            let live = live.map_err(kube_error(format!("looks up {kind} {name}")))?;
            if live.is_some_and(|live| !is_ours(cluster, live.labels(), live.owner_references())) {
                return Err(ApplyError::NameTaken(format!("{kind} {name}")));
            }
        }
        let mut body = serde_json::to_value(object).expect("manifests are JSON");
        body["apiVersion"] = K::api_version(&()).into();
        body["kind"] = kind.clone().into();
        api.patch(
            &name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&body),
        )
        .await
        .map(|_| ())
        .map_err(kube_error(format!("applies {kind} {name}")))
    }

    async fn merge<K>(
        &self,
        cluster: &EtcdCluster,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = self.api(cluster);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(kube_error(format!("patches {} {name}", K::kind(&()))))
    }

    /// Deletes one object, if it still is the one that was looked at.
    async fn delete<K>(
        &self,
        cluster: &EtcdCluster,
        name: &str,
        uid: &str,
        resource_version: Option<&str>,
    ) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = self.api(cluster);
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: resource_version.map(str::to_owned),
        });
        match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(kube_error(format!("deletes {} {name}", K::kind(&())))(
                error,
            )),
        }
    }
}

fn is_ours(
    cluster: &EtcdCluster,
    labels: &std::collections::BTreeMap<String, String>,
    owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
) -> bool {
    let uid = cluster.metadata.uid.as_deref();
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) => Some(owner.uid.as_str()) == uid,
        None => labels.get(LABEL_CLUSTER) == cluster.metadata.name.as_ref(),
    }
}

fn address<'a>(member: &Member<'a>) -> Option<&'a str> {
    member.pod()?.ip.as_deref()
}

fn refused(what: String, status: tonic::Status) -> ApplyError {
    ApplyError::Etcd {
        what,
        source: ProbeError::Status(status),
    }
}

/// Whether the API server said that the very pod is not there, so that a patch made
/// out to it cannot have been applied.
fn never_reached(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
}

//! The only writer: makes the calls a step consists of (`plan/calls.rs`), each safe to
//! repeat.
//!
//! What must be remembered is recorded in status before the act it speaks of, with
//! the resourceVersion it was read at, so of two operators only one gets through.
//! Deletions and patches of single objects carry the UID they were decided for.

use std::fmt::Debug;

use etcd_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, MemberAddRequest,
    MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest,
    alarm_request::AlarmAction, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tonic::{Code, transport::Channel};

mod certificates;
pub(crate) mod certify;

use crate::{
    api::{EtcdCluster, EtcdClusterStatus, LABEL_CLUSTER, MANAGED_BY},
    certificates::IssueError,
    observe::{Observed, Probe, ProbeError},
    plan::{Call, EtcdCall, Kind, Manifest, Member, Reply, Roster},
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
    /// A certificate could not be made.
    #[error("{0}: {1}")]
    Certificate(String, #[source] IssueError),
    /// The step cannot be done yet; the world has to catch up.
    #[error("{0}")]
    NotYet(String),
}

impl ApplyError {
    /// Whether the API server refused what was asked, and will refuse it again: it is
    /// not allowed, or makes no sense to it.
    pub fn is_refused(&self) -> bool {
        let ApplyError::Kube { source, .. } = self else {
            return false;
        };
        matches!(&**source, kube::Error::Api(status)
            if status.is_forbidden() || status.is_invalid())
    }

    /// Whether the API server said that the very object of a patch is not there, so
    /// that the patch cannot have been applied.
    pub fn is_gone(&self) -> bool {
        let ApplyError::Kube { source, .. } = self else {
            return false;
        };
        // An object of that name and another UID: a conflict, or `metadata.uid` invalid.
        matches!(&**source, kube::Error::Api(status)
            if status.is_not_found() || status.is_conflict() || names_uid(status))
    }

    /// Whether nothing can be made in the namespace any more, because it is going away.
    pub fn is_terminating(&self) -> bool {
        let ApplyError::Kube { source, .. } = self else {
            return false;
        };
        let kube::Error::Api(status) = &**source else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Whether it is only a matter of looking again.
    pub fn is_transient(&self) -> bool {
        match self {
            ApplyError::NotYet(_) => true,
            // The object is not the one that was looked at any more.
            ApplyError::Kube { source, .. } => {
                matches!(&**source, kube::Error::Api(status)
                    if status.is_conflict() || names_uid(status))
            }
            ApplyError::NameTaken(_) | ApplyError::Etcd { .. } | ApplyError::Certificate(..) => {
                false
            }
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

/// Whether a patch was refused because the object has another UID than it names: a
/// UID cannot be changed, so that is what the API server takes it for.
fn names_uid(status: &kube::core::Status) -> bool {
    status.is_invalid() && status.message.contains("metadata.uid")
}

/// The object that others go with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// Its namespace, and theirs.
    pub(crate) namespace: &'a str,
    /// Its UID.
    pub(crate) uid: Option<&'a str>,
    /// Label and value of those it does not own by a reference.
    pub(crate) label: (&'a str, &'a str),
}

impl<'a> Owner<'a> {
    /// A cluster, whose name is `name`.
    fn cluster(cluster: &'a EtcdCluster, name: &'a str) -> Self {
        Owner {
            namespace: cluster.metadata.namespace.as_deref().unwrap_or_default(),
            uid: cluster.metadata.uid.as_deref(),
            label: (LABEL_CLUSTER, name),
        }
    }
}

/// Writes to the API server and to members.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    probe: Probe,
}

impl Applier {
    /// A writer.
    pub fn new(client: Client, probe: Probe) -> Self {
        Applier { client, probe }
    }

    /// Makes one call for `cluster`, which was read live, as `observed` was. `cluster`
    /// is brought up to date when the call records something in its status.
    pub async fn call(
        &self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        call: &Call,
    ) -> Result<Reply, ApplyError> {
        match call {
            Call::Record(record) => {
                let mut status = cluster.status.clone().unwrap_or_default();
                record.write(&mut status);
                self.write_status(cluster, status).await?;
            }
            Call::Etcd(call) => return self.ask(cluster, observed, call).await,
            Call::Certificates(call) => self.certify(cluster, observed, call).await?,
            Call::Apply(_) | Call::Patch { .. } | Call::Delete { .. } => {
                let name = cluster.name_any();
                self.object(&Owner::cluster(cluster, &name), call).await?;
            }
        }
        Ok(Reply::Done)
    }

    /// Makes a call on an object that goes with `owner`.
    ///
    /// # Errors
    /// The API server refused it, or did not answer.
    pub(crate) async fn object(&self, owner: &Owner<'_>, call: &Call) -> Result<(), ApplyError> {
        match call {
            Call::Apply(manifest) => self.ssa(owner, manifest).await,
            Call::Patch {
                kind, name, patch, ..
            } => self.merge(owner, *kind, name, patch).await,
            Call::Delete {
                kind,
                name,
                uid,
                resource_version,
            } => {
                self.delete(owner, *kind, name, uid, resource_version.as_deref())
                    .await
            }
            Call::Record(_) | Call::Etcd(_) | Call::Certificates(_) => Err(ApplyError::NotYet(
                format!("{} is no call on an object", call.what()),
            )),
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
        self.write_status_of(cluster, &status).await
    }

    /// Writes a status, if `object` still is what it was when it was read, and brings
    /// `object` up to date.
    pub(crate) async fn write_status_of<K, S>(
        &self,
        object: &mut K,
        status: &S,
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
        S: Serialize,
    {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"resourceVersion": object.resource_version()},
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        *object = api
            .patch_status(&object.name_any(), &params, &Patch::Apply(patch))
            .await
            .map_err(kube_error("writes status"))?;
        Ok(())
    }

    async fn ask(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        call: &EtcdCall,
    ) -> Result<Reply, ApplyError> {
        let roster = Roster::new(cluster, observed);
        let what = || Call::Etcd(call.clone()).what();
        match call {
            EtcdCall::AddLearner { member, peer_url } => {
                let request = MemberAddRequest {
                    peer_ur_ls: vec![peer_url.clone()],
                    is_learner: true,
                };
                let mut etcd = ClusterClient::new(self.any_voter(&roster).await?);
                let added = match etcd.member_add(request).await {
                    Ok(added) => added.into_inner(),
                    // etcd wants to have seen every member for some seconds first.
                    Err(status) if status.code() == Code::Unavailable => {
                        let why = format!("{member} cannot be added yet: {}", status.message());
                        return Err(ApplyError::NotYet(why));
                    }
                    Err(status) => return Err(refused(what(), status)),
                };
                let id = added.member.map(|line| line.id);
                id.map(Reply::Added)
                    .ok_or_else(|| ApplyError::NotYet(format!("etcd named no ID for {member}")))
            }
            EtcdCall::Promote { member, id } => {
                let request = MemberPromoteRequest { id: *id };
                let mut etcd = ClusterClient::new(self.any_voter(&roster).await?);
                match etcd.member_promote(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        let why = status.message();
                        Err(ApplyError::NotYet(format!(
                            "{member} has not caught up yet: {why}"
                        )))
                    }
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::Remove { id, .. } => {
                let request = MemberRemoveRequest { id: *id };
                let mut etcd = ClusterClient::new(self.any_voter(&roster).await?);
                match etcd.member_remove(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) if status.code() == Code::NotFound => Ok(Reply::Done),
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::UpdatePeers { id, peer_url, .. } => {
                let request = MemberUpdateRequest {
                    id: *id,
                    peer_ur_ls: vec![peer_url.clone()],
                };
                let mut etcd = ClusterClient::new(self.any_voter(&roster).await?);
                match etcd.member_update(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::MoveLeader { from, to_id, .. } => {
                let ip = roster.get(from).and_then(address).ok_or_else(|| {
                    ApplyError::NotYet(format!("the pod of {from} has no address"))
                })?;
                let mut etcd = MaintenanceClient::new(self.connect(ip).await?);
                let request = MoveLeaderRequest { target_id: *to_id };
                match etcd.move_leader(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::Compact { revision } => {
                let request = CompactionRequest {
                    revision: *revision,
                    physical: false,
                };
                let mut etcd = KvClient::new(self.any_voter(&roster).await?);
                match etcd.compact(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) if status.code() == Code::OutOfRange => Ok(Reply::Done), // someone was faster
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::Defragment { member } => {
                let ip = roster.get(member).and_then(address).ok_or_else(|| {
                    ApplyError::NotYet(format!("the pod of {member} has no address"))
                })?;
                let mut etcd = MaintenanceClient::new(self.connect(ip).await?);
                match etcd.defragment(DefragmentRequest {}).await {
                    Ok(_) => Ok(Reply::Done),
                    // It goes on without us; what comes of it is seen in the figures.
                    Err(status)
                        if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) =>
                    {
                        Ok(Reply::Done)
                    }
                    Err(status) => Err(refused(what(), status)),
                }
            }
            EtcdCall::DisarmNoSpace { id } => {
                let request = AlarmRequest {
                    action: AlarmAction::Deactivate.into(),
                    member_id: *id,
                    alarm: AlarmType::Nospace.into(),
                };
                let mut etcd = MaintenanceClient::new(self.any_voter(&roster).await?);
                match etcd.alarm(request).await {
                    Ok(_) => Ok(Reply::Done),
                    Err(status) => Err(refused(what(), status)),
                }
            }
        }
    }

    /// A connection to a voter that serves, the leader if it can be.
    async fn any_voter(&self, roster: &Roster<'_>) -> Result<Channel, ApplyError> {
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

    fn api(&self, owner: &Owner<'_>, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), owner.namespace, &kind.resource())
    }

    /// Server-side apply of a whole object. One that was not seen among ours is
    /// looked up first: an object of that name that is someone else's is left alone.
    async fn ssa(&self, owner: &Owner<'_>, manifest: &Manifest) -> Result<(), ApplyError> {
        let Manifest {
            kind,
            name,
            body,
            seen,
        } = manifest;
        let api = self.api(owner, *kind);
        if !seen {
            let live = api.get_metadata_opt(name).await;
            let live = live.map_err(kube_error(format!("looks up {kind} {name}")))?;
            if live.is_some_and(|live| !is_ours(owner, live.labels(), live.owner_references())) {
                return Err(ApplyError::NameTaken(format!("{kind} {name}")));
            }
        }
        let params = PatchParams::apply(MANAGER).force();
        api.patch(name, &params, &Patch::Apply(body))
            .await
            .map(|_| ())
            .map_err(kube_error(format!("applies {kind} {name}")))
    }

    async fn merge(
        &self,
        owner: &Owner<'_>,
        kind: Kind,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), ApplyError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.api(owner, kind)
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(kube_error(format!("patches {kind} {name}")))
    }

    /// Deletes one object, if it still is the one that was looked at.
    async fn delete(
        &self,
        owner: &Owner<'_>,
        kind: Kind,
        name: &str,
        uid: &str,
        resource_version: Option<&str>,
    ) -> Result<(), ApplyError> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: resource_version.map(str::to_owned),
        });
        match self.api(owner, kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(kube_error(format!("deletes {kind} {name}"))(error)),
        }
    }
}

fn is_ours(
    owner: &Owner<'_>,
    labels: &std::collections::BTreeMap<String, String>,
    owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
) -> bool {
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        Some(of) => Some(of.uid.as_str()) == owner.uid,
        None => labels.get(owner.label.0).map(String::as_str) == Some(owner.label.1),
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

//! Reads a cluster's objects, from watched caches or from the API server itself.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    api::{
        ANNOTATION_CLUSTER_ID, ANNOTATION_MEMBER_ID, ANNOTATION_PEER_SCHEME, ANNOTATION_RETIRED,
        ANNOTATION_SCHEMES, ANNOTATION_SPEC, ANNOTATION_START, ANNOTATION_TEMPLATE,
        ANNOTATION_TICKET, EtcdCluster, LABEL_CLUSTER, LABEL_MANAGED_BY, LABEL_MEMBER, LABEL_ROLE,
        MANAGED_BY, ROLE_VOTER,
    },
    backup::run::Answer,
    identity,
};

use super::{Cache, ClaimSeen, Observed, PodSeen, Schemes, StatefulSetSeen, damage::damage};

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The watched caches: cheap, and possibly behind.
    Cache,
    /// The API server, before anything is changed.
    Live,
}

/// Why the world could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server did not answer, or refused.
    #[error("cannot list {kind}: {source}")]
    List {
        /// Kind of the objects.
        kind: &'static str,
        /// How it failed.
        source: Box<kube::Error>,
    },
    /// One object could not be read.
    #[error("cannot read {what}: {source}")]
    Get {
        /// What was read.
        what: String,
        /// How it failed.
        source: Box<kube::Error>,
    },
    /// The watches have ended: the operator is stopping.
    #[error("the watches have ended")]
    Stopped,
}

/// The caches of everything the operator makes, and the client behind them.
#[derive(Clone)]
pub struct Caches {
    /// For live reads.
    pub client: Client,
    /// StatefulSets.
    pub stateful_sets: Cache<StatefulSet>,
    /// Pods.
    pub pods: Cache<Pod>,
    /// Claims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Services.
    pub services: Cache<Service>,
    /// PodDisruptionBudgets.
    pub budgets: Cache<PodDisruptionBudget>,
}

/// Label selector of everything the operator makes.
pub(crate) fn managed() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY}")
}

impl Caches {
    /// Waits until every cache has been filled once; an empty cache is no observation.
    async fn filled(&self) -> Result<(), ObserveError> {
        let filled = self.stateful_sets.filled().await
            && self.pods.filled().await
            && self.claims.filled().await
            && self.services.filled().await
            && self.budgets.filled().await;
        if filled {
            Ok(())
        } else {
            Err(ObserveError::Stopped)
        }
    }

    /// Everything of one cluster, without what its members say.
    pub(super) async fn read(
        &self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> Result<Observed, ObserveError> {
        if source == Source::Cache {
            self.filled().await?;
        }
        let reader = Reader {
            client: &self.client,
            cluster,
            source,
        };
        let sets = reader.read("StatefulSets", &self.stateful_sets).await?;
        let pods = reader.read("Pods", &self.pods).await?;
        let claims = reader.read("PersistentVolumeClaims", &self.claims).await?;
        let services = reader.read("Services", &self.services).await?;
        let budgets = reader.read("PodDisruptionBudgets", &self.budgets).await?;
        Ok(assemble(
            cluster, &sets, &pods, &claims, &services, &budgets,
        ))
    }
}

struct Reader<'a> {
    client: &'a Client,
    cluster: &'a EtcdCluster,
    source: Source,
}

impl Reader<'_> {
    async fn read<K>(
        &self,
        kind: &'static str,
        cache: &Cache<K>,
    ) -> Result<Vec<Arc<K>>, ObserveError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + 'static,
    {
        let name = self.cluster.name_any();
        let namespace = self.cluster.namespace().unwrap_or_default();
        match self.source {
            Source::Cache => Ok(cache
                .of(&namespace, &name)
                .into_iter()
                .map(Arc::new)
                .collect()),
            Source::Live => {
                let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
                let selector = format!("{},{LABEL_CLUSTER}={name}", managed());
                let list = api.list(&ListParams::default().labels(&selector)).await;
                let list = list.map_err(|source| ObserveError::List {
                    kind,
                    source: Box::new(source),
                })?;
                Ok(list.items.into_iter().map(Arc::new).collect())
            }
        }
    }
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    meta.labels.as_ref()?.get(name)
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(name)
}

fn owned_by(meta: &ObjectMeta, uid: Option<&str>) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

/// Joins a cluster's objects by member.
pub(crate) fn assemble(
    cluster: &EtcdCluster,
    sets: &[Arc<StatefulSet>],
    pods: &[Arc<Pod>],
    claims: &[Arc<PersistentVolumeClaim>],
    services: &[Arc<Service>],
    budgets: &[Arc<PodDisruptionBudget>],
) -> Observed {
    let uid = cluster.metadata.uid.as_deref();
    let name = cluster.name_any();
    let mut observed = Observed::default();
    let mut set_uids = Vec::new();
    for set in sets {
        let meta = &set.metadata;
        if !owned_by(meta, uid) {
            observed
                .foreign
                .push(format!("StatefulSet {}", set.name_any()));
            continue;
        }
        let Some(member) = member_of(&name, meta) else {
            continue;
        };
        let uid = meta.uid.clone().unwrap_or_default();
        set_uids.push(uid.clone());
        let spec = set.spec.as_ref();
        let template = spec.and_then(|spec| spec.template.metadata.as_ref());
        observed.members.entry(member).or_default().stateful_set = Some(StatefulSetSeen {
            uid,
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            template: annotation(meta, ANNOTATION_TEMPLATE)
                .cloned()
                .unwrap_or_default(),
            pod_spec: annotation(meta, ANNOTATION_SPEC)
                .cloned()
                .unwrap_or_default(),
            voter: template
                .and_then(|meta| label(meta, LABEL_ROLE))
                .map(String::as_str)
                == Some(ROLE_VOTER),
            start: annotation(meta, ANNOTATION_START).cloned(),
            deleting: meta.deletion_timestamp.is_some(),
        });
    }
    for pod in pods {
        let Some(member) = member_of(&name, &pod.metadata) else {
            continue;
        };
        // Pods of a StatefulSet that is gone still count: a member is not cleared
        // away before its pod has stopped.
        observed.members.entry(member).or_default().pod = Some(pod_seen(pod));
    }
    for claim in claims {
        let meta = &claim.metadata;
        let Some(member) = member_of(&name, meta) else {
            continue;
        };
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        if owners.iter().any(|owner| Some(owner.uid.as_str()) != uid) {
            observed
                .foreign
                .push(format!("PersistentVolumeClaim {}", claim.name_any()));
        } else if annotation(meta, ANNOTATION_RETIRED).is_some() {
            observed.retired_claims.push(claim.name_any());
        } else {
            observed.members.entry(member).or_default().claim = Some(claim_seen(claim, uid));
        }
    }
    for service in services {
        if !owned_by(&service.metadata, uid) {
            observed
                .foreign
                .push(format!("Service {}", service.name_any()));
        } else if service.name_any() == identity::peer_service(&name) {
            observed.peer_service = Some(Service::clone(service));
        } else if service.name_any() == identity::client_service(&name) {
            observed.client_service = Some(Service::clone(service));
        }
    }
    for budget in budgets {
        if !owned_by(&budget.metadata, uid) {
            observed
                .foreign
                .push(format!("PodDisruptionBudget {}", budget.name_any()));
        } else {
            observed.disruption_budget = Some(PodDisruptionBudget::clone(budget));
        }
    }
    observed
}

fn member_of(cluster: &str, meta: &ObjectMeta) -> Option<String> {
    let member = label(meta, LABEL_MEMBER)?;
    identity::member_serial(cluster, member).map(|_| member.clone())
}

fn claim_seen(claim: &PersistentVolumeClaim, uid: Option<&str>) -> ClaimSeen {
    let meta = &claim.metadata;
    let id = |name| annotation(meta, name).and_then(|text| identity::parse_hex(text));
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref())
        .and_then(|resources| resources.requests.as_ref());
    ClaimSeen {
        uid: meta.uid.clone().unwrap_or_default(),
        cluster_id: id(ANNOTATION_CLUSTER_ID),
        member_id: id(ANNOTATION_MEMBER_ID),
        size: requests
            .and_then(|requests| requests.get("storage"))
            .map(|quantity| quantity.0.clone())
            .unwrap_or_default(),
        capacity: claim
            .status
            .as_ref()
            .and_then(|status| status.capacity.as_ref())
            .and_then(|capacity| capacity.get("storage"))
            .map(|quantity| quantity.0.clone()),
        class: claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone()),
        resizing: resizing(claim),
        remount_since: remount_since(claim),
        owned: owned_by(meta, uid),
        secure_peers: annotation(meta, ANNOTATION_PEER_SCHEME).is_some_and(|s| s == "https"),
        deleting: meta.deletion_timestamp.is_some(),
    }
}

/// What Kubernetes says of a claim's growth.
fn resizing(claim: &PersistentVolumeClaim) -> Option<String> {
    const TYPES: [&str; 4] = [
        "ControllerResizeError",
        "NodeResizeError",
        "FileSystemResizePending",
        "Resizing",
    ];
    let conditions = claim.status.as_ref()?.conditions.as_deref()?;
    let of = |type_: &&str| {
        conditions
            .iter()
            .find(|c| c.type_ == **type_ && c.status == "True")
    };
    let condition = TYPES.iter().find_map(of)?;
    Some(match condition.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{}: {message}", condition.type_),
        _ => condition.type_.clone(),
    })
}

/// Since when the volume has grown and its file system has not. That is so for a moment
/// where a file system grows while it is mounted, and until the next mount elsewhere.
fn remount_since(claim: &PersistentVolumeClaim) -> Option<Timestamp> {
    let conditions = claim.status.as_ref()?.conditions.as_deref()?;
    let pending = conditions
        .iter()
        .find(|c| c.type_ == "FileSystemResizePending" && c.status == "True")?;
    Some(pending.last_transition_time.as_ref()?.0)
}

/// The image of a pod's etcd, as its spec asks for it.
fn image(pod: &Pod) -> String {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.containers.iter().find(|c| c.name == "etcd"))
        .and_then(|container| container.image.clone())
        .unwrap_or_default()
}

fn pod_seen(pod: &Pod) -> PodSeen {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    PodSeen {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.clone()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        start: annotation(meta, ANNOTATION_START).cloned(),
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        template: annotation(meta, ANNOTATION_TEMPLATE)
            .cloned()
            .unwrap_or_default(),
        image: image(pod),
        voter: label(meta, LABEL_ROLE).map(String::as_str) == Some(ROLE_VOTER),
        ticketed: annotation(meta, ANNOTATION_TICKET).is_some(),
        ready,
        deleting: meta.deletion_timestamp.is_some(),
        trouble: trouble(pod),
        damage: damage(pod),
        made_of: made_of(pod),
        report: None,
        etcd: None,
        schemes: annotation(meta, ANNOTATION_SCHEMES)
            .map(|text| Schemes::parse(text))
            .unwrap_or_default(),
        served: BTreeMap::new(),
        accepts: BTreeMap::new(),
    }
}

/// Whose backup a pod's data directory was made of, by its init container's last words.
fn made_of(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let restore = statuses.iter().find(|status| status.name == "restore")?;
    let ended = restore.state.as_ref()?.terminated.as_ref()?;
    match serde_json::from_str(ended.message.as_deref()?).ok()? {
        Answer::Restore(report) => report.source_cluster_id,
        _ => None,
    }
}

/// Why a pod does not run, as Kubernetes tells it.
pub(crate) fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let say = |reason: &str, message: Option<&String>| match message {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(c) = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
    {
        return Some(say(
            c.reason.as_deref().unwrap_or("Unschedulable"),
            c.message.as_ref(),
        ));
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(status.container_statuses.iter())
        .flatten();
    for container in containers {
        let state = container.state.as_ref();
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            if matches!(reason, "ErrImagePull" | "ImagePullBackOff") {
                // The kubelet goes back and forth between the two.
                let image = &container.image;
                return Some(format!("ImageUnavailable: image {image} cannot be pulled"));
            }
            if !matches!(reason, "" | "PodInitializing" | "ContainerCreating") {
                return Some(say(reason, waiting.message.as_ref()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o21_objects_of_a_former_cluster_of_this_name_are_foreign() {
        let cluster: EtcdCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n", "uid": "new"}, "spec": {}
        }))
        .unwrap();
        let set: StatefulSet = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "demo-0", "uid": "s",
                "labels": {"etcd-core.io/cluster": "demo", "etcd-core.io/member": "demo-0"},
                "ownerReferences": [{"apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                    "name": "demo", "uid": "old", "controller": true}]
            }
        }))
        .unwrap();
        let observed = assemble(&cluster, &[Arc::new(set)], &[], &[], &[], &[]);
        assert_eq!(observed.foreign, ["StatefulSet demo-0"]);
        assert!(observed.members.is_empty());
    }
}

//! Manifests from the spec: pure, and whole objects every time, as server-side
//! apply wants them.

mod certificate;
mod claim;
mod drift;
mod pod;
mod quota;
mod run;
pub mod secret;
mod shared;
mod sidecar;
mod start;
mod stateful_set;
pub(crate) mod transport;

pub(crate) use certificate::{GROUP as CERT_MANAGER, cert_manager, certificate};
pub use claim::claim;
pub use drift::first_difference;
pub(crate) use pod::DATA_DIR;
pub use quota::quota;
#[cfg(test)]
pub(crate) use run::given;
pub(crate) use run::{CONTAINER, Given, MemberTls, Run, Work, run_of};
pub use shared::Shared;
pub use start::{Restored, Start};
pub use stateful_set::{pod_spec_digest, stateful_set, template_digest};
pub(crate) use transport::DIRECTORY as CERTIFICATES;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use sha2::{Digest, Sha256};

use crate::api::{
    ANNOTATION_RESTARTED, EtcdCluster, LABEL_CLUSTER, LABEL_INSTANCE, LABEL_MANAGED_BY,
    LABEL_MEMBER, LABEL_NAME, MANAGED_BY,
};

/// What the operator brings to every cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of members whose spec names none.
    pub default_image: String,
    /// Image of the operator itself; its init container brings `admit` into the pod.
    pub operator_image: String,
}

/// The image members run: as the spec says, else the operator's default, as it was
/// when it was first asked for.
pub fn image(cluster: &EtcdCluster, settings: &Settings) -> String {
    image_of_spec(cluster)
        .or_else(|| {
            cluster
                .status
                .as_ref()
                .and_then(|status| status.default_image.clone())
        })
        .unwrap_or_else(|| settings.default_image.clone())
}

pub(crate) fn image_of_spec(cluster: &EtcdCluster) -> Option<String> {
    cluster
        .spec
        .image
        .as_ref()?
        .reference(cluster.spec.version.as_deref())
}

/// When the user last asked for a restart, by the annotation that says so.
pub(crate) fn restarted(cluster: &EtcdCluster) -> Option<(&'static str, &String)> {
    let annotations = cluster.metadata.annotations.as_ref()?;
    let at = annotations.get(ANNOTATION_RESTARTED)?;
    Some((ANNOTATION_RESTARTED, at))
}

/// The selector of everything that belongs to a cluster.
pub fn selector(cluster: &EtcdCluster) -> BTreeMap<String, String> {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    BTreeMap::from([(LABEL_CLUSTER.to_owned(), name)])
}

/// Labels of everything the operator makes for a cluster, or for a member of it.
fn labels(cluster: &EtcdCluster, member: Option<&str>) -> BTreeMap<String, String> {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let mut labels = BTreeMap::from([
        (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
        (LABEL_NAME.to_owned(), "etcd".to_owned()),
        (LABEL_INSTANCE.to_owned(), name.clone()),
        (LABEL_CLUSTER.to_owned(), name),
    ]);
    if let Some(member) = member {
        labels.insert(LABEL_MEMBER.to_owned(), member.to_owned());
    }
    labels
}

/// Metadata of an object the cluster owns.
fn metadata(cluster: &EtcdCluster, name: String, member: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(labels(cluster, member)),
        owner_references: owner(cluster).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The reference by which Kubernetes deletes what the cluster owns.
pub fn owner(cluster: &EtcdCluster) -> Option<OwnerReference> {
    cluster.controller_owner_ref(&())
}

/// Sixteen hex digits that change when `value` does.
pub(crate) fn digest(value: &impl serde::Serialize) -> String {
    let bytes = serde_json::to_vec(value).expect("manifests have string keys");
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;

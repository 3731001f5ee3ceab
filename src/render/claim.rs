//! A member's claim.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    api::{
        ANNOTATION_CLUSTER_ID, ANNOTATION_MEMBER_ID, ANNOTATION_PEER_SCHEME, ClaimSpec,
        EtcdCluster, RetentionPolicy,
    },
    identity,
};

use super::{metadata, transport};

/// The claim of `member`, bearing the IDs its data belongs to, if it has any yet.
/// Only under `whenDeleted: Delete` the cluster owns it.
pub fn claim(
    cluster: &EtcdCluster,
    member: &str,
    spec: &ClaimSpec,
    ids: Option<(u64, u64)>,
) -> PersistentVolumeClaim {
    let mut metadata = metadata(cluster, identity::claim_name(member), Some(member));
    if cluster.spec.storage.when_deleted == RetentionPolicy::Retain {
        metadata.owner_references = None;
    }
    metadata.annotations = ids.map(|(cluster_id, member_id)| {
        let mut annotations = BTreeMap::from([
            (ANNOTATION_CLUSTER_ID.to_owned(), identity::hex(cluster_id)),
            (ANNOTATION_MEMBER_ID.to_owned(), identity::hex(member_id)),
        ]);
        if transport::in_effect(cluster).secures_peers() {
            annotations.insert(ANNOTATION_PEER_SCHEME.to_owned(), "https".to_owned());
        }
        annotations
    });
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: spec.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(spec.size.clone()),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

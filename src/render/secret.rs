//! Secrets of the operator's own making.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use crate::{
    api::{ANNOTATION_ROTATE_CA, ANNOTATION_ROTATION, ANNOTATION_ROTATION_SINCE, EtcdCluster},
    certificates::{Authority, Purpose, authority_secret},
};

use super::metadata;

/// A Secret the cluster owns; of a member, if one is named.
pub fn secret(
    cluster: &EtcdCluster,
    name: String,
    member: Option<&str>,
    data: BTreeMap<String, String>,
) -> Secret {
    Secret {
        metadata: metadata(cluster, name, member),
        data: Some(
            data.into_iter()
                .map(|(key, text)| (key, ByteString(text.into_bytes())))
                .collect(),
        ),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The Secret of a CA, with the phase it is in.
pub fn authority(cluster: &EtcdCluster, purpose: Purpose, authority: &Authority) -> Secret {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let name = authority_secret(name, purpose);
    let mut secret = secret(cluster, name, None, authority.data());
    secret.metadata.annotations = Some(BTreeMap::from([
        (
            ANNOTATION_ROTATION.to_owned(),
            authority.phase.as_str().to_owned(),
        ),
        (
            ANNOTATION_ROTATION_SINCE.to_owned(),
            authority.since.to_string(),
        ),
        (ANNOTATION_ROTATE_CA.to_owned(), authority.request.clone()),
    ]));
    secret
}

//! A member's StatefulSet: one replica, replaced only when its pod is deleted, and
//! without claim templates.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    api::{ANNOTATION_SPEC, ANNOTATION_START, ANNOTATION_TEMPLATE, EtcdCluster, LABEL_MEMBER},
    identity,
};

use super::{
    Settings, Start, digest, image_of_spec, metadata, pod, restarted, selector, transport,
};

/// The StatefulSet of `member`. `voter` decides a label that the digest of the
/// template leaves out, so a promotion restarts nothing; as does `start`.
pub fn stateful_set(
    cluster: &EtcdCluster,
    member: &str,
    settings: &Settings,
    replicas: i32,
    voter: bool,
    start: &Start,
) -> StatefulSet {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let template_digest = template_digest(cluster, member, settings);
    let mut template = pod::template(cluster, member, settings, voter, start);
    if let Some(metadata) = &mut template.metadata {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_TEMPLATE.to_owned(), template_digest.clone());
        annotations.extend(
            start
                .annotation()
                .map(|it| (ANNOTATION_START.to_owned(), it)),
        );
    }
    let mut metadata = metadata(cluster, member.to_owned(), Some(member));
    metadata.annotations = Some(BTreeMap::from([
        (ANNOTATION_TEMPLATE.to_owned(), template_digest),
        (ANNOTATION_SPEC.to_owned(), pod_spec_digest(cluster)),
    ]));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(
        start
            .annotation()
            .map(|it| (ANNOTATION_START.to_owned(), it)),
    );
    let mut match_labels = selector(cluster);
    match_labels.insert(LABEL_MEMBER.to_owned(), member.to_owned());
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some(match_labels),
                ..LabelSelector::default()
            },
            service_name: Some(identity::peer_service(name)),
            template,
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Digest of the pod template a member has when it is rendered now.
pub fn template_digest(cluster: &EtcdCluster, member: &str, settings: &Settings) -> String {
    digest(&pod::template(
        cluster,
        member,
        settings,
        false,
        &Start::Plain,
    ))
}

/// Digest of the fields of the spec that shape the pods. It changes when the user
/// asks for other pods, and never because the operator changed.
pub fn pod_spec_digest(cluster: &EtcdCluster) -> String {
    let spec = &cluster.spec;
    let image = spec.image.as_ref();
    let mut shape = serde_json::json!({
        "image": image_of_spec(cluster),
        "pullPolicy": image.map(|image| image.pull_policy),
        "pullSecrets": image.map(|image| &image.pull_secrets).filter(|secrets| !secrets.is_empty()),
        "options": spec.options,
        "podTemplate": spec.pod_template,
    });
    // Only where they are there: a key that is new to this operator must not change
    // the digests of clusters that an older one made.
    if let Some((name, at)) = restarted(cluster) {
        shape[name] = at.as_str().into();
    }
    let grown = cluster.status.as_ref().and_then(|s| s.volume_size.as_ref());
    if let Some(size) = grown.filter(|_| spec.options.quota_backend_bytes.is_none()) {
        shape["volume"] = size.as_str().into();
    }
    // Absent where there is none, as it was before there was any TLS.
    if let Some(tls) = transport::shape(cluster) {
        shape["tls"] = tls;
    }
    digest(&shape)
}

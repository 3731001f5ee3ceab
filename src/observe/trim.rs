//! Takes off objects what nothing reads, before they are cached: three thousand pods
//! are kept in memory for a thousand clusters.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            Container, ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PersistentVolumeClaimStatus, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec,
            Service,
        },
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::api::{ANNOTATION_TICKET, GROUP};

/// A kind that is cached.
pub trait Trim {
    /// Takes off what `observe` does not read.
    fn trim(&mut self);
}

fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.generate_name = None;
    metadata.self_link = None;
}

/// The same for a kind whose labels and annotations are not compared with a manifest's:
/// of those, ours are read.
fn members_metadata(meta: &mut ObjectMeta) {
    metadata(meta);
    meta.finalizers = None;
    meta.generation = None;
    let names = [&mut meta.labels, &mut meta.annotations];
    for names in names.into_iter().flatten() {
        names.retain(|name, _| is_ours(name));
    }
}

fn is_ours(name: &str) -> bool {
    name.split('/').next() == Some(GROUP)
}

impl Trim for Pod {
    fn trim(&mut self) {
        members_metadata(&mut self.metadata);
        // Whether there is one is all that is asked.
        let annotations = self.metadata.annotations.as_mut();
        if let Some(ticket) = annotations.and_then(|all| all.get_mut(ANNOTATION_TICKET)) {
            ticket.clear();
        }
        self.spec = self.spec.take().map(|spec| PodSpec {
            node_name: spec.node_name,
            containers: spec.containers.into_iter().map(named).collect(),
            ..PodSpec::default()
        });
        self.status = self.status.take().map(|status| PodStatus {
            conditions: status.conditions.map(read),
            init_container_statuses: status.init_container_statuses.map(told),
            container_statuses: status.container_statuses.map(told),
            phase: status.phase,
            pod_ip: status.pod_ip,
            ..PodStatus::default()
        });
    }
}

/// What a container is called and what it runs.
fn named(container: Container) -> Container {
    Container {
        name: container.name,
        image: container.image,
        ..Container::default()
    }
}

/// The conditions that are read.
fn read(mut conditions: Vec<PodCondition>) -> Vec<PodCondition> {
    conditions.retain(|c| matches!(c.type_.as_str(), "PodScheduled" | "Ready"));
    for condition in &mut conditions {
        condition.last_probe_time = None;
        condition.last_transition_time = None;
    }
    conditions
}

/// How containers are, and how they ended.
fn told(statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let statuses = statuses.into_iter().map(|status| ContainerStatus {
        name: status.name,
        image: status.image,
        restart_count: status.restart_count,
        state: status.state,
        last_state: status.last_state,
        ..ContainerStatus::default()
    });
    statuses.collect()
}

impl Trim for StatefulSet {
    fn trim(&mut self) {
        members_metadata(&mut self.metadata);
        self.status = None;
        self.spec = self.spec.take().map(|spec| StatefulSetSpec {
            replicas: spec.replicas,
            template: PodTemplateSpec {
                metadata: spec.template.metadata.map(|mut meta| {
                    members_metadata(&mut meta);
                    meta
                }),
                spec: None,
            },
            ..StatefulSetSpec::default()
        });
    }
}

impl Trim for PersistentVolumeClaim {
    fn trim(&mut self) {
        members_metadata(&mut self.metadata);
        self.spec = self.spec.take().map(|spec| PersistentVolumeClaimSpec {
            resources: spec.resources,
            storage_class_name: spec.storage_class_name,
            ..PersistentVolumeClaimSpec::default()
        });
        self.status = self
            .status
            .take()
            .map(|status| PersistentVolumeClaimStatus {
                capacity: status.capacity,
                conditions: status.conditions,
                ..PersistentVolumeClaimStatus::default()
            });
    }
}

impl Trim for Service {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
        self.status = None;
    }
}

impl Trim for PodDisruptionBudget {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
        self.status = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{
            ANNOTATION_PEER_SCHEME, ANNOTATION_RETIRED, ANNOTATION_SCHEMES, ANNOTATION_START,
            EtcdCluster,
        },
        observe::{Observed, assemble},
        render::{self, Settings, Shared, Start},
    };

    /// All that one cluster of one member has.
    #[derive(Clone)]
    struct Objects {
        cluster: EtcdCluster,
        set: StatefulSet,
        pod: Pod,
        claim: PersistentVolumeClaim,
        shared: Shared,
    }

    fn objects() -> Objects {
        let cluster: EtcdCluster = serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n", "uid": "u"}, "spec": {}
        }))
        .unwrap();
        let settings = Settings {
            default_image: "etcd:1".to_owned(),
            operator_image: "operator:1".to_owned(),
        };
        let mut set = render::stateful_set(&cluster, "demo-0", &settings, 1, true, &Start::Plain);
        set.metadata.uid = Some("s".to_owned());
        let template = set.spec.clone().unwrap().template;
        let mut pod = Pod {
            metadata: template.metadata.unwrap(),
            spec: template.spec,
            status: None,
        };
        pod.metadata.name = Some("demo-0-0".to_owned());
        pod.metadata.namespace = Some("n".to_owned());
        pod.metadata.uid = Some("p".to_owned());
        pod.spec.as_mut().unwrap().node_name = Some("node-1".to_owned());
        let spec = cluster
            .spec
            .storage
            .persistent_volume_claim
            .clone()
            .unwrap();
        let claim = render::claim(&cluster, "demo-0", &spec, Some((1, 2)));
        let shared = Shared::of(&cluster, 1);
        Objects {
            cluster,
            set,
            pod,
            claim,
            shared,
        }
    }

    fn observed(of: &Objects) -> Observed {
        assemble(
            &of.cluster,
            &[Arc::new(of.set.clone())],
            &[Arc::new(of.pod.clone())],
            &[Arc::new(of.claim.clone())],
            &[
                Arc::new(of.shared.peer_service.clone()),
                Arc::new(of.shared.client_service.clone()),
            ],
            &[Arc::new(of.shared.disruption_budget.clone())],
        )
    }

    fn trimmed(mut all: Objects) -> Objects {
        all.set.trim();
        all.pod.trim();
        all.claim.trim();
        all.shared.peer_service.trim();
        all.shared.client_service.trim();
        all.shared.disruption_budget.trim();
        all
    }

    fn annotate(meta: &mut ObjectMeta, annotations: &[(&str, &str)]) {
        let all = meta.annotations.get_or_insert_default();
        all.extend(
            annotations
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
    }

    fn container(state: &Value) -> Value {
        json!([{
            "name": "etcd", "image": "etcd:1", "imageID": "x", "ready": false, "restartCount": 3,
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error",
                "message": "wal: 0.wal is corrupt at offset 8"}},
            "state": state,
        }])
    }

    #[test]
    fn what_is_trimmed_off_cached_objects_is_read_by_nobody() {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let pulling = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
        let restored = json!([{
            "name": "restore", "image": "operator:1", "imageID": "x", "ready": true,
            "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": "{}"}},
        }]);
        let since = "2026-01-01T00:00:00Z";
        let is = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "r", "message": "m",
                "lastTransitionTime": since})
        };
        let statuses = [
            json!({"conditions": [is("PodScheduled", "False")]}),
            json!({"conditions": [is("PodScheduled", "True"), is("Ready", "True")],
                "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "startTime": since,
                "initContainerStatuses": restored, "containerStatuses": []}),
            json!({"conditions": [is("Ready", "False")], "podIP": "10.0.0.1",
                "containerStatuses": container(&waiting)}),
            json!({"conditions": [], "initContainerStatuses": container(&pulling)}),
        ];
        let claims = [
            json!({"phase": "Pending"}),
            json!({"phase": "Bound", "capacity": {"storage": "8Gi"}}),
            json!({"capacity": {"storage": "16Gi"},
                "conditions": [is("FileSystemResizePending", "True")]}),
        ];
        let marks: [&[(&str, &str)]; 3] = [
            &[("other.io/x", "y")],
            &[
                (ANNOTATION_TICKET, "{}"),
                (ANNOTATION_START, "held:x"),
                (ANNOTATION_SCHEMES, "client=https,peer=https"),
                (ANNOTATION_PEER_SCHEME, "https"),
            ],
            &[(ANNOTATION_RETIRED, "it left")],
        ];
        for status in &statuses {
            for claim in &claims {
                for mark in marks {
                    let mut all = objects();
                    all.pod.status = serde_json::from_value(status.clone()).unwrap();
                    all.claim.status = serde_json::from_value(claim.clone()).unwrap();
                    let metas = [
                        &mut all.set.metadata,
                        &mut all.pod.metadata,
                        &mut all.claim.metadata,
                    ];
                    for meta in metas {
                        meta.creation_timestamp = serde_json::from_value(json!(since)).unwrap();
                        meta.finalizers = Some(vec!["f".to_owned()]);
                        annotate(meta, mark);
                    }
                    let (whole, less) = (observed(&all), observed(&trimmed(all.clone())));
                    assert_eq!(whole.members.len(), 1, "{whole:?}");
                    assert_eq!(whole.members, less.members);
                    assert_eq!(whole.retired_claims, less.retired_claims);
                    assert_eq!(all.shared.differs_from(&whole), None);
                    assert_eq!(all.shared.differs_from(&less), None);
                }
            }
        }
    }

    #[test]
    fn objects_of_others_are_as_foreign_when_trimmed() {
        let mut all = objects();
        all.cluster.metadata.uid = Some("another".to_owned());
        let (whole, less) = (observed(&all), observed(&trimmed(all.clone())));
        assert!(whole.foreign.len() >= 4, "{:?}", whole.foreign);
        assert_eq!(whole.foreign, less.foreign);
    }
}

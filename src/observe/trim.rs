//! Takes off objects what nothing reads, before they are cached: three thousand pods
//! are kept in memory for a thousand clusters.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

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

impl Trim for Pod {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
        self.spec = self.spec.take().map(|spec| PodSpec {
            node_name: spec.node_name,
            containers: spec.containers.into_iter().map(named).collect(),
            ..PodSpec::default()
        });
        if let Some(status) = &mut self.status {
            status.host_ips = None;
            status.pod_ips = None;
            let statuses = [
                &mut status.init_container_statuses,
                &mut status.container_statuses,
            ];
            for container in statuses.into_iter().flatten().flatten() {
                container.allocated_resources = None;
                container.resources = None;
                container.volume_mounts = None;
                container.image_id = String::new();
                container.container_id = None;
            }
        }
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

impl Trim for StatefulSet {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
        if let Some(spec) = &mut self.spec {
            spec.template.spec = None;
            spec.volume_claim_templates = None;
        }
    }
}

impl Trim for PersistentVolumeClaim {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
    }
}

impl Trim for Service {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
    }
}

impl Trim for PodDisruptionBudget {
    fn trim(&mut self) {
        metadata(&mut self.metadata);
    }
}

//! Containers and volumes that the user adds to a member's pod.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    SecretVolumeSource, Volume, VolumeMount,
};

use crate::api::{ExtraVolume, PodSpec, Sidecar, StorageMedium};

use super::pod::{resources, restricted};

/// The user's volumes have names of their own, whatever the operator adds.
fn volume_name(name: &str) -> String {
    format!("user-{name}")
}

/// The containers beside etcd.
pub(super) fn containers(user: &PodSpec) -> impl Iterator<Item = Container> {
    user.sidecars.iter().map(container)
}

/// Their volumes.
pub(super) fn volumes(user: &PodSpec) -> impl Iterator<Item = Volume> {
    user.volumes.iter().map(volume)
}

fn container(sidecar: &Sidecar) -> Container {
    fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
        Some(list).filter(|list| !list.is_empty())
    }
    let port = |port: &crate::api::SidecarPort| ContainerPort {
        name: Some(port.name.clone()),
        container_port: port.container_port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let variable = |(name, value): (&String, &String)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        ..EnvVar::default()
    };
    let mount = |mount: &crate::api::SidecarMount| VolumeMount {
        name: volume_name(&mount.name),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: sidecar.name.clone(),
        image: Some(sidecar.image.clone()),
        image_pull_policy: Some(sidecar.pull_policy.as_str().to_owned()),
        command: some(sidecar.command.clone()),
        args: some(sidecar.args.clone()),
        env: some(sidecar.env.iter().map(variable).collect()),
        ports: some(sidecar.ports.iter().map(port).collect()),
        resources: sidecar.resources.as_ref().map(resources),
        security_context: Some(restricted()),
        volume_mounts: some(sidecar.volume_mounts.iter().map(mount).collect()),
        ..Container::default()
    }
}

fn volume(extra: &ExtraVolume) -> Volume {
    Volume {
        name: volume_name(&extra.name),
        config_map: extra
            .config_map
            .as_ref()
            .map(|source| ConfigMapVolumeSource {
                name: source.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
        secret: extra.secret.as_ref().map(|source| SecretVolumeSource {
            secret_name: Some(source.name.clone()),
            ..SecretVolumeSource::default()
        }),
        empty_dir: extra.empty_dir.as_ref().map(|dir| EmptyDirVolumeSource {
            medium: (dir.medium == StorageMedium::Memory).then(|| "Memory".to_owned()),
            size_limit: dir.size_limit.as_ref().map(Into::into),
        }),
        ..Volume::default()
    }
}

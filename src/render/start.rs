//! What a member's pod does before its etcd starts, while its cluster is restored.

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, Volume};

use crate::{
    admit,
    api::{self, Destination, EncryptionSpec},
    backup::run::{RUN_VARIABLE, RestoreRun},
    identity,
};

use super::{
    Settings,
    pod::{DATA_DIR, OPERATOR, VOLUME, mount, resources, restricted, uid},
    run::{Given, given},
};

/// How a member's pod starts. None of it is part of the template's digest: what has
/// been restored does not restart when it is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Start {
    /// As ever.
    #[default]
    Plain,
    /// It only tells what lies on its disk, until it gets a ticket of this restore.
    Held {
        /// The restore.
        id: String,
    },
    /// An init container makes its data directory of a backup, once it has its ticket.
    Restored(Box<Restored>),
}

/// What a data directory is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// What the init container is told.
    pub run: RestoreRun,
    /// Where the backup is.
    pub destination: Destination,
    /// How it is decrypted.
    pub encryption: Option<EncryptionSpec>,
}

impl Start {
    /// What the annotation of StatefulSet and pod says of it.
    pub(crate) fn annotation(&self) -> Option<String> {
        match self {
            Start::Plain => None,
            Start::Held { id } => Some(format!("held:{id}")),
            Start::Restored(restored) => Some(format!("restored:{}", restored.run.token)),
        }
    }

    /// Flags of `admit`.
    pub(super) fn flags(&self) -> Vec<String> {
        match self {
            Start::Held { id } => vec![format!("--hold={id}")],
            Start::Plain | Start::Restored(_) => Vec::new(),
        }
    }

    /// Containers that run before etcd's, and their volumes.
    pub(super) fn init(
        &self,
        settings: &Settings,
        user: &api::PodSpec,
    ) -> (Option<Container>, Vec<Volume>) {
        let Start::Restored(restored) = self else {
            return (None, Vec::new());
        };
        let (mut volumes, mut mounts) = given(&Given {
            destination: &restored.destination,
            encryption: restored.encryption.as_ref(),
            member_tls: None,
        });
        // Beside the volumes of members and of users, whatever these are called.
        for volume in &mut volumes {
            volume.name = format!("restore-{}", volume.name);
        }
        for mount in &mut mounts {
            mount.name = format!("restore-{}", mount.name);
        }
        mounts.extend([
            mount("data", VOLUME, false),
            mount("admission", admit::STATE_DIR, false),
            mount("ticket", admit::TICKET_DIR, true),
        ]);
        let run = serde_json::to_string(&restored.run).expect("a run is JSON");
        let container = Container {
            name: "restore".to_owned(),
            image: Some(settings.operator_image.clone()),
            command: Some(vec![
                OPERATOR.to_owned(),
                "admit-restore".to_owned(),
                format!("--data-dir={DATA_DIR}"),
            ]),
            env: Some(vec![
                uid(),
                EnvVar {
                    name: RUN_VARIABLE.to_owned(),
                    value: Some(run),
                    ..EnvVar::default()
                },
            ]),
            ports: Some(vec![ContainerPort {
                name: Some("restore".to_owned()),
                container_port: i32::from(identity::METRICS_PORT),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            resources: user.resources.as_ref().map(resources),
            security_context: Some(restricted()),
            volume_mounts: Some(mounts),
            ..Container::default()
        };
        (Some(container), volumes)
    }
}

//! Pods of runs: the operator's own image with what `backup/run.rs` says they are told
//! and find, as a Job or, for increments, a Deployment.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        batch::v1::{Job, JobSpec as KubeJobSpec},
        core::v1::{
            Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EphemeralVolumeSource,
            KeyToPath, LocalObjectReference, PersistentVolumeClaimSpec,
            PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource, PodSecurityContext,
            PodSpec, PodTemplateSpec, ProjectedVolumeSource, SeccompProfile, SecretProjection,
            SecretVolumeSource, Volume, VolumeMount, VolumeProjection, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
    },
};
use serde::Serialize;

use crate::{
    api::{
        Destination, EncryptionSpec, JobSpec, LABEL_MANAGED_BY, LABEL_NAME, LABEL_RUN,
        LABEL_RUN_OF, MANAGED_BY, ScratchSpec,
    },
    backup::run::{
        DeleteRun, FollowRun, PROGRESS_PORT, RUN_VARIABLE, SnapshotRun, VerifyRun, files,
    },
};

use super::{
    Settings,
    pod::{OPERATOR, USER, mount, resources, restricted},
};

/// Name of the container in a run's pod.
pub(crate) const CONTAINER: &str = "run";
/// Seconds a Job is kept after its end, for people to read its log.
const KEPT: i32 = 3600;
/// Seconds a run has to leave its work in order.
const GRACE: i64 = 30;

/// What a run does, as its program is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// One full backup.
    Snapshot(SnapshotRun),
    /// A proof of one.
    Verify(VerifyRun),
    /// The end of one.
    Delete(DeleteRun),
    /// Increments.
    Follow(FollowRun),
}

impl Work {
    /// The program's command, and the word on labels.
    fn command(&self) -> &'static str {
        match self {
            Work::Snapshot(_) => "snapshot",
            Work::Verify(_) => "verify",
            Work::Delete(_) => "delete",
            Work::Follow(_) => "follow",
        }
    }

    fn told(&self) -> String {
        fn json(run: &impl Serialize) -> String {
            serde_json::to_string(run).expect("a run is JSON")
        }
        match self {
            Work::Snapshot(run) => json(run),
            Work::Verify(run) => json(run),
            Work::Delete(run) => json(run),
            Work::Follow(run) => json(run),
        }
    }
}

/// Secrets and volumes of this namespace that a run's pod is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// Where the backups are.
    pub(crate) destination: &'a Destination,
    /// The key, if they are encrypted.
    pub(crate) encryption: Option<&'a EncryptionSpec>,
    /// What TLS to members needs.
    pub(crate) member_tls: Option<&'a MemberTls>,
}

/// Secrets with what TLS to members needs; often the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberTls {
    /// Whose `ca.crt` vouches for members.
    pub(crate) authorities: String,
    /// Whose `tls.crt` and `tls.key` are shown to them.
    pub(crate) own: String,
}

impl MemberTls {
    fn volume(&self, name: &str) -> Volume {
        let source = |of: &str, keys: &[&str]| VolumeProjection {
            secret: Some(SecretProjection {
                name: of.to_owned(),
                items: Some(
                    keys.iter()
                        .map(|key| KeyToPath {
                            key: (*key).to_owned(),
                            path: (*key).to_owned(),
                            mode: None,
                        })
                        .collect(),
                ),
                // As with other Secrets: the run names a file that is missing.
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        };
        Volume {
            name: name.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![
                    source(&self.authorities, &[files::CA]),
                    source(&self.own, &[files::CERT, files::KEY]),
                ]),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        }
    }
}

/// A run, all that its manifest is made of.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    /// Namespace.
    pub(crate) namespace: &'a str,
    /// Name of the Job or Deployment.
    pub(crate) name: &'a str,
    /// What it is a run of: [`run_of`].
    pub(crate) of: &'a str,
    /// The object it goes with.
    pub(crate) owner: Option<OwnerReference>,
    /// What it does.
    pub(crate) work: &'a Work,
    /// What it is given.
    pub(crate) given: Given<'a>,
    /// Shape of its pod.
    pub(crate) spec: &'a JobSpec,
}

/// Value of the label that joins runs to their object: `backup.<name>`.
pub(crate) fn run_of(kind: &str, name: &str) -> String {
    format!("{kind}.{name}")
}

impl Run<'_> {
    /// The Job that carries it out once.
    pub(crate) fn job(&self, settings: &Settings) -> Job {
        Job {
            metadata: self.metadata(),
            spec: Some(KubeJobSpec {
                // Whether to try again is decided by the object's own rules.
                backoff_limit: Some(0),
                completions: Some(1),
                parallelism: Some(1),
                active_deadline_seconds: Some(self.spec.active_deadline_seconds),
                ttl_seconds_after_finished: Some(KEPT),
                template: self.template(settings, "Never"),
                ..KubeJobSpec::default()
            }),
            status: None,
        }
    }

    /// The Deployment that keeps it running.
    pub(crate) fn deployment(&self, settings: &Settings) -> Deployment {
        Deployment {
            metadata: self.metadata(),
            spec: Some(DeploymentSpec {
                replicas: Some(1),
                revision_history_limit: Some(1),
                selector: LabelSelector {
                    match_labels: Some(BTreeMap::from([
                        (LABEL_RUN.to_owned(), self.work.command().to_owned()),
                        (LABEL_RUN_OF.to_owned(), self.of.to_owned()),
                    ])),
                    ..LabelSelector::default()
                },
                // One follows into a destination at a time.
                strategy: Some(DeploymentStrategy {
                    type_: Some("Recreate".to_owned()),
                    ..DeploymentStrategy::default()
                }),
                template: self.template(settings, "Always"),
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        // Not the label of a cluster: its Services select by that.
        BTreeMap::from([
            (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
            (LABEL_NAME.to_owned(), "etcd-backup".to_owned()),
            (LABEL_RUN.to_owned(), self.work.command().to_owned()),
            (LABEL_RUN_OF.to_owned(), self.of.to_owned()),
        ])
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.to_owned()),
            namespace: Some(self.namespace.to_owned()),
            labels: Some(self.labels()),
            owner_references: self.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn template(&self, settings: &Settings, restart: &str) -> PodTemplateSpec {
        let spec = self.spec;
        let place = spec.scheduling.clone().unwrap_or_default();
        let secrets = spec.pull_secrets.iter().map(|secret| LocalObjectReference {
            name: secret.name.clone(),
        });
        let secrets: Vec<LocalObjectReference> = secrets.collect();
        let (mut volumes, mut mounts) = given(&self.given);
        volumes.push(scratch(&spec.scratch));
        mounts.push(mount("scratch", files::SCRATCH, false));
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(self.labels()),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                // Its identity is for the store; it has no business with the API server.
                automount_service_account_token: Some(false),
                service_account_name: spec.service_account_name.clone(),
                enable_service_links: Some(false),
                restart_policy: Some(restart.to_owned()),
                termination_grace_period_seconds: Some(GRACE),
                image_pull_secrets: Some(secrets).filter(|list| !list.is_empty()),
                node_selector: Some(place.node_selector).filter(|labels| !labels.is_empty()),
                affinity: place.affinity,
                tolerations: Some(place.tolerations).filter(|list| !list.is_empty()),
                priority_class_name: place.priority_class_name,
                security_context: Some(PodSecurityContext {
                    run_as_non_root: Some(true),
                    run_as_user: Some(USER),
                    run_as_group: Some(USER),
                    fs_group: Some(USER),
                    fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".to_owned(),
                        ..SeccompProfile::default()
                    }),
                    ..PodSecurityContext::default()
                }),
                containers: vec![Container {
                    name: CONTAINER.to_owned(),
                    image: Some(settings.operator_image.clone()),
                    image_pull_policy: Some("IfNotPresent".to_owned()),
                    command: Some(vec![OPERATOR.to_owned(), self.work.command().to_owned()]),
                    env: Some(vec![EnvVar {
                        name: RUN_VARIABLE.to_owned(),
                        value: Some(self.work.told()),
                        ..EnvVar::default()
                    }]),
                    ports: Some(vec![ContainerPort {
                        name: Some("progress".to_owned()),
                        container_port: i32::from(PROGRESS_PORT),
                        protocol: Some("TCP".to_owned()),
                        ..ContainerPort::default()
                    }]),
                    resources: spec.resources.as_ref().map(resources),
                    security_context: Some(restricted()),
                    volume_mounts: Some(mounts),
                    ..Container::default()
                }],
                volumes: Some(volumes),
                ..PodSpec::default()
            }),
        }
    }
}

/// Volumes with what a run is given, and where they are mounted.
pub(crate) fn given(given: &Given<'_>) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    let mut secret = |name: &str, of: &str, path: &str| {
        volumes.push(Volume {
            name: name.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(of.to_owned()),
                // The run names a file that is missing; a pod that waits for its volumes
                // would say nothing, and one with data must start without them.
                optional: Some(true),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(mount(name, path, true));
    };
    if let Some(s3) = &given.destination.s3 {
        if let Some(of) = &s3.credentials_secret_ref {
            secret("s3-credentials", &of.name, files::S3_CREDENTIALS);
        }
        if let Some(of) = &s3.ca_secret_ref {
            secret("s3-ca", &of.name, files::S3_CA);
        }
    }
    if let Some(of) = given.encryption {
        secret(
            "encryption-key",
            &of.key_secret_ref.name,
            files::ENCRYPTION_KEY,
        );
    }
    if let Some(of) = given.member_tls {
        volumes.push(of.volume("member-tls"));
        mounts.push(mount("member-tls", files::MEMBER_TLS, true));
    }
    if let Some(claim) = &given.destination.persistent_volume_claim {
        volumes.push(Volume {
            name: "claim".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.claim_name.clone(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(VolumeMount {
            sub_path: claim.sub_path.clone(),
            ..mount("claim", files::CLAIM, false)
        });
    }
    (volumes, mounts)
}

fn scratch(spec: &ScratchSpec) -> Volume {
    let mut volume = Volume {
        name: "scratch".to_owned(),
        ..Volume::default()
    };
    match (&spec.storage_class_name, &spec.size) {
        (Some(class), Some(size)) => {
            volume.ephemeral = Some(EphemeralVolumeSource {
                volume_claim_template: Some(PersistentVolumeClaimTemplate {
                    metadata: None,
                    spec: PersistentVolumeClaimSpec {
                        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                        storage_class_name: Some(class.clone()),
                        resources: Some(VolumeResourceRequirements {
                            requests: Some(BTreeMap::from([(
                                "storage".to_owned(),
                                Quantity(size.clone()),
                            )])),
                            ..VolumeResourceRequirements::default()
                        }),
                        ..PersistentVolumeClaimSpec::default()
                    },
                }),
            });
        }
        (_, size) => {
            volume.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: size.clone().map(Quantity),
                ..EmptyDirVolumeSource::default()
            });
        }
    }
    volume
}

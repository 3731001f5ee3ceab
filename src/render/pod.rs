//! The pod a member runs in.

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, DownwardAPIVolumeFile,
        DownwardAPIVolumeSource, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
        LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
        PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
        ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
        WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::{
    admit::{self, BIN_DIR, TICKET_DIR, TICKET_FILE},
    api::{
        self, ANNOTATION_SCHEMES, ANNOTATION_TICKET, EtcdCluster, LABEL_ROLE, PodTemplate,
        ROLE_VOTER, Resources, StorageMedium,
    },
    identity,
};

use super::{Settings, Start, image, labels, quota, restarted, selector, sidecar, transport};

/// User and group members run as: nobody in particular, and never root.
pub(super) const USER: i64 = 65_532;
/// Where the volume is mounted; the data directory is a folder in it, for volumes
/// that come with a `lost+found`.
pub(super) const VOLUME: &str = "/var/lib/etcd";
/// etcd's data directory.
pub(crate) const DATA_DIR: &str = "/var/lib/etcd/data";
/// Where the operator's image, and by convention etcd's, keeps its programs.
pub(super) const OPERATOR: &str = "/usr/local/bin/etcd-operator";

/// The pod template of `member`.
pub(super) fn template(
    cluster: &EtcdCluster,
    member: &str,
    settings: &Settings,
    voter: bool,
    start: &Start,
) -> PodTemplateSpec {
    let empty = PodTemplate::default();
    let user = cluster.spec.pod_template.as_ref().unwrap_or(&empty);
    let mut pod_labels = user
        .metadata
        .as_ref()
        .map(|m| m.labels.clone())
        .unwrap_or_default();
    pod_labels.extend(labels(cluster, Some(member)));
    if voter {
        pod_labels.insert(LABEL_ROLE.to_owned(), ROLE_VOTER.to_owned());
    }
    let mut annotations = user
        .metadata
        .as_ref()
        .map(|m| m.annotations.clone())
        .unwrap_or_default();
    annotations.extend(restarted(cluster).map(|(name, at)| (name.to_owned(), at.clone())));
    if let Some(schemes) = transport::schemes(cluster) {
        annotations.insert(ANNOTATION_SCHEMES.to_owned(), schemes);
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(
            cluster,
            member,
            settings,
            &user.spec.clone().unwrap_or_default(),
            start,
        )),
    }
}

fn spec(
    cluster: &EtcdCluster,
    member: &str,
    settings: &Settings,
    user: &api::PodSpec,
    start: &Start,
) -> PodSpec {
    let (restore, restore_volumes) = start.init(settings, user);
    let image_spec = cluster.spec.image.clone().unwrap_or_default();
    let pull_secrets: Vec<LocalObjectReference> = image_spec
        .pull_secrets
        .iter()
        .map(|secret| LocalObjectReference {
            name: secret.name.clone(),
        })
        .collect();
    let some_list = |list: Vec<_>| Some(list).filter(|list| !list.is_empty());
    PodSpec {
        // Nothing in the pod needs rights in the API server.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
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
        init_containers: Some(
            [install(settings, &image_spec)]
                .into_iter()
                .chain(restore.map(|restore| Container {
                    image_pull_policy: Some(image_spec.pull_policy.as_str().to_owned()),
                    ..restore
                }))
                .collect(),
        ),
        containers: [etcd(cluster, member, settings, user, start)]
            .into_iter()
            .chain(sidecar::containers(user))
            .collect(),
        volumes: Some(
            volumes(cluster, member)
                .into_iter()
                .chain(sidecar::volumes(user))
                .chain(restore_volumes)
                .collect(),
        ),
        service_account_name: user.service_account_name.clone(),
        image_pull_secrets: some_list(pull_secrets),
        termination_grace_period_seconds: Some(user.termination_grace_period_seconds.unwrap_or(30)),
        node_selector: Some(user.node_selector.clone()).filter(|labels| !labels.is_empty()),
        affinity: Some(affinity(cluster, user.affinity.clone())),
        tolerations: Some(user.tolerations.clone()).filter(|list| !list.is_empty()),
        topology_spread_constraints: Some(
            user.topology_spread_constraints
                .iter()
                .cloned()
                .map(|mut constraint| {
                    constraint
                        .label_selector
                        .get_or_insert_with(|| own_members(cluster));
                    constraint
                })
                .collect::<Vec<_>>(),
        )
        .filter(|list| !list.is_empty()),
        priority_class_name: user.priority_class_name.clone(),
        scheduler_name: user.scheduler_name.clone(),
        ..PodSpec::default()
    }
}

/// Copies the static operator into the pod, for `admit` to run in any image.
fn install(settings: &Settings, image_spec: &api::ImageSpec) -> Container {
    let small = |cpu: &str, memory: &str| {
        Some(
            [("cpu", cpu), ("memory", memory)]
                .map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())))
                .into(),
        )
    };
    Container {
        name: "admission".to_owned(),
        image: Some(settings.operator_image.clone()),
        image_pull_policy: Some(image_spec.pull_policy.as_str().to_owned()),
        command: Some(vec![
            OPERATOR.to_owned(),
            "install".to_owned(),
            BIN_DIR.to_owned(),
        ]),
        resources: Some(ResourceRequirements {
            requests: small("10m", "16Mi"),
            limits: small("500m", "64Mi"),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount("admission", admit::STATE_DIR, false)]),
        ..Container::default()
    }
}

fn etcd(
    cluster: &EtcdCluster,
    member: &str,
    settings: &Settings,
    user: &api::PodSpec,
    start: &Start,
) -> Container {
    let image_spec = cluster.spec.image.clone().unwrap_or_default();
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut command = vec![
        format!("{BIN_DIR}/etcd-operator"),
        "admit".to_owned(),
        format!("--data-dir={DATA_DIR}"),
    ];
    command.extend(start.flags());
    command.extend(["--".to_owned(), "etcd".to_owned()]);
    command.extend(flags(cluster, member));
    let mut mounts = vec![
        mount("data", VOLUME, false),
        mount("admission", admit::STATE_DIR, false),
        mount("ticket", TICKET_DIR, true),
    ];
    if !transport::in_effect(cluster).is_plain() {
        mounts.push(mount(transport::VOLUME, transport::DIRECTORY, true));
    }
    Container {
        name: "etcd".to_owned(),
        image: Some(image(cluster, settings)),
        image_pull_policy: Some(image_spec.pull_policy.as_str().to_owned()),
        command: Some(command),
        // Its last words tell a damaged member from one that keeps restarting.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        env: Some(vec![uid()]),
        ports: Some(vec![
            port("client", identity::CLIENT_PORT),
            port("peer", identity::PEER_PORT),
            port("metrics", identity::METRICS_PORT),
        ]),
        // While admit waits it answers /livez itself, so waiting is no failure.
        // From then on etcd does; the startup probe outlasts a long import.
        startup_probe: Some(probe("/livez", 2, 3, 900)),
        liveness_probe: Some(probe("/livez", 10, 15, 8)),
        readiness_probe: Some(probe("/readyz", 3, 5, 3)),
        resources: user.resources.as_ref().map(resources),
        security_context: Some(restricted()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// etcd's flags, all but those that a ticket adds.
fn flags(cluster: &EtcdCluster, member: &str) -> Vec<String> {
    let mut flags = vec![format!("--name={member}"), format!("--data-dir={DATA_DIR}")];
    flags.extend(transport::flags(cluster, member));
    flags.push(
        // Members that diverge are found and halted, not served.
        "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true".to_owned(),
    );
    if cluster.spec.options.quota_backend_bytes.is_none()
        && let Some(quota) = quota(cluster)
    {
        flags.push(format!("--quota-backend-bytes={quota}"));
    }
    flags.extend(cluster.spec.options.flags());
    flags
}

fn volumes(cluster: &EtcdCluster, member: &str) -> Vec<Volume> {
    let storage = &cluster.spec.storage;
    let mut data = Volume {
        name: "data".to_owned(),
        ..Volume::default()
    };
    match &storage.empty_dir {
        Some(dir) => {
            data.empty_dir = Some(EmptyDirVolumeSource {
                medium: (dir.medium == StorageMedium::Memory).then(|| "Memory".to_owned()),
                size_limit: dir.size_limit.as_ref().map(Quantity::from),
            });
        }
        None => {
            data.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: identity::claim_name(member),
                ..PersistentVolumeClaimVolumeSource::default()
            });
        }
    }
    let mut volumes = vec![
        data,
        Volume {
            name: "admission".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        Volume {
            name: "ticket".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: TICKET_FILE.to_owned(),
                    field_ref: Some(field(&format!(
                        "metadata.annotations['{ANNOTATION_TICKET}']"
                    ))),
                    ..DownwardAPIVolumeFile::default()
                }]),
                ..DownwardAPIVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    volumes.extend(transport::volume(cluster, member));
    volumes
}

fn own_members(cluster: &EtcdCluster) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(cluster)),
        ..LabelSelector::default()
    }
}

/// The user's affinity; without a podAntiAffinity of theirs, members prefer
/// different nodes.
fn affinity(cluster: &EtcdCluster, user: Option<Affinity>) -> Affinity {
    let mut affinity = user.unwrap_or_default();
    affinity
        .pod_anti_affinity
        .get_or_insert_with(|| PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(own_members(cluster)),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        });
    affinity
}

pub(super) fn resources(user: &Resources) -> ResourceRequirements {
    let convert = |amounts: &std::collections::BTreeMap<String, api::Quantity>| {
        Some(
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), amount.into()))
                .collect(),
        )
        .filter(|amounts: &std::collections::BTreeMap<String, Quantity>| !amounts.is_empty())
    };
    ResourceRequirements {
        requests: convert(&user.requests),
        limits: convert(&user.limits),
        ..ResourceRequirements::default()
    }
}

/// What the `restricted` Pod Security Standard asks of a container, and a root
/// filesystem that cannot be written.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Tells a container which pod it is in.
pub(super) fn uid() -> EnvVar {
    EnvVar {
        name: admit::POD_UID.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(field("metadata.uid")),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn field(path: &str) -> ObjectFieldSelector {
    ObjectFieldSelector {
        field_path: path.to_owned(),
        ..ObjectFieldSelector::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

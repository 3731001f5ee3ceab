//! The Deployment that stores the changes between backups: one per schedule.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Resource, ResourceExt};

use crate::{
    api::{ANNOTATION_TEMPLATE, EtcdBackupSchedule, EtcdCluster, duration_seconds},
    backup::run::{FollowRun, Progress, Voter},
    plan::{Call, Kind},
    render::{self, Given, Run, Settings, Work, run_of},
};

use super::{manifest, told};

/// Bytes of changes that are held while the store does not take them.
const BACKLOG: u64 = 64 << 20;

/// The Deployment as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Its name.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Digest of what it was rendered from.
    pub(crate) template: String,
    /// Address of its pod, while it runs.
    pub(crate) ip: Option<String>,
    /// What its pod says, if it was asked.
    pub(crate) progress: Option<Progress>,
    /// Why its pod does not run, if Kubernetes says so.
    pub(crate) trouble: Option<String>,
}

impl Seen {
    /// The Deployment of a schedule, with its newest pod.
    pub(crate) fn of(deployments: &[Arc<Deployment>], pods: &[Arc<Pod>]) -> Option<Seen> {
        let deployment = deployments.first()?;
        let follows = |pod: &&Arc<Pod>| {
            pod.labels().get(crate::api::LABEL_RUN).map(String::as_str) == Some("follow")
        };
        let pod = pods
            .iter()
            .filter(follows)
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        Some(Seen {
            name: deployment.name_any(),
            uid: deployment.uid().unwrap_or_default(),
            template: deployment
                .annotations()
                .get(ANNOTATION_TEMPLATE)
                .cloned()
                .unwrap_or_default(),
            ip: pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone()),
            progress: None,
            trouble: pod.and_then(|pod| crate::observe::trouble(pod)),
        })
    }
}

/// Makes, changes or removes it, if it is not as it should be.
pub(crate) fn step(
    schedule: &EtcdBackupSchedule,
    cluster: Option<&EtcdCluster>,
    seen: Option<&Seen>,
    settings: &Settings,
) -> Option<(String, Call)> {
    let Some(spec) = &schedule.spec.increments else {
        let seen = seen?;
        let call = manifest::delete(Kind::Deployment, &seen.name, &seen.uid);
        return Some((
            "ends the increments, which the spec asks for no more".to_owned(),
            call,
        ));
    };
    let cluster = cluster?;
    let of = told::cluster(cluster)?;
    let template = &schedule.spec.template.spec;
    let work = Work::Follow(FollowRun {
        // By the Service: members come and go, and the run need not restart for that.
        voters: vec![Voter {
            endpoint: told::service(cluster),
            tls_server_name: None,
            member_id: None,
        }],
        cluster: of,
        destination: template.destination.clone(),
        max_lag_seconds: duration_seconds(&spec.max_lag)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(10),
        compression: template.compression,
        encrypted: template.encryption.is_some(),
        max_backlog_bytes: BACKLOG,
    });
    let name = format!("{}-follow", schedule.name_any());
    let run_of = run_of("schedule", &schedule.name_any());
    let mut deployment = Run {
        namespace: &schedule.namespace().unwrap_or_default(),
        name: &name,
        of: &run_of,
        owner: schedule.controller_owner_ref(&()),
        work: &work,
        given: Given {
            destination: &template.destination,
            encryption: template.encryption.as_ref(),
            member_tls: told::member_tls(cluster).as_ref(),
        },
        spec: &template.job,
    }
    .deployment(settings);
    let digest = render::digest(&deployment.spec);
    if seen.is_some_and(|seen| seen.template == digest) {
        return None;
    }
    deployment
        .annotations_mut()
        .insert(ANNOTATION_TEMPLATE.to_owned(), digest);
    let why = match seen {
        None => "makes the Deployment that stores the increments",
        Some(_) => "changes the Deployment that stores the increments",
    };
    let call = manifest::apply(Kind::Deployment, &deployment, seen.is_some());
    Some((why.to_owned(), call))
}

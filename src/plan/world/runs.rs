//! A model of the Job controller and of the pods of Jobs: each runs for a few seconds,
//! then does what its program does, and leaves its answer.

use jiff::SignedDuration;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus},
        core::v1::{
            ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
            PodStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use serde::de::DeserializeOwned;

use super::World;
use crate::{
    backup::run::{Answer, RUN_VARIABLE},
    render::CONTAINER,
};

/// How long a run takes.
const RUNS: SignedDuration = SignedDuration::from_secs(3);
/// How long the pod of a Job that was deleted works on before it hears of it.
const DEAF: SignedDuration = SignedDuration::from_secs(30);
/// How long a Job is kept after its end.
const KEPT: SignedDuration = SignedDuration::from_secs(3600);

fn told<R: DeserializeOwned>(job: &Job) -> R {
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let env = spec.containers[0].env.as_ref().unwrap();
    let run = env.iter().find(|env| env.name == RUN_VARIABLE).unwrap();
    serde_json::from_str(run.value.as_ref().unwrap()).unwrap()
}

fn command(job: &Job) -> String {
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    spec.containers[0].command.as_ref().unwrap()[1].clone()
}

fn ended(job: &Job) -> Option<&Time> {
    let status = job.status.as_ref()?;
    status
        .conditions
        .as_ref()?
        .first()?
        .last_transition_time
        .as_ref()
}

impl World {
    /// A second of every Job.
    pub(super) fn run_jobs(&mut self) {
        self.collect_jobs();
        self.run_orphans();
        for name in self.api.jobs.items.keys().cloned().collect::<Vec<_>>() {
            let job = self.api.jobs.items[&name].clone();
            if ended(&job).is_some() {
                continue;
            }
            let Some(pod) = self.api.run_pods.items.get(&name) else {
                self.begin_run(&name, &job);
                continue;
            };
            let since = pod.metadata.creation_timestamp.as_ref().unwrap().0;
            if self.now.duration_since(since) >= RUNS {
                let answer = self.finish_run(&job);
                self.end_run(&name, &answer);
            }
        }
    }

    /// What has lost its Job comes to its end all the same, and is gone then: nobody
    /// hears its answer, but its work is done.
    fn run_orphans(&mut self) {
        for (name, job) in self.api.orphans.clone() {
            let pod = &self.api.run_pods.items[&name];
            let since = pod.metadata.deletion_timestamp.as_ref().unwrap().0;
            if self.now.duration_since(since) >= DEAF {
                if ended(&job).is_none() {
                    let taken = self.artifacts.taken;
                    self.finish_run(&job);
                    self.artifacts.late += self.artifacts.taken - taken;
                }
                self.api.orphans.remove(&name);
                self.api.run_pods.remove(&name);
            }
        }
    }

    /// Jobs go with their owners, or a while after their end.
    fn collect_jobs(&mut self) {
        let api = &self.api;
        let live = |owner: &OwnerReference| {
            let backups = api
                .backups
                .items
                .values()
                .filter_map(|it| it.metadata.uid.as_ref());
            let restores = api
                .restores
                .items
                .values()
                .filter_map(|it| it.metadata.uid.as_ref());
            backups.chain(restores).any(|uid| *uid == owner.uid)
        };
        let old = |job: &Job| ended(job).is_some_and(|at| self.now.duration_since(at.0) > KEPT);
        let gone: Vec<String> = api
            .jobs
            .items
            .iter()
            .filter(|(_, job)| {
                let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
                old(job) || !owners.iter().any(live)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.api.orphan(&name);
        }
    }

    fn begin_run(&mut self, name: &str, job: &Job) {
        if command(job) == "snapshot" {
            let run: crate::backup::run::SnapshotRun = told(job);
            let other = self.api.jobs.items.iter().find(|(other, job)| {
                let same = || told::<crate::backup::run::SnapshotRun>(job).folder == run.folder;
                *other != name && ended(job).is_none() && command(job) == "snapshot" && same()
            });
            assert!(
                other.is_none(),
                "two runs write {}{}",
                run.folder,
                self.trace()
            );
            if !self.artifacts.folders.contains_key(&run.folder) {
                self.artifacts.partial.insert(run.folder);
            }
        }
        let state = ContainerState {
            running: Some(ContainerStateRunning::default()),
            ..ContainerState::default()
        };
        let pod = Pod {
            metadata: ObjectMeta {
                labels: job.metadata.labels.clone(),
                owner_references: Some(vec![OwnerReference {
                    uid: job.metadata.uid.clone().unwrap(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: None,
            status: Some(status(state)),
        };
        self.api.run_pods.create(&mut self.api.ids, name, pod);
    }

    fn finish_run(&mut self, job: &Job) -> Answer {
        match command(job).as_str() {
            "snapshot" => self.snapshot_run(&told(job)),
            "verify" => self.verify_run(&told(job)),
            "delete" => self.delete_run(&told(job)),
            other => panic!("no run is called {other}"),
        }
    }

    fn end_run(&mut self, name: &str, answer: &Answer) {
        let failed = matches!(answer, Answer::Failed(_));
        let message = Some(answer.message());
        self.api.run_pods.change(&mut self.api.ids, name, |pod| {
            let terminated = ContainerStateTerminated {
                exit_code: i32::from(failed),
                message,
                ..ContainerStateTerminated::default()
            };
            pod.status = Some(status(ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            }));
        });
        self.conclude(name, failed);
    }

    fn conclude(&mut self, name: &str, failed: bool) {
        let now = self.now;
        self.api.jobs.change(&mut self.api.ids, name, |job| {
            let type_ = if failed { "Failed" } else { "Complete" };
            job.status = Some(JobStatus {
                conditions: Some(vec![JobCondition {
                    type_: type_.to_owned(),
                    status: "True".to_owned(),
                    reason: failed.then(|| "BackoffLimitExceeded".to_owned()),
                    last_transition_time: Some(Time(now)),
                    ..JobCondition::default()
                }]),
                ..JobStatus::default()
            });
        });
    }

    /// A run's pod is evicted: its Job fails, without an answer.
    pub(in crate::plan) fn evict_run(&mut self, nth: usize) {
        let active = self
            .api
            .jobs
            .items
            .iter()
            .filter(|(_, job)| ended(job).is_none());
        let active: Vec<String> = active.map(|(name, _)| name.clone()).collect();
        if let Some(name) = active.get(nth % active.len().max(1)) {
            self.api.run_pods.remove(name);
            self.conclude(name, true);
        }
    }
}

fn status(state: ContainerState) -> PodStatus {
    PodStatus {
        container_statuses: Some(vec![ContainerStatus {
            name: CONTAINER.to_owned(),
            state: Some(state),
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    }
}

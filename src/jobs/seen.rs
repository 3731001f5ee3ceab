//! Runs as the API server shows them: a Job, its pod, and the answer in the pod's
//! termination message.

use std::sync::Arc;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::ResourceExt;

use crate::{
    api::{LABEL_RUN, RunKind},
    backup::run::{Answer, Failure, Progress, Reason},
};

use crate::render::CONTAINER;

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunSeen {
    /// Name of its Job.
    pub(crate) job: String,
    /// UID of its Job.
    pub(crate) uid: String,
    /// How it is.
    pub(crate) state: RunState,
    /// What the program answered, if it did.
    pub(crate) answer: Option<Answer>,
    /// Why its pod does not run, if Kubernetes says so.
    pub(crate) trouble: Option<String>,
    /// Address of its pod, while it runs.
    pub(crate) ip: Option<String>,
    /// How far it is, if it was asked.
    pub(crate) progress: Option<Progress>,
}

/// How a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// It has not ended.
    Active,
    /// Its Job is complete.
    Succeeded,
    /// Its Job has failed; what Kubernetes says about it.
    Failed(String),
}

impl RunSeen {
    /// What came of it, once it has ended.
    pub(crate) fn outcome(&self) -> Option<Result<Answer, Failure>> {
        let lost = |message: String| Failure {
            reason: Reason::Cancelled,
            message,
            transient: true,
        };
        match (&self.state, &self.answer) {
            (RunState::Active, _) => None,
            (_, Some(Answer::Failed(failure))) => Some(Err(failure.clone())),
            (RunState::Succeeded, Some(answer)) => Some(Ok(answer.clone())),
            (RunState::Succeeded, None) => Some(Err(lost(format!(
                "the Job {} is complete, but its pod and with it its answer are gone",
                self.job
            )))),
            (RunState::Failed(why), _) => {
                let trouble = self.trouble.as_deref().unwrap_or_default();
                let more = if trouble.is_empty() {
                    ""
                } else {
                    "; its pod: "
                };
                Some(Err(lost(format!(
                    "the Job {} failed: {why}{more}{trouble}",
                    self.job
                ))))
            }
        }
    }
}

/// The runs of one object, from its Jobs and their pods.
pub(crate) fn runs(jobs: &[Arc<Job>], pods: &[Arc<Pod>]) -> Vec<RunSeen> {
    jobs.iter()
        .filter(|job| job.labels().contains_key(LABEL_RUN))
        .map(|job| {
            let of = |pod: &&Arc<Pod>| {
                let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
                owners
                    .iter()
                    .any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
            };
            // The Job controller may have replaced a pod; the newest counts.
            let pod = pods.iter().filter(of).max_by_key(|pod| {
                let created = pod.metadata.creation_timestamp.as_ref();
                created.map(|time| time.0)
            });
            let pod = pod.map(Arc::as_ref);
            let ended = pod.and_then(terminated);
            RunSeen {
                job: job.name_any(),
                uid: job.uid().unwrap_or_default(),
                state: state(job),
                answer: ended
                    .and_then(|ended| ended.message.as_deref())
                    .and_then(|text| serde_json::from_str(text).ok()),
                trouble: pod.and_then(crate::observe::trouble),
                ip: pod
                    .filter(|_| ended.is_none())
                    .and_then(|pod| pod.status.as_ref()?.pod_ip.clone()),
                progress: None,
            }
        })
        .collect()
}

/// The pod of a run that may write, and has not ended. A Job that is deleted is gone at
/// once, its pod when it has heard of it: within its grace period, or, on a node that
/// cannot be reached, much later.
pub(crate) fn writer(pods: &[Arc<Pod>]) -> Option<String> {
    let writes = |pod: &&Arc<Pod>| {
        let run = pod.labels().get(LABEL_RUN);
        run.is_some_and(|run| run == RunKind::Snapshot.word()) && !has_ended(pod)
    };
    pods.iter().find(writes).map(|pod| pod.name_any())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || terminated(pod).is_some()
}

fn state(job: &Job) -> RunState {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let find = |type_: &str| {
        conditions
            .iter()
            .find(|c| c.type_ == type_ && c.status == "True")
    };
    if find("Complete").is_some() {
        return RunState::Succeeded;
    }
    match find("Failed") {
        Some(failed) => {
            let reason = failed.reason.as_deref().unwrap_or("Failed");
            let message = failed.message.as_deref().unwrap_or_default();
            RunState::Failed(format!("{reason}: {message}"))
        }
        None if job.metadata.deletion_timestamp.is_some() => {
            RunState::Failed("Deleted: someone deletes it".to_owned())
        }
        None => RunState::Active,
    }
}

/// How the pod's program ended, if it did.
pub(crate) fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let run = statuses.iter().find(|status| status.name == CONTAINER)?;
    run.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(conditions: serde_json::Value) -> Arc<Job> {
        let job = json!({
            "metadata": {"name": "nightly-snapshot-1", "uid": "j", "labels": {LABEL_RUN: "snapshot"}},
            "status": {"conditions": conditions},
        });
        Arc::new(serde_json::from_value(job).unwrap())
    }

    fn pod(uid: &str, created: &str, state: serde_json::Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": uid, "uid": uid, "creationTimestamp": created,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "j"}]},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [{"name": CONTAINER, "image": "",
                "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_answer_is_in_the_termination_message_of_the_newest_pod() {
        let failed = json!({"terminated": {"exitCode": 75, "message":
            r#"{"failed":{"reason":"StoreBusy","message":"slow down","transient":true}}"#}});
        let jobs = [job(
            json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]),
        )];
        let pods = [
            pod("b", "2026-01-01T00:00:02Z", failed),
            pod("a", "2026-01-01T00:00:01Z", json!({"running": {}})),
        ];
        let seen = runs(&jobs, &pods);
        let failure = seen[0].outcome().unwrap().unwrap_err();
        assert_eq!(
            (failure.reason, failure.transient),
            (Reason::StoreBusy, true)
        );
        assert_eq!(seen[0].ip, None);
    }

    #[test]
    fn a_pod_may_write_until_its_program_has_ended() {
        let of = |run: &str, phase: &str, state: serde_json::Value| {
            let mut pod = Pod::clone(&pod("p", "2026-01-01T00:00:01Z", state));
            pod.labels_mut()
                .insert(LABEL_RUN.to_owned(), run.to_owned());
            pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
            writer(&[Arc::new(pod)]).is_some()
        };
        let running = || json!({"running": {}});
        assert!(of("snapshot", "Running", running()));
        assert!(of("snapshot", "Pending", json!({"waiting": {}})));
        assert!(!of(
            "snapshot",
            "Running",
            json!({"terminated": {"exitCode": 75}})
        ));
        assert!(!of("snapshot", "Failed", json!({"waiting": {}})), "evicted");
        assert!(!of("delete", "Running", running()) && !of("verify", "Running", running()));
    }

    #[test]
    fn a_run_without_an_answer_is_one_to_repeat() {
        let complete = [job(json!([{"type": "Complete", "status": "True"}]))];
        let failure = runs(&complete, &[])[0].outcome().unwrap().unwrap_err();
        assert!(failure.transient && failure.message.contains("is complete, but"));
        let deadline = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]);
        let failure = runs(&[job(deadline)], &[])[0]
            .outcome()
            .unwrap()
            .unwrap_err();
        assert!(failure.transient && failure.message.contains("DeadlineExceeded: too long"));
        let active = [job(json!([]))];
        let running = [pod("a", "2026-01-01T00:00:01Z", json!({"running": {}}))];
        let seen = runs(&active, &running);
        assert_eq!(
            (seen[0].outcome(), seen[0].ip.as_deref()),
            (None, Some("10.0.0.1"))
        );
    }
}

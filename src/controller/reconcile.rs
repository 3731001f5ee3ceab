//! The turns of the loop in the real world, with their events, logs and metrics.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    api::{ConditionType, EtcdCluster, EtcdClusterStatus},
    apply::ApplyError,
    causes::causes,
    observe::{ObserveError, Observed, Observer, Source},
    plan::{Call, Plan, Reply},
    status::news,
    turn::{Fault, StepError, Surroundings, Turn, turn},
};

use super::{Context, ReconcileOutcome, streams::Guarded};

/// A reconcile that takes longer is cut off; every step is safe to be.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A cluster that has been as specified for this long is looked at less often: its
/// watches tell of what happens to its pods, and what happens in them the kubelet sees.
const STEADY: Duration = Duration::from_secs(120);
/// How long until the next look at such a cluster.
const STEADY_WAIT: Duration = Duration::from_secs(60);
/// But on average no more looks at such clusters in a second than these, so that what they
/// cost together has a bound: where there are more than 600, each has its turn less often.
const STEADY_LOOKS: u32 = 10;

/// What one controller's reconciles share.
pub(super) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) observer: Observer,
}

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    /// The world could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The cluster itself could not be read.
    #[error("cannot read the EtcdCluster: {0}")]
    Read(Box<kube::Error>),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] ApplyError),
    /// It took too long.
    #[error("took longer than {} s", TIME_LIMIT.as_secs())]
    TimeLimit,
}

impl Fault for ReconcileError {
    fn is_gone(&self) -> bool {
        matches!(self, ReconcileError::Write(error) if error.is_gone())
    }

    fn is_refused(&self) -> bool {
        matches!(self, ReconcileError::Write(error) if error.is_refused())
    }

    fn is_transient(&self) -> bool {
        matches!(self, ReconcileError::Write(error) if error.is_transient())
    }
}

pub(super) async fn reconcile(
    guarded: Arc<Guarded>,
    worker: Arc<Worker>,
) -> Result<Action, ReconcileError> {
    let cluster = match &guarded.0 {
        Ok(cluster) => cluster,
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            warn!(name, error = %invalid.error, "this EtcdCluster cannot be read; it is left alone");
            return Ok(Action::await_change());
        }
    };
    let started = Instant::now();
    let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let due = worker.context.due.lock().remove(&key);
    let metrics = &worker.context.metrics;
    // One that was woken up before is not late.
    metrics.begins(due.and_then(|due| started.checked_duration_since(due)));
    let turn = timeout(TIME_LIMIT, Box::pin(worker.turn(cluster))).await;
    let result = turn.unwrap_or(Err(ReconcileError::TimeLimit));
    let outcome = match &result {
        Ok((_, outcome)) => *outcome,
        Err(error) if error.is_transient() => ReconcileOutcome::Conflict,
        Err(_) => ReconcileOutcome::Error,
    };
    metrics.reconciled(started.elapsed(), outcome);
    let (after, _) = result?;
    let Some(after) = after else {
        return Ok(Action::await_change());
    };
    let after = spread(after, Timestamp::now());
    worker
        .context
        .due
        .lock()
        .insert(key, Instant::now() + after);
    Ok(Action::requeue(after))
}

/// A long wait made a fifth shorter or longer, so that a thousand clusters that were
/// first looked at together are not looked at together for ever.
fn spread(wait: Duration, now: Timestamp) -> Duration {
    if wait < Duration::from_secs(10) {
        return wait;
    }
    let thousandths = now.subsec_nanosecond().unsigned_abs() / 1000 % 400;
    wait * (800 + thousandths) / 1000
}

pub(super) fn error_policy(
    guarded: Arc<Guarded>,
    error: &ReconcileError,
    _: Arc<Worker>,
) -> Action {
    let name = guarded.name_any();
    let conflict = error.is_transient();
    if !conflict {
        warn!(%name, error = causes(error), "will try again");
    }
    Action::requeue(if conflict {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(5)
    })
}

impl Worker {
    /// How long until the next look, if there is one, and how this one went.
    async fn turn(
        &self,
        cached: &EtcdCluster,
    ) -> Result<(Option<Duration>, ReconcileOutcome), ReconcileError> {
        let mut around = Around {
            worker: self,
            namespace: cached.namespace().unwrap_or_default(),
            name: cached.name_any(),
            outcome: ReconcileOutcome::Working,
            steady: false,
        };
        let turned = Box::pin(turn(&mut around, cached, &self.context.settings)).await;
        match turned? {
            Turn::Again(after) if around.steady => {
                let clusters = self.context.due.lock().len();
                Ok((Some(after.max(steady_wait(clusters))), around.outcome))
            }
            Turn::Again(after) => Ok((Some(after), around.outcome)),
            Turn::Gone => {
                self.context.forget(&around.namespace, &around.name);
                self.observer.forget(&around.namespace, &around.name);
                Ok((None, ReconcileOutcome::Gone))
            }
        }
    }

    async fn event(
        &self,
        cluster: &EtcdCluster,
        type_: EventType,
        reason: &str,
        member: Option<&str>,
        note: &str,
    ) {
        let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let what = format!("{reason} {} {note}", member.unwrap_or_default());
        let told = &self.context.told;
        if !told.is_news(&namespace, &name, &what, Instant::now()) {
            return;
        }
        // Events of one reason are counted together, unless they are about different
        // objects: so each member's are told apart.
        let secondary = member.map(|member| ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("StatefulSet".to_owned()),
            name: Some(member.to_owned()),
            namespace: cluster.metadata.namespace.clone(),
            ..ObjectReference::default()
        });
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: reason.to_owned(),
            secondary,
        };
        if let Err(error) = self
            .context
            .recorder
            .publish(&event, &cluster.object_ref(&()))
            .await
        {
            warn!(%error, "an event could not be published");
        }
    }
}

/// The real world around one cluster.
struct Around<'a> {
    worker: &'a Worker,
    namespace: String,
    name: String,
    /// What the status says that is about to be written.
    outcome: ReconcileOutcome,
    /// Whether it has said so for a while.
    steady: bool,
}

impl Surroundings for Around<'_> {
    type Error = ReconcileError;

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn cluster(&mut self) -> Result<Option<EtcdCluster>, ReconcileError> {
        let client = self.worker.context.client.clone();
        let api: Api<EtcdCluster> = Api::namespaced(client, &self.namespace);
        let live = api.get_opt(&self.name).await;
        live.map_err(|error| ReconcileError::Read(Box::new(error)))
    }

    async fn observe(
        &mut self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> Result<Observed, ReconcileError> {
        Ok(self.worker.observer.observe(cluster, source).await?)
    }

    async fn write_status(
        &mut self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> Result<(), ReconcileError> {
        let applier = &self.worker.context.applier;
        Ok(applier.write_status(cluster, status).await?)
    }

    async fn call(
        &mut self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        call: &Call,
    ) -> Result<Reply, ReconcileError> {
        let applier = &self.worker.context.applier;
        Ok(applier.call(cluster, observed, call).await?)
    }

    fn may_volunteer(&mut self, plan: &Plan) -> bool {
        let volunteers = &self.worker.context.volunteers;
        volunteers.may(&self.namespace, &self.name, plan)
    }

    /// Metrics, and events for conditions that turned.
    async fn announce(&mut self, cluster: &EtcdCluster, after: &EtcdClusterStatus) {
        let (namespace, name) = (&self.namespace, &self.name);
        if is(after, ConditionType::Ready) {
            self.outcome = ReconcileOutcome::Settled;
            self.steady = is_steady(after, Timestamp::now());
        }
        let metrics = &self.worker.context.metrics;
        if let Some(before) = metrics.cluster(namespace, cluster, after, Timestamp::now()) {
            let leader = after.leader.as_deref().unwrap_or_default();
            info!(namespace, name, leader, before, "another member leads");
        }
        for news in news(cluster.status.as_ref(), after) {
            let kind = if news.warning {
                EventType::Warning
            } else {
                EventType::Normal
            };
            info!(
                namespace = self.namespace,
                name = self.name,
                condition = news.reason,
                message = news.message,
                "condition changed"
            );
            self.worker
                .event(cluster, kind, &news.reason, None, &news.message)
                .await;
        }
    }

    fn hold(&mut self, next: &Plan) -> Option<Duration> {
        let fights = &self.worker.context.fights;
        let now = std::time::Instant::now();
        let pause = fights.hold(&self.namespace, &self.name, &what(next), now)?;
        let (namespace, name, step) = (&self.namespace, &self.name, next.step.name());
        let reason = &next.reason;
        warn!(
            namespace,
            name,
            step,
            reason,
            ?pause,
            "someone undoes this step time and again"
        );
        Some(pause)
    }

    /// Counts the step, logs it, and makes an event of it.
    async fn stepped(
        &mut self,
        cluster: &EtcdCluster,
        next: &Plan,
        result: &Result<(), StepError<ReconcileError>>,
    ) {
        let (namespace, name) = (&self.namespace, &self.name);
        let (step, reason) = (next.step.name(), &next.reason);
        self.worker.context.metrics.step(step, result.is_err());
        let (kind, title, note) = match result {
            Ok(()) => {
                let fights = &self.worker.context.fights;
                fights.done(namespace, name, &what(next), std::time::Instant::now());
                info!(namespace, name, step, reason, "step");
                (EventType::Normal, step, reason.clone())
            }
            Err(error) if error.is_transient() => {
                info!(namespace, name, step, reason, %error, "step not done yet");
                return;
            }
            Err(error) => {
                warn!(namespace, name, step, reason, %error, "step failed");
                let note = format!("{reason}: {}", causes(error));
                (EventType::Warning, "StepFailed", note)
            }
        };
        self.worker
            .event(cluster, kind, title, next.step.member(), &note)
            .await;
    }
}

/// Whether nothing has turned for a while.
fn is_steady(status: &EtcdClusterStatus, now: Timestamp) -> bool {
    let latest = status.conditions.iter().map(|c| c.last_transition_time.0);
    latest
        .max()
        .is_some_and(|turned| now.as_second() - turned.as_second() >= STEADY.as_secs() as i64)
}

/// How long until the next look at a steady cluster, beside so many others.
fn steady_wait(clusters: usize) -> Duration {
    let clusters = u32::try_from(clusters).unwrap_or(u32::MAX);
    STEADY_WAIT.max(Duration::from_secs(1) / STEADY_LOOKS * clusters)
}

impl Context {
    /// A cluster is no more: nothing is kept for it.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.metrics.forget(namespace, name);
        self.told.forget(namespace, name);
        self.fights.forget(namespace, name);
        self.volunteers.forget(namespace, name);
        let key = (namespace.to_owned(), name.to_owned());
        self.due.lock().remove(&key);
    }
}

/// What is told apart from other steps.
fn what(plan: &Plan) -> String {
    format!("{}: {}", plan.step.name(), plan.reason)
}

fn is(status: &EtcdClusterStatus, type_: ConditionType) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == type_.as_str() && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_waits_are_spread_and_short_ones_are_not() {
        let at = |nanosecond| Timestamp::new(1, nanosecond).unwrap();
        let wait = Duration::from_secs(100);
        assert_eq!(spread(wait, at(0)), Duration::from_secs(80));
        assert_eq!(spread(wait, at(399_000)), Duration::from_millis(119_900));
        let short = Duration::from_secs(2);
        assert_eq!(spread(short, at(399_000)), short);
    }

    #[test]
    fn steady_clusters_are_looked_at_ten_times_a_second_all_together_or_less() {
        for (clusters, seconds) in [(0, 60), (100, 60), (600, 60), (1000, 100), (6000, 600)] {
            assert_eq!(steady_wait(clusters).as_secs(), seconds, "{clusters}");
        }
    }

    #[test]
    fn a_cluster_is_steady_when_no_condition_has_turned_for_a_while() {
        let status: EtcdClusterStatus = serde_json::from_value(serde_json::json!({
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "AsSpecified", "message": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Paused", "status": "False", "reason": "NotPaused", "message": "",
                 "lastTransitionTime": "2026-01-01T00:01:00Z"}
            ]
        }))
        .unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!is_steady(&status, at("2026-01-01T00:02:30Z")));
        assert!(is_steady(&status, at("2026-01-01T00:03:00Z")));
        assert!(!is_steady(
            &EtcdClusterStatus::default(),
            at("2026-01-01T00:03:00Z")
        ));
    }
}

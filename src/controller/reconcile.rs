//! One turn for one cluster: look, plan; if something is to be done, look again at
//! the API server itself, plan again, do it; then tell.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::{Event, EventType, Reporter},
    },
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    api::{ConditionType, EtcdCluster, EtcdClusterStatus},
    apply::ApplyError,
    causes::causes,
    observe::{ObserveError, Observer, Source},
    plan::{Plan, Step, plan},
    status::{LAST_ATTEMPT, Outcome, status},
};

use super::{Context, streams::Guarded};

/// A reconcile that takes longer is cut off; every step is safe to be.
const TIME_LIMIT: Duration = Duration::from_secs(60);

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
    /// Status could not be written.
    #[error(transparent)]
    Status(ApplyError),
    /// It took too long.
    #[error("took longer than {} s", TIME_LIMIT.as_secs())]
    TimeLimit,
}

/// Who events say they come from.
pub(super) fn reporter(identity: &str) -> Reporter {
    Reporter {
        controller: "etcd-operator".to_owned(),
        instance: Some(identity.to_owned()),
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
    let turn = timeout(TIME_LIMIT, worker.turn(cluster)).await;
    let result = turn.unwrap_or(Err(ReconcileError::TimeLimit));
    worker
        .context
        .metrics
        .reconciled(started.elapsed(), result.is_err());
    result
}

pub(super) fn error_policy(
    guarded: Arc<Guarded>,
    error: &ReconcileError,
    _: Arc<Worker>,
) -> Action {
    let name = guarded.name_any();
    let conflict = matches!(error, ReconcileError::Status(error) if error.is_transient());
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
    async fn turn(&self, cached: &EtcdCluster) -> Result<Action, ReconcileError> {
        let settings = &self.context.settings;
        let namespace = cached.namespace().unwrap_or_default();
        let name = cached.name_any();
        let mut cluster = cached.clone();
        let mut observed = self.observer.observe(&cluster, Source::Cache).await?;
        let mut next = plan(&cluster, &observed, settings, Timestamp::now());
        if next.step != Step::None {
            // Never act on a cache: look at the API server, and decide again.
            let api: Api<EtcdCluster> = Api::namespaced(self.context.client.clone(), &namespace);
            let live = api.get_opt(&name).await;
            let Some(live) = live.map_err(|error| ReconcileError::Read(Box::new(error)))? else {
                self.context.metrics.forget(&namespace, &name);
                return Ok(Action::await_change());
            };
            cluster = live;
            observed = self.observer.observe(&cluster, Source::Live).await?;
            next = plan(&cluster, &observed, settings, Timestamp::now());
        }
        if cluster.metadata.deletion_timestamp.is_some() {
            self.context.metrics.forget(&namespace, &name);
            return Ok(Action::await_change());
        }
        // Told before it is done: what was observed is older than what the step makes.
        let before = cluster.status.clone();
        let told = |cluster: &EtcdCluster, outcome: &Outcome| {
            status(
                cluster,
                &observed,
                &next,
                outcome,
                settings,
                Timestamp::now(),
            )
        };
        // A step that failed the last time is told with that, until it succeeds.
        let after = told(&cluster, &last_failure(before.as_ref(), &next));
        let ready = is(&after, ConditionType::Ready);
        self.context.metrics.cluster(
            &namespace,
            &name,
            ready,
            after.replicas,
            after.ready_replicas,
        );
        self.announce(&cluster, before.as_ref(), &after).await;
        let written = self.context.applier.write_status(&mut cluster, after).await;
        written.map_err(ReconcileError::Status)?;
        if next.step == Step::None {
            return Ok(Action::requeue(next.patience()));
        }
        let planned = cluster.clone();
        let outcome = self.carry_out(&mut cluster, &observed, &next).await;
        if outcome.error.is_none() {
            return Ok(Action::requeue(next.patience()));
        }
        // What the step has recorded on its way stays; only the tale of it changes.
        let failed = told(&planned, &outcome);
        let memory = cluster.status.clone().unwrap_or_default();
        let after = EtcdClusterStatus {
            phase: failed.phase,
            plan: failed.plan,
            conditions: failed.conditions,
            ..memory
        };
        let written = self.context.applier.write_status(&mut cluster, after).await;
        written.map_err(ReconcileError::Status)?;
        Ok(Action::requeue(Duration::from_secs(2)))
    }

    /// Carries out the plan's step, counts it, logs it, and makes an event of it.
    async fn carry_out(
        &self,
        cluster: &mut EtcdCluster,
        observed: &crate::observe::Observed,
        next: &Plan,
    ) -> Outcome {
        if next.step == Step::None {
            return Outcome::default();
        }
        let step = next.step.name();
        let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let result = self
            .context
            .applier
            .apply(cluster, observed, &next.step)
            .await;
        self.context.metrics.step(step, result.is_err());
        match result {
            Ok(()) => {
                info!(namespace, name, step, reason = next.reason, "step");
                self.event(
                    cluster,
                    EventType::Normal,
                    step,
                    next.step.member(),
                    &next.reason,
                )
                .await;
                Outcome::default()
            }
            Err(error) => {
                if error.is_transient() {
                    info!(namespace, name, step, reason = next.reason, %error, "step not done yet");
                } else {
                    warn!(namespace, name, step, reason = next.reason, %error, "step failed");
                    let note = format!("{}: {}", next.reason, causes(&error));
                    self.event(
                        cluster,
                        EventType::Warning,
                        "StepFailed",
                        next.step.member(),
                        &note,
                    )
                    .await;
                }
                Outcome {
                    error: Some(causes(&error)),
                }
            }
        }
    }

    /// Events for conditions that turned.
    async fn announce(
        &self,
        cluster: &EtcdCluster,
        before: Option<&EtcdClusterStatus>,
        after: &EtcdClusterStatus,
    ) {
        let turned = |type_| is(after, type_) && !before.is_some_and(|before| is(before, type_));
        let message = |type_: ConditionType| {
            let found = after.conditions.iter().find(|c| c.type_ == type_.as_str());
            found.map(|c| c.message.clone()).unwrap_or_default()
        };
        for (type_, kind) in [
            (ConditionType::Ready, EventType::Normal),
            (ConditionType::Stalled, EventType::Warning),
            (ConditionType::QuorumLost, EventType::Warning),
            (ConditionType::Degraded, EventType::Warning),
        ] {
            if turned(type_) {
                let text = message(type_);
                info!(
                    name = cluster.name_any(),
                    condition = type_.as_str(),
                    message = text,
                    "turned true"
                );
                self.event(cluster, kind, type_.as_str(), None, &text).await;
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

/// How `next` failed the last time, if the same was tried and told then.
fn last_failure(before: Option<&EtcdClusterStatus>, next: &Plan) -> Outcome {
    let told = before.and_then(|status| status.plan.as_ref());
    let error = told
        .filter(|told| next.step != Step::None && told.step == next.step.name())
        .and_then(|told| told.reason.strip_prefix(&next.reason))
        .and_then(|rest| rest.strip_prefix(LAST_ATTEMPT));
    Outcome {
        error: error.map(str::to_owned),
    }
}

fn is(status: &EtcdClusterStatus, type_: ConditionType) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == type_.as_str() && c.status == "True")
}

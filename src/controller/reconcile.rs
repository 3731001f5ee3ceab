//! The turns of the loop in the real world, with their events, logs and metrics.

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
    observe::{ObserveError, Observed, Observer, Source},
    plan::{Call, Plan, Reply},
    turn::{Fault, StepError, Surroundings, Turn, turn},
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

    fn is_transient(&self) -> bool {
        matches!(self, ReconcileError::Write(error) if error.is_transient())
    }
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
    async fn turn(&self, cached: &EtcdCluster) -> Result<Action, ReconcileError> {
        let mut around = Around {
            worker: self,
            namespace: cached.namespace().unwrap_or_default(),
            name: cached.name_any(),
        };
        match turn(&mut around, cached, &self.context.settings).await? {
            Turn::Again(after) => Ok(Action::requeue(after)),
            Turn::Gone => {
                let (namespace, name) = (&around.namespace, &around.name);
                self.context.metrics.forget(namespace, name);
                Ok(Action::await_change())
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

/// The real world around one cluster.
struct Around<'a> {
    worker: &'a Worker,
    namespace: String,
    name: String,
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

    /// Metrics, and events for conditions that turned.
    async fn announce(&mut self, cluster: &EtcdCluster, after: &EtcdClusterStatus) {
        self.worker.context.metrics.cluster(
            &self.namespace,
            &self.name,
            is(after, ConditionType::Ready),
            after.replicas,
            after.ready_replicas,
        );
        let before = cluster.status.as_ref();
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
                self.worker
                    .event(cluster, kind, type_.as_str(), None, &text)
                    .await;
            }
        }
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

fn is(status: &EtcdClusterStatus, type_: ConditionType) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == type_.as_str() && c.status == "True")
}

//! Turns of backups, schedules and restores in the real world, with their events, logs
//! and metrics.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore, LABEL_RUN_OF, LABEL_SCHEDULE},
    apply::{ApplyError, Owner},
    causes::causes,
    jobs::turn::{Object, Surroundings, turn},
    observe::{ObserveError, Observer, Source},
    plan::Call,
    render::run_of,
    turn::Fault,
};

use super::Context;

/// A turn that takes longer is cut off; every step is safe to be.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What the turns of these kinds share.
pub(super) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) observer: Observer,
    pub(super) concurrency: u16,
}

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The world could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The object itself could not be read.
    #[error("cannot read the object: {0}")]
    Read(Box<kube::Error>),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] ApplyError),
    /// It took too long.
    #[error("took longer than {} s", TIME_LIMIT.as_secs())]
    TimeLimit,
}

impl Fault for JobError {
    fn is_gone(&self) -> bool {
        matches!(self, JobError::Write(error) if error.is_gone())
    }

    fn is_refused(&self) -> bool {
        matches!(self, JobError::Write(error) if error.is_refused())
    }

    fn is_transient(&self) -> bool {
        matches!(self, JobError::Write(error) if error.is_transient())
    }

    fn is_terminating(&self) -> bool {
        matches!(self, JobError::Write(error) if error.is_terminating())
    }
}

/// A kind of these, and how it is looked at.
pub(super) trait Kept:
    Object<Status: Serialize>
    + Resource<Scope = NamespaceResourceScope>
    + DeserializeOwned
    + std::fmt::Debug
    + 'static
{
    /// Everything around it.
    fn look(
        &self,
        observer: &Observer,
        source: Source,
    ) -> impl Future<Output = Result<Self::Observed, ObserveError>> + Send;

    /// Label and value of what it makes and does not own.
    fn label(&self) -> (&'static str, String);

    /// Tells the metrics what was seen.
    fn measure(&self, _observed: &Self::Observed, _context: &Context) {}

    /// Tells the metrics.
    fn count(&self, _after: &Self::Status, _context: &Context) {}

    /// Tells the metrics that it is gone.
    fn uncount(_namespace: &str, _name: &str, _context: &Context) {}
}

impl Kept for EtcdBackup {
    async fn look(
        &self,
        observer: &Observer,
        source: Source,
    ) -> Result<Self::Observed, ObserveError> {
        observer.around_backup(self, source).await
    }

    fn label(&self) -> (&'static str, String) {
        (LABEL_RUN_OF, run_of("backup", &self.name_any()))
    }

    fn measure(&self, observed: &Self::Observed, context: &Context) {
        // It may outlive its cluster, of which there is nothing to tell then.
        if observed.cluster.is_some() {
            context.metrics.backups().seen(self);
        }
    }

    fn count(&self, after: &Self::Status, context: &Context) {
        context.metrics.backups().told(self, after);
    }
}

impl Kept for EtcdBackupSchedule {
    async fn look(
        &self,
        observer: &Observer,
        source: Source,
    ) -> Result<Self::Observed, ObserveError> {
        observer.around_schedule(self, source).await
    }

    fn label(&self) -> (&'static str, String) {
        (LABEL_SCHEDULE, self.name_any())
    }

    fn measure(&self, observed: &Self::Observed, context: &Context) {
        let namespace = self.namespace().unwrap_or_default();
        let progress = observed
            .follower
            .as_ref()
            .and_then(|it| it.progress.as_ref());
        match progress.and_then(|it| it.following.as_ref()) {
            Some(it) => {
                let backups = context.metrics.backups();
                backups.lags(&namespace, &self.name_any(), it.lag_seconds);
            }
            None if self.spec.increments.is_none() => {
                Self::uncount(&namespace, &self.name_any(), context);
            }
            None => {}
        }
    }

    fn uncount(namespace: &str, name: &str, context: &Context) {
        context.metrics.backups().forget_schedule(namespace, name);
    }
}

impl Kept for EtcdRestore {
    async fn look(
        &self,
        observer: &Observer,
        source: Source,
    ) -> Result<Self::Observed, ObserveError> {
        observer.around_restore(self, source).await
    }

    fn label(&self) -> (&'static str, String) {
        (LABEL_RUN_OF, run_of("restore", &self.name_any()))
    }
}

pub(super) async fn reconcile<K: Kept>(
    guarded: Arc<DeserializeGuard<K>>,
    worker: Arc<Worker>,
) -> Result<Action, JobError> {
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            let kind = K::kind(&());
            warn!(%kind, name, error = %invalid.error, "this cannot be read; it is left alone");
            return Ok(Action::await_change());
        }
    };
    let mut around = Around {
        worker: &worker,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    let settings = &worker.context.settings;
    let turn = timeout(TIME_LIMIT, turn::<K, _>(&mut around, object, settings)).await;
    match turn.unwrap_or(Err(JobError::TimeLimit))? {
        Some(again) => Ok(Action::requeue(again)),
        None => Ok(Action::await_change()),
    }
}

pub(super) fn error_policy<K: Kept>(
    guarded: Arc<DeserializeGuard<K>>,
    error: &JobError,
    _: Arc<Worker>,
) -> Action {
    let (kind, name) = (K::kind(&()), guarded.name_any());
    let conflict = error.is_transient();
    if !conflict {
        warn!(%kind, %name, error = causes(error), "will try again");
    }
    Action::requeue(if conflict {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(5)
    })
}

impl Worker {
    /// An object is no more: nothing is kept for it.
    pub(super) fn forget<K: Kept>(&self, namespace: &str, name: &str) {
        let key = format!("{}/{name}", K::kind(&()));
        self.context.told.forget(namespace, &key);
        K::uncount(namespace, name, &self.context);
    }

    async fn event<K: Kept>(&self, object: &K, warning: bool, reason: &str, note: &str) {
        let key = format!("{}/{}", K::kind(&()), object.name_any());
        let namespace = object.namespace().unwrap_or_default();
        let what = format!("{reason} {note}");
        if !self
            .context
            .told
            .is_news(&namespace, &key, &what, Instant::now())
        {
            return;
        }
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        let whom = object.object_ref(&());
        if let Err(error) = self.context.recorder.publish(&event, &whom).await {
            warn!(%error, "an event could not be published");
        }
    }
}

/// The real world around one object.
struct Around<'a> {
    worker: &'a Worker,
    namespace: String,
    name: String,
}

impl<K: Kept> Surroundings<K> for Around<'_> {
    type Error = JobError;

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn object(&mut self) -> Result<Option<K>, JobError> {
        let client = self.worker.context.client.clone();
        let api: Api<K> = Api::namespaced(client, &self.namespace);
        let live = api.get_opt(&self.name).await;
        live.map_err(|error| JobError::Read(Box::new(error)))
    }

    async fn observe(&mut self, object: &K, source: Source) -> Result<K::Observed, JobError> {
        let observed = object.look(&self.worker.observer, source).await?;
        object.measure(&observed, &self.worker.context);
        Ok(observed)
    }

    async fn write_status(&mut self, object: &mut K, status: K::Status) -> Result<(), JobError> {
        let applier = &self.worker.context.applier;
        Ok(applier.write_status_of(object, &status).await?)
    }

    async fn call(&mut self, object: &K, call: &Call) -> Result<(), JobError> {
        let label = object.label();
        let owner = Owner {
            namespace: &self.namespace,
            uid: object.meta().uid.as_deref(),
            label: (label.0, &label.1),
        };
        Ok(self.worker.context.applier.object(&owner, call).await?)
    }

    async fn announce(&mut self, object: &K, after: &K::Status) {
        object.count(after, &self.worker.context);
        let mut before = object.told().cloned();
        let before = before.as_mut().map(|it| K::conditions(it).clone());
        let mut after = after.clone();
        for (warning, condition) in news(before.as_deref(), K::conditions(&mut after)) {
            let (kind, name, namespace) = (K::kind(&()), &self.name, &self.namespace);
            let (type_, reason, message) =
                (&condition.type_, &condition.reason, &condition.message);
            info!(%kind, namespace, name, type_, reason, message, "condition changed");
            let note = if message.is_empty() {
                reason.clone()
            } else {
                format!("{reason}: {message}")
            };
            self.worker.event(object, warning, type_, &note).await;
        }
    }

    async fn stepped(&mut self, object: &K, why: &str, result: Result<(), &str>) {
        let (kind, name, namespace) = (K::kind(&()), &self.name, &self.namespace);
        match result {
            Ok(()) => {
                info!(%kind, namespace, name, why, "step");
                self.worker.event(object, false, "Step", why).await;
            }
            Err(error) => {
                warn!(%kind, namespace, name, why, error, "step failed");
                let note = format!("{why}: {error}");
                self.worker.event(object, true, "StepFailed", &note).await;
            }
        }
    }
}

/// Conditions that a person hears of, and whether each is a warning.
fn news<'a>(before: Option<&[Condition]>, after: &'a [Condition]) -> Vec<(bool, &'a Condition)> {
    let told = |condition: &&Condition| {
        let was = before
            .into_iter()
            .flatten()
            .find(|c| c.type_ == condition.type_);
        let turned = was.is_none_or(|was| was.status != condition.status);
        let other = was.is_some_and(|was| was.reason != condition.reason);
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "True") | ("Stalled", "True") => turned || other,
            ("Verified" | "Continuous", "True") => turned && was.is_some(),
            ("Verified" | "Continuous", "False") => was.is_some_and(|was| was.status == "True"),
            _ => false,
        }
    };
    let warns = |condition: &Condition| match condition.type_.as_str() {
        "Stalled" => true,
        "Ready" => false,
        _ => condition.status == "False",
    };
    let told = after.iter().filter(told);
    told.map(|condition| (warns(condition), condition))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition((type_, status, reason): (&str, &str, &str)) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }
    }

    #[test]
    fn what_became_of_a_backup_is_an_event_once() {
        // Before, after; whether it is told, and whether as a warning.
        let ready = |status, reason| ("Ready", status, reason);
        let verified = |status| ("Verified", status, "Restore");
        for (before, after, told) in [
            (None, ready("True", "Stored"), Some(false)),
            (
                Some(ready("False", "Reconciling")),
                ready("True", "Stored"),
                Some(false),
            ),
            (Some(ready("True", "Stored")), ready("True", "Stored"), None),
            (
                Some(ready("True", "Stored")),
                ready("False", "Reconciling"),
                None,
            ),
            (None, ("Stalled", "True", "NoSuchBucket"), Some(true)),
            (
                Some(("Stalled", "True", "NoSuchBucket")),
                ("Stalled", "True", "AccessDenied"),
                Some(true),
            ),
            (
                Some(("Stalled", "True", "X")),
                ("Stalled", "False", "NotStalled"),
                None,
            ),
            // A proof that is lost is a warning, one that was never there is no news.
            (Some(verified("Unknown")), verified("True"), Some(false)),
            (Some(verified("True")), verified("False"), Some(true)),
            (Some(verified("Unknown")), verified("False"), None),
            (
                Some(("Continuous", "True", "Following")),
                ("Continuous", "False", "Behind"),
                Some(true),
            ),
            (None, ("Continuous", "False", "Starting"), None),
            (None, ("Reconciling", "True", "Running"), None),
        ] {
            let previous = before.map(|it| vec![condition(it)]);
            let now = [condition(after)];
            let found = news(previous.as_deref(), &now);
            let found = found.first().map(|(warning, _)| *warning);
            assert_eq!(found, told, "{before:?} -> {after:?}");
        }
    }
}

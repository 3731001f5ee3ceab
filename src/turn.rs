//! One turn for one cluster: look, plan; if something is to be done, look again at
//! the API server itself, plan again, tell it, do it; if that failed, tell that.
//!
//! The controller takes its turns in the real world, the simulation in its model:
//! whatever surrounds the loop is behind [`Surroundings`].

use std::{error::Error, future::Future, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{EtcdCluster, EtcdClusterStatus},
    causes::causes,
    observe::{Observed, Source},
    plan::{Call, Plan, Reply, Step, calls, plan},
    render::Settings,
    status::{LAST_ATTEMPT, Outcome, status},
};

/// What a turn reads, writes and tells.
pub(crate) trait Surroundings: Send {
    /// Why a read or a call failed.
    type Error: Fault;

    /// The time.
    fn now(&self) -> Timestamp;

    /// The cluster as the API server has it; `None` if it is gone.
    fn cluster(&mut self) -> impl Future<Output = Result<Option<EtcdCluster>, Self::Error>> + Send;

    /// Everything around `cluster`.
    fn observe(
        &mut self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> impl Future<Output = Result<Observed, Self::Error>> + Send;

    /// Writes `status`, if `cluster` still is what it was when it was read, and
    /// brings `cluster` up to date.
    fn write_status(
        &mut self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes a call of a step. One that records something brings `cluster` up to date.
    fn call(
        &mut self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        call: &Call,
    ) -> impl Future<Output = Result<Reply, Self::Error>> + Send;

    /// Whether the plan may go on, if it is for the operator's own sake: not too many
    /// clusters are restarted for that at a time.
    fn may_volunteer(&mut self, _plan: &Plan) -> bool {
        true
    }

    /// Hears of the status that is about to replace `cluster`'s.
    fn announce(
        &mut self,
        cluster: &EtcdCluster,
        after: &EtcdClusterStatus,
    ) -> impl Future<Output = ()> + Send;

    /// How long to wait before the plan's step is done once more, because it was just
    /// done and undone, time and again.
    fn hold(&mut self, _: &Plan) -> Option<Duration> {
        None
    }

    /// Hears how a step went.
    fn stepped(
        &mut self,
        cluster: &EtcdCluster,
        plan: &Plan,
        result: &Result<(), StepError<Self::Error>>,
    ) -> impl Future<Output = ()> + Send;
}

/// What a turn must know of an error.
pub(crate) trait Fault: Error + Send + Sync + 'static {
    /// Whether the very object of a patch is not there, for certain.
    fn is_gone(&self) -> bool;
    /// Whether the API server refused what a call asks for, and will again.
    fn is_refused(&self) -> bool;
    /// Whether it is only a matter of looking again.
    fn is_transient(&self) -> bool;
    /// Whether the API server makes nothing in the namespace any more: it is going away.
    fn is_terminating(&self) -> bool {
        false
    }
}

/// Why a step was not carried out, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError<E: Fault> {
    /// The world has to catch up first.
    #[error("{0}")]
    NotYet(String),
    /// A call failed.
    #[error(transparent)]
    Call(E),
}

impl<E: Fault> StepError<E> {
    /// Whether it is only a matter of looking again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            StepError::NotYet(_) => true,
            StepError::Call(error) => error.is_transient(),
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The cluster is gone, or going.
    Gone,
    /// Look again after this time, if nothing happens before.
    Again(Duration),
}

/// Takes a turn for the cluster that the cache holds as `cached`.
pub(crate) async fn turn<S: Surroundings>(
    around: &mut S,
    cached: &EtcdCluster,
    settings: &Settings,
) -> Result<Turn, S::Error> {
    let mut cluster = cached.clone();
    let mut observed = around.observe(&cluster, Source::Cache).await?;
    let mut next = plan(&cluster, &observed, settings, around.now());
    if next.step != Step::None {
        if let Some(pause) = around.hold(&next) {
            return Ok(Turn::Again(pause));
        }
        // Never act on a cache: look at the API server, and decide again.
        let Some(live) = around.cluster().await? else {
            return Ok(Turn::Gone);
        };
        cluster = live;
        observed = around.observe(&cluster, Source::Live).await?;
        next = plan(&cluster, &observed, settings, around.now());
    }
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Turn::Gone);
    }
    if !around.may_volunteer(&next) {
        next = next.held_back();
    }
    // Told before it is done: what was observed is older than what the step makes.
    let told = |cluster: &EtcdCluster, outcome: &Outcome, now| {
        status(cluster, &observed, &next, outcome, settings, now)
    };
    // A step that failed the last time is told with that, until it succeeds.
    let failure = last_failure(cluster.status.as_ref(), &next);
    let after = told(&cluster, &failure, around.now());
    around.announce(&cluster, &after).await;
    around.write_status(&mut cluster, after).await?;
    if next.step == Step::None {
        return Ok(Turn::Again(next.patience()));
    }
    let planned = cluster.clone();
    let result = carry_out(around, &mut cluster, &observed, settings, &next.step).await;
    around.stepped(&cluster, &next, &result).await;
    let Err(error) = result else {
        return Ok(Turn::Again(next.patience()));
    };
    let outcome = Outcome {
        error: Some(causes(&error)),
    };
    let failed = told(&planned, &outcome, around.now());
    // What the step has recorded on its way stays; only the tale of it changes.
    let memory = cluster.status.clone().unwrap_or_default();
    let after = EtcdClusterStatus {
        phase: failed.phase,
        plan: failed.plan,
        conditions: failed.conditions,
        ..memory
    };
    around.write_status(&mut cluster, after).await?;
    Ok(Turn::Again(Duration::from_secs(2)))
}

/// Makes the calls of `step`, until one fails.
async fn carry_out<S: Surroundings>(
    around: &mut S,
    cluster: &mut EtcdCluster,
    observed: &Observed,
    settings: &Settings,
    step: &Step,
) -> Result<(), StepError<S::Error>> {
    let calls = calls(cluster, observed, settings, step).map_err(StepError::NotYet)?;
    for call in calls {
        let result = around.call(cluster, observed, &call).await;
        let (then, result) = match result {
            Ok(reply) => (call.consequence(reply), Ok(())),
            Err(error) if error.is_gone() => (call.otherwise().cloned(), Err(error)),
            Err(error) if error.is_refused() => {
                let record = call.refused(around.now(), &causes(&error));
                (record, Err(error))
            }
            Err(error) => (None, Err(error)),
        };
        if let Some(record) = then {
            let record = Call::Record(record);
            let recorded = around.call(cluster, observed, &record).await;
            recorded.map_err(StepError::Call)?;
        }
        result.map_err(StepError::Call)?;
    }
    Ok(())
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

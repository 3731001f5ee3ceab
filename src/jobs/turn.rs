//! One turn for one object that Jobs carry out: look, plan; before anything is done,
//! look at the API server itself and plan again; write status, then make the calls.
//!
//! As the cluster's turn, it is taken in the real world and in a simulated one.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use crate::{causes::causes, observe::Source, plan::Call, render::Settings, turn::Fault};

use super::Plan;

/// What joins a step and how it failed, in the condition Reconciling.
const LAST_ATTEMPT: &str = "; the last attempt failed: ";
/// How long until a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A kind that is carried out by Jobs.
pub(crate) trait Object: Resource<DynamicType = ()> + Clone + Send + Sync {
    /// Its status.
    type Status: Clone + PartialEq + Send + Sync;
    /// What is around it.
    type Observed: Send + Sync;

    /// Its status as it was read.
    fn told(&self) -> Option<&Self::Status>;

    /// The conditions of a status.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;

    /// What to do next.
    fn plan(
        &self,
        observed: &Self::Observed,
        settings: &Settings,
        now: Timestamp,
    ) -> Plan<Self::Status>;

    /// Notes that nothing can be made in its namespace any more.
    fn terminating(observed: &mut Self::Observed);
}

/// What a turn reads, writes and tells.
pub(crate) trait Surroundings<K: Object>: Send {
    /// Why a read or a call failed.
    type Error: Fault;

    /// The time.
    fn now(&self) -> Timestamp;

    /// The object as the API server has it; `None` if it is gone.
    fn object(&mut self) -> impl Future<Output = Result<Option<K>, Self::Error>> + Send;

    /// Everything around it.
    fn observe(
        &mut self,
        object: &K,
        source: Source,
    ) -> impl Future<Output = Result<K::Observed, Self::Error>> + Send;

    /// Writes `status`, if `object` still is what it was when it was read, and brings
    /// `object` up to date.
    fn write_status(
        &mut self,
        object: &mut K,
        status: K::Status,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes a call.
    fn call(
        &mut self,
        object: &K,
        call: &Call,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Hears of the status that is about to replace the object's.
    fn announce(&mut self, object: &K, after: &K::Status) -> impl Future<Output = ()> + Send;

    /// Hears how the calls went; the error in words.
    fn stepped(
        &mut self,
        object: &K,
        why: &str,
        result: Result<(), &str>,
    ) -> impl Future<Output = ()> + Send;
}

/// Takes a turn for the object that the cache holds as `cached`. How long until the
/// next; `None` if it is gone.
pub(crate) async fn turn<K: Object, S: Surroundings<K>>(
    around: &mut S,
    cached: &K,
    settings: &Settings,
) -> Result<Option<Duration>, S::Error> {
    let mut object = cached.clone();
    let mut observed = around.observe(&object, Source::Cache).await?;
    let mut next = object.plan(&observed, settings, around.now());
    if next.is_weighty(object.told()) {
        let Some(live) = around.object().await? else {
            return Ok(None);
        };
        object = live;
        observed = around.observe(&object, Source::Live).await?;
        next = object.plan(&observed, settings, around.now());
    }
    let failed = carry_out(around, &mut object, &next).await?;
    let Some(error) = failed else {
        return Ok(Some(next.again));
    };
    if error.is_terminating() {
        // What can be done in a namespace that goes away is less, and is done at once.
        K::terminating(&mut observed);
        let less = object.plan(&observed, settings, around.now());
        if less != next {
            carry_out(around, &mut object, &less).await?;
            return Ok(Some(less.again));
        }
    }
    Ok(Some(if error.is_transient() {
        next.again
    } else {
        AGAIN
    }))
}

/// Writes the plan's status, then makes its calls, until one fails; that failure.
async fn carry_out<K: Object, S: Surroundings<K>>(
    around: &mut S,
    object: &mut K,
    next: &Plan<K::Status>,
) -> Result<Option<S::Error>, S::Error> {
    let mut status = next.status.clone();
    keep_failure(
        object.told().cloned(),
        &mut status,
        &next.why,
        K::conditions,
    );
    if object.told() != Some(&status) {
        around.announce(object, &status).await;
        around.write_status(object, status.clone()).await?;
    }
    for call in &next.calls {
        let Err(error) = around.call(object, call).await else {
            continue;
        };
        let words = causes(&error);
        around.stepped(object, &next.why, Err(&words)).await;
        if !error.is_transient() && !error.is_terminating() {
            let told = reconciling(K::conditions(&mut status));
            if let Some(told) = told {
                let text = format!("{}{LAST_ATTEMPT}{words}", next.why);
                told.message = text.chars().take(2000).collect();
            }
            around.write_status(object, status).await?;
        }
        return Ok(Some(error));
    }
    if !next.calls.is_empty() {
        around.stepped(object, &next.why, Ok(())).await;
    }
    Ok(None)
}

fn reconciling(conditions: &mut [Condition]) -> Option<&mut Condition> {
    conditions.iter_mut().find(|c| c.type_ == "Reconciling")
}

/// A step that failed the last time is told with that, until it succeeds.
fn keep_failure<S>(
    before: Option<S>,
    after: &mut S,
    why: &str,
    conditions: impl Fn(&mut S) -> &mut Vec<Condition>,
) {
    let Some(mut before) = before.filter(|_| !why.is_empty()) else {
        return;
    };
    let failed = reconciling(conditions(&mut before)).map(|c| c.message.clone());
    let failed = failed.filter(|message| {
        let rest = message.strip_prefix(why);
        rest.is_some_and(|rest| rest.starts_with(LAST_ATTEMPT))
    });
    if let (Some(message), Some(told)) = (failed, reconciling(conditions(after))) {
        told.message = message;
    }
}

impl<S: PartialEq> Plan<S> {
    /// Whether it must be founded on a live read: it makes calls, or what it tells may
    /// be more than how far a run is.
    fn is_weighty(&self, told: Option<&S>) -> bool {
        !self.calls.is_empty() || (!self.light && told != Some(&self.status))
    }
}

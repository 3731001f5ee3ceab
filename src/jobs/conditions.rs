//! Conditions of the kinds that Jobs carry out: Ready, Reconciling and Stalled, as
//! kstatus reads them, and one or two of their own.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How an object is, for the three conditions that every kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as its spec says.
    Ready(&'static str, String),
    /// It is being worked on, or waits for something that may come by itself.
    Works(String, String),
    /// Only a human can help.
    Stalled(String, String),
}

/// A condition of a kind's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Its type.
    pub(crate) type_: &'static str,
    /// Whether it is so; `None`: not known.
    pub(crate) status: Option<bool>,
    /// Reason, from a closed set.
    pub(crate) reason: String,
    /// A sentence; may be empty.
    pub(crate) message: String,
}

/// The conditions to write, with the times of those that have not turned.
pub(crate) fn conditions(
    verdict: &Verdict,
    own: &[Own],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let yes = Some(true);
    let no = Some(false);
    let (ready, reconciling, stalled) = match verdict {
        Verdict::Ready(reason, message) => (
            (yes, (*reason).to_owned(), message.clone()),
            (no, "Settled".to_owned(), String::new()),
            (no, "NotStalled".to_owned(), String::new()),
        ),
        Verdict::Works(reason, message) => (
            (no, "Reconciling".to_owned(), message.clone()),
            (yes, reason.clone(), message.clone()),
            (no, "NotStalled".to_owned(), String::new()),
        ),
        Verdict::Stalled(reason, message) => (
            (no, reason.clone(), message.clone()),
            (no, "Stalled".to_owned(), String::new()),
            (yes, reason.clone(), message.clone()),
        ),
    };
    let three = [
        ("Ready", ready),
        ("Reconciling", reconciling),
        ("Stalled", stalled),
    ];
    let three = three.map(|(type_, (status, reason, message))| Own {
        type_,
        status,
        reason,
        message,
    });
    let one = |own: &Own| {
        let status = match own.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let previous = before.iter().find(|c| c.type_ == own.type_);
        let since = previous
            .filter(|previous| previous.status == status)
            .map_or(Time(now), |previous| previous.last_transition_time.clone());
        Condition {
            type_: own.type_.to_owned(),
            status: status.to_owned(),
            reason: own.reason.clone(),
            message: own.message.chars().take(2000).collect(),
            last_transition_time: since,
            observed_generation: generation,
        }
    };
    three.iter().chain(own).map(one).collect()
}

/// The condition of that type.
pub(crate) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is true.
pub(crate) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

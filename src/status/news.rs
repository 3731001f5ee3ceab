//! Which changes of conditions a person hears of, as events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{ConditionType, EtcdClusterStatus},
    certificates::TlsReason,
};

use super::{MaintenanceWindowReason, ResizingReason};

/// A change worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether someone should look.
    pub warning: bool,
    /// The event's reason: the condition's type, or `<type>Cleared`.
    pub reason: String,
    /// What to say.
    pub message: String,
}

/// How a condition that is true is heard.
enum Sound {
    /// It is what is wanted; only its coming true is told.
    Good,
    /// It is what is wanted; its end is a warning.
    Needed,
    /// Something is wrong while it is true.
    Bad,
    /// Something is going on.
    Neutral,
    /// Nobody waits for it.
    Silent,
}

fn sound(type_: ConditionType) -> Sound {
    match type_ {
        ConditionType::Ready => Sound::Good,
        ConditionType::Available | ConditionType::TLSReady => Sound::Needed,
        ConditionType::Stalled
        | ConditionType::QuorumLost
        | ConditionType::Degraded
        | ConditionType::SpaceLow => Sound::Bad,
        ConditionType::Resizing | ConditionType::UpdatePending | ConditionType::Paused => {
            Sound::Neutral
        }
        ConditionType::BackedUp => Sound::Needed,
        // Steps have events of their own, and windows come and go.
        _ => Sound::Silent,
    }
}

/// What is new in `after`.
pub fn news(before: Option<&EtcdClusterStatus>, after: &EtcdClusterStatus) -> Vec<News> {
    fn find(status: &EtcdClusterStatus, type_: ConditionType) -> Option<&Condition> {
        let name = type_.as_str();
        status.conditions.iter().find(|c| c.type_ == name)
    }
    let changes = ConditionType::ALL.into_iter().filter_map(|type_| {
        let now = find(after, type_)?;
        let before = before.and_then(|before| find(before, type_));
        of(type_, before, now)
    });
    changes.collect()
}

fn of(type_: ConditionType, before: Option<&Condition>, now: &Condition) -> Option<News> {
    let was = before.is_some_and(|before| before.status == "True");
    let is = now.status == "True";
    let other_reason = before.is_none_or(|before| before.reason != now.reason);
    let heard = |warning: bool| News {
        warning,
        reason: type_.as_str().to_owned(),
        message: if now.message.is_empty() {
            now.reason.clone()
        } else {
            format!("{}: {}", now.reason, now.message)
        },
    };
    let cleared = |warning: bool| News {
        reason: format!("{}Cleared", type_.as_str()),
        ..heard(warning)
    };
    let refused = now.reason == ResizingReason::Refused.as_str();
    let invalid = now.reason == MaintenanceWindowReason::InvalidWindow.as_str();
    match (sound(type_), was, is) {
        (Sound::Good | Sound::Needed, false, true) => Some(heard(false)),
        // Who asked for it need not be warned of it.
        (Sound::Needed, true, false) => Some(cleared(now.reason != TlsReason::Switching.as_str())),
        (Sound::Bad, _, true) if !was || other_reason => Some(heard(true)),
        (Sound::Neutral, _, true) if !was || other_reason => Some(heard(refused)),
        (Sound::Bad | Sound::Neutral, true, false) => Some(cleared(false)),
        _ if type_ == ConditionType::MaintenanceWindow && invalid && other_reason => {
            Some(heard(true))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn status(type_: &str, value: &str, reason: &str) -> EtcdClusterStatus {
        EtcdClusterStatus {
            conditions: vec![Condition {
                type_: type_.to_owned(),
                status: value.to_owned(),
                reason: reason.to_owned(),
                message: "why".to_owned(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                observed_generation: None,
            }],
            ..EtcdClusterStatus::default()
        }
    }

    #[test]
    fn what_a_person_cares_about_is_told_once() {
        // Type, before, now; the event's reason and whether it is a warning.
        for (type_, before, now, event) in [
            (
                "Ready",
                ("False", "A"),
                ("True", "B"),
                Some(("Ready", false)),
            ),
            ("Ready", ("True", "A"), ("False", "B"), None),
            (
                "Available",
                ("True", "A"),
                ("False", "B"),
                Some(("AvailableCleared", true)),
            ),
            (
                "BackedUp",
                ("False", "NoBackup"),
                ("True", "Recent"),
                Some(("BackedUp", false)),
            ),
            (
                "BackedUp",
                ("True", "Recent"),
                ("False", "TooOld"),
                Some(("BackedUpCleared", true)),
            ),
            (
                "BackedUp",
                ("False", "NoSchedule"),
                ("False", "NoBackup"),
                None,
            ),
            (
                "Degraded",
                ("False", "A"),
                ("True", "B"),
                Some(("Degraded", true)),
            ),
            ("Degraded", ("True", "A"), ("True", "A"), None),
            (
                "Degraded",
                ("True", "A"),
                ("True", "B"),
                Some(("Degraded", true)),
            ),
            (
                "Degraded",
                ("True", "A"),
                ("False", "B"),
                Some(("DegradedCleared", false)),
            ),
            (
                "SpaceLow",
                ("False", "A"),
                ("True", "B"),
                Some(("SpaceLow", true)),
            ),
            (
                "Resizing",
                ("False", "A"),
                ("True", "Growing"),
                Some(("Resizing", false)),
            ),
            (
                "Resizing",
                ("True", "Growing"),
                ("True", "Refused"),
                Some(("Resizing", true)),
            ),
            (
                "UpdatePending",
                ("False", "A"),
                ("True", "B"),
                Some(("UpdatePending", false)),
            ),
            (
                "MaintenanceWindow",
                ("False", "Closed"),
                ("True", "Open"),
                None,
            ),
            (
                "MaintenanceWindow",
                ("False", "Closed"),
                ("False", "InvalidWindow"),
                Some(("MaintenanceWindow", true)),
            ),
            ("Reconciling", ("False", "A"), ("True", "B"), None),
        ] {
            let before = status(type_, before.0, before.1);
            let told = news(Some(&before), &status(type_, now.0, now.1));
            let told = told
                .first()
                .map(|news| (news.reason.as_str(), news.warning));
            assert_eq!(told, event, "{type_} {now:?}");
        }
        assert_eq!(news(None, &status("Degraded", "False", "A")), []);
    }
}

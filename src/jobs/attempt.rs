//! One attempt after the other: what comes of the Job on record, and when the next one
//! may begin. Recorded first, made then; one that was made and is gone is lost, and not
//! made again under its name.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{FailureStatus, JobSpec, ProgressStatus, RunKind, RunStatus},
    backup::run::{Answer, Failure, Progress, Reason},
};

use super::RunSeen;

/// Pause before the second attempt; it doubles with each.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The longest pause.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Where the attempts at something are.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // there is one at a time, and it is taken apart at once
pub(crate) enum Stage {
    /// Record this run, then make its Job.
    Begin(RunStatus),
    /// The Job of the run on record has to be made; it never was seen.
    Make(RunStatus),
    /// It is at work; the record as it is now, and what it is at in words.
    Works(RunStatus, String),
    /// It has ended: the record, and what came of it.
    Ended(RunStatus, Result<Answer, Failure>),
    /// The next attempt begins then.
    Pauses(Timestamp),
    /// There will be no other attempt.
    GivenUp,
}

/// The attempts of one object.
pub(crate) struct Attempts<'a> {
    /// The object's name.
    pub(crate) name: &'a str,
    /// The run on record.
    pub(crate) run: Option<&'a RunStatus>,
    /// How the last attempt failed.
    pub(crate) failure: Option<&'a FailureStatus>,
    /// The runs there are.
    pub(crate) seen: &'a [RunSeen],
    /// The object's own rules.
    pub(crate) rules: &'a JobSpec,
    /// The time.
    pub(crate) now: Timestamp,
}

impl Attempts<'_> {
    /// Where the attempts at `kind` are. One that has ended well is over: what comes
    /// after it is another kind, or another object.
    pub(crate) fn at(&self, kind: RunKind) -> Stage {
        let Some(run) = self.run else {
            return Stage::Begin(self.next(kind, 1));
        };
        let Some(ended) = &run.ended_at else {
            return self.look(run);
        };
        match self.failure {
            Some(failure) if run.kind == kind => {
                if !failure.transient || run.attempt >= self.rules.attempts {
                    return Stage::GivenUp;
                }
                let until = ended.0 + pause(run.attempt);
                if self.now < until {
                    return Stage::Pauses(until);
                }
                Stage::Begin(self.next(kind, run.attempt + 1))
            }
            _ => Stage::Begin(self.next(kind, 1)),
        }
    }

    /// What became of a run on record whose end was not seen yet.
    fn look(&self, run: &RunStatus) -> Stage {
        let Some(seen) = self.seen.iter().find(|seen| seen.job == run.job) else {
            return match &run.job_uid {
                None => Stage::Make(run.clone()),
                Some(_) => self.end(run, Err(lost(&run.job))),
            };
        };
        if run.job_uid.as_ref().is_some_and(|uid| *uid != seen.uid) {
            return self.end(run, Err(lost(&run.job)));
        }
        let run = RunStatus {
            job_uid: Some(seen.uid.clone()),
            ..run.clone()
        };
        match seen.outcome() {
            Some(outcome) => self.end(&run, outcome),
            None => {
                let progress = seen.progress.as_ref().map(progress);
                let words = words(&run, seen);
                let run = RunStatus {
                    progress: progress.or(run.progress),
                    ..run
                };
                Stage::Works(run, words)
            }
        }
    }

    fn end(&self, run: &RunStatus, outcome: Result<Answer, Failure>) -> Stage {
        let run = RunStatus {
            ended_at: Some(Time(self.now)),
            progress: None,
            ..run.clone()
        };
        Stage::Ended(run, outcome)
    }

    fn next(&self, kind: RunKind, attempt: i32) -> RunStatus {
        let serial = self.run.map_or(1, |run| run.serial + 1);
        RunStatus {
            kind,
            attempt,
            serial,
            job: format!("{}-{}-{serial}", self.name, kind.word()),
            job_uid: None,
            started_at: Time(self.now),
            ended_at: None,
            progress: None,
        }
    }
}

fn lost(job: &str) -> Failure {
    Failure {
        reason: Reason::Cancelled,
        message: format!("the Job {job} was deleted by someone else"),
        transient: true,
    }
}

fn pause(attempt: i32) -> SignedDuration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    (PAUSE * 2_i32.pow(doublings)).min(PAUSE_MAX)
}

/// What a run is at, in words.
fn words(run: &RunStatus, seen: &RunSeen) -> String {
    let job = &run.job;
    match (&seen.progress, &seen.trouble) {
        (
            Some(Progress {
                trouble: Some(trouble),
                ..
            }),
            _,
        ) => {
            format!("{job} waits: {}", trouble.message)
        }
        (Some(progress), _) => format!("{job}: {:?}", progress.stage),
        (None, Some(trouble)) => format!("{job} does not run yet: {trouble}"),
        (None, None) => format!("{job} starts"),
    }
}

/// What status tells of how far a run is.
pub(crate) fn progress(progress: &Progress) -> ProgressStatus {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let total = progress.total_bytes.filter(|total| *total > 0);
    let percent = total.map(|total| {
        let percent = u128::from(progress.done_bytes.min(total)) * 100 / u128::from(total);
        i32::try_from(percent).unwrap_or(100)
    });
    ProgressStatus {
        stage: format!("{:?}", progress.stage),
        bytes: bytes(progress.done_bytes),
        total_bytes: total.map(bytes),
        percent,
    }
}

/// What status tells of a failure.
pub(crate) fn failure(failure: &Failure, now: Timestamp) -> FailureStatus {
    FailureStatus {
        reason: format!("{:?}", failure.reason),
        message: failure.message.clone(),
        transient: failure.transient,
        at: Time(now),
    }
}

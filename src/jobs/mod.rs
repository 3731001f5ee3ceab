//! What is carried out by Jobs: backups, schedules of backups, and the verification of
//! what is to be restored. Pure, as the plan of clusters is.
//!
//! ```text
//! EtcdBackup          backup     one run, tried again by its own rules; drills; deletion
//! EtcdBackupSchedule  schedule   what is due, retention, drills, increments
//! EtcdRestore         restore    verify, tell what would be lost, follow the cluster
//!     + observed + now
//!              -> Plan { status, calls }    status is written first: it is the memory
//! ```
//!
//! The programs in the Jobs are those of `backup/`; what they are told and what they
//! answer is `backup/run.rs`. A restore itself is done by the plan of the cluster.

mod attempt;
pub(crate) mod backup;
mod conditions;
pub(crate) mod follow;
mod manifest;
pub(crate) mod pins;
pub(crate) mod restore;
mod retention;
pub(crate) mod schedule;
mod seen;
pub(crate) mod source;
mod told;
pub(crate) mod turn;

use std::time::Duration;

pub(crate) use conditions::Verdict;
pub(crate) use retention::Worth;
pub(crate) use schedule::worth;
pub(crate) use seen::{RunSeen, RunState, runs, writer};

use crate::plan::Call;

/// What is done next for one object, and what is told of it before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan<S> {
    /// The status to write before any call is made. What must be remembered of the
    /// calls is in it.
    pub(crate) status: S,
    /// The calls, in order; each is safe to repeat.
    pub(crate) calls: Vec<Call>,
    /// What they are for, in words; empty if there are none.
    pub(crate) why: String,
    /// How long until the next look, if nothing happens before.
    pub(crate) again: Duration,
    /// Whether it tells no more than how far a run is: caches are good enough for it.
    pub(crate) light: bool,
}

impl<S> Plan<S> {
    /// Nothing to do for now.
    pub(crate) fn rest(status: S, again: Duration) -> Plan<S> {
        Plan {
            status,
            calls: Vec::new(),
            why: String::new(),
            again,
            light: false,
        }
    }

    /// Something to do.
    pub(crate) fn act(status: S, why: impl Into<String>, calls: Vec<Call>) -> Plan<S> {
        Plan {
            status,
            calls,
            why: why.into(),
            again: SOON,
            light: false,
        }
    }

    /// The same, which only tells how far a run is.
    pub(crate) fn light(self) -> Plan<S> {
        Plan {
            light: true,
            ..self
        }
    }
}

/// How long until an object is looked at again at which something has just been done.
pub(crate) const SOON: Duration = Duration::from_millis(200);
/// How long until one is looked at again whose Job is at work.
pub(crate) const WORKING: Duration = Duration::from_secs(2);
/// How long until one is looked at again that waits for something else.
pub(crate) const WAITING: Duration = Duration::from_secs(5);
/// How long until one is looked at again where nothing is to be done.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

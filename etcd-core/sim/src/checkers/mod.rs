//! What must hold, whatever goes wrong.

mod election;
pub(crate) mod lease;
pub(crate) mod linearizable;
mod log;
mod revisions;
pub(crate) mod state;
pub(crate) mod watch;

use etcd_proto::raftpb::Entry;
use etcd_replica::{Applied, Applier, Capture, Persist, View};

use crate::event::Pid;

/// All checkers, and what they found.
#[derive(Default)]
pub(crate) struct Checkers {
    violations: Vec<String>,
    /// The highest revision that a client was told of by the whole cluster.
    told: i64,
    election: election::Election,
    log: log::LogMatching,
    revisions: revisions::Revisions,
    pub(crate) state: state::State,
    pub(crate) lease: lease::Leases,
    pub(crate) history: linearizable::History,
}

impl Checkers {
    /// Reports a violation.
    pub(crate) fn report(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The first violation, if there is any.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violations.first().map(String::as_str)
    }

    /// Takes the result of a check.
    pub(crate) fn take(&mut self, result: Result<(), String>) {
        self.violations.extend(result.err());
    }

    /// What a linearizable request that begins now must at least see.
    pub(crate) fn floor(&self) -> i64 {
        self.told
    }

    /// A linearizable request that began at this floor was answered with a revision.
    pub(crate) fn told(&mut self, floor: i64, revision: i64) {
        self.told = self.told.max(revision);
        if revision < floor {
            self.report(format!(
                "revisions: an answer of revision {revision} to what was asked after {floor}"
            ));
        }
    }

    /// A process has opened its disk.
    pub(crate) fn started(&mut self, pid: Pid, applier: &Applier) {
        self.log.restarted(pid.member);
        self.revisions.started(pid);
        let result = self.state.started(pid, applier);
        self.take(result);
    }

    /// The role of a member after a step.
    pub(crate) fn role(&mut self, member: u64, term: u64, is_leader: bool) {
        let result = self.election.role(member, term, is_leader);
        self.take(result);
    }

    /// A member appends to its log.
    pub(crate) fn appended(&mut self, pid: Pid, persist: &Persist) {
        let result = self.log.appended(pid.member, persist);
        self.take(result);
    }

    /// A member holds these entries to be committed.
    pub(crate) fn committed(&mut self, pid: Pid, entries: &[Entry]) {
        let result = self.log.committed(pid.member, entries);
        self.take(result);
    }

    /// Entries are about to be applied.
    pub(crate) fn applying(&mut self, pid: Pid, entries: &[Entry], now_us: u64) {
        let skipped = self.state.applied_index(pid.member);
        for entry in entries.iter().filter(|e| e.index > skipped) {
            let result = self.lease.applied(entry, now_us);
            self.take(result);
        }
    }

    /// Entries were applied.
    pub(crate) fn applied(&mut self, pid: Pid, applied: &Applied, applier: &Applier) {
        let result = self.state.applied(pid, applied, applier);
        self.take(result);
    }

    /// A state is about to become a checkpoint.
    pub(crate) fn captured(&mut self, pid: Pid, capture: &Capture) {
        let result = self.state.hash(pid.member, &capture.view);
        self.take(result);
    }

    /// A snapshot has replaced a member's state.
    pub(crate) fn installed(&mut self, pid: Pid, applier: &Applier) {
        self.log.restarted(pid.member);
        let result = self.state.started(pid, applier);
        self.take(result);
        let result = self.state.hash(pid.member, &applier.view());
        self.take(result);
    }

    /// A process publishes a view.
    pub(crate) fn view(&mut self, pid: Pid, view: &View) {
        let result = self.revisions.published(pid, view);
        self.take(result);
    }
}

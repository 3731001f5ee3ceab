//! An `EtcdRestore`: verifies what is to be restored and tells what would be lost; then
//! the cluster's own plan takes it up, and this follows how that goes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};

use crate::{
    api::{
        Ancestor, ClusterRestore, EtcdBackup, EtcdCluster, EtcdClusterStatus, EtcdRestore,
        EtcdRestoreStatus, RestorePhase, RestoreStage, RunKind, RunStatus, StoredSource,
    },
    backup::run::{Answer, Failure, Reason, VerifyReport, VerifyRun},
    plan::{Call, Kind},
    render::{Given, Run, Settings, Work, run_of},
};

use super::{
    IDLE, Plan, RunSeen, SOON, Verdict, WAITING, WORKING,
    attempt::{Attempts, Stage, failure},
    conditions::{conditions, is_true},
    manifest, source,
    turn::Object,
};

/// What there is around a restore.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Its cluster, if there is one.
    pub(crate) cluster: Option<Arc<EtcdCluster>>,
    /// Newest revision that any of its members answered with.
    pub(crate) revision: Option<i64>,
    /// The backup it names, if there is one.
    pub(crate) backup: Option<Arc<EtcdBackup>>,
    /// Its runs.
    pub(crate) runs: Vec<RunSeen>,
}

/// Whether nothing is left to do for it.
pub(crate) fn is_over(restore: &EtcdRestore) -> bool {
    let phase = restore.status.as_ref().and_then(|status| status.phase);
    matches!(
        phase,
        Some(RestorePhase::Completed | RestorePhase::Superseded | RestorePhase::Failed)
    )
}

/// Whether the cluster's plan may take it up.
pub(crate) fn is_ready(restore: &EtcdRestore) -> bool {
    let phase = restore.status.as_ref().and_then(|status| status.phase);
    phase == Some(RestorePhase::Verified)
        && !restore.spec.dry_run
        && restore.meta().deletion_timestamp.is_none()
}

/// Decides what to do next about `restore`.
pub(crate) fn plan(
    restore: &EtcdRestore,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan<EtcdRestoreStatus> {
    let before = restore.status.clone().unwrap_or_default();
    if restore.meta().deletion_timestamp.is_some() || is_over(restore) {
        return Plan::rest(before, IDLE);
    }
    let around = Around {
        restore,
        observed,
        settings,
        before: &before,
        now,
    };
    let status = EtcdRestoreStatus {
        observed_generation: restore.meta().generation.unwrap_or_default(),
        source: Some(source::words(
            &restore.spec.source,
            restore.spec.target.as_ref(),
        )),
        ..before.clone()
    };
    around.plan(status)
}

impl Object for EtcdRestore {
    type Status = EtcdRestoreStatus;
    type Observed = Observed;

    fn told(&self) -> Option<&EtcdRestoreStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &mut EtcdRestoreStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn plan(
        &self,
        observed: &Observed,
        settings: &Settings,
        now: Timestamp,
    ) -> Plan<EtcdRestoreStatus> {
        plan(self, observed, settings, now)
    }

    fn terminating(_: &mut Observed) {}
}

struct Around<'a> {
    restore: &'a EtcdRestore,
    observed: &'a Observed,
    settings: &'a Settings,
    before: &'a EtcdRestoreStatus,
    now: Timestamp,
}

impl Around<'_> {
    fn plan(&self, mut status: EtcdRestoreStatus) -> Plan<EtcdRestoreStatus> {
        let name = &self.restore.spec.cluster_ref.name;
        let Some(cluster) = &self.observed.cluster else {
            status.phase = Some(RestorePhase::Pending);
            return self.waits(
                status,
                "ClusterNotFound",
                format!("there is no EtcdCluster {name}"),
            );
        };
        let told = cluster.status.clone().unwrap_or_default();
        let id = self.restore.uid().unwrap_or_default();
        if let Some(ancestor) = told.lineage.iter().find(|ancestor| ancestor.restore == id) {
            return self.grows(status, &told, ancestor);
        }
        if let Some(record) = told.restore.as_ref().filter(|record| record.id == id) {
            return self.follows(status, &told, record);
        }
        let replaces = &self.restore.spec.replaces;
        match &told.cluster_id {
            None => {
                status.phase = Some(RestorePhase::Pending);
                return self.waits(
                    status,
                    "ClusterNotFormed",
                    format!("{name} has not formed yet"),
                );
            }
            Some(current) if current != replaces => {
                status.phase = Some(RestorePhase::Superseded);
                status.completed_at = Some(Time(self.now));
                let message = format!(
                    "the cluster ID of {name} is {current}, and this restore replaces {replaces}: nothing was done"
                );
                return self.tell(status, &Verdict::Ready("Superseded", message), IDLE);
            }
            Some(_) => {}
        }
        if self.before.phase == Some(RestorePhase::Verified) {
            return self.verified(status);
        }
        self.verify(status)
    }

    /// Finds out whether it can be restored, and what that would give.
    fn verify(&self, mut status: EtcdRestoreStatus) -> Plan<EtcdRestoreStatus> {
        let spec = &self.restore.spec;
        let stored = match &self.before.stored {
            // Once it is known, what becomes of the object that named it does not matter.
            Some(stored) => Some(stored.clone()),
            None => match source::stored(&spec.source, self.observed.backup.as_deref()) {
                Ok(stored) => stored,
                Err((reason, why)) => {
                    status.phase = Some(RestorePhase::Pending);
                    return self.waits(status, reason, why);
                }
            },
        };
        let Some(stored) = stored else {
            // What is left of the cluster is looked at when it is held.
            return self.found(status);
        };
        status.stored = Some(stored.clone());
        status.phase = Some(RestorePhase::Verifying);
        let work = Work::Verify(VerifyRun {
            source: source::told(&stored, spec.target.as_ref(), self.clusters()),
            verification: Default::default(),
        });
        let name = self.restore.name_any();
        let attempts = Attempts {
            name: &name,
            run: self.before.run.as_ref(),
            failure: self.before.failure.as_ref(),
            seen: &self.observed.runs,
            rules: &spec.job,
            now: self.now,
        };
        match attempts.at(RunKind::Verify) {
            Stage::Begin(run) => {
                let why = format!("verifies it, attempt {} ({})", run.attempt, run.job);
                self.begin(status, run, &stored, &work, why)
            }
            Stage::Make(run) => self.begin(
                status,
                run,
                &stored,
                &work,
                "makes the Job on record".to_owned(),
            ),
            Stage::Works(run, words) => {
                status.run = Some(run);
                let verdict = Verdict::Works("Verifying".to_owned(), words);
                self.tell(status, &verdict, WORKING).light()
            }
            Stage::Ended(run, Ok(Answer::Verify(report))) => {
                status.run = Some(run);
                status.failure = None;
                status.sha256 = Some(report.sha256.clone());
                status.restored_revision = Some(report.reach.revision);
                status.source_cluster_id = report
                    .artifact
                    .as_ref()
                    .map(|artifact| artifact.cluster_id.clone());
                status.stored = Some(found(stored, &report));
                self.found(status)
            }
            Stage::Ended(run, other) => {
                let other = match other {
                    Err(failure) => failure,
                    Ok(answer) => Failure::new(
                        Reason::InvalidRun,
                        format!("the run answered what it was not asked: {answer:?}"),
                    ),
                };
                status.run = Some(run);
                status.failure = Some(failure(&other, self.now));
                let verdict = failed(&status);
                self.tell(status, &verdict, SOON)
            }
            Stage::Pauses(until) => {
                let again = Duration::try_from(until.duration_since(self.now)).unwrap_or(SOON);
                let verdict = failed(&status);
                self.tell(status, &verdict, again.max(SOON))
            }
            Stage::GivenUp => {
                status.phase = Some(RestorePhase::Failed);
                status.completed_at = Some(Time(self.now));
                let verdict = match &status.failure {
                    Some(failed) => Verdict::Stalled(
                        failed.reason.clone(),
                        format!("{} The cluster was not touched.", sentence(&failed.message)),
                    ),
                    None => Verdict::Stalled("Failed".to_owned(), String::new()),
                };
                self.tell(status, &verdict, IDLE)
            }
        }
    }

    /// Cluster IDs whose backups may be restored.
    fn clusters(&self) -> Vec<String> {
        if self.restore.spec.source.allow_other_cluster {
            return Vec::new();
        }
        let cluster = self.observed.cluster.as_ref();
        let told = cluster.and_then(|cluster| cluster.status.as_ref());
        let earlier = told.iter().flat_map(|status| &status.lineage);
        let current = told.and_then(|status| status.cluster_id.clone());
        earlier
            .map(|a| a.cluster_id.clone())
            .chain(current)
            .collect()
    }

    /// It can be restored: tells what would be lost.
    fn found(&self, mut status: EtcdRestoreStatus) -> Plan<EtcdRestoreStatus> {
        status.current_revision = self.observed.revision.or(status.current_revision);
        status.lost_revisions = self.would_lose(&status);
        if self.restore.spec.dry_run {
            status.phase = Some(RestorePhase::Completed);
            status.completed_at = Some(Time(self.now));
            let message = format!("dry run: it can be restored; {}", losses(&status));
            return self.tell(status, &Verdict::Ready("DryRun", message), IDLE);
        }
        status.phase = Some(RestorePhase::Verified);
        let message = format!("the cluster is restored next; {}", losses(&status));
        self.tell(
            status,
            &Verdict::Works("Verified".to_owned(), message),
            SOON,
        )
    }

    /// Verified, and the cluster has not taken it up yet.
    fn verified(&self, mut status: EtcdRestoreStatus) -> Plan<EtcdRestoreStatus> {
        status.current_revision = self.observed.revision.or(status.current_revision);
        status.lost_revisions = self.would_lose(&status);
        let cluster = self.observed.cluster.as_ref();
        let told = cluster.and_then(|cluster| cluster.status.as_ref());
        let other = told
            .and_then(|status| status.restore.as_ref())
            .filter(|record| !record.stage.is_over());
        let waits = if cluster.is_some_and(|cluster| cluster.spec.paused) {
            "the cluster is paused".to_owned()
        } else if cluster.is_some_and(|cluster| cluster.spec.replicas == 0) {
            "the cluster is asleep: replicas is 0".to_owned()
        } else if let Some(other) = other {
            let name = other
                .name
                .as_deref()
                .unwrap_or("recovery.quorumLoss.policy");
            format!("another restore is under way, for {name}")
        } else {
            "the cluster is restored next".to_owned()
        };
        let message = format!("{waits}; {}", losses(&status));
        self.tell(
            status,
            &Verdict::Works("Verified".to_owned(), message),
            WAITING,
        )
    }

    /// Revisions that are lost if the cluster is restored as it is now.
    fn would_lose(&self, status: &EtcdRestoreStatus) -> Option<i64> {
        let told = self.observed.cluster.as_ref()?.status.as_ref()?;
        lost(status, told.cluster_id.as_ref(), &told.lineage)
    }

    /// The cluster is at it.
    fn follows(
        &self,
        mut status: EtcdRestoreStatus,
        told: &EtcdClusterStatus,
        record: &ClusterRestore,
    ) -> Plan<EtcdRestoreStatus> {
        status.phase = Some(match record.stage {
            RestoreStage::Stopping | RestoreStage::Comparing => RestorePhase::Stopping,
            RestoreStage::Founding | RestoreStage::Done => RestorePhase::Restoring,
            RestoreStage::TakingBack => RestorePhase::Stopping,
            RestoreStage::TakenBack => RestorePhase::Failed,
        });
        if record.stage == RestoreStage::TakenBack {
            status.completed_at = Some(Time(self.now));
            let verdict = Verdict::Stalled("TakenBack".to_owned(), record.message.clone());
            return self.tell(status, &verdict, IDLE);
        }
        status.lost_revisions = record.lost_revisions.or(status.lost_revisions);
        let mut step = told
            .plan
            .as_ref()
            .map(|plan| plan.reason.clone())
            .unwrap_or_default();
        if record.stage == RestoreStage::Founding && !record.message.is_empty() {
            step = format!("{step}; {}", record.message);
        }
        let stalled = told
            .conditions
            .iter()
            .find(|c| c.type_ == "Stalled" && c.status == "True");
        let verdict = match stalled {
            Some(stalled) => Verdict::Stalled(stalled.reason.clone(), stalled.message.clone()),
            None => Verdict::Works("Restoring".to_owned(), step),
        };
        self.tell(status, &verdict, WAITING)
    }

    /// The new cluster serves.
    fn grows(
        &self,
        mut status: EtcdRestoreStatus,
        told: &EtcdClusterStatus,
        ancestor: &Ancestor,
    ) -> Plan<EtcdRestoreStatus> {
        status.cluster_id = told.cluster_id.clone();
        status.quarantined_volumes.clone_from(&ancestor.volumes);
        let came = self.came(&mut status, told, ancestor);
        if is_true(&told.conditions, "Ready") {
            status.phase = Some(RestorePhase::Completed);
            status.completed_at = Some(Time(self.now));
            let kept = match ancestor.volumes.as_slice() {
                [] => "the cluster it replaced had no other volumes".to_owned(),
                kept => format!(
                    "the volumes of the cluster it replaced are kept: {}",
                    kept.join(", ")
                ),
            };
            let message = format!("restored; {came}; {kept}");
            return self.tell(status, &Verdict::Ready("Restored", message), IDLE);
        }
        status.phase = Some(RestorePhase::Growing);
        let step = told
            .plan
            .as_ref()
            .map(|plan| plan.reason.clone())
            .unwrap_or_default();
        let message = format!("the restored cluster serves, and grows: {step}; {came}");
        self.tell(
            status,
            &Verdict::Works("Growing".to_owned(), message),
            WAITING,
        )
    }

    /// Fills in what the new cluster began with and what was lost by it; the same in
    /// words.
    fn came(
        &self,
        status: &mut EtcdRestoreStatus,
        told: &EtcdClusterStatus,
        ancestor: &Ancestor,
    ) -> String {
        if self.restore.spec.source.survivor.is_none() {
            // Clients went on writing after it was verified.
            status.current_revision = status.current_revision.max(ancestor.last_revision);
            let earlier = told.lineage.iter().position(|it| it == ancestor);
            let earlier = &told.lineage[..earlier.unwrap_or(0)];
            status.lost_revisions = lost(status, Some(&ancestor.cluster_id), earlier);
            return losses(status);
        }
        status.restored_revision = ancestor.restored_revision;
        status.lost_revisions = ancestor.lost_revisions;
        let Some(restored) = status.restored_revision else {
            return "the operator that restored it did not tell its revision".to_owned();
        };
        let record = told.restore.as_ref();
        let record = record.filter(|record| record.id == ancestor.restore);
        match (ancestor.lost_revisions, record) {
            (Some(lost), _) => format!("revision {restored} is restored, revisions lost: {lost}"),
            (None, Some(record)) => format!("revision {restored} is restored; {}", record.message),
            (None, None) => {
                format!("revision {restored} is restored; how many are lost is not known")
            }
        }
    }

    fn begin(
        &self,
        mut status: EtcdRestoreStatus,
        run: RunStatus,
        stored: &StoredSource,
        work: &Work,
        why: String,
    ) -> Plan<EtcdRestoreStatus> {
        let of = run_of("restore", &self.restore.name_any());
        let job = Run {
            namespace: &self.restore.namespace().unwrap_or_default(),
            name: &run.job,
            of: &of,
            owner: self.restore.controller_owner_ref(&()),
            work,
            given: Given {
                destination: &stored.destination,
                encryption: stored.encryption.as_ref(),
                member_tls: None,
            },
            spec: &self.restore.spec.job,
        }
        .job(self.settings);
        status.run = Some(run);
        let verdict = Verdict::Works("Verifying".to_owned(), why.clone());
        let told = self.tell(status, &verdict, SOON);
        let calls: Vec<Call> = vec![manifest::apply(Kind::Job, &job, false)];
        Plan::act(told.status, why, calls)
    }

    fn waits(
        &self,
        status: EtcdRestoreStatus,
        reason: &'static str,
        why: String,
    ) -> Plan<EtcdRestoreStatus> {
        self.tell(status, &Verdict::Works(reason.to_owned(), why), WAITING)
    }

    fn tell(
        &self,
        mut status: EtcdRestoreStatus,
        verdict: &Verdict,
        again: Duration,
    ) -> Plan<EtcdRestoreStatus> {
        status.conditions = conditions(
            verdict,
            &[],
            &self.before.conditions,
            self.restore.meta().generation,
            self.now,
        );
        Plan::rest(status, again)
    }
}

/// Revisions after the restored one, in the cluster that is replaced, whose ID and
/// ancestors these are, and in the one the backup came from.
fn lost(
    status: &EtcdRestoreStatus,
    replaced: Option<&String>,
    lineage: &[Ancestor],
) -> Option<i64> {
    let (current, restored) = (status.current_revision?, status.restored_revision?);
    let of = status.source_cluster_id.as_ref();
    if of.is_none() || of == replaced {
        return Some((current - restored).max(0));
    }
    // Of an ancestor: what it had beyond, and all that came since.
    let at = lineage.iter().position(|a| Some(&a.cluster_id) == of)?;
    let mut lost = 0;
    let mut from = restored;
    for ancestor in &lineage[at..] {
        lost += (ancestor.last_revision? - from).max(0);
        from = ancestor.next_revision?;
    }
    Some(lost + (current - from).max(0))
}

/// The place, as exactly as it was verified: another backup that is stored meanwhile
/// is not the one that was found good.
fn found(stored: StoredSource, report: &VerifyReport) -> StoredSource {
    StoredSource {
        folder: report.folder.clone().or(stored.folder),
        ..stored
    }
}

fn failed(status: &EtcdRestoreStatus) -> Verdict {
    match &status.failure {
        Some(failed) => Verdict::Works(
            failed.reason.clone(),
            format!("the last attempt failed: {}", failed.message),
        ),
        None => Verdict::Works("Verifying".to_owned(), String::new()),
    }
}

/// What a restore costs, in words.
pub(crate) fn losses(status: &EtcdRestoreStatus) -> String {
    match (
        status.restored_revision,
        status.current_revision,
        status.lost_revisions,
    ) {
        (Some(restored), Some(current), Some(lost)) => format!(
            "revision {restored} is restored, the cluster is at {current}: {lost} revisions are lost"
        ),
        (Some(restored), _, _) => format!(
            "revision {restored} is restored; how much is lost is not known, for no member answers"
        ),
        (None, _, _) => {
            "how much is lost is known once those that are left are held and compared".to_owned()
        }
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests;

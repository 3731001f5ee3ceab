//! One backup: taken once, tried again by its own rules, verified once more when that
//! is asked for, and cleared away with its object if it says so.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::{
    api::{
        ANNOTATION_VERIFY, Artifact, BackupPhase, DeletionPolicy, EtcdBackup, EtcdBackupStatus,
        EtcdCluster, FINALIZER_ARTIFACT, MemberStatus, RunKind, RunStatus,
    },
    backup::run::{
        self, Answer, BackupSource, ClusterRef, DeleteRun, Failure, Reason, SnapshotReport,
        SnapshotRun, Source, VerifyRun,
    },
    plan::{Call, Kind},
    render::{Given, Run, Settings, Work, run_of},
};

use super::{
    IDLE, Plan, RunSeen, RunState, SOON, Verdict, WAITING, WORKING,
    attempt::{Attempts, Stage, failure},
    conditions::{Own, conditions, find},
    manifest, told,
    turn::Object,
};

/// The condition that says whether it was proven.
pub(crate) const VERIFIED: &str = "Verified";
/// How long the store, or a run that still writes, may hold up the deletion of an object
/// before it goes without.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// What there is around a backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Its cluster, if there is one.
    pub(crate) cluster: Option<Arc<EtcdCluster>>,
    /// Its runs.
    pub(crate) runs: Vec<RunSeen>,
    /// The pod of a run that may still write, with its Job or without.
    pub(crate) writer: Option<String>,
    /// What restores it, if something does.
    pub(crate) pinned_by: Option<String>,
    /// Whether its namespace is going away: nothing can be made in it any more.
    pub(crate) terminating: bool,
}

/// The folder of a backup in its destination. A backup of the same name that is made
/// later has another.
pub(crate) fn folder(backup: &EtcdBackup) -> String {
    let uid = backup.uid().unwrap_or_default();
    let short: String = uid
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect();
    format!("{}-{}", backup.name_any(), short.to_ascii_lowercase())
}

/// Decides what to do next about `backup`.
pub(crate) fn plan(
    backup: &EtcdBackup,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan<EtcdBackupStatus> {
    let before = backup.status.clone().unwrap_or_default();
    let status = EtcdBackupStatus {
        observed_generation: backup.meta().generation.unwrap_or_default(),
        ..before.clone()
    };
    let around = Around {
        backup,
        observed,
        settings,
        before: &before,
        now,
    };
    if backup.meta().deletion_timestamp.is_some() {
        return around.go(status);
    }
    let wanted = backup.spec.deletion_policy == DeletionPolicy::Delete;
    if wanted != around.has_finalizer() {
        let what = if wanted { "holds" } else { "lets go of" };
        let why =
            format!("{what} the object until what is stored is deleted, as deletionPolicy says");
        return Plan::act(around.before.clone(), why, vec![around.finalizer(wanted)]);
    }
    if status.artifact.is_some() {
        return around.keep(status);
    }
    around.take(status)
}

impl Object for EtcdBackup {
    type Status = EtcdBackupStatus;
    type Observed = Observed;

    fn told(&self) -> Option<&EtcdBackupStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &mut EtcdBackupStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn plan(
        &self,
        observed: &Observed,
        settings: &Settings,
        now: Timestamp,
    ) -> Plan<EtcdBackupStatus> {
        plan(self, observed, settings, now)
    }

    fn terminating(observed: &mut Observed) {
        observed.terminating = true;
    }
}

struct Around<'a> {
    backup: &'a EtcdBackup,
    observed: &'a Observed,
    settings: &'a Settings,
    before: &'a EtcdBackupStatus,
    now: Timestamp,
}

impl Around<'_> {
    fn attempts<'s>(&'s self, name: &'s str) -> Attempts<'s> {
        Attempts {
            name,
            run: self.before.run.as_ref(),
            failure: self.before.failure.as_ref(),
            seen: &self.observed.runs,
            rules: &self.backup.spec.job,
            now: self.now,
        }
    }

    /// Takes it, until it is stored or given up.
    fn take(&self, mut status: EtcdBackupStatus) -> Plan<EtcdBackupStatus> {
        let name = self.backup.name_any();
        match self.attempts(&name).at(RunKind::Snapshot) {
            Stage::Begin(run) => match self.snapshot() {
                Ok(work) => {
                    status.phase = Some(BackupPhase::Running);
                    status.started_at.get_or_insert(Time(self.now));
                    let why = format!("begins attempt {} ({})", run.attempt, run.job);
                    self.begin(status, run, &work, why)
                }
                Err((reason, why)) => {
                    status.phase = Some(BackupPhase::Pending);
                    self.waits(status, reason, why)
                }
            },
            Stage::Make(run) => match self.snapshot() {
                Ok(work) => self.begin(status, run, &work, "makes the Job on record".to_owned()),
                Err((reason, why)) => self.waits(status, reason, why),
            },
            Stage::Works(run, words) => {
                status.phase = Some(BackupPhase::Running);
                status.run = Some(run);
                self.works(status, "Running", words).light()
            }
            Stage::Ended(run, outcome) => {
                status.run = Some(run);
                match outcome {
                    Ok(Answer::Snapshot(report)) => self.stored(&mut status, &report),
                    other => status.failure = Some(failure(&unfit(other), self.now)),
                }
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, SOON)
            }
            Stage::Pauses(until) => {
                status.phase = Some(BackupPhase::Pending);
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, wait(until, self.now))
            }
            Stage::GivenUp => {
                status.phase = Some(BackupPhase::Failed);
                status.completed_at.get_or_insert(Time(self.now));
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, IDLE)
            }
        }
    }

    fn stored(&self, status: &mut EtcdBackupStatus, report: &SnapshotReport) {
        status.artifact = Some(artifact(&report.artifact, self.observed.cluster.as_deref()));
        status.phase = Some(BackupPhase::Completed);
        status.completed_at = Some(Time(report.artifact.completed_at));
        status.verified_at = Some(Time(report.verified_at));
        status.verify_request = self.request();
        status.failure = None;
    }

    /// What the annotation asks for.
    fn request(&self) -> Option<String> {
        let value = self.backup.annotations().get(ANNOTATION_VERIFY)?;
        Some(value.chars().take(64).collect())
    }

    /// It is stored; verifies it once more when that is asked for.
    fn keep(&self, mut status: EtcdBackupStatus) -> Plan<EtcdBackupStatus> {
        let asked = self
            .request()
            .filter(|asked| status.verify_request.as_ref() != Some(asked));
        if status.verifying.is_none() {
            let Some(asked) = asked else {
                status.phase = Some(BackupPhase::Completed);
                let verdict = self.verdict(&status);
                return self.tell(status, &verdict, IDLE);
            };
            status.verifying = Some(asked);
            status.failure = None;
            status.phase = Some(BackupPhase::Verifying);
            let verdict = self.verdict(&status);
            return self.tell(status, &verdict, SOON);
        }
        let name = self.backup.name_any();
        let work = Work::Verify(VerifyRun {
            source: self.source(),
            verification: self.backup.spec.verification,
        });
        status.phase = Some(BackupPhase::Verifying);
        match self.attempts(&name).at(RunKind::Verify) {
            Stage::Begin(run) => {
                let why = format!(
                    "verifies it once more, attempt {} ({})",
                    run.attempt, run.job
                );
                self.begin(status, run, &work, why)
            }
            Stage::Make(run) => {
                self.begin(status, run, &work, "makes the Job on record".to_owned())
            }
            Stage::Works(run, words) => {
                status.run = Some(run);
                self.works(status, "Verifying", words).light()
            }
            Stage::Ended(run, outcome) => {
                status.run = Some(run);
                match outcome {
                    Ok(Answer::Verify(report)) => {
                        status.verified_at = Some(Time(report.verified_at));
                        status.verify_request = status.verifying.take();
                        status.failure = None;
                        status.phase = Some(BackupPhase::Completed);
                    }
                    other => status.failure = Some(failure(&unfit(other), self.now)),
                }
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, SOON)
            }
            Stage::Pauses(until) => {
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, wait(until, self.now))
            }
            Stage::GivenUp => {
                // What was found stays told; whether it is bad is in the condition.
                status.verify_request = status.verifying.take();
                status.phase = Some(BackupPhase::Completed);
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, IDLE)
            }
        }
    }

    /// The object is being deleted: what is stored goes first, if it is to.
    fn go(&self, mut status: EtcdBackupStatus) -> Plan<EtcdBackupStatus> {
        if !self.has_finalizer() {
            return Plan::rest(self.before.clone(), IDLE);
        }
        let release = |why: String| {
            let calls = vec![self.finalizer(false)];
            Plan::act(self.before.clone(), why, calls)
        };
        if self.backup.spec.deletion_policy == DeletionPolicy::Retain {
            return release("keeps what is stored, as deletionPolicy says".to_owned());
        }
        if self.observed.terminating {
            return release(format!(
                "keeps what is stored ({}): its namespace is going away",
                self.place()
            ));
        }
        if self.before.run.is_none() {
            return release("nothing was ever stored".to_owned());
        }
        status.phase = Some(BackupPhase::Deleting);
        // What was never stored cannot be restored, whoever waits for it.
        let stored = self.before.artifact.is_some();
        if let Some(by) = self.observed.pinned_by.as_ref().filter(|_| stored) {
            let why = format!("it is deleted once it is not being restored any more, by {by}");
            return self.works(status, "InUse", why);
        }
        let record = self.before.run.as_ref();
        if record.is_none_or(|record| record.kind != RunKind::Delete) {
            let mut runs = self.observed.runs.iter();
            if let Some(run) = runs.find(|run| run.state == RunState::Active) {
                let calls = vec![manifest::delete(Kind::Job, &run.job, &run.uid)];
                let why = format!("ends {} before what is stored is deleted", run.job);
                return Plan::act(self.before.clone(), why, calls);
            }
            if let Some(pod) = self.observed.writer.as_ref().filter(|_| self.is_patient()) {
                let why = format!("deletes what is stored once the pod {pod} has ended");
                return self.works(status, "Deleting", why);
            }
        }
        let Some(work) = self.removal() else {
            return release("its cluster is gone, and nothing of it was stored".to_owned());
        };
        let name = self.backup.name_any();
        let stage = match self.before.run.as_ref() {
            // Whatever it was at before has no say in this.
            Some(run) if run.kind != RunKind::Delete => {
                let ended = RunStatus {
                    ended_at: Some(Time(self.now)),
                    ..run.clone()
                };
                let attempts = Attempts {
                    run: Some(&ended),
                    failure: None,
                    ..self.attempts(&name)
                };
                attempts.at(RunKind::Delete)
            }
            _ => self.attempts(&name).at(RunKind::Delete),
        };
        match stage {
            Stage::Begin(run) => {
                status.failure = None;
                let why = format!(
                    "deletes what is stored, attempt {} ({})",
                    run.attempt, run.job
                );
                self.begin(status, run, &work, why)
            }
            Stage::Make(run) => {
                self.begin(status, run, &work, "makes the Job on record".to_owned())
            }
            Stage::Works(run, words) => {
                status.run = Some(run);
                self.works(status, "Deleting", words).light()
            }
            Stage::Ended(_, Ok(Answer::Delete(_))) => {
                release("what was stored is deleted".to_owned())
            }
            Stage::Ended(run, other) => {
                status.run = Some(run);
                status.failure = Some(failure(&unfit(other), self.now));
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, SOON)
            }
            Stage::Pauses(until) => {
                let verdict = self.verdict(&status);
                self.tell(status, &verdict, wait(until, self.now))
            }
            Stage::GivenUp => self.let_go(status, &work, &release),
        }
    }

    /// The rules allow no other attempt at the deletion: while the store may come back
    /// it is tried on for a while, then the object goes and the store keeps what it has.
    fn let_go(
        &self,
        mut status: EtcdBackupStatus,
        work: &Work,
        release: &impl Fn(String) -> Plan<EtcdBackupStatus>,
    ) -> Plan<EtcdBackupStatus> {
        let failed = self.before.failure.as_ref();
        if let (Some(run), true, true) = (
            self.before.run.as_ref(),
            self.is_patient(),
            failed.is_some_and(|failed| failed.transient),
        ) {
            let until = run.ended_at.as_ref().map_or(self.now, |ended| ended.0)
                + SignedDuration::from_mins(5);
            if self.now < until {
                let verdict = self.verdict(&status);
                return self.tell(status, &verdict, wait(until, self.now));
            }
            let name = self.backup.name_any();
            let anew = Attempts {
                failure: None,
                ..self.attempts(&name)
            };
            if let Stage::Begin(next) = anew.at(RunKind::Delete) {
                status.failure = None;
                let why = format!("deletes what is stored, once more ({})", next.job);
                return self.begin(status, next, work, why);
            }
        }
        let why = failed
            .map(|failed| failed.message.as_str())
            .unwrap_or_default();
        release(format!(
            "gives the deletion up and leaves what is stored where it is ({}): {why}",
            self.place()
        ))
    }

    /// Whether it is being deleted for less than [`PATIENCE`].
    fn is_patient(&self) -> bool {
        let since = self.backup.meta().deletion_timestamp.as_ref();
        since.is_some_and(|since| self.now.duration_since(since.0) < PATIENCE)
    }

    fn place(&self) -> String {
        let artifact = self.before.artifact.as_ref();
        artifact.map_or_else(|| folder(self.backup), |artifact| artifact.uri.clone())
    }

    fn has_finalizer(&self) -> bool {
        let all = self.backup.finalizers();
        all.iter().any(|name| name == FINALIZER_ARTIFACT)
    }

    fn finalizer(&self, wanted: bool) -> Call {
        let others = self.backup.finalizers().iter();
        let mut all: Vec<&str> = others
            .map(String::as_str)
            .filter(|name| *name != FINALIZER_ARTIFACT)
            .collect();
        if wanted {
            all.push(FINALIZER_ARTIFACT);
        }
        let body = json!({"metadata": {"finalizers": all}});
        manifest::patch(Kind::Backup, self.backup, body, true)
    }

    /// What the run is told, or what it has to wait for.
    fn snapshot(&self) -> Result<Work, (&'static str, String)> {
        let spec = &self.backup.spec;
        let name = &spec.cluster_ref.name;
        let Some(cluster) = &self.observed.cluster else {
            return Err(("ClusterNotFound", format!("there is no EtcdCluster {name}")));
        };
        let Some(of) = told::cluster(cluster) else {
            return Err(("ClusterNotFormed", format!("{name} has not formed yet")));
        };
        if !told::serves(cluster) {
            return Err(("NoHealthyMember", format!("no voter of {name} serves")));
        }
        Ok(Work::Snapshot(SnapshotRun {
            cluster: of,
            voters: told::voters(cluster),
            destination: spec.destination.clone(),
            folder: folder(self.backup),
            compression: spec.compression,
            encrypted: spec.encryption.is_some(),
            verification: spec.verification,
        }))
    }

    fn source(&self) -> Source {
        let artifact = self.before.artifact.as_ref();
        Source::Backup(BackupSource {
            destination: self.backup.spec.destination.clone(),
            folder: Some(folder(self.backup)),
            target: None,
            cluster_ids: artifact.map(|a| a.cluster_id.clone()).into_iter().collect(),
        })
    }

    fn removal(&self) -> Option<Work> {
        let spec = &self.backup.spec;
        let cluster = self.observed.cluster.as_deref().and_then(told::cluster);
        let stored = self.before.artifact.as_ref().map(|artifact| ClusterRef {
            namespace: self.backup.namespace().unwrap_or_default(),
            name: spec.cluster_ref.name.clone(),
            uid: String::new(),
            cluster_id: artifact.cluster_id.clone(),
            lineage: Vec::new(),
        });
        Some(Work::Delete(DeleteRun {
            cluster: cluster.or(stored)?,
            destination: spec.destination.clone(),
            folders: vec![folder(self.backup)],
            prune_increments: true,
        }))
    }

    /// Records a run, then makes its Job.
    fn begin(
        &self,
        mut status: EtcdBackupStatus,
        run: RunStatus,
        work: &Work,
        why: String,
    ) -> Plan<EtcdBackupStatus> {
        let spec = &self.backup.spec;
        let of = run_of("backup", &self.backup.name_any());
        let asks_members = matches!(work, Work::Snapshot(_));
        let cluster = self.observed.cluster.as_deref().filter(|_| asks_members);
        let member_tls = cluster.and_then(told::member_tls);
        let job = Run {
            namespace: &self.backup.namespace().unwrap_or_default(),
            name: &run.job,
            of: &of,
            owner: self.backup.controller_owner_ref(&()),
            work,
            given: Given {
                destination: &spec.destination,
                encryption: spec.encryption.as_ref(),
                member_tls: member_tls.as_ref(),
            },
            spec: &spec.job,
        }
        .job(self.settings);
        status.run = Some(run);
        let verdict = Verdict::Works("Running".to_owned(), why.clone());
        let told = self.tell(status, &verdict, SOON);
        Plan::act(
            told.status,
            why,
            vec![manifest::apply(Kind::Job, &job, false)],
        )
    }

    fn waits(
        &self,
        status: EtcdBackupStatus,
        reason: &'static str,
        why: String,
    ) -> Plan<EtcdBackupStatus> {
        self.tell(status, &Verdict::Works(reason.to_owned(), why), WAITING)
    }

    fn works(
        &self,
        status: EtcdBackupStatus,
        reason: &'static str,
        words: String,
    ) -> Plan<EtcdBackupStatus> {
        self.tell(status, &Verdict::Works(reason.to_owned(), words), WORKING)
    }

    fn verdict(&self, status: &EtcdBackupStatus) -> Verdict {
        let failed = status.failure.as_ref();
        match status.phase {
            Some(BackupPhase::Completed) => {
                let place = status
                    .artifact
                    .as_ref()
                    .map(|artifact| artifact.uri.clone());
                Verdict::Ready("Stored", place.unwrap_or_default())
            }
            Some(BackupPhase::Failed) => match failed {
                Some(failed) => Verdict::Stalled(failed.reason.clone(), failed.message.clone()),
                None => Verdict::Stalled("Failed".to_owned(), String::new()),
            },
            _ => match failed {
                Some(failed) => Verdict::Works(
                    failed.reason.clone(),
                    format!("the last attempt failed: {}", failed.message),
                ),
                None => Verdict::Works("Waiting".to_owned(), String::new()),
            },
        }
    }

    fn tell(
        &self,
        mut status: EtcdBackupStatus,
        verdict: &Verdict,
        again: Duration,
    ) -> Plan<EtcdBackupStatus> {
        let own = [self.verified(&status)];
        status.conditions = conditions(
            verdict,
            &own,
            &self.before.conditions,
            self.backup.meta().generation,
            self.now,
        );
        Plan::rest(status, again)
    }

    /// Whether it was proven to be good, by the last look that could tell.
    fn verified(&self, status: &EtcdBackupStatus) -> Own {
        let own = |status, reason: &str, message: String| Own {
            type_: VERIFIED,
            status,
            reason: reason.to_owned(),
            message,
        };
        let Some(at) = status
            .verified_at
            .as_ref()
            .filter(|_| status.artifact.is_some())
        else {
            return own(Some(false), "NotStored", String::new());
        };
        if let Some(failed) = status
            .failure
            .as_ref()
            .filter(|failed| speaks_against(&failed.reason))
        {
            return own(Some(false), &failed.reason, failed.message.clone());
        }
        // One that was found bad stays so until a later look finds it good.
        let before = find(&self.before.conditions, VERIFIED);
        let later = self.before.verified_at.as_ref() != Some(at);
        match before.filter(|before| before.status == "False" && self.before.artifact.is_some()) {
            Some(bad) if !later => own(Some(false), &bad.reason, bad.message.clone()),
            _ => {
                let how = format!("{:?}", self.backup.spec.verification);
                own(Some(true), &how, format!("proven at {}", at.0))
            }
        }
    }
}

/// Whether a failure to verify says that what is stored is of no use, as against a
/// store that could not be asked.
fn speaks_against(reason: &str) -> bool {
    [
        Reason::Corrupt,
        Reason::HashMismatch,
        Reason::KeyMissing,
        Reason::NotASnapshot,
        Reason::NotFound,
        Reason::TooLarge,
        Reason::WrongKey,
    ]
    .iter()
    .any(|bad| format!("{bad:?}") == reason)
}

/// A failure, also where a run answered what nobody asked.
fn unfit(outcome: Result<Answer, Failure>) -> Failure {
    match outcome {
        Err(failure) => failure,
        Ok(other) => Failure::new(
            Reason::InvalidRun,
            format!("the run answered what it was not asked: {other:?}"),
        ),
    }
}

fn wait(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now))
        .unwrap_or(SOON)
        .max(SOON)
}

fn artifact(stored: &run::Artifact, cluster: Option<&EtcdCluster>) -> Artifact {
    let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let members = cluster.iter().flat_map(|cluster| &cluster.status);
    let members = members.flat_map(|status| &status.members);
    let named = |member: &&MemberStatus| member.id.as_deref() == Some(&stored.member_id);
    let member = members.into_iter().find(named);
    Artifact {
        uri: stored.uri.clone(),
        size_bytes: count(stored.size_bytes),
        size: human(stored.size_bytes),
        stored_bytes: count(stored.stored_bytes),
        sha256: stored.sha256.clone(),
        revision: stored.revision,
        total_keys: count(stored.total_keys),
        kv_hash: format!("{:08x}", stored.kv_hash),
        etcd_version: stored.etcd_version.clone(),
        cluster_id: stored.cluster_id.clone(),
        member: member.map_or_else(|| stored.member_id.clone(), |member| member.name.clone()),
        taken_at: Some(Time(stored.started_at)),
    }
}

/// Bytes for people: `1.2 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{amount:.1} {unit}")
    }
}

#[cfg(test)]
mod tests;

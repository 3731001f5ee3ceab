//! Backups again and again: what is due, what has to go, which old one is verified
//! again, and the stream of changes between them.
//!
//! Nothing is remembered but the backups themselves: each bears the time it was made
//! for, in its name and in an annotation. So whoever looks, by whatever clock, finds
//! the same backup made or missing; and of those that were missed only the last is
//! made up for.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::{
    api::{
        ANNOTATION_SCHEDULED_AT, ANNOTATION_VERIFY, BackupPhase, ConcurrencyPolicy, EtcdBackup,
        EtcdBackupSchedule, EtcdBackupScheduleStatus, EtcdCluster, FINALIZER_ARTIFACT,
        IncrementsStatus, LABEL_MANAGED_BY, LABEL_SCHEDULE, MANAGED_BY,
    },
    backup::run::Following,
    cron::Cron,
    plan::{Call, Kind},
    render::Settings,
};

use super::{
    IDLE, Plan, SOON, Verdict, WAITING,
    backup::VERIFIED,
    conditions::{Own, conditions, find},
    follow, manifest,
    retention::{Candidate, Expired, Worth, expired},
    turn::Object,
};

/// How much a schedule's clock may be ahead of a backup's time before the backup counts
/// as made by a clock that was wrong.
const SKEW: SignedDuration = SignedDuration::from_secs(1);
/// How long after a backup another one is not made out of turn.
const GAP_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// The longest wait for the next time: clocks are set, and time zones change.
const LOOK: Duration = Duration::from_secs(60);

/// What there is around a schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Its cluster, if there is one.
    pub(crate) cluster: Option<Arc<EtcdCluster>>,
    /// The backups it has made.
    pub(crate) backups: Vec<Arc<EtcdBackup>>,
    /// Names of those that are being restored, and by what.
    pub(crate) pinned: Vec<(String, String)>,
    /// The Deployment of its increments, if there is one.
    pub(crate) follower: Option<follow::Seen>,
}

/// Decides what to do next about `schedule`.
pub(crate) fn plan(
    schedule: &EtcdBackupSchedule,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Plan<EtcdBackupScheduleStatus> {
    let before = schedule.status.clone().unwrap_or_default();
    if schedule.meta().deletion_timestamp.is_some() {
        return Plan::rest(before, IDLE);
    }
    let around = Around {
        schedule,
        observed,
        settings,
        before: &before,
        now,
        backups: observed
            .backups
            .iter()
            .map(|backup| Made::of(backup))
            .collect(),
    };
    around.plan()
}

impl Object for EtcdBackupSchedule {
    type Status = EtcdBackupScheduleStatus;
    type Observed = Observed;

    fn told(&self) -> Option<&EtcdBackupScheduleStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &mut EtcdBackupScheduleStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn plan(
        &self,
        observed: &Observed,
        settings: &Settings,
        now: Timestamp,
    ) -> Plan<EtcdBackupScheduleStatus> {
        plan(self, observed, settings, now)
    }

    fn terminating(_: &mut Observed) {}
}

/// A backup of the schedule.
#[derive(Clone, Debug)]
struct Made<'a> {
    backup: &'a EtcdBackup,
    /// The time it was made for.
    at: Timestamp,
    /// Whether that is a time of the schedule's, and not just when a person had it made.
    scheduled: bool,
    worth: Worth,
}

impl<'a> Made<'a> {
    fn of(backup: &'a EtcdBackup) -> Made<'a> {
        let written = backup
            .annotations()
            .get(ANNOTATION_SCHEDULED_AT)
            .and_then(|text| text.parse().ok());
        let created = backup
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        Made {
            backup,
            at: written.unwrap_or(created),
            scheduled: written.is_some(),
            worth: worth(backup),
        }
    }

    fn is_active(&self) -> bool {
        self.worth == Worth::Unfinished && self.backup.meta().deletion_timestamp.is_none()
    }
}

/// What a backup is worth.
pub(crate) fn worth(backup: &EtcdBackup) -> Worth {
    let Some(status) = &backup.status else {
        return Worth::Unfinished;
    };
    if backup.meta().deletion_timestamp.is_some() {
        return Worth::Unfinished;
    }
    match (status.phase, &status.artifact) {
        (Some(BackupPhase::Failed), None) => Worth::Failed,
        (_, None) => Worth::Unfinished,
        (_, Some(_)) => match find(&status.conditions, VERIFIED).map(|c| c.status.as_str()) {
            Some("True") => Worth::Proven,
            Some("False") => Worth::Bad,
            _ => Worth::Stored,
        },
    }
}

/// Name of the backup a schedule makes for a time.
pub(crate) fn backup_name(schedule: &str, at: Timestamp) -> String {
    format!("{schedule}-{}", at.as_second().div_euclid(60))
}

/// A backup as the schedule makes them, without a name and a time. Unless it is
/// `counted` among the schedule's, its retention does not touch it.
pub(crate) fn by_hand(schedule: &EtcdBackupSchedule, counted: bool) -> EtcdBackup {
    let template = &schedule.spec.template;
    let mut backup = EtcdBackup::new("", template.spec.of(&schedule.spec.cluster_ref));
    let given = template.metadata.clone().unwrap_or_default();
    let meta = backup.meta_mut();
    meta.name = None;
    meta.namespace.clone_from(&schedule.meta().namespace);
    // Not owned: what was stored outlives the schedule, and its object with it.
    let mut labels = given.labels;
    if counted {
        labels.insert(LABEL_SCHEDULE.to_owned(), schedule.name_any());
    } else {
        labels.remove(LABEL_SCHEDULE);
    }
    meta.labels = Some(labels);
    meta.annotations = Some(given.annotations);
    backup
}

struct Around<'a> {
    schedule: &'a EtcdBackupSchedule,
    observed: &'a Observed,
    settings: &'a Settings,
    before: &'a EtcdBackupScheduleStatus,
    now: Timestamp,
    backups: Vec<Made<'a>>,
}

impl Around<'_> {
    fn plan(&self) -> Plan<EtcdBackupScheduleStatus> {
        let spec = &self.schedule.spec;
        let zone = spec.time_zone.as_deref();
        let cron = Cron::parse(&spec.schedule, zone)
            .and_then(|cron| cron.after(self.now).map(|next| (cron, next)));
        let drill = match &spec.drill {
            None => Ok(None),
            Some(drill) => Cron::parse(&drill.schedule, zone)
                .and_then(|cron| cron.after(self.now).map(|_| Some(cron)))
                .map_err(|why| format!("drill.schedule {:?}: {why}", drill.schedule)),
        };
        let mut status = self.status();
        // What is kept does not depend on whether more is made.
        let zone = cron
            .as_ref()
            .map_or(TimeZone::UTC, |(cron, _)| cron.zone().clone());
        let follower = follow::step(
            self.schedule,
            self.observed.cluster.as_deref(),
            self.observed.follower.as_ref(),
            self.settings,
        );
        if let Some((why, call)) = follower {
            return self.act(status, why, vec![call]);
        }
        if let Some((expired, made)) = self.expired(&zone) {
            let why = format!("deletes {}: {}", expired.name, expired.why);
            return self.act(status, why, self.removal(made));
        }
        let (cron, next) = match cron {
            Ok(found) => found,
            Err(why) => {
                let message = format!("schedule {:?}: {why}", spec.schedule);
                let verdict = Verdict::Stalled("InvalidSchedule".to_owned(), message);
                return self.tell(status, &verdict, IDLE);
            }
        };
        let drill = match drill {
            Ok(drill) => drill,
            Err(message) => {
                let verdict = Verdict::Stalled("InvalidSchedule".to_owned(), message);
                return self.tell(status, &verdict, IDLE);
            }
        };
        if spec.suspend {
            let verdict =
                Verdict::Ready("Suspended", "suspend is set: nothing is begun".to_owned());
            return self.tell(status, &verdict, LOOK);
        }
        status.next_schedule_time = Some(Time(next));
        if let Some(cluster) = self.unready() {
            return self.tell(status, &cluster, WAITING);
        }
        if let Some(plan) = self.due(&cron, &status).or_else(|| self.gap(&status)) {
            return plan;
        }
        if let Some((at, made)) = drill.and_then(|drill| self.drill(&drill)) {
            let body = json!({"metadata": {"annotations": {ANNOTATION_VERIFY: at.to_string()}}});
            let why = format!("has {} verified again", made.backup.name_any());
            let call = manifest::patch(Kind::Backup, made.backup, body, false);
            return self.act(status, why, vec![call]);
        }
        let again = Duration::try_from(next.duration_since(self.now)).unwrap_or(SOON);
        let verdict = Verdict::Ready("Scheduled", format!("the next backup is due at {next}"));
        self.tell(status, &verdict, again.clamp(SOON, LOOK))
    }

    /// Why there is nothing to back up yet.
    fn unready(&self) -> Option<Verdict> {
        let name = &self.schedule.spec.cluster_ref.name;
        let Some(cluster) = &self.observed.cluster else {
            let message = format!("there is no EtcdCluster {name}");
            return Some(Verdict::Works("ClusterNotFound".to_owned(), message));
        };
        let formed = cluster
            .status
            .as_ref()
            .is_some_and(|status| status.cluster_id.is_some());
        (!formed).then(|| {
            let message = format!("{name} has not formed yet");
            Verdict::Works("ClusterNotFormed".to_owned(), message)
        })
    }

    /// Makes the backup that is due, if one is, or says what it waits for.
    fn due(
        &self,
        cron: &Cron,
        status: &EtcdBackupScheduleStatus,
    ) -> Option<Plan<EtcdBackupScheduleStatus>> {
        let spec = &self.schedule.spec;
        let at = cron.until(self.now)?;
        if at <= self.considered() {
            return None;
        }
        let late = self.now.duration_since(at);
        if let Some(deadline) = spec.starting_deadline_seconds
            && late > SignedDuration::from_secs(deadline)
        {
            return None;
        }
        let active: Vec<&Made<'_>> = self
            .backups
            .iter()
            .filter(|made| made.is_active())
            .collect();
        let first = match spec.concurrency_policy {
            // What a person had made is nobody else's to give up.
            ConcurrencyPolicy::Replace => active.into_iter().find(|made| made.scheduled),
            _ => active.into_iter().next(),
        };
        if let Some(first) = first {
            match spec.concurrency_policy {
                ConcurrencyPolicy::Allow => {}
                ConcurrencyPolicy::Forbid => {
                    let message = format!(
                        "the backup of {at} begins once {} has ended, as concurrencyPolicy says",
                        first.backup.name_any()
                    );
                    let verdict = Verdict::Works("Waiting".to_owned(), message);
                    return Some(self.tell(status.clone(), &verdict, WAITING));
                }
                ConcurrencyPolicy::Replace => {
                    let name = first.backup.name_any();
                    let why = format!(
                        "gives {name} up for the backup of {at}, as concurrencyPolicy says"
                    );
                    return Some(self.act(status.clone(), why, self.removal(first)));
                }
            }
        }
        let name = backup_name(&self.schedule.name_any(), at);
        let backup = self.backup(&name, at);
        let why = format!("makes {name}, which is due since {at}");
        let call = manifest::apply(Kind::Backup, &backup, false);
        Some(self.act(status.clone(), why, vec![call]))
    }

    /// Makes a backup out of turn where increments have nothing to begin behind.
    fn gap(&self, status: &EtcdBackupScheduleStatus) -> Option<Plan<EtcdBackupScheduleStatus>> {
        let needed = self.following()?.full_backup_needed.as_ref()?;
        let current = self.observed.cluster.as_ref()?.status.as_ref()?;
        // One of what the cluster was before a restore is no beginning for what it is now.
        let serves = |made: &Made<'_>| {
            let artifact = made
                .backup
                .status
                .as_ref()
                .and_then(|it| it.artifact.as_ref());
            artifact.is_none_or(|it| Some(&it.cluster_id) == current.cluster_id.as_ref())
        };
        let recent = |made: &Made<'_>| serves(made) && self.now.duration_since(made.at) < GAP_PAUSE;
        if self
            .backups
            .iter()
            .any(|made| made.is_active() || recent(made))
        {
            return None;
        }
        let minute = self.now.as_second().div_euclid(60) * 60;
        let at = Timestamp::from_second(minute).ok()?;
        let name = backup_name(&self.schedule.name_any(), at);
        if self
            .backups
            .iter()
            .any(|made| made.backup.name_any() == name)
        {
            return None; // names are those of minutes, and this one's is taken
        }
        let why = format!("makes {name} out of turn, for increments to go on from: {needed}");
        let call = manifest::apply(Kind::Backup, &self.backup(&name, at), false);
        Some(self.act(status.clone(), why, vec![call]))
    }

    /// The last time that needs no backup any more: it has one, or lies before the
    /// schedule.
    ///
    /// A backup of a time that is still to come was made by a clock that was ahead. It
    /// says nothing about the times between now and then; its own it has.
    fn considered(&self) -> Timestamp {
        let created = self.schedule.creation_timestamp();
        let created = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let told = self.before.last_schedule_time.as_ref().map(|time| time.0);
        // One made by hand takes no scheduled one's place.
        let made = self.backups.iter().filter(|made| made.scheduled);
        let made = made.map(|made| made.at);
        let seen = made.chain(told).filter(|at| *at <= self.now + SKEW);
        seen.max().map_or(created, |seen| seen.max(created))
    }

    fn backup(&self, name: &str, at: Timestamp) -> EtcdBackup {
        let mut backup = by_hand(self.schedule, true);
        let labels = backup.labels_mut();
        labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        let annotations = backup.annotations_mut();
        annotations.insert(ANNOTATION_SCHEDULED_AT.to_owned(), at.to_string());
        backup.meta_mut().name = Some(name.to_owned());
        backup
    }

    /// The first backup that has to go, if one has.
    fn expired(&self, zone: &TimeZone) -> Option<(Expired, &Made<'_>)> {
        let spec = &self.schedule.spec;
        let candidates: Vec<Candidate> = self
            .backups
            .iter()
            .map(|made| {
                let name = made.backup.name_any();
                Candidate {
                    pinned: self
                        .observed
                        .pinned
                        .iter()
                        .any(|(pinned, _)| *pinned == name),
                    name,
                    at: made.at,
                    worth: made.worth,
                }
            })
            .collect();
        let rules = spec.retention.clone().unwrap_or_default();
        let limit = usize::try_from(spec.failed_history_limit).unwrap_or(0);
        let first = expired(&rules, limit, &candidates, zone, self.now)
            .into_iter()
            .next()?;
        let made = self
            .backups
            .iter()
            .find(|made| made.backup.name_any() == first.name)?;
        Some((first, made))
    }

    /// Takes a backup away with what is stored of it. The finalizer is set with the
    /// policy: the deletion that follows must not overtake either.
    fn removal(&self, made: &Made<'_>) -> Vec<Call> {
        let mut finalizers = made.backup.finalizers().to_vec();
        if !finalizers.iter().any(|name| name == FINALIZER_ARTIFACT) {
            finalizers.push(FINALIZER_ARTIFACT.to_owned());
        }
        let body = json!({
            "metadata": {"finalizers": finalizers},
            "spec": {"deletionPolicy": "Delete"},
        });
        let name = made.backup.name_any();
        let uid = made.backup.uid().unwrap_or_default();
        vec![
            manifest::patch(Kind::Backup, made.backup, body, true),
            manifest::delete(Kind::Backup, &name, &uid),
        ]
    }

    /// The time of the drill that is due, and the backup whose proof is oldest.
    fn drill(&self, drill: &Cron) -> Option<(Timestamp, &Made<'_>)> {
        let at = drill.until(self.now)?;
        let created = self.schedule.creation_timestamp()?.0;
        let asked = |made: &Made<'_>| -> Option<Timestamp> {
            made.backup
                .annotations()
                .get(ANNOTATION_VERIFY)?
                .parse()
                .ok()
        };
        let held = self.backups.iter().filter_map(asked).any(|held| held >= at);
        if held || at <= created {
            return None;
        }
        let stored = self.backups.iter().filter(|made| made.worth >= Worth::Bad);
        let oldest = stored.min_by_key(|made| {
            let status = made.backup.status.as_ref();
            let verified = status.and_then(|status| status.verified_at.as_ref());
            // One that was just asked for and not verified yet is not the oldest again.
            verified.map(|time| time.0).max(asked(made))
        })?;
        Some((at, oldest))
    }

    fn status(&self) -> EtcdBackupScheduleStatus {
        let good = |made: &&Made<'_>| made.worth >= Worth::Stored;
        let taken = |made: &Made<'_>| {
            let artifact = made.backup.status.as_ref()?.artifact.as_ref()?;
            artifact.taken_at.as_ref().map(|time| time.0)
        };
        let last = self
            .backups
            .iter()
            .filter(|made| made.scheduled)
            .map(|made| made.at)
            .filter(|at| *at <= self.now + SKEW);
        let told = self.before.last_schedule_time.as_ref().map(|time| time.0);
        let told = told.filter(|at| *at <= self.now + SKEW);
        let newest = self.backups.iter().filter(good).filter_map(taken).max();
        let active = self.backups.iter().filter(|made| made.is_active());
        let kept = self.backups.iter().filter(good).count();
        EtcdBackupScheduleStatus {
            observed_generation: self.schedule.meta().generation.unwrap_or_default(),
            last_schedule_time: last.max().max(told).map(Time),
            last_success_time: newest.map(Time).or(self.before.last_success_time.clone()),
            next_schedule_time: None,
            active: active.map(|made| made.backup.name_any()).take(64).collect(),
            kept: i32::try_from(kept).unwrap_or(i32::MAX),
            increments: self.increments(),
            conditions: Vec::new(),
        }
    }

    /// How far the increments are; figures alone are no news.
    fn increments(&self) -> Option<IncrementsStatus> {
        self.schedule.spec.increments.as_ref()?;
        let Some(following) = self.following() else {
            return self.before.increments.clone();
        };
        let lag = following.lag_seconds;
        let now = IncrementsStatus {
            revision: (following.stored_revision > 0).then_some(following.stored_revision),
            until: following.stored_at.map(Time),
            lag: Some(format!("{lag}s")),
        };
        // A status that is written every few seconds tells nobody anything.
        let before = self.before.increments.clone();
        let recent = before
            .as_ref()
            .and_then(|before| before.until.as_ref())
            .is_some_and(|until| {
                let until_now = following.stored_at.unwrap_or(until.0);
                until_now.duration_since(until.0) < SignedDuration::from_secs(60)
            });
        if recent && lag < 60 {
            before
        } else {
            Some(now)
        }
    }

    fn following(&self) -> Option<&Following> {
        let progress = self.observed.follower.as_ref()?.progress.as_ref()?;
        progress.following.as_ref()
    }

    fn act(
        &self,
        status: EtcdBackupScheduleStatus,
        why: String,
        calls: Vec<Call>,
    ) -> Plan<EtcdBackupScheduleStatus> {
        let verdict = Verdict::Works("Working".to_owned(), why.clone());
        let told = self.tell(status, &verdict, SOON);
        Plan::act(told.status, why, calls)
    }

    fn tell(
        &self,
        mut status: EtcdBackupScheduleStatus,
        verdict: &Verdict,
        again: Duration,
    ) -> Plan<EtcdBackupScheduleStatus> {
        let own = [self.continuous()];
        status.conditions = conditions(
            verdict,
            &own,
            &self.before.conditions,
            self.schedule.meta().generation,
            self.now,
        );
        // Increments are asked how far they are.
        let again = if self.schedule.spec.increments.is_some() {
            again.min(WAITING)
        } else {
            again
        };
        Plan::rest(status, again)
    }

    /// Whether any point in time since the last full backup can be restored.
    fn continuous(&self) -> Own {
        let own = |status, reason: &str, message: String| Own {
            type_: "Continuous",
            status,
            reason: reason.to_owned(),
            message,
        };
        let Some(spec) = &self.schedule.spec.increments else {
            return own(Some(false), "NoIncrements", String::new());
        };
        let Some(seen) = &self.observed.follower else {
            return own(Some(false), "Starting", String::new());
        };
        let Some(progress) = &seen.progress else {
            let message = seen
                .trouble
                .clone()
                .unwrap_or_else(|| "it does not answer".to_owned());
            return own(Some(false), "NotRunning", message);
        };
        let Some(following) = &progress.following else {
            return own(Some(false), "Starting", String::new());
        };
        if let Some(why) = &following.full_backup_needed {
            return own(Some(false), "FullBackupNeeded", why.clone());
        }
        if let Some(trouble) = &progress.trouble {
            return own(
                Some(false),
                &format!("{:?}", trouble.reason),
                trouble.message.clone(),
            );
        }
        let limit = crate::api::duration_seconds(&spec.max_lag)
            .unwrap_or(10)
            .unsigned_abs();
        // Twice the lag that was asked for: a moment late is not broken.
        if following.lag_seconds > 2 * limit {
            let message = format!(
                "changes are {} s behind, maxLag is {}",
                following.lag_seconds, spec.max_lag
            );
            return own(Some(false), "Behind", message);
        }
        own(Some(true), "Following", String::new())
    }
}

#[cfg(test)]
mod tests;

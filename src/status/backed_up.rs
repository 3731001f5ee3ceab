//! Whether a cluster has a proven backup as recent as its schedules want it.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster},
    cron::Cron,
    jobs::{Worth, worth},
    observe::Observed,
};

use super::BackedUpReason;

/// The newest proven backup of a cluster as it is now: not of one it was before a restore.
pub(crate) fn newest<'a>(
    cluster: &EtcdCluster,
    observed: &'a Observed,
) -> Option<(&'a EtcdBackup, Timestamp)> {
    let id = cluster.status.as_ref()?.cluster_id.as_ref()?;
    let proven = observed
        .backups
        .iter()
        .filter(|b| worth(b) == Worth::Proven);
    proven
        .filter_map(|backup| {
            let artifact = backup.status.as_ref()?.artifact.as_ref()?;
            let taken = artifact.taken_at.as_ref()?;
            (artifact.cluster_id == *id).then_some((&**backup, taken.0))
        })
        .max_by_key(|(_, taken)| *taken)
}

/// (whether it is so, reason, message). Times, not ages: an age alone is no news.
pub(super) fn judge(
    cluster: &EtcdCluster,
    observed: &Observed,
    now: Timestamp,
) -> (bool, &'static str, String) {
    let tell = |is, reason: BackedUpReason, message: String| (is, reason.as_str(), message);
    let newest = newest(cluster, observed);
    let what = newest.map_or_else(
        || "there is no proven backup of it".to_owned(),
        |(backup, taken)| format!("{}, taken at {taken}, is proven", backup.name_any()),
    );
    let schedules = observed.schedules.iter();
    let wanted = schedules
        .filter_map(|s| Some((s.name_any(), wanted(s, now)?)))
        .max_by_key(|w| w.1);
    let Some((schedule, wanted)) = wanted else {
        return tell(
            false,
            BackedUpReason::NoSchedule,
            format!("no schedule backs it up; {what}"),
        );
    };
    match newest {
        None => tell(false, BackedUpReason::NoBackup, what),
        Some((_, taken)) if taken < wanted => tell(
            false,
            BackedUpReason::TooOld,
            format!("{what}; the schedule {schedule} wants one that is no older than {wanted}"),
        ),
        Some(_) => tell(true, BackedUpReason::Recent, what),
    }
}

/// The oldest that the newest backup may be by a schedule: the last but one of its
/// times, so that the run of the last has its time.
fn wanted(schedule: &EtcdBackupSchedule, now: Timestamp) -> Option<Timestamp> {
    let spec = &schedule.spec;
    if spec.suspend {
        return None;
    }
    let cron = Cron::parse(&spec.schedule, spec.time_zone.as_deref()).ok()?;
    let last = cron.until(now)?;
    cron.until(last - SignedDuration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn backup(name: &str, taken: &str, verified: &str, of: &str) -> Arc<EtcdBackup> {
        let object = serde_json::json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": name, "namespace": "n"},
            "spec": {"clusterRef": {"name": "demo"}, "destination": {}},
            "status": {
                "phase": "Completed",
                "artifact": {"uri": "", "sizeBytes": 1, "size": "1 B", "storedBytes": 1, "sha256": "",
                    "revision": 7, "totalKeys": 1, "kvHash": "", "etcdVersion": "", "clusterID": of,
                    "member": "", "takenAt": taken},
                "conditions": [{"type": "Verified", "status": verified, "reason": "Restore",
                    "message": "", "lastTransitionTime": taken}]
            }
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn schedule(schedule: &str, suspend: bool) -> Arc<EtcdBackupSchedule> {
        let object = serde_json::json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackupSchedule",
            "metadata": {"name": "nightly", "namespace": "n"},
            "spec": {"clusterRef": {"name": "demo"}, "schedule": schedule, "suspend": suspend,
                "template": {"spec": {"destination": {}}}}
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn it_is_backed_up_while_the_newest_proof_is_as_recent_as_its_schedules_want() {
        let cluster: EtcdCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n"}, "spec": {},
            "status": {"clusterID": "c2"}
        }))
        .unwrap();
        let now = "2026-01-10T12:00:00Z".parse().unwrap();
        let of = |backups: Vec<Arc<EtcdBackup>>, schedules: Vec<Arc<EtcdBackupSchedule>>| {
            let observed = Observed {
                backups,
                schedules,
                ..Observed::default()
            };
            let (is, reason, _) = judge(&cluster, &observed, now);
            (is, reason)
        };
        let (today, two) = ("2026-01-10T00:01:00Z", "2026-01-08T23:00:00Z");
        let good = backup("a", today, "True", "c2");
        for (backups, schedules, expected) in [
            (vec![], vec![], (false, "NoSchedule")),
            (vec![good.clone()], vec![], (false, "NoSchedule")),
            (
                vec![good.clone()],
                vec![schedule("@daily", true)],
                (false, "NoSchedule"),
            ),
            (vec![], vec![schedule("@daily", false)], (false, "NoBackup")),
            (
                vec![good.clone()],
                vec![schedule("@daily", false)],
                (true, "Recent"),
            ),
            // The strictest schedule counts.
            (
                vec![good.clone()],
                vec![schedule("@daily", false), schedule("@hourly", false)],
                (false, "TooOld"),
            ),
            (
                vec![backup("b", two, "True", "c2")],
                vec![schedule("@daily", false)],
                (false, "TooOld"),
            ),
            // One that is bad, or of the cluster it was before a restore, does not.
            (
                vec![backup("c", today, "False", "c2")],
                vec![schedule("@daily", false)],
                (false, "NoBackup"),
            ),
            (
                vec![backup("d", today, "True", "c1")],
                vec![schedule("@daily", false)],
                (false, "NoBackup"),
            ),
        ] {
            assert_eq!(of(backups, schedules), expected);
        }
    }
}

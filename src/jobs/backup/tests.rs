use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-01-01T00:10:00Z";

fn settings() -> Settings {
    Settings {
        default_image: "etcd:1".to_owned(),
        operator_image: "operator:1".to_owned(),
    }
}

fn backup(status: Value) -> EtcdBackup {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"name": "once", "namespace": "n", "uid": "1F-2e3d4c5b", "generation": 2},
        "spec": {"clusterRef": {"name": "demo"},
            "destination": {"s3": {"bucket": "b23", "region": "x",
                "credentialsSecretRef": {"name": "keys"}}},
            "encryption": {"keySecretRef": {"name": "age"}}},
        "status": status,
    }))
    .unwrap()
}

fn observed(runs: Vec<RunSeen>) -> Observed {
    let cluster: EtcdCluster = serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "n", "uid": "c"}, "spec": {},
        "status": {"clusterID": "c1", "members": [
            {"name": "demo-0", "id": "a0", "role": "Voter", "healthy": true}]}
    }))
    .unwrap();
    Observed {
        cluster: Some(Arc::new(cluster)),
        runs,
        ..Observed::default()
    }
}

fn seen(job: &str, state: RunState, answer: Option<Answer>) -> RunSeen {
    RunSeen {
        job: job.to_owned(),
        uid: "j".to_owned(),
        state,
        answer,
        trouble: None,
        ip: None,
        progress: None,
    }
}

fn run(kind: &str, attempt: i32, uid: Option<&str>, ended: bool) -> Value {
    let mut run = json!({"kind": kind, "attempt": attempt, "serial": attempt,
        "job": format!("once-{}-{attempt}", kind.to_lowercase()), "startedAt": "2026-01-01T00:00:00Z"});
    if let Some(uid) = uid {
        run["jobUID"] = uid.into();
    }
    if ended {
        run["endedAt"] = "2026-01-01T00:05:00Z".into();
    }
    run
}

fn failed(transient: bool) -> Value {
    json!({"reason": "StoreBusy", "message": "slow down", "transient": transient,
        "at": "2026-01-01T00:05:00Z"})
}

#[test]
fn the_run_is_recorded_before_its_job_and_told_everything() {
    let plan = plan(&backup(json!({})), &observed(vec![]), &settings(), at(NOW));
    let run = plan.status.run.unwrap();
    assert_eq!(
        (run.job.as_str(), run.attempt, run.job_uid),
        ("once-snapshot-1", 1, None)
    );
    let [Call::Apply(manifest)] = plan.calls.as_slice() else {
        panic!("{:?}", plan.calls);
    };
    insta::assert_yaml_snapshot!("job", manifest.body);
}

#[test]
fn a_job_on_record_is_made_unless_it_was_seen_and_is_gone() {
    // Recorded, and never seen: made now, under its name.
    let status = json!({"run": run("Snapshot", 1, None, false)});
    let next = plan(&backup(status), &observed(vec![]), &settings(), at(NOW));
    assert!(matches!(next.calls.as_slice(), [Call::Apply(it)] if it.name == "once-snapshot-1"));
    // Seen, and gone: that attempt is over.
    let status = json!({"run": run("Snapshot", 1, Some("j"), false)});
    let next = plan(&backup(status), &observed(vec![]), &settings(), at(NOW));
    assert_eq!(next.calls, []);
    assert!(next.status.failure.unwrap().message.contains("was deleted"));
}

#[test]
fn attempts_follow_the_objects_rules_and_only_what_may_pass_is_tried_again() {
    // Attempt on record, its failure, the time: what is next.
    let next = |attempt: i32, transient: bool, now: &str| {
        let status =
            json!({"run": run("Snapshot", attempt, Some("j"), true), "failure": failed(transient)});
        let next = plan(&backup(status), &observed(vec![]), &settings(), at(now));
        let began = next.calls.first().map(|call| match call {
            Call::Apply(it) => it.name.clone(),
            other => panic!("{other:?}"),
        });
        (next.status.phase.unwrap(), began)
    };
    let pending = (BackupPhase::Pending, None);
    let given_up = (BackupPhase::Failed, None);
    assert_eq!(next(1, true, "2026-01-01T00:05:09Z"), pending);
    let second = Some("once-snapshot-2".to_owned());
    assert_eq!(
        next(1, true, "2026-01-01T00:05:10Z"),
        (BackupPhase::Running, second)
    );
    assert_eq!(
        next(2, true, "2026-01-01T00:05:19Z"),
        pending,
        "pauses double"
    );
    assert_eq!(
        next(3, true, "2026-01-01T01:00:00Z"),
        given_up,
        "three are allowed"
    );
    assert_eq!(
        next(1, false, "2026-01-01T01:00:00Z"),
        given_up,
        "it would fail again"
    );
}

#[test]
fn a_failure_names_the_thing_in_a_condition() {
    let failure = Failure::new(Reason::NoSuchBucket, "there is no bucket b23");
    let ended = seen(
        "once-snapshot-1",
        RunState::Failed("BackoffLimitExceeded".to_owned()),
        Some(Answer::Failed(failure)),
    );
    let status = json!({"run": run("Snapshot", 1, Some("j"), false)});
    let first = plan(
        &backup(status),
        &observed(vec![ended]),
        &settings(),
        at(NOW),
    );
    let status = serde_json::to_value(&first.status).unwrap();
    let last = plan(&backup(status), &observed(vec![]), &settings(), at(NOW));
    let stalled = find(&last.status.conditions, "Stalled").unwrap();
    assert_eq!(
        (
            stalled.status.as_str(),
            stalled.reason.as_str(),
            stalled.message.as_str()
        ),
        ("True", "NoSuchBucket", "there is no bucket b23")
    );
    assert_eq!(
        find(&last.status.conditions, "Ready").unwrap().status,
        "False"
    );
}

#[test]
fn o17_a_backup_waits_for_a_cluster_that_serves() {
    for (cluster, reason) in [
        (None, "ClusterNotFound"),
        (Some(json!({})), "ClusterNotFormed"),
        (
            Some(json!({"clusterID": "c1", "members": [
                {"name": "demo-0", "id": "a0", "role": "Voter", "healthy": false}]})),
            "NoHealthyMember",
        ),
    ] {
        let cluster = cluster.map(|status| {
            Arc::new(
                serde_json::from_value(json!({
                    "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                    "metadata": {"name": "demo", "namespace": "n"}, "spec": {}, "status": status}))
                .unwrap(),
            )
        });
        let observed = Observed {
            cluster,
            ..Observed::default()
        };
        let next = plan(&backup(json!({})), &observed, &settings(), at(NOW));
        assert_eq!(next.calls, []);
        let told = find(&next.status.conditions, "Reconciling").unwrap();
        assert_eq!(
            (told.status.as_str(), told.reason.as_str()),
            ("True", reason)
        );
    }
}

#[test]
fn what_is_stored_is_let_go_of_where_it_cannot_be_deleted() {
    let going = |failure: Value, deleted: &str, now: &str| {
        let mut backup = backup(json!({
            "run": run("Delete", 3, Some("j"), true), "failure": failure, "phase": "Deleting",
        }));
        backup.spec.deletion_policy = DeletionPolicy::Delete;
        backup.metadata.finalizers = Some(vec!["other".to_owned(), FINALIZER_ARTIFACT.to_owned()]);
        backup.metadata.deletion_timestamp = Some(Time(at(deleted)));
        plan(&backup, &observed(vec![]), &settings(), at(now))
    };
    // The store may come back: tried on for an hour, then let go of, with a word.
    let again = going(failed(true), "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z");
    assert!(matches!(again.calls.as_slice(), [Call::Apply(it)] if it.kind == Kind::Job));
    let over = going(failed(true), "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    let refused = going(
        failed(false),
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:06:00Z",
    );
    for plan in [over, refused] {
        let [Call::Patch { patch, .. }] = plan.calls.as_slice() else {
            panic!("{:?}", plan.calls);
        };
        assert_eq!(patch["metadata"]["finalizers"], json!(["other"]));
        assert!(
            plan.why.contains("leaves what is stored where it is"),
            "{}",
            plan.why
        );
    }
}

#[test]
fn what_is_stored_is_deleted_once_the_pod_that_writes_has_ended_or_after_an_hour() {
    let going = |now: &str| {
        let mut backup = backup(json!({"run": run("Snapshot", 1, Some("j"), false)}));
        backup.spec.deletion_policy = DeletionPolicy::Delete;
        backup.metadata.finalizers = Some(vec![FINALIZER_ARTIFACT.to_owned()]);
        backup.metadata.deletion_timestamp = Some(Time(at("2026-01-01T00:00:00Z")));
        let observed = Observed {
            writer: Some("once-snapshot-1-x7k".to_owned()),
            ..observed(vec![])
        };
        plan(&backup, &observed, &settings(), at(now))
    };
    let waits = going("2026-01-01T00:59:00Z");
    assert_eq!(waits.calls, []);
    let told = find(&waits.status.conditions, "Reconciling").unwrap();
    assert!(told.message.contains("once-snapshot-1-x7k"), "{told:?}");
    let goes_on = going("2026-01-01T01:00:00Z");
    assert!(matches!(goes_on.calls.as_slice(), [Call::Apply(it)] if it.kind == Kind::Job));
}

#[test]
fn sizes_are_told_in_units_of_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2 << 30, "2.0 GiB"),
    ] {
        assert_eq!(human(bytes), text);
    }
}

#[test]
fn how_far_a_run_is_is_in_status_and_what_it_waits_out() {
    let told = |progress: Value| {
        let at_it = RunSeen {
            progress: serde_json::from_value(progress).unwrap(),
            ..seen("once-snapshot-1", RunState::Active, None)
        };
        let status = json!({"phase": "Running", "run": run("Snapshot", 1, Some("j"), false)});
        let next = plan(
            &backup(status),
            &observed(vec![at_it]),
            &settings(),
            at(NOW),
        );
        assert!(next.calls.is_empty());
        assert!(next.light, "caches are good enough for it");
        let message = find(&next.status.conditions, "Reconciling")
            .unwrap()
            .message
            .clone();
        (next.status.run.unwrap().progress, message)
    };
    let (progress, message) = told(json!({"stage": "Uploading", "since": NOW,
        "doneBytes": 500, "totalBytes": 2000}));
    let progress = progress.unwrap();
    assert_eq!(
        (
            progress.stage.as_str(),
            progress.bytes,
            progress.total_bytes,
            progress.percent
        ),
        ("Uploading", 500, Some(2000), Some(25))
    );
    assert_eq!(message, "once-snapshot-1: Uploading");
    // A size that is not known is no percentage.
    let (progress, message) = told(json!({"stage": "Verifying", "since": NOW, "doneBytes": 7,
        "trouble": {"reason": "StoreBusy", "message": "slow down", "transient": true}}));
    let progress = progress.unwrap();
    assert_eq!((progress.bytes, progress.percent), (7, None));
    assert_eq!(message, "once-snapshot-1 waits: slow down");
}

use serde_json::{Value, json};

use super::*;
use crate::backup::run::{Progress, Stage};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        default_image: "etcd:1".to_owned(),
        operator_image: "operator:1".to_owned(),
    }
}

fn schedule(extra: Value) -> EtcdBackupSchedule {
    let mut spec = json!({
        "clusterRef": {"name": "demo"},
        "schedule": "0 * * * *",
        "template": {"spec": {"destination": {"persistentVolumeClaim": {"claimName": "b"}}}},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackupSchedule",
        "metadata": {"name": "often", "namespace": "n", "uid": "s", "generation": 1,
            "creationTimestamp": "2026-01-01T00:30:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

fn cluster() -> Arc<EtcdCluster> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo", "namespace": "n", "uid": "c"}, "spec": {},
            "status": {"clusterID": "c1"}
        }))
        .unwrap(),
    )
}

/// A backup made for `time`; a phase, and whether it is verified.
fn backup(time: &str, phase: &str, verified: &str) -> Arc<EtcdBackup> {
    let stored = matches!(phase, "Completed" | "Verifying").then(|| {
        json!({"uri": "u", "sizeBytes": 1, "size": "1 B", "storedBytes": 1, "sha256": "",
            "revision": 1, "totalKeys": 1, "kvHash": "", "etcdVersion": "", "clusterID": "c1",
            "member": "", "takenAt": time})
    });
    let mut backup: EtcdBackup = serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"name": backup_name("often", at(time)), "namespace": "n", "uid": time,
            "annotations": {ANNOTATION_SCHEDULED_AT: time}},
        "spec": {"clusterRef": {"name": "demo"},
            "destination": {"persistentVolumeClaim": {"claimName": "b"}}},
        "status": {"phase": phase, "verifiedAt": time,
            "conditions": [{"type": "Verified", "status": verified, "reason": "x", "message": "",
                "lastTransitionTime": time}]},
    }))
    .unwrap();
    backup.status.as_mut().unwrap().artifact =
        stored.map(|stored| serde_json::from_value(stored).unwrap());
    Arc::new(backup)
}

fn look(
    schedule: &EtcdBackupSchedule,
    backups: &[Arc<EtcdBackup>],
    now: &str,
) -> Plan<EtcdBackupScheduleStatus> {
    let observed = Observed {
        cluster: Some(cluster()),
        backups: backups.to_vec(),
        ..Observed::default()
    };
    plan(schedule, &observed, &settings(), at(now))
}

/// The time of the backup that is made, if one is.
fn made(plan: &Plan<EtcdBackupScheduleStatus>) -> Option<String> {
    plan.calls.iter().find_map(|call| match call {
        Call::Apply(manifest) if manifest.kind == Kind::Backup => {
            let written = &manifest.body["metadata"]["annotations"][ANNOTATION_SCHEDULED_AT];
            assert_eq!(manifest.name, backup_name("often", at(written.as_str()?)));
            Some(written.as_str()?.to_owned())
        }
        _ => None,
    })
}

#[test]
fn a_backup_is_made_once_for_its_time_and_of_those_missed_only_the_last() {
    let plain = schedule(json!({}));
    let done = |time: &str| backup(time, "Completed", "True");
    for (backups, now, expected) in [
        // Before its first time, at it, and a moment later.
        (vec![], "2026-01-01T00:59:59Z", None),
        (vec![], "2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z")),
        (
            vec![done("2026-01-01T01:00:00Z")],
            "2026-01-01T01:00:01Z",
            None,
        ),
        // After an outage of a day: one, and it is late.
        (
            vec![done("2026-01-01T01:00:00Z")],
            "2026-01-02T05:20:00Z",
            Some("2026-01-02T05:00:00Z"),
        ),
        // A failed one is not taken again: the next time comes.
        (
            vec![backup("2026-01-01T01:00:00Z", "Failed", "False")],
            "2026-01-01T01:30:00Z",
            None,
        ),
    ] {
        let plan = look(&plain, &backups, now);
        assert_eq!(made(&plan).as_deref(), expected, "{now}");
    }
}

#[test]
fn o34_clocks_that_differ_neither_miss_nor_double_a_backup() {
    let plain = schedule(json!({}));
    // A clock that was ahead made the backup of three before three; another reads two.
    let ahead = backup("2026-01-01T03:00:00Z", "Completed", "True");
    let two = backup("2026-01-01T02:00:00Z", "Completed", "True");
    let done = [two.clone(), ahead.clone()];
    assert_eq!(made(&look(&plain, &done, "2026-01-01T02:58:00Z")), None);
    assert_eq!(
        made(&look(&plain, &done, "2026-01-01T03:00:30Z")),
        None,
        "it has one"
    );
    // What lies between is not missed for it.
    let only = [ahead];
    let plan = look(&plain, &only, "2026-01-01T02:10:00Z");
    assert_eq!(made(&plan).as_deref(), Some("2026-01-01T02:00:00Z"));
    // Nor by the memory of status.
    let mut told = schedule(json!({}));
    told.status = Some(EtcdBackupScheduleStatus {
        last_schedule_time: Some(Time(at("2026-01-03T00:00:00Z"))),
        ..EtcdBackupScheduleStatus::default()
    });
    let plan = look(&told, &[two], "2026-01-01T03:00:00Z");
    assert_eq!(made(&plan).as_deref(), Some("2026-01-01T03:00:00Z"));
}

#[test]
fn a_deadline_and_a_suspension_let_a_time_pass() {
    let strict = schedule(json!({"startingDeadlineSeconds": 60}));
    assert!(made(&look(&strict, &[], "2026-01-01T01:01:00Z")).is_some());
    assert!(made(&look(&strict, &[], "2026-01-01T01:01:01Z")).is_none());
    let held = schedule(json!({"suspend": true}));
    let plan = look(&held, &[], "2026-01-01T01:00:00Z");
    assert!(made(&plan).is_none());
    assert_eq!(
        find(&plan.status.conditions, "Ready").unwrap().reason,
        "Suspended"
    );
}

#[test]
fn one_that_has_not_ended_is_waited_for_joined_or_replaced() {
    let running = [backup("2026-01-01T01:00:00Z", "Running", "False")];
    let at_two = |policy: &str| {
        let schedule = schedule(json!({"concurrencyPolicy": policy}));
        look(&schedule, &running, "2026-01-01T02:00:00Z")
    };
    let forbid = at_two("Forbid");
    assert_eq!((made(&forbid), forbid.calls.len()), (None, 0));
    assert_eq!(forbid.status.active, ["often-29453820"]);
    assert!(made(&at_two("Allow")).is_some());
    let replace = at_two("Replace");
    assert!(made(&replace).is_none());
    assert!(matches!(
        replace.calls.as_slice(),
        [
            Call::Patch { .. },
            Call::Delete {
                kind: Kind::Backup,
                ..
            }
        ]
    ));
}

#[test]
fn o32_a_schedule_that_never_comes_stalls_and_still_clears_away() {
    let never = schedule(json!({"schedule": "0 0 31 2 *", "retention": {"keepLast": 1}}));
    let plan = look(&never, &[], "2026-01-01T01:00:00Z");
    let stalled = find(&plan.status.conditions, "Stalled").unwrap();
    assert_eq!(
        (stalled.status.as_str(), stalled.reason.as_str()),
        ("True", "InvalidSchedule")
    );
    assert!(
        stalled.message.contains("never comes"),
        "{}",
        stalled.message
    );
    let two = [
        backup("2026-01-01T01:00:00Z", "Completed", "True"),
        backup("2026-01-01T02:00:00Z", "Completed", "True"),
    ];
    let plan = look(&never, &two, "2026-01-01T03:00:00Z");
    assert!(plan.why.contains("deletes often-29453820"), "{}", plan.why);
    let zone = schedule(json!({"timeZone": "Middle/Earth"}));
    let plan = look(&zone, &[], "2026-01-01T01:00:00Z");
    let stalled = find(&plan.status.conditions, "Stalled").unwrap();
    assert!(
        stalled.message.contains("no time zone"),
        "{}",
        stalled.message
    );
    let drill = schedule(json!({"drill": {"schedule": "0 0 30 2 *"}}));
    let plan = look(&drill, &[], "2026-01-01T01:00:00Z");
    let stalled = find(&plan.status.conditions, "Stalled").unwrap();
    assert!(
        stalled.message.contains("drill.schedule"),
        "{}",
        stalled.message
    );
}

#[test]
fn what_retention_takes_away_goes_with_what_is_stored_of_it() {
    let strict = schedule(json!({"retention": {"keepLast": 1}, "suspend": true}));
    let two = [
        backup("2026-01-01T01:00:00Z", "Completed", "True"),
        backup("2026-01-01T02:00:00Z", "Completed", "True"),
    ];
    let plan = look(&strict, &two, "2026-01-01T03:00:00Z");
    let [
        Call::Patch { name, patch, .. },
        Call::Delete {
            name: gone, uid, ..
        },
    ] = plan.calls.as_slice()
    else {
        panic!("{:?}", plan.calls);
    };
    assert_eq!((name, gone), (&two[0].name_any(), &two[0].name_any()));
    assert_eq!(Some(uid), two[0].uid().as_ref());
    assert_eq!(patch["spec"]["deletionPolicy"], "Delete");
    assert_eq!(patch["metadata"]["finalizers"], json!([FINALIZER_ARTIFACT]));
    // Not while it is being restored.
    let observed = Observed {
        cluster: Some(cluster()),
        backups: two.to_vec(),
        pinned: vec![(two[0].name_any(), "EtcdRestore x".to_owned())],
        ..Observed::default()
    };
    let plan = super::plan(&strict, &observed, &settings(), at("2026-01-01T03:00:00Z"));
    assert_eq!(plan.calls, []);
}

#[test]
fn o24_a_drill_is_for_the_backup_whose_proof_is_oldest_once_each_time() {
    let drilled = schedule(json!({"drill": {"schedule": "0 0 * * *"}}));
    let old = backup("2026-01-01T22:00:00Z", "Completed", "True");
    let new = backup("2026-01-01T23:00:00Z", "Completed", "True");
    let at_midnight = backup("2026-01-02T00:00:00Z", "Completed", "True");
    let backups = [old.clone(), new, at_midnight];
    let plan = look(&drilled, &backups, "2026-01-02T00:00:30Z");
    let [Call::Patch { name, patch, .. }] = plan.calls.as_slice() else {
        panic!("{:?}", plan.calls);
    };
    assert_eq!(*name, old.name_any());
    let asked = &patch["metadata"]["annotations"][ANNOTATION_VERIFY];
    assert_eq!(asked, "2026-01-02T00:00:00Z");
    let mut asked = EtcdBackup::clone(&old);
    asked.annotations_mut().insert(
        ANNOTATION_VERIFY.to_owned(),
        "2026-01-02T00:00:00Z".to_owned(),
    );
    let backups = [Arc::new(asked), backups[1].clone(), backups[2].clone()];
    assert_eq!(look(&drilled, &backups, "2026-01-02T00:00:31Z").calls, []);
}

fn follower(needed: Option<&str>, lag: u64) -> follow::Seen {
    let stored_at = at("2026-01-01T01:00:00Z");
    follow::Seen {
        name: "often-follow".to_owned(),
        uid: "f".to_owned(),
        progress: Some(Progress {
            stage: Stage::Following,
            since: stored_at,
            done_bytes: 0,
            total_bytes: None,
            trouble: None,
            following: Some(Following {
                revision: 9,
                stored_revision: 7,
                stored_at: Some(stored_at),
                lag_seconds: lag,
                full_backup_needed: needed.map(str::to_owned),
                ..Following::default()
            }),
        }),
        ..follow::Seen::default()
    }
}

/// With increments, and the Deployment as it should be.
fn following(
    backups: &[Arc<EtcdBackup>],
    seen: follow::Seen,
    now: &str,
) -> Plan<EtcdBackupScheduleStatus> {
    let schedule = schedule(json!({"increments": {"maxLag": "10s"}}));
    let mut observed = Observed {
        cluster: Some(cluster()),
        backups: backups.to_vec(),
        ..Observed::default()
    };
    let made = plan(&schedule, &observed, &settings(), at(now));
    let [Call::Apply(manifest)] = made.calls.as_slice() else {
        panic!("the Deployment comes first: {:?}", made.calls);
    };
    assert_eq!(
        (manifest.kind, manifest.name.as_str()),
        (Kind::Deployment, "often-follow")
    );
    let template = &manifest.body["metadata"]["annotations"]["etcd-core.io/template"];
    observed.follower = Some(follow::Seen {
        template: template.as_str().unwrap().to_owned(),
        ..seen
    });
    plan(&schedule, &observed, &settings(), at(now))
}

#[test]
fn o26_a_full_backup_is_made_out_of_turn_where_increments_have_a_gap() {
    let now = "2026-01-01T01:30:10Z";
    let done = backup("2026-01-01T01:00:00Z", "Completed", "True");
    let fine = following(std::slice::from_ref(&done), follower(None, 3), now);
    assert_eq!(fine.calls, []);
    let told = find(&fine.status.conditions, "Continuous").unwrap();
    assert_eq!(
        (told.status.as_str(), told.reason.as_str()),
        ("True", "Following")
    );
    assert_eq!(fine.status.increments.as_ref().unwrap().revision, Some(7));
    let gap = following(&[done], follower(Some("compacted"), 3), now);
    assert_eq!(made(&gap).as_deref(), Some("2026-01-01T01:30:00Z"));
    // Not while one is under way, nor right after one.
    let running = backup("2026-01-01T01:00:00Z", "Running", "False");
    assert_eq!(
        made(&following(&[running], follower(Some("x"), 3), now)),
        None
    );
    let recent = backup("2026-01-01T01:25:00Z", "Completed", "True");
    assert_eq!(
        made(&following(&[recent], follower(Some("x"), 3), now)),
        None
    );
}

#[test]
fn o21_a_cluster_that_was_restored_is_backed_up_at_once_for_increments_to_go_on() {
    let of_before = |time: &str| {
        let mut backup = EtcdBackup::clone(&backup(time, "Completed", "True"));
        let status = backup.status.as_mut().unwrap();
        status.artifact.as_mut().unwrap().cluster_id = "c0".to_owned();
        Arc::new(backup)
    };
    let made_of = |backup, now| made(&following(&[backup], follower(Some("x"), 3), now));
    let recent = of_before("2026-01-01T01:25:00Z");
    assert_eq!(
        made_of(recent, "2026-01-01T01:30:10Z").as_deref(),
        Some("2026-01-01T01:30:00Z")
    );
    // Names are those of minutes: the next one's is free.
    let same = of_before("2026-01-01T01:30:00Z");
    assert_eq!(made_of(same.clone(), "2026-01-01T01:30:10Z"), None);
    assert_eq!(
        made_of(same, "2026-01-01T01:31:00Z").as_deref(),
        Some("2026-01-01T01:31:00Z")
    );
}

#[test]
fn increments_that_fall_behind_are_told_and_go_when_they_are_asked_for_no_more() {
    let done = backup("2026-01-01T01:00:00Z", "Completed", "True");
    let late = following(
        std::slice::from_ref(&done),
        follower(None, 21),
        "2026-01-01T01:30:00Z",
    );
    let told = find(&late.status.conditions, "Continuous").unwrap();
    assert_eq!(
        (told.status.as_str(), told.reason.as_str()),
        ("False", "Behind")
    );
    let observed = Observed {
        cluster: Some(cluster()),
        backups: vec![done],
        follower: Some(follower(None, 0)),
        ..Observed::default()
    };
    let none = plan(
        &schedule(json!({})),
        &observed,
        &settings(),
        at("2026-01-01T01:30:00Z"),
    );
    assert!(matches!(
        none.calls.as_slice(),
        [Call::Delete {
            kind: Kind::Deployment,
            ..
        }]
    ));
}

#[test]
fn a_backup_made_by_hand_takes_no_place_of_a_scheduled_one() {
    let by_hand = |phase: &str, at: &str| {
        let mut made = EtcdBackup::clone(&backup(at, phase, "True"));
        made.annotations_mut().clear();
        made.metadata.name = Some("often-x7abc".to_owned());
        made.metadata.creation_timestamp = Some(Time(at.parse().unwrap()));
        Arc::new(made)
    };
    // Made after the scheduled time, before the schedule came to it.
    let done = by_hand("Completed", "2026-01-01T03:00:20Z");
    let next = look(
        &schedule(json!({})),
        std::slice::from_ref(&done),
        "2026-01-01T03:00:40Z",
    );
    assert_eq!(made(&next).as_deref(), Some("2026-01-01T03:00:00Z"));
    // It counts among what is kept, and as a success, all the same.
    let none_due = look(
        &schedule(json!({})),
        &[backup("2026-01-01T03:00:00Z", "Completed", "True"), done],
        "2026-01-01T03:10:00Z",
    );
    assert_eq!(none_due.status.kept, 2);
    assert_eq!(
        none_due.status.last_schedule_time,
        Some(Time(at("2026-01-01T03:00:00Z")))
    );
    assert_eq!(
        none_due.status.last_success_time,
        Some(Time(at("2026-01-01T03:00:20Z")))
    );
    // One that runs is waited for, and never given up for a scheduled one.
    let runs = by_hand("Running", "2026-01-01T02:59:50Z");
    let waits = look(
        &schedule(json!({})),
        std::slice::from_ref(&runs),
        "2026-01-01T03:00:05Z",
    );
    assert_eq!(made(&waits), None);
    let replaces = schedule(json!({"concurrencyPolicy": "Replace"}));
    let next = look(&replaces, &[runs], "2026-01-01T03:00:05Z");
    assert_eq!(made(&next).as_deref(), Some("2026-01-01T03:00:00Z"));
}

use super::*;
use crate::api::{EtcdBackup, EtcdBackupSchedule, EtcdRestore};
use crate::plugin::{
    args::Command,
    backup::{self, BackupArgs},
    backups::{self, Backups},
    restore::{self, RestoreArgs},
};

/// A backup of demo, made at `created`; its status overlaid with `status`.
fn backup(name: &str, created: &str, status: Value) -> EtcdBackup {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created,
            "labels": {"etcd-core.io/schedule": "nightly"}},
        "spec": {"clusterRef": {"name": "demo"},
            "destination": {"s3": {"bucket": "safe", "region": "eu-central-1"}}},
        "status": status,
    }))
    .unwrap()
}

fn stored(revision: i64, taken: &str, verified: &str) -> Value {
    json!({
        "phase": "Completed", "verifiedAt": taken,
        "artifact": {"uri": format!("s3://safe/nightly-{revision}"), "sizeBytes": 25 << 20,
            "size": "25.0 MiB", "storedBytes": 3_250_000, "sha256": "ab", "revision": revision,
            "totalKeys": 340, "kvHash": "1f", "etcdVersion": "3.7.3", "clusterID": "5eed",
            "member": "demo-2", "takenAt": taken},
        "conditions": [condition("Verified", verified, "Restore", "its hash is not what the member said")],
    })
}

fn schedule(name: &str, over: Value) -> EtcdBackupSchedule {
    let mut object = json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackupSchedule",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterRef": {"name": "demo"}, "schedule": "0 2 * * *", "timeZone": "Europe/Berlin",
            "increments": {"maxLag": "10s"},
            "template": {"metadata": {"labels": {"team": "a"}},
                "spec": {"destination": {"s3": {"bucket": "safe", "region": "eu-central-1"}},
                    "compression": "Gzip", "deletionPolicy": "Delete"}}},
        "status": {"kept": 2, "lastSuccessTime": "2026-03-01T01:00:20Z",
            "nextScheduleTime": "2026-03-02T01:00:00Z",
            "increments": {"revision": 1190, "until": "2026-03-01T11:59:56Z", "lag": "4s"},
            "conditions": [condition("Continuous", "True", "Following", "")]},
    });
    for part in ["spec", "status"] {
        for (key, value) in over[part].as_object().into_iter().flatten() {
            object[part][key] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

fn parsed(line: &str) -> Command {
    Cli::try_parse_from(line.split(' '))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

fn to_back_up(flags: &str) -> BackupArgs {
    match parsed(format!("kubectl-etcd backup demo {flags}").trim_end()) {
        Command::Backup { asked, .. } => *asked,
        other => panic!("{other:?}"),
    }
}

fn to_restore(flags: &str) -> RestoreArgs {
    match parsed(&format!("kubectl-etcd restore demo {flags}")) {
        Command::Restore { asked, .. } => *asked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_backup_is_made_by_the_only_schedule() {
    let schedules = [schedule("nightly", json!({}))];
    let made = backup::object(&cluster(json!({})), &schedules, &to_back_up("")).unwrap();
    let value = serde_json::to_value(&made).unwrap();
    assert_eq!(value["metadata"]["generateName"], "nightly-");
    assert_eq!(
        value["metadata"]["labels"],
        json!({"team": "a", "etcd-core.io/schedule": "nightly"})
    );
    assert_eq!(value["spec"]["destination"]["s3"]["bucket"], "safe");
    assert_eq!(value["spec"]["compression"], "Gzip");
    assert_eq!(value["spec"]["deletionPolicy"], "Delete");
    // Flags come before what the schedule says.
    let flags = "--keep --name mine --compression none --encryption-secret age";
    let made = backup::object(&cluster(json!({})), &schedules, &to_back_up(flags)).unwrap();
    let value = serde_json::to_value(&made).unwrap();
    assert_eq!(value["metadata"]["name"], "mine");
    assert_eq!(value["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(value["spec"]["compression"], "None");
    assert_eq!(value["spec"]["encryption"]["keySecretRef"]["name"], "age");
}

#[test]
fn which_schedule_is_not_guessed() {
    let refused = |schedules: &[EtcdBackupSchedule], flags: &str| {
        let made = backup::object(&cluster(json!({})), schedules, &to_back_up(flags));
        made.unwrap_err().to_string()
    };
    let two = [
        schedule("nightly", json!({})),
        schedule("hourly", json!({})),
    ];
    let other = [schedule(
        "other",
        json!({"spec": {"clusterRef": {"name": "shop"}}}),
    )];
    for (said, wanted) in [
        (refused(&[], ""), "say where to with --bucket or --claim"),
        (refused(&other, ""), "no EtcdBackupSchedule is of demo"),
        (refused(&two, ""), "nightly, hourly: choose by --schedule"),
        (
            refused(&two, "--schedule dayly"),
            "demo has nightly, hourly",
        ),
        (
            refused(&other, "--schedule other"),
            "is of shop, not of demo",
        ),
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    let named = backup::object(&cluster(json!({})), &two, &to_back_up("--schedule hourly"));
    assert_eq!(
        named.unwrap().metadata.generate_name.as_deref(),
        Some("hourly-")
    );
}

#[test]
fn a_backup_goes_where_flags_say() {
    let flags = "--bucket b23 --prefix a/b --endpoint https://minio:9000 --private-network --path-style --credentials-secret keys --ca-secret ca";
    let made = backup::object(&cluster(json!({})), &[], &to_back_up(flags)).unwrap();
    let spec = serde_json::to_value(&made.spec).unwrap();
    assert_eq!(
        spec["destination"],
        json!({"s3": {"bucket": "b23", "prefix": "a/b", "endpoint": "https://minio:9000",
            "endpointNetwork": "Private", "forcePathStyle": true,
            "credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "ca"}}})
    );
    assert_eq!(made.metadata.generate_name.as_deref(), Some("demo-"));
    let flags = "--claim disk --sub-path demo --verification checksum";
    let made = backup::object(&cluster(json!({})), &[], &to_back_up(flags)).unwrap();
    let spec = serde_json::to_value(&made.spec).unwrap();
    assert_eq!(
        spec["destination"],
        json!({"persistentVolumeClaim": {"claimName": "disk", "subPath": "demo"}})
    );
    assert_eq!(spec["verification"], "Checksum");
}

#[test]
fn what_came_of_a_backup_is_said() {
    let taken = "2026-03-01T11:59:00Z";
    insta::assert_snapshot!(
        backup::outcome(&backup("demo-x7", taken, stored(1201, taken, "True"))).unwrap()
    );
    let said = |status: Value| {
        let ended = backup("demo-x7", taken, status);
        backup::outcome(&ended).unwrap_err().to_string()
    };
    let failed = said(
        json!({"phase": "Failed", "failure": {"reason": "NoSuchBucket",
        "message": "there is no bucket safe", "transient": false, "at": taken}}),
    );
    assert_eq!(
        failed,
        "the EtcdBackup demo-x7 has failed: NoSuchBucket: there is no bucket safe"
    );
    let bad = said(stored(1201, taken, "False"));
    assert!(bad.contains("not proven to be good: its hash"), "{bad}");
}

#[test]
fn how_far_a_backup_is_is_told() {
    let at = "2026-03-01T11:59:00Z";
    let running = json!({"phase": "Running", "run": {"kind": "Snapshot", "attempt": 1, "serial": 1,
        "job": "j", "startedAt": at, "progress": {"stage": "Uploading", "bytes": 5, "totalBytes": 10, "percent": 50}}});
    assert_eq!(
        backup::told(&backup("x", at, running.clone())),
        "Running, Uploading 50 %"
    );
    let mut running = running;
    for (says, wanted) in [
        ("j: Uploading", "Running, Uploading 50 %"),
        (
            "j waits: slow down",
            "Running, Uploading 50 %: j waits: slow down",
        ),
    ] {
        running["conditions"] = json!([condition("Reconciling", "True", "Running", says)]);
        assert_eq!(backup::told(&backup("x", at, running.clone())), wanted);
    }
    let waits = json!({"phase": "Pending",
        "conditions": [condition("Reconciling", "True", "ClusterNotFormed", "demo has not formed yet")]});
    assert_eq!(
        backup::told(&backup("x", at, waits)),
        "Pending: demo has not formed yet"
    );
}

#[test]
fn backups_and_schedules_at_a_glance() {
    let backed_up = cluster(json!({"status": {"conditions": [
        condition("BackedUp", "True", "Recent", "nightly-2, taken at 2026-03-01T01:00:20Z, is proven")]}}));
    let of_another = serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdBackup", "metadata": {"name": "z"},
        "spec": {"clusterRef": {"name": "other"}, "destination": {}}
    }))
    .unwrap();
    let at = "2026-03-01T11:58:00Z";
    let all = [
        backup(
            "nightly-1",
            "2026-02-28T01:00:00Z",
            stored(700, "2026-02-28T01:00:20Z", "False"),
        ),
        backup(
            "nightly-2",
            "2026-03-01T01:00:00Z",
            stored(1100, "2026-03-01T01:00:20Z", "True"),
        ),
        backup(
            "nightly-x",
            at,
            json!({"phase": "Running", "run": {"kind": "Snapshot", "attempt": 1,
            "serial": 1, "job": "j", "startedAt": at, "progress": {"stage": "Uploading", "bytes": 5,
            "totalBytes": 10, "percent": 50}}}),
        ),
        backup(
            "nightly-0",
            "2026-02-27T01:00:00Z",
            json!({"phase": "Failed", "failure": {
            "reason": "AccessDenied", "message": "s3://safe may not be written", "transient": false, "at": at}}),
        ),
        of_another,
    ];
    let behind = json!({"spec": {"suspend": true, "schedule": "@hourly"}, "status": {
        "conditions": [condition("Continuous", "False", "Behind", "changes are 90 s behind, maxLag is 10s")]}});
    let schedules = [schedule("nightly", json!({})), schedule("hourly", behind)];
    let view = Backups::new(&backed_up, &all, &schedules, now());
    insta::assert_snapshot!(backups::text(&view, false));
    insta::assert_snapshot!(backups::text(&view, true));
    let value = serde_json::to_value(&view).unwrap();
    assert_eq!(value["backups"][1]["revision"], 1100);
    assert_eq!(value["backups"][1]["verified"], true);
    assert_eq!(value["schedules"][1]["lag"], "4s");
    let none = Backups::new(&cluster(json!({})), &[], &[], now());
    insta::assert_snapshot!(backups::text(&none, false));
}

/// An EtcdRestore as it was made of `flags`, with a status.
fn restored(flags: &str, dry_run: bool, status: Value) -> EtcdRestore {
    let mut made = restore::object(&cluster(json!({})), "5eed", &to_restore(flags), dry_run);
    made.metadata.name = Some("demo-k2".to_owned());
    made.metadata.namespace = Some("shop".to_owned());
    made.metadata.creation_timestamp =
        serde_json::from_value(json!("2026-03-01T11:57:00Z")).unwrap();
    made.status = serde_json::from_value(status).unwrap();
    made
}

#[test]
fn o21_a_restore_names_the_cluster_id_that_it_replaces() {
    let demo = cluster(json!({}));
    let asked = to_restore("--from nightly-2 --revision 1150 --yes --replaces 5eed --name back");
    assert_eq!(restore::replaced(&demo, &asked).unwrap(), "5eed");
    let made = serde_json::to_value(restore::object(&demo, "5eed", &asked, false)).unwrap();
    assert_eq!(made["metadata"]["name"], "back");
    assert_eq!(made["spec"]["replaces"], "5eed");
    assert_eq!(made["spec"]["source"]["backupRef"]["name"], "nightly-2");
    assert_eq!(made["spec"]["target"], json!({"revision": 1150}));
    assert_eq!(made["spec"]["dryRun"], false);
    // A dry run does not take the name that the restore is to have.
    let dry = serde_json::to_value(restore::object(&demo, "5eed", &asked, true)).unwrap();
    assert_eq!(dry["metadata"]["name"], Value::Null);
    assert_eq!(dry["metadata"]["generateName"], "demo-");
    assert_eq!(dry["spec"]["dryRun"], true);
    let said = |cluster: &EtcdCluster, flags: &str| {
        let refused = restore::replaced(cluster, &to_restore(flags));
        refused.unwrap_err().to_string()
    };
    let other = said(&demo, "--survivor --yes --replaces 77");
    assert!(other.contains("is 5eed, and --replaces says 77"), "{other}");
    let new = cluster(json!({"status": {"clusterID": null}}));
    let unformed = said(&new, "--survivor");
    assert!(unformed.contains("spec.bootstrap.restore"), "{unformed}");
}

#[test]
fn o21_a_dry_run_shows_what_would_be_lost() {
    let flags = "--from nightly-2 --time 2026-03-01T11:30:00Z";
    let found = json!({"phase": "Completed", "source": "EtcdBackup nightly-2 as of 2026-03-01T11:30:00Z",
        "sourceClusterID": "5eed", "restoredRevision": 1150, "currentRevision": 1201,
        "lostRevisions": 51, "sha256": "ab12"});
    let ended = restored(flags, true, found);
    restore::judge(&ended).unwrap();
    let outlook = restore::Outlook {
        restore: None,
        ..restore::outlook(&ended)
    };
    insta::assert_snapshot!(restore::text(&outlook));
    assert_eq!(
        restore::command(&outlook, &to_restore(flags)),
        "kubectl etcd restore demo -n shop --from nightly-2 --time 2026-03-01T11:30:00Z --replaces 5eed --yes"
    );
    let value = serde_json::to_value(&outlook).unwrap();
    assert_eq!(value["lostRevisions"], 51);
    // With its quorum lost, nobody can say.
    let left = restored("--survivor", true, json!({"phase": "Completed"}));
    let outlook = restore::Outlook {
        restore: None,
        ..restore::outlook(&left)
    };
    insta::assert_snapshot!(restore::text(&outlook));
}

#[test]
fn what_came_of_a_restore_is_said() {
    let done = json!({"phase": "Completed", "source": "EtcdBackup nightly-2", "sourceClusterID": "1ead",
        "restoredRevision": 1100, "currentRevision": 1201, "lostRevisions": 101, "clusterID": "beef",
        "quarantinedVolumes": ["data-demo-0-0", "data-demo-1-0"]});
    let ended = restored("--from nightly-2 --yes", false, done);
    insta::assert_snapshot!(restore::text(&restore::outlook(&ended)));
    let made = restored("--from nightly-2 --yes", false, Value::Null);
    insta::assert_snapshot!(restore::text(&restore::outlook(&made)));
    let said = |status: Value| {
        let ended = restored("--from nightly-2 --yes", false, status);
        restore::judge(&ended).unwrap_err().to_string()
    };
    let other = said(json!({"phase": "Superseded", "conditions": [
        condition("Ready", "True", "Superseded", "the cluster ID of demo is beef")]}));
    assert!(other.contains("the cluster ID of demo is beef"), "{other}");
    let failed = said(json!({"phase": "Failed", "conditions": [
        condition("Stalled", "True", "Corrupt", "it was cut. The cluster was not touched.")]}));
    assert!(failed.contains("Corrupt: it was cut"), "{failed}");
}

#[test]
fn a_restore_under_way_is_in_status() {
    let record = json!({"id": "u", "name": "demo-k2", "kind": "Backup", "stage": "Founding",
        "replaces": "5eed", "member": "demo-3", "startedAt": "2026-03-01T11:58:00Z"});
    let busy = cluster(
        json!({"status": {"phase": "Restoring", "restore": record, "conditions": [
        condition("Ready", "False", "Reconciling", "being restored"),
        condition("BackedUp", "False", "TooOld", "nightly-1, taken at 2026-02-28T01:00:20Z, is proven; the schedule nightly wants one that is no older than 2026-02-28T02:00:00Z")]}}),
    );
    let same = restored(
        "--from nightly-2 --yes",
        false,
        json!({"phase": "Restoring", "lostRevisions": 101}),
    );
    let mut waits = restored(
        "--from nightly-1 --yes",
        false,
        json!({"phase": "Verified", "lostRevisions": 501, "conditions": [condition(
            "Reconciling", "True", "Verified", "another restore is under way, for demo-k2")]}),
    );
    waits.metadata.name = Some("later".to_owned());
    let mut over = restored("--from nightly-0 --yes", false, json!({"phase": "Failed"}));
    over.metadata.name = Some("over".to_owned());
    let view = View::new(&busy, Some(&answers()), now()).restored_by(&[same, waits, over], now());
    let text = text::status(&view, false);
    let parts: Vec<&str> = text
        .split("\n\n")
        .filter(|part| {
            ["Restores", "Conditions", "What"]
                .iter()
                .any(|name| part.starts_with(name))
        })
        .collect();
    insta::assert_snapshot!(parts.join("\n\n"));
}

#[test]
fn restores_and_backups_are_asked_for_consistently() {
    for line in [
        "kubectl-etcd backup demo --wait=false",
        "kubectl-etcd backup demo --schedule nightly --timeout 10m",
        "kubectl-etcd backups demo -o yaml",
        "kubectl-etcd restore demo --from b --dry-run",
        "kubectl-etcd restore demo --survivor --yes",
    ] {
        parsed(line);
    }
    for line in [
        "kubectl-etcd backup demo --bucket b --claim c",
        "kubectl-etcd backup demo --bucket b --schedule nightly",
        "kubectl-etcd backup demo --prefix a",
        "kubectl-etcd backup demo --compression brotli",
        "kubectl-etcd restore demo",
        "kubectl-etcd restore demo --from b --survivor",
        "kubectl-etcd restore demo --from b --revision 0",
        "kubectl-etcd restore demo --from b --revision 5 --time 2026-03-01T11:30:00Z",
        "kubectl-etcd restore demo --from b --time noon",
        "kubectl-etcd restore demo --from b --dry-run --yes",
        "kubectl-etcd restore demo --survivor --revision 7",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

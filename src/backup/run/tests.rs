use serde_json::json;

use super::*;

#[test]
fn a_run_is_read_from_json() {
    let run: SnapshotRun = serde_json::from_value(json!({
        "cluster": {"namespace": "ns", "name": "demo", "uid": "u", "clusterID": "1f", "lineage": ["2a"]},
        "voters": [{"endpoint": "https://10.0.0.1:2379", "tlsServerName": "demo-0", "memberID": "7"}],
        "destination": {"s3": {"bucket": "backups", "region": "eu-central-1"}},
        "folder": "demo-20260101",
    }))
    .unwrap();
    assert_eq!(run.cluster.lineage, ["2a"]);
    assert_eq!(run.compression, Compression::Zstd);
    assert_eq!(run.verification, Verification::Restore);
    assert!(!run.encrypted);
    let again: SnapshotRun = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(again, run);
}

#[test]
fn a_field_that_is_not_known_is_named() {
    let error = serde_json::from_value::<ListRun>(json!({"destination": {}, "fodler": "x"}));
    assert!(error.unwrap_err().to_string().contains("fodler"));
}

#[test]
fn a_restore_raises_the_revision_unless_told_otherwise() {
    let run: RestoreRun = serde_json::from_value(json!({
        "id": "r1",
        "source": {"backup": {
            "destination": {"persistentVolumeClaim": {"claimName": "backups"}},
            "target": {"time": "2026-11-27T10:00:00Z"},
        }},
        "dataDir": "/var/lib/etcd/data",
        "member": "demo-3",
        "members": [{"name": "demo-3", "peerURLs": ["http://demo-3:2380"]}],
        "token": "u-1",
    }))
    .unwrap();
    assert_eq!(run.bump_revision, DEFAULT_BUMP);
    let Source::Backup(source) = run.source else {
        panic!("{:?}", run.source);
    };
    assert_eq!(
        source.target,
        Some(Target::Time("2026-11-27T10:00:00Z".parse().unwrap()))
    );
}

#[test]
fn an_answer_fits_into_a_termination_message() {
    let failed = Answer::Failed(Failure::new(Reason::Corrupt, "\"ü\n".repeat(5000)));
    let message = failed.message();
    assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
    let Answer::Failed(kept) = serde_json::from_str(&message).unwrap() else {
        panic!("{message}");
    };
    assert!(kept.message.ends_with('…') && kept.message.len() > 1000);

    let listed = |n: i64| Listed {
        folder: format!("backup-{n}"),
        cluster_id: "1f".to_owned(),
        revision: n,
        completed_at: Timestamp::UNIX_EPOCH,
        stored_bytes: 1,
    };
    let listing = Listing {
        backups: (0..500).map(listed).collect(),
        ..Listing::default()
    };
    let message = Answer::List(listing).message();
    assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
    let Answer::List(kept) = serde_json::from_str(&message).unwrap() else {
        panic!("{message}");
    };
    assert_eq!(kept.backups.len() as u64 + kept.left_off, 500);
    assert_eq!(kept.backups[0], listed(0));
}

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

fn restore(extra: Value, status: Value) -> EtcdRestore {
    let mut spec = json!({"clusterRef": {"name": "demo"}, "replaces": "c2",
        "source": {"s3": {"bucket": "b23", "region": "x"}, "folder": "f"}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdRestore",
        "metadata": {"name": "back", "namespace": "n", "uid": "r", "generation": 1},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn observed(cluster: Value, revision: Option<i64>) -> Observed {
    Observed {
        cluster: Some(Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
                "metadata": {"name": "demo", "namespace": "n"}, "spec": {"replicas": 3},
                "status": cluster,
            }))
            .unwrap(),
        )),
        revision,
        ..Observed::default()
    }
}

fn verified(of: &str, revision: i64) -> Value {
    json!({"phase": "Verified", "sourceClusterID": of, "restoredRevision": revision})
}

#[test]
fn o21_a_restore_for_another_cluster_id_does_nothing() {
    let other = observed(json!({"clusterID": "c3"}), Some(10));
    let next = plan(&restore(json!({}), json!({})), &other, &settings(), at(NOW));
    assert_eq!(next.calls, []);
    assert_eq!(next.status.phase, Some(RestorePhase::Superseded));
    let ready = next
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert!(
        ready.message.contains("c3") && ready.message.contains("c2"),
        "{}",
        ready.message
    );
}

#[test]
fn what_would_be_lost_is_counted_over_earlier_restores() {
    // Cluster c1 ended at 500; c2 began at 1_000_100 with what c1 had at 100.
    let lineage =
        json!([{"clusterID": "c1", "until": NOW, "lastRevision": 500, "nextRevision": 1_000_100}]);
    let cluster = json!({"clusterID": "c2", "lineage": lineage});
    let lost = |of: &str, restored: i64, current: Option<i64>| {
        let it = restore(json!({}), verified(of, restored));
        let next = plan(
            &it,
            &observed(cluster.clone(), current),
            &settings(),
            at(NOW),
        );
        next.status.lost_revisions
    };
    assert_eq!(lost("c2", 1_000_150, Some(1_000_200)), Some(50));
    assert_eq!(lost("c1", 100, Some(1_000_200)), Some(400 + 100));
    assert_eq!(lost("c2", 1_000_300, Some(1_000_200)), Some(0));
    assert_eq!(
        lost("c9", 100, Some(1_000_200)),
        None,
        "nothing is known of that one"
    );
    assert_eq!(lost("c2", 100, None), None);
}

#[test]
fn backups_of_other_clusters_are_refused_unless_that_is_asked_for() {
    let cluster = json!({"clusterID": "c2", "lineage": [{"clusterID": "c1", "until": NOW}]});
    let told = |extra: Value| {
        let next = plan(
            &restore(extra, json!({})),
            &observed(cluster.clone(), None),
            &settings(),
            at(NOW),
        );
        let [Call::Apply(job)] = next.calls.as_slice() else {
            panic!("{:?}", next.calls);
        };
        let env = &job.body["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
        let run: Value = serde_json::from_str(env.as_str().unwrap()).unwrap();
        run["source"]["backup"]["clusterIDs"].clone()
    };
    assert_eq!(told(json!({})), json!(["c1", "c2"]));
    let source =
        json!({"source": {"s3": {"bucket": "b23", "region": "x"}, "allowOtherCluster": true}});
    assert_eq!(told(source), Value::Null);
}

#[test]
fn a_dry_run_ends_with_what_it_found() {
    let it = restore(
        json!({"dryRun": true, "source": {"survivor": {}}}),
        json!({}),
    );
    let next = plan(
        &it,
        &observed(json!({"clusterID": "c2"}), Some(7)),
        &settings(),
        at(NOW),
    );
    assert_eq!(next.status.phase, Some(RestorePhase::Completed));
    assert!(!is_ready(&EtcdRestore {
        status: Some(next.status),
        ..it
    }));
}

#[test]
fn it_follows_the_cluster_and_says_what_stalls_it() {
    let record = |stage: &str| {
        json!({"clusterID": "c2",
            "restore": {"id": "r", "kind": "Backup", "stage": stage, "startedAt": NOW, "message": "because"},
            "plan": {"step": "None", "reason": "waits for demo-3"}})
    };
    for (stage, phase) in [
        ("Stopping", RestorePhase::Stopping),
        ("Comparing", RestorePhase::Stopping),
        ("Founding", RestorePhase::Restoring),
        ("TakenBack", RestorePhase::Failed),
    ] {
        let it = restore(json!({}), verified("c2", 1));
        let next = plan(&it, &observed(record(stage), None), &settings(), at(NOW));
        assert_eq!(next.status.phase, Some(phase), "{stage}");
    }
    let done = json!({"clusterID": "c3", "lineage": [
        {"clusterID": "c2", "until": NOW, "restore": "r", "volumes": ["data-demo-0"]}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": NOW}]});
    let it = restore(json!({}), verified("c2", 1));
    let next = plan(&it, &observed(done, None), &settings(), at(NOW));
    assert_eq!(next.status.phase, Some(RestorePhase::Completed));
    assert_eq!(next.status.quarantined_volumes, ["data-demo-0"]);
    assert_eq!(next.status.cluster_id.as_deref(), Some("c3"));
}

#[test]
fn what_was_written_after_it_was_verified_is_lost_too() {
    // Verified at 1_000_200; the cluster was at 1_000_260 when it was stopped.
    let done = json!({"clusterID": "c3", "lineage": [
        {"clusterID": "c1", "until": NOW, "lastRevision": 500, "nextRevision": 1_000_100},
        {"clusterID": "c2", "until": NOW, "restore": "r", "lastRevision": 1_000_260,
            "nextRevision": 1_001_000_150, "volumes": ["data-demo-0"]}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": NOW}]});
    for (of, restored, lost) in [("c2", 1_000_150, 110), ("c1", 100, 400 + 160)] {
        let mut before = verified(of, restored);
        before["currentRevision"] = json!(1_000_200);
        let it = restore(json!({}), before);
        let next = plan(&it, &observed(done.clone(), None), &settings(), at(NOW));
        assert_eq!(next.status.current_revision, Some(1_000_260));
        assert_eq!(next.status.lost_revisions, Some(lost), "of {of}");
        let ready = next.status.conditions.iter().find(|c| c.type_ == "Ready");
        let message = &ready.unwrap().message;
        assert!(
            message.contains(&format!("{lost} revisions are lost")),
            "{message}"
        );
    }
}

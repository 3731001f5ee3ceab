mod backups;

use clap::{CommandFactory, Parser};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::EtcdCluster;

use super::{
    Cli, PluginError, bundle, change,
    change::Change,
    error, leader,
    members::{Answers, Figures},
    text,
    view::View,
};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn member(serial: i64, healthy: bool) -> Value {
    json!({
        "name": format!("demo-{serial}"), "id": format!("{}a", serial + 1), "role": "Voter",
        "healthy": healthy, "version": "3.7.3"
    })
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-03-01T11:15:00Z", "observedGeneration": 2
    })
}

/// A healthy cluster of three, its status overlaid with `over`.
fn cluster(over: Value) -> EtcdCluster {
    let mut object = json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "shop", "generation": 2,
            "creationTimestamp": "2026-02-27T12:00:00Z"},
        "spec": {"replicas": 3},
        "status": {
            "observedGeneration": 2, "phase": "Running", "clusterID": "5eed", "leader": "demo-1",
            "version": "3.7.3", "image": "localhost/etcd-core:1", "replicas": 3, "readyReplicas": 3,
            "selector": "etcd-core.io/cluster=demo", "nextSerial": 3,
            "members": [member(0, true), member(1, true), member(2, true)],
            "plan": {"step": "None"},
            "conditions": [
                condition("Ready", "True", "AsSpecified", "3 of 3 voters serve"),
                condition("Stalled", "False", "NotStalled", "")
            ]
        }
    });
    for part in ["spec", "status", "metadata"] {
        for (key, value) in over[part].as_object().into_iter().flatten() {
            object[part][key] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

fn figures(id: &str, leads: bool, index: u64) -> Figures {
    Figures {
        id: id.to_owned(),
        leads,
        leader: "2a".to_owned(),
        raft_term: 4,
        raft_index: index,
        raft_applied: index,
        db_size_bytes: 25 << 20,
        db_size_in_use_bytes: 1_300_000,
        errors: Vec::new(),
    }
}

fn answers() -> Answers {
    Answers {
        members: [
            ("demo-0".to_owned(), Ok(figures("1a", false, 1200))),
            ("demo-1".to_owned(), Ok(figures("2a", true, 1201))),
            ("demo-2".to_owned(), Ok(figures("3a", false, 1201))),
        ]
        .into(),
        note: None,
    }
}

#[test]
fn a_healthy_cluster_at_a_glance() {
    let view = View::new(&cluster(json!({})), Some(&answers()), now());
    insta::assert_snapshot!(text::status(&view, false));
    assert!(view.advice.is_empty());
}

#[test]
fn wide_adds_columns() {
    let view = View::new(&cluster(json!({})), Some(&answers()), now());
    insta::assert_snapshot!(text::members(&view, true));
}

#[test]
fn an_update_that_is_held_back_says_by_what() {
    let held = cluster(json!({
        "metadata": {"generation": 3},
        "spec": {"paused": true},
        "status": {
            "phase": "Degraded", "readyReplicas": 2,
            "members": [member(0, true), member(1, true),
                {"name": "demo-2", "id": "3a", "role": "Voter", "healthy": false, "version": "3.7.3",
                 "message": "ErrImagePull: no such image"}],
            "plan": {"step": "RestartPod", "reason": "restarts demo-0 with its new template",
                "blockedBy": [
                    {"guard": "Unhealthy", "message": "demo-0 is restarted once demo-2 serves (ErrImagePull: no such image)"},
                    {"guard": "Paused", "message": "spec.paused is set"}
                ]},
            "conditions": [
                condition("Ready", "False", "Reconciling", "2 of 3 voters serve"),
                condition("Reconciling", "True", "StepFailed", "applies StatefulSet demo-2: quota exceeded"),
                condition("Paused", "True", "SpecPaused", "spec.paused is set; nothing is changed"),
                condition("UpdatePending", "True", "OperatorChanged", "")
            ]
        }
    }));
    let mut answers = answers();
    answers
        .members
        .insert("demo-2".to_owned(), Err("connection refused".to_owned()));
    let full = answers.members.get_mut("demo-0").unwrap().as_mut().unwrap();
    full.errors = vec!["memberID:26 alarm:NOSPACE".to_owned()];
    let view = View::new(&held, Some(&answers), now());
    insta::assert_snapshot!(text::status(&view, false));
}

#[test]
fn o09_lost_quorum_says_what_the_ways_out_are() {
    let lost = cluster(json!({"status": {
        "phase": "Stalled", "leader": null, "readyReplicas": 0,
        "members": [member(0, false), member(1, false), member(2, false)],
        "plan": {"step": "None", "reason": "demo-0 and demo-1 lost their data"},
        "conditions": [condition("Stalled", "True", "QuorumLost", "demo-0 and demo-1 lost their data")]
    }}));
    let none = Answers {
        note: Some("raft's figures are left out: you have no right to forward a port of the pod demo-0-0: pods \"demo-0-0\" is forbidden".to_owned()),
        ..Answers::default()
    };
    let view = View::new(&lost, Some(&none), now());
    insta::assert_snapshot!(text::status(&view, false));
}

#[test]
fn a_new_cluster_has_nothing_to_show_yet() {
    let new = cluster(
        json!({"metadata": {"creationTimestamp": "2026-03-01T11:59:57Z"}, "status": {
            "observedGeneration": -1, "phase": null, "clusterID": null, "leader": null, "version": null,
            "image": null, "readyReplicas": 0, "members": [], "plan": null, "conditions": []
        }}),
    );
    let view = View::new(&new, None, now());
    insta::assert_snapshot!(text::status(&view, false));
}

#[test]
fn a_line_for_every_cluster() {
    let views = [
        View::new(&cluster(json!({})), None, now()),
        View::new(
            &cluster(json!({"metadata": {"name": "other-one"}, "status": {
                "phase": "Scaling", "readyReplicas": 1,
                "plan": {"step": "AddMember", "reason": "adds other-one-1 as a learner"}}})),
            None,
            now(),
        ),
    ];
    insta::assert_snapshot!(text::list(&views, true, false));
    assert_eq!(text::list(&[], false, false), "no EtcdClusters here\n");
}

#[test]
fn json_has_what_a_script_wants() {
    let view = View::new(&cluster(json!({})), Some(&answers()), now());
    let value = serde_json::to_value(&view).unwrap();
    assert_eq!(value["clusterID"], "5eed");
    assert_eq!(value["members"][1]["leads"], true);
    assert_eq!(value["members"][1]["asked"]["raftIndex"], 1201);
    assert_eq!(value["plan"]["step"], "None");
    assert_eq!(value["advice"], json!([]));
}

#[test]
fn members_know_better_than_status_who_leads() {
    let mut answers = answers();
    for (name, leads) in [("demo-0", true), ("demo-1", false)] {
        let said = answers.members.get_mut(name).unwrap().as_mut().unwrap();
        said.leads = leads;
    }
    let view = View::new(&cluster(json!({})), Some(&answers), now());
    assert_eq!(view.leader.as_deref(), Some("demo-0"));
}

#[test]
fn leadership_goes_to_who_is_named_or_furthest() {
    let cluster = cluster(json!({}));
    let turn = |to| leader::choose(&cluster, &answers(), to);
    let to = |choice| match choice {
        leader::Choice::Turn(turn) => (turn.from, turn.to.name),
        other => panic!("{other:?}"),
    };
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(to(turn(None).unwrap()), pair("demo-1", "demo-2"));
    assert_eq!(to(turn(Some("demo-0")).unwrap()), pair("demo-1", "demo-0"));
    // The pod's name will do.
    assert_eq!(
        to(turn(Some("demo-0-0")).unwrap()),
        pair("demo-1", "demo-0")
    );
    let already = leader::Choice::LeadsAlready("demo-1".to_owned());
    assert_eq!(turn(Some("demo-1")).unwrap(), already);
    let said = turn(Some("demo-7")).unwrap_err().to_string();
    assert!(said.contains("demo-0, demo-1, demo-2"), "{said}");
}

#[test]
fn leadership_does_not_go_to_who_does_not_answer() {
    let cluster = cluster(json!({}));
    let mut answers = answers();
    answers
        .members
        .insert("demo-0".to_owned(), Err("gone".to_owned()));
    let said = leader::choose(&cluster, &answers, Some("demo-0"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("does not answer: gone"), "{said}");
    answers.members.clear();
    let said = leader::choose(&cluster, &answers, None)
        .unwrap_err()
        .to_string();
    assert_eq!(said, "no member of demo says that it leads");
}

#[test]
fn changes_are_small_patches() {
    assert_eq!(
        change::patch(Change::Pause, now()),
        json!({"spec": {"paused": true}})
    );
    assert_eq!(
        change::patch(Change::Restart, now()),
        json!({"metadata": {"annotations": {"etcd-core.io/restarted-at": "2026-03-01T12:00:00Z"}}})
    );
    let running = cluster(json!({}));
    let paused = cluster(json!({"spec": {"paused": true}}));
    assert_eq!(
        change::idle(&running, Change::Resume).as_deref(),
        Some("demo is not paused")
    );
    assert_eq!(
        change::idle(&paused, Change::Pause).as_deref(),
        Some("demo is paused already")
    );
    assert_eq!(change::idle(&running, Change::Pause), None);
    assert!(change::said(&paused, Change::Restart).contains("once it is resumed"));
}

#[test]
fn errors_say_what_a_person_can_do() {
    let status = |value: Value| {
        let status: kube::core::Status = serde_json::from_value(value).unwrap();
        kube::Error::Api(status.boxed())
    };
    let cases = [
        (
            json!({"status": "Failure", "code": 404, "message": "404 page not found", "reason": "Failed to parse error data"}),
            "etcd-operator is not installed",
        ),
        (
            json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "User \"eve\" cannot list"}),
            "you have no right to list EtcdClusters: User \"eve\" cannot list",
        ),
        (
            json!({"status": "Failure", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}),
            "does not accept your credentials",
        ),
        (
            json!({"status": "Failure", "code": 500, "reason": "InternalError", "message": "boom"}),
            "cannot list EtcdClusters: boom",
        ),
    ];
    for (value, wanted) in cases {
        let said = error::kube("list EtcdClusters", status(value)).to_string();
        assert!(said.contains(wanted), "{said}");
    }
    let said = PluginError::NoSuchCluster {
        name: "dmeo".to_owned(),
        namespace: "shop".to_owned(),
        others: vec!["demo".to_owned()],
    };
    assert_eq!(
        said.to_string(),
        "no EtcdCluster \"dmeo\" in the namespace \"shop\"; it has demo"
    );
}

#[test]
fn a_bundle_that_lacks_a_key_names_it() {
    let secret = serde_json::from_value(json!({
        "metadata": {"name": "demo-client"}, "data": {"ca.crt": "eA==", "tls.crt": "eA=="}
    }))
    .unwrap();
    let said = bundle::from_secrets(&secret, &secret)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("demo-client has no tls.key"), "{said}");
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    for line in [
        "kubectl-etcd status",
        "kubectl-etcd status -A -o wide",
        "kubectl-etcd status demo -n shop --context x -o json",
        "kubectl-etcd -n shop members demo",
        "kubectl-etcd move-leader demo demo-1",
        "kubectl-etcd ctl demo -- get --prefix /",
    ] {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in [
        "kubectl-etcd ctl demo",
        "kubectl-etcd plan",
        "kubectl-etcd status -A -n x",
        "kubectl-etcd status demo -o xml",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

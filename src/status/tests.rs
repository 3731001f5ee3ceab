use super::*;
use crate::{
    api::{EtcdClusterSpec, Ticket, TicketKind},
    observe::Membership,
    plan::{Stalled, StalledReason, plan},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn settings() -> Settings {
    Settings {
        default_image: "etcd:1".to_owned(),
        operator_image: "operator:1".to_owned(),
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn cluster() -> EtcdCluster {
    let mut cluster = EtcdCluster::new(
        "demo",
        EtcdClusterSpec {
            replicas: 3,
            ..Default::default()
        },
    );
    cluster.metadata.namespace = Some("ns".to_owned());
    cluster.metadata.uid = Some("u".to_owned());
    cluster.metadata.generation = Some(4);
    cluster
}

fn tell(cluster: &EtcdCluster, observed: &Observed, outcome: &Outcome) -> EtcdClusterStatus {
    let next = plan(cluster, observed, &settings(), now());
    status(cluster, observed, &next, outcome, &settings(), now())
}

#[test]
fn a_new_cluster_is_reconciling_and_not_ready() {
    insta::assert_yaml_snapshot!(tell(&cluster(), &Observed::default(), &Outcome::default()));
}

#[test]
fn memory_is_carried_over_and_the_cluster_id_latched_only_for_the_bootstrap_on_record() {
    let mut cluster = cluster();
    let ticket = Ticket {
        kind: TicketKind::Bootstrap,
        pod_uid: "p".to_owned(),
        member_id: "a1".to_owned(),
        handed: 1,
    };
    let mut before = EtcdClusterStatus {
        next_serial: 7,
        ..Default::default()
    };
    before.bootstrap = Some(crate::api::Bootstrap {
        attempt: 1,
        token: "u-1".to_owned(),
        cluster_id: "c1".to_owned(),
        members: vec!["demo-0".to_owned()],
        secure: false,
    });
    before.member_mut("demo-0").ticket = Some(ticket.clone());
    cluster.status = Some(before);
    let mut observed = Observed {
        membership: Some(Membership {
            cluster_id: 0xdead,
            members: Vec::new(),
        }),
        ..Observed::default()
    };
    let told = tell(&cluster, &observed, &Outcome::default());
    assert_eq!(
        told.cluster_id, None,
        "another cluster's list latches nothing"
    );
    observed.membership = Some(Membership {
        cluster_id: 0xc1,
        members: Vec::new(),
    });
    let told = tell(&cluster, &observed, &Outcome::default());
    assert_eq!(told.cluster_id.as_deref(), Some("c1"));
    assert_eq!(told.next_serial, 7);
    assert_eq!(told.members[0].ticket, Some(ticket));
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut cluster = cluster();
    cluster.status = Some(tell(&cluster, &Observed::default(), &Outcome::default()));
    let later = "2026-01-01T01:00:00Z".parse().unwrap();
    let observed = Observed::default();
    let next = plan(&cluster, &observed, &settings(), later);
    let told = status(
        &cluster,
        &observed,
        &next,
        &Outcome::default(),
        &settings(),
        later,
    );
    assert!(
        told.conditions
            .iter()
            .all(|c| c.last_transition_time == Time(now()))
    );
    assert!(
        told.conditions
            .iter()
            .all(|c| c.observed_generation == Some(4))
    );
}

#[test]
fn what_failed_is_told_with_what_was_attempted() {
    let outcome = Outcome {
        error: Some("no rights".to_owned()),
    };
    let told = tell(&cluster(), &Observed::default(), &outcome);
    let plan = told.plan.unwrap();
    assert_eq!(plan.step, "ApplyShared");
    assert!(
        plan.reason.ends_with("the last attempt failed: no rights"),
        "{}",
        plan.reason
    );
    let reconciling = told
        .conditions
        .iter()
        .find(|c| c.type_ == "Reconciling")
        .unwrap();
    assert_eq!(
        (reconciling.status.as_str(), reconciling.reason.as_str()),
        ("True", "StepFailed")
    );
}

#[test]
fn stalled_is_never_reconciling() {
    let cluster = cluster();
    let stalled = Plan {
        stalled: Some(Stalled {
            reason: StalledReason::VolumesFound,
            message: "two".to_owned(),
        }),
        ..plan(&cluster, &Observed::default(), &settings(), now())
    };
    let told = status(
        &cluster,
        &Observed::default(),
        &stalled,
        &Outcome::default(),
        &settings(),
        now(),
    );
    let is = |type_: &str| {
        told.conditions
            .iter()
            .find(|c| c.type_ == type_)
            .unwrap()
            .status
            .clone()
    };
    assert_eq!(
        (is("Stalled"), is("Reconciling"), is("Ready")),
        ("True".into(), "False".into(), "False".into())
    );
}

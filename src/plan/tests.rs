mod restores;
mod upkeep;

use proptest::prelude::*;

use super::{world::World, *};
use crate::api::Phase;

fn stalled(world: &World) -> Option<StalledReason> {
    let plan = plan(&world.cluster, &world.observe(), &world.settings, world.now);
    plan.stalled.map(|stalled| stalled.reason)
}

#[test]
fn o10_three_members_bootstrap_once_all_of_them_wait() {
    let mut world = World::new(3);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(
        world.taken(),
        [
            "ApplyShared",
            "SetTransport",
            "MakeAuthority",
            "MakeAuthority",
            "CertifyClients",
            "CreateMember",
            "CreateMember",
            "CreateMember",
            "BeginBootstrap",
            "IssueTicket",
            "IssueTicket",
            "IssueTicket",
            "TagMember",
            "TagMember",
            "TagMember",
        ]
    );
}

#[test]
fn o10_a_late_pod_joins_as_learner_and_forms_no_cluster_of_its_own() {
    let mut world = World::new(3);
    world.stuck.insert("demo-2".to_owned());
    for _ in 0..90 {
        world.settle();
        world.turn(None);
    }
    assert_eq!(world.voters(), 2, "two of three start after a minute");
    world.stuck.clear();
    world.kill_pod(2);
    world.converge();
    world.forms_one_cluster_of(3);
    assert!(world.taken().contains(&"AddMember") && world.taken().contains(&"PromoteMember"));
}

#[test]
fn o07_a_learner_that_never_starts_is_rolled_back_when_it_is_not_wanted_any_more() {
    let mut world = World::new(1);
    world.converge();
    world.cluster.spec.replicas = 3;
    let issued = (0..20).any(|_| {
        world.settle();
        matches!(world.turn(None), Step::IssueTicket { .. })
    });
    assert!(issued);
    // Its pod goes before it has seen the ticket, and no other comes.
    world.stuck.insert("demo-1".to_owned());
    world.kill_pod(1);
    for _ in 0..20 {
        world.settle();
        world.turn(None);
    }
    assert_eq!((world.voters(), world.members().len()), (1, 2));
    world.cluster.spec.replicas = 1;
    world.converge();
    world.forms_one_cluster_of(1);
    assert!(!world.taken().contains(&"PromoteMember"));
}

#[test]
fn o08_one_emptied_volume_is_replaced_under_a_new_id() {
    let mut world = World::new(3);
    world.converge();
    world.empty_volume("demo-1");
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-2", "demo-3"]);
}

#[test]
fn o09_two_emptied_volumes_of_three_stop_the_operator() {
    let mut world = World::new(3);
    world.converge();
    world.empty_volume("demo-0");
    world.empty_volume("demo-1");
    for _ in 0..20 {
        world.settle();
        assert!(!world.turn(None).is_disruptive());
    }
    assert_eq!(stalled(&world), Some(StalledReason::QuorumLost));
    let status = world.cluster.status.clone().unwrap();
    assert_eq!(status.phase, Some(Phase::Stalled));
    let lost = status
        .conditions
        .iter()
        .find(|c| c.type_ == "QuorumLost")
        .unwrap();
    assert!(
        lost.status == "True"
            && lost
                .message
                .contains("demo-0 found its volume empty; demo-1 found its volume empty")
            && lost.message.contains("left: demo-2"),
        "{}",
        lost.message
    );
}

#[test]
fn o12_all_pods_restart_and_nothing_is_done_about_it() {
    let mut world = World::new(3);
    world.converge();
    let before = world.taken().len();
    for _ in 0..3 {
        world.kill_pod(0);
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(
        world.taken().len(),
        before,
        "pods return from their volumes unaided"
    );
}

#[test]
fn o14_growing_from_one_to_three_while_the_first_restarts() {
    let mut world = World::new(1);
    world.converge();
    world.cluster.spec.replicas = 3;
    for _ in 0..4 {
        world.settle();
        world.turn(None);
    }
    world.kill_pod(0);
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn o15_sleep_keeps_members_and_volumes() {
    let mut world = World::new(3);
    world.converge();
    let members = world.members();
    world.cluster.spec.replicas = 0;
    world.converge();
    assert!(world.members().is_empty());
    assert_eq!(
        world.cluster.status.as_ref().unwrap().phase,
        Some(Phase::Asleep)
    );
    world.cluster.spec.replicas = 3;
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), members);
}

#[test]
fn shrinking_removes_the_member_before_its_pod_and_spares_the_leader() {
    let mut world = World::new(3);
    world.converge();
    world.cluster.spec.replicas = 1;
    world.converge();
    world.forms_one_cluster_of(1);
    let taken = world.taken();
    let removed = taken
        .iter()
        .position(|step| *step == "RemoveMember")
        .unwrap();
    let deleted = taken
        .iter()
        .position(|step| *step == "DeleteStatefulSet")
        .unwrap();
    let released = taken
        .iter()
        .position(|step| *step == "ReleaseClaim")
        .unwrap();
    assert!(removed < deleted && deleted < released);
    assert!(
        !taken.contains(&"MoveLeader"),
        "the leader is never the one to go"
    );
}

#[test]
fn o40_a_new_template_restarts_followers_first_and_the_leader_last() {
    let mut world = World::new(3);
    world.converge();
    let before = world.taken().len();
    world.cluster.spec.options.snapshot_count = Some(5);
    world.converge();
    assert_eq!(
        world.taken()[before..],
        [
            "UpdateMember",
            "RestartPod",
            "UpdateMember",
            "RestartPod",
            "MoveLeader",
            "UpdateMember",
            "RestartPod"
        ]
    );
}

#[test]
fn o19_a_bad_template_stops_at_one_pod_and_a_revert_mends_it() {
    let mut world = World::new(3);
    world.converge();
    world.stuck.insert("demo-1".to_owned());
    world.cluster.spec.options.snapshot_count = Some(5);
    for _ in 0..40 {
        world.settle();
        world.turn(None);
    }
    let restarts = world
        .taken()
        .iter()
        .filter(|step| **step == "RestartPod")
        .count();
    assert_eq!(restarts, 1);
    assert!(world.has_quorum());
    world.stuck.clear();
    world.cluster.spec.options.snapshot_count = None;
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn o19_a_bad_image_is_reverted_by_taking_it_out_of_the_spec() {
    let mut world = World::new(3);
    world.converge();
    let bad = serde_json::json!({"repository": "nope", "tag": "v1"});
    world.cluster.spec.image = serde_json::from_value(bad).ok();
    world.stuck.insert("demo-1".to_owned());
    for _ in 0..20 {
        world.settle();
        world.turn(None);
    }
    assert_eq!(
        world.cluster.status.as_ref().unwrap().image.as_deref(),
        Some("nope:v1")
    );
    world.cluster.spec.image = None;
    world.stuck.clear();
    world.converge();
    world.forms_one_cluster_of(3);
    let status = world.cluster.status.as_ref().unwrap();
    assert_eq!(status.image.as_deref(), Some("etcd:v3.7.3"));
    let pending = status
        .conditions
        .iter()
        .find(|c| c.type_ == "UpdatePending")
        .unwrap();
    assert_eq!(pending.status, "False");
}

#[test]
fn o19_an_image_that_never_started_is_mended_by_the_spec() {
    let mut world = World::new(3);
    world
        .stuck
        .extend(["demo-0", "demo-1", "demo-2"].map(str::to_owned));
    for _ in 0..20 {
        world.settle();
        world.turn(None);
    }
    world.stuck.clear();
    world.cluster.spec.image =
        serde_json::from_value(serde_json::json!({"repository": "etcd", "tag": "v2"})).ok();
    world.converge();
    world.forms_one_cluster_of(3);
    // And a whole cluster that cannot start comes back the same way, without a quorum.
    world
        .stuck
        .extend(["demo-0", "demo-1", "demo-2"].map(str::to_owned));
    (0..3).for_each(|_| world.kill_pod(0));
    world.settle();
    world.kill_pod(1);
    for _ in 0..5 {
        world.settle();
        world.turn(None);
    }
    assert!(!world.has_quorum());
    world.stuck.clear();
    world.cluster.spec.options.snapshot_count = Some(7);
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn a_new_operator_restarts_nothing_by_itself() {
    let mut world = World::new(3);
    world.converge();
    let before = world.taken().len();
    world.settings.operator_image = "operator:2".to_owned();
    world.settings.default_image = "etcd:v3.7.4".to_owned();
    world.converge();
    assert_eq!(world.taken().len(), before);
    let status = world.cluster.status.clone().unwrap();
    let pending = status
        .conditions
        .iter()
        .find(|c| c.type_ == "UpdatePending")
        .unwrap();
    assert_eq!(pending.status, "True");
    assert_eq!(
        status.image.as_deref(),
        Some("etcd:v3.7.3"),
        "the image was resolved once"
    );
}

#[test]
fn a_cluster_that_is_made_again_takes_its_volumes_over() {
    let mut world = World::new(3);
    world.converge();
    world.recreate();
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2"]);
    assert_eq!(
        world
            .taken()
            .iter()
            .filter(|step| **step == "BeginBootstrap")
            .count(),
        1
    );
}

#[test]
fn paused_means_nothing_is_changed() {
    let mut world = World::new(3);
    world.converge();
    world.cluster.spec.paused = true;
    world.cluster.spec.replicas = 5;
    world.settle();
    assert_eq!(world.turn(None), Step::None);
}

#[test]
fn o18_a_downgrade_and_a_skipped_version_are_refused() {
    for (version, guard) in [("3.6.0", "Downgrade"), ("3.9.0", "VersionSkip")] {
        let mut world = World::new(3);
        world.converge();
        world.cluster.spec.version = Some(version.to_owned());
        world.cluster.spec.image =
            serde_json::from_value(serde_json::json!({"repository": "etcd"})).ok();
        let plan = plan(&world.cluster, &world.observe(), &world.settings, world.now);
        assert_eq!(plan.step, Step::None);
        assert_eq!(plan.blocked[0].guard, guard);
    }
}

#[test]
fn a_healthy_cluster_writes_no_status() {
    let mut world = World::new(3);
    world.converge();
    let before = world.cluster.status.clone();
    world.settle();
    world.turn(None);
    assert_eq!(world.cluster.status, before);
}

/// What befalls the world while the operator works.
#[derive(Clone, Debug)]
enum Blow {
    KillPod(usize),
    KillAll,
    DeleteSet(usize),
    Scale(i32),
    Template(i64),
    /// The operator dies after so many writes of its next turn.
    Cut(usize),
    Turns(usize),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        2 => (0..8usize).prop_map(Blow::KillPod),
        1 => Just(Blow::KillAll),
        1 => (0..8usize).prop_map(Blow::DeleteSet),
        2 => prop::sample::select(vec![0, 1, 3, 5, 7]).prop_map(Blow::Scale),
        1 => (1..4i64).prop_map(Blow::Template),
        4 => (0..5usize).prop_map(Blow::Cut),
        4 => (1..12usize).prop_map(Blow::Turns),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// O2, O7, O13: whatever happens in between, and wherever the operator is cut off,
    /// no invariant of the world breaks and it ends as the spec says.
    #[test]
    fn o02_whatever_happens_it_ends_as_specified(
        start in prop::sample::select(vec![1, 3, 5]),
        blows in prop::collection::vec(blow(), 0..25),
        end in prop::sample::select(vec![1, 3, 5]),
    ) {
        let mut world = World::new(start);
        world.converge();
        for blow in blows {
            match blow {
                Blow::KillPod(nth) => world.kill_pod(nth),
                Blow::KillAll => (0..8).for_each(|_| world.kill_pod(0)),
                Blow::DeleteSet(nth) => world.delete_set(nth),
                Blow::Scale(replicas) => world.cluster.spec.replicas = replicas,
                Blow::Template(count) => world.cluster.spec.options.snapshot_count = Some(count),
                Blow::Cut(writes) => {
                    world.settle();
                    world.turn(Some(writes));
                }
                Blow::Turns(turns) => {
                    for _ in 0..turns {
                        world.settle();
                        world.turn(None);
                    }
                }
            }
        }
        world.cluster.spec.replicas = end;
        world.converge();
        world.forms_one_cluster_of(usize::try_from(end).unwrap());
    }

    /// O10: a bootstrap that is disturbed at any point ends with one cluster, or with
    /// none and a word about it; never with two.
    #[test]
    fn o10_a_disturbed_bootstrap_forms_at_most_one_cluster(
        blows in prop::collection::vec(
            prop_oneof![
                (0..4usize).prop_map(Blow::KillPod),
                (0..5usize).prop_map(Blow::Cut),
                (1..3usize).prop_map(Blow::Turns),
            ],
            0..30,
        ),
        persistent in any::<bool>(),
    ) {
        let mut world = if persistent { World::new(3) } else { World::new(3).on_empty_dir() };
        for blow in blows {
            match blow {
                Blow::KillPod(nth) => world.kill_pod(nth),
                Blow::Cut(writes) => {
                    world.settle();
                    world.turn(Some(writes));
                }
                _ => {
                    world.settle();
                    world.turn(None);
                }
            }
        }
        for _ in 0..200 {
            world.settle();
            world.turn(None);
        }
        let stalled = stalled(&world);
        prop_assert!(
            world.is_settled()
                || matches!(stalled, Some(StalledReason::BootstrapFailed | StalledReason::QuorumLost)),
            "{}", world.steps[world.steps.len().saturating_sub(20)..].join("\n")
        );
        if persistent && stalled.is_none() {
            world.forms_one_cluster_of(3);
        }
    }
}

use crate::{
    api::{Phase, RetentionPolicy},
    plan::{StalledReason, Step, plan, world::World},
};

fn world(replicas: i32) -> World {
    let mut world = World::new(replicas);
    world.cluster.spec.recovery.replace_member_after = "30s".to_owned();
    world.converge();
    world
}

/// Turns over so many seconds, none of which may do anything.
fn nothing_is_done(world: &mut World, seconds: i64) {
    let before = world.taken().len();
    for _ in 0..seconds / 5 {
        world.pass(4);
        world.turns(1);
    }
    assert_eq!(world.taken().len(), before, "{}", world.trace());
}

fn told(world: &World, guard: &str) -> String {
    let plan = plan(&world.cluster, &world.observe(), &world.settings, world.now);
    let told = plan.blocked.iter().find(|blocked| blocked.guard == guard);
    told.map(|blocked| blocked.message.clone())
        .unwrap_or_default()
}

fn condition(world: &World, type_: &str) -> (String, String) {
    let status = world.cluster.status.as_ref().unwrap();
    let found = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (found.status.clone(), found.message.clone())
}

#[test]
fn o36_a_member_that_only_the_operator_does_not_hear_is_left_alone() {
    let mut world = world(3);
    world.unheard.insert("demo-1".to_owned());
    world.turns(1);
    nothing_is_done(&mut world, 120);
    let note = told(&world, "Replacement");
    assert!(note.contains("its kubelet calls it ready"), "{note}");
    assert_eq!(condition(&world, "Degraded").0, "True");
    world.unheard.clear();
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn o36_a_container_that_is_killed_comes_back_by_itself() {
    let mut world = world(3);
    for nth in 0..3 {
        world.kill_container(nth);
        nothing_is_done(&mut world, 20);
    }
    world.forms_one_cluster_of(3);
}

#[test]
fn o36_a_member_on_a_dead_node_is_replaced_in_time_and_its_pod_left_alone() {
    let mut world = world(3);
    let node = world.node("demo-0").unwrap();
    world.power(node, false);
    world.turns(1);
    nothing_is_done(&mut world, 25);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2", "demo-3"]);
    let taken = world.taken();
    let at = |step: &str| taken.iter().rposition(|taken| *taken == step).unwrap();
    assert!(
        at("CreateMember") < at("RemoveMember") && at("RemoveMember") < at("AddMember"),
        "another waits before it is removed: {taken:?}"
    );
    assert!(told(&world, "Lingering").contains("demo-0"));
    let claims = world.claims();
    let old = ("data-demo-0".to_owned(), false);
    assert!(
        claims.contains(&old),
        "its claim waits for its pod: {claims:?}"
    );
    world.power(node, true);
    world.converge();
    assert_eq!(world.members(), ["demo-1", "demo-2", "demo-3"]);
    let claims = world.claims();
    assert!(
        claims.contains(&("data-demo-0".to_owned(), true)),
        "{claims:?}"
    );
}

#[test]
fn o36_one_that_comes_back_before_another_is_ready_stays() {
    let mut world = world(3);
    let node = world.node("demo-1").unwrap();
    world.power(node, false);
    world.stuck.insert("demo-3".to_owned());
    for _ in 0..20 {
        world.pass(4);
        world.turns(1);
    }
    assert!(
        !world.taken().contains(&"RemoveMember"),
        "nothing would be won"
    );
    let note = told(&world, "Replacement");
    assert!(
        note.contains("demo-3") && note.contains("cannot be pulled"),
        "{note}"
    );
    world.power(node, true);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2"]);
}

#[test]
fn o36_sleep_does_not_count_as_absence() {
    let mut world = world(3);
    world.cluster.spec.replicas = 0;
    world.converge();
    world.pass(86_400);
    world.cluster.spec.replicas = 3;
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2"]);
}

#[test]
fn o12_an_outage_of_all_nodes_does_not_count_as_absence() {
    let mut world = world(3);
    (0..8).for_each(|node| world.power(node, false));
    for _ in 0..30 {
        world.pass(10);
        world.turns(1);
    }
    let before = world.taken().len();
    world.mend_nodes();
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.taken().len(), before, "{}", world.trace());
}

#[test]
fn o08_a_damaged_member_is_replaced_and_its_data_kept() {
    let mut world = world(3);
    world.corrupt_volume("demo-1");
    world.kill_pod(1);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-2", "demo-3"]);
    let claims = world.claims();
    assert!(
        claims.contains(&("data-demo-1".to_owned(), true)),
        "{claims:?}"
    );
}

#[test]
fn o08_claims_deleted_by_mistake_are_replaced_while_their_pods_still_serve() {
    let mut world = world(3);
    for member in ["demo-0", "demo-1", "demo-2"] {
        world.delete_claim(member);
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-3", "demo-4", "demo-5"]);
}

#[test]
fn o08_what_becomes_of_a_claim_depends_on_why_its_member_left() {
    let mut world = world(3);
    world.cluster.spec.storage.when_scaled = RetentionPolicy::Delete;
    world.empty_volume("demo-0");
    world.converge();
    assert!(world.claims().contains(&("data-demo-0".to_owned(), true)));
    world.cluster.spec.replicas = 1;
    world.converge();
    world.forms_one_cluster_of(1);
    let kept: Vec<_> = world
        .claims()
        .into_iter()
        .filter(|(_, retired)| *retired)
        .collect();
    assert_eq!(
        kept,
        [("data-demo-0".to_owned(), true)],
        "the others were scaled away"
    );
}

#[test]
fn o09_two_of_three_away_are_waited_for() {
    let mut world = world(3);
    let nodes = [world.node("demo-1").unwrap(), world.node("demo-2").unwrap()];
    nodes.iter().for_each(|node| world.power(*node, false));
    world.turns(1);
    nothing_is_done(&mut world, 600);
    assert_eq!(condition(&world, "QuorumLost").0, "False");
    let status = world.cluster.status.clone().unwrap();
    assert_eq!(status.phase, Some(Phase::Unavailable));
    let reason = status.plan.unwrap().reason;
    assert!(
        reason.contains("not certain to be lost: demo-1"),
        "{reason}"
    );
    world.power(nodes[0], true);
    world.turns(5);
    assert!(world.has_quorum());
    world.power(nodes[1], true);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2"]);
}

#[test]
fn o09_what_is_lost_for_certain_is_told_apart() {
    let mut world = world(3);
    world.empty_volume("demo-0");
    world.corrupt_volume("demo-2");
    world.kill_pod(1);
    for _ in 0..20 {
        world.turns(1);
        assert_eq!(world.claims().len(), 3, "what is left is kept");
    }
    let plan = plan(&world.cluster, &world.observe(), &world.settings, world.now);
    assert_eq!(plan.step, Step::None);
    let stalled = plan.stalled.unwrap();
    assert_eq!(stalled.reason, StalledReason::QuorumLost);
    for words in ["demo-0 found its volume empty", "damaged", "The ways out"] {
        assert!(stalled.message.contains(words), "{}", stalled.message);
    }
}

#[test]
fn o07_a_learner_whose_pod_never_starts_is_rolled_back() {
    let mut world = world(3);
    world.cluster.spec.replicas = 5;
    while !world.taken().contains(&"AddMember") {
        world.turns(1);
    }
    world.stuck.insert("demo-3".to_owned());
    let nth = world
        .members()
        .iter()
        .position(|name| name == "demo-3")
        .unwrap();
    world.kill_pod(nth);
    world.converge();
    world.forms_one_cluster_of(5);
    assert!(!world.members().contains(&"demo-3".to_owned()));
    assert!(world.taken().contains(&"RemoveMember"));
}

#[test]
fn o07_a_candidate_that_waited_long_is_no_late_learner() {
    let mut world = world(3);
    world.cluster.spec.recovery.replace_member_after = "1h".to_owned();
    let node = world.node("demo-1").unwrap();
    world.power(node, false);
    world.cluster.spec.replicas = 5;
    for _ in 0..80 {
        world.pass(9);
        world.turns(1);
    }
    world.power(node, true);
    world.converge();
    world.forms_one_cluster_of(5);
    assert!(
        !world.taken().contains(&"RemoveMember"),
        "{}",
        world.trace()
    );
}

#[test]
fn o39_a_pod_that_fits_no_node_is_reported_and_its_claim_kept() {
    for (limit, replaced) in [("720h", false), ("30s", true)] {
        let mut world = world(3);
        world.cluster.spec.recovery.replace_member_after = limit.to_owned();
        let node = world.node("demo-2").unwrap();
        world.power(node, false);
        world.pass(1);
        world.take_pod_away("demo-2");
        for _ in 0..60 {
            world.pass(4);
            world.turns(1);
        }
        assert_eq!(world.taken().contains(&"RemoveMember"), replaced);
        if !replaced {
            let status = world.cluster.status.clone().unwrap();
            let line = status.members.iter().find(|m| m.name == "demo-2").unwrap();
            let message = line.message.clone().unwrap();
            assert!(message.contains("node affinity conflict"), "{message}");
        }
        let claims = world.claims();
        let claim = claims
            .iter()
            .find(|(name, _)| name == "data-demo-2")
            .unwrap();
        assert_eq!(claim.1, replaced, "kept, and retired once it was replaced");
    }
}

#[test]
fn shrinking_takes_the_one_that_is_not_well_first() {
    let mut world = world(5);
    let node = world.node("demo-1").unwrap();
    world.power(node, false);
    world.turns(1);
    world.cluster.spec.replicas = 3;
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.etcd_names(), ["demo-0", "demo-2", "demo-3"]);
}

//! Upgrades, volumes, quota, windows: what happens to clusters that live long.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::json;

use super::super::{Plan, Step, plan, world::World};
use crate::api::{MaintenanceSpec, OptionsSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn image(world: &mut World, repository: &str, tag: &str) {
    let image = json!({"repository": repository, "tag": tag});
    world.cluster.spec.image = serde_json::from_value(image).unwrap();
}

fn three() -> World {
    let mut world = World::new(3);
    world.converge();
    world
}

fn look(world: &World) -> Plan {
    plan(&world.cluster, &world.observe(), &world.settings, world.now)
}

fn condition(world: &World, type_: &str) -> Condition {
    let status = world.cluster.status.as_ref().unwrap();
    let found = status.conditions.iter().find(|c| c.type_ == type_);
    found.unwrap().clone()
}

fn count(world: &World, step: &str) -> usize {
    world.taken().iter().filter(|taken| **taken == step).count()
}

#[test]
fn o40_a_new_tag_restarts_each_member_once_and_the_leader_last() {
    let mut world = three();
    let leader = world.leader().unwrap();
    let (members, before) = (world.members(), world.steps.len());
    image(&mut world, "etcd", "v3.7.4");
    world.converge();
    assert_eq!(world.members(), members, "no member is replaced");
    let restarts: Vec<&String> = world.steps[before..]
        .iter()
        .filter(|step| step.starts_with("RestartPod"))
        .collect();
    assert_eq!(restarts.len(), 3);
    assert!(restarts[2].contains(&leader), "{restarts:?}");
    assert_eq!(count(&world, "MoveLeader"), 1);
}

#[test]
fn o19_an_image_that_cannot_be_pulled_stops_at_one_member_and_is_named() {
    let mut world = three();
    image(&mut world, "etcd", "v3.7.4");
    world.missing.insert("etcd:v3.7.4".to_owned());
    world.turns(30);
    assert_eq!(count(&world, "RestartPod"), 1);
    assert!(world.has_quorum());
    for type_ in ["Degraded", "Reconciling", "Ready"] {
        let told = condition(&world, type_);
        assert_eq!(told.reason, "ImageUnavailable", "{type_}");
    }
    world.cluster.spec.image = None;
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(count(&world, "RestartPod"), 2, "the one that had it, twice");
    assert_eq!(condition(&world, "Degraded").reason, "Whole");
}

#[test]
fn o19_an_image_of_another_repository_is_tried_by_a_new_pod_before_any_member() {
    let mut world = three();
    image(&mut world, "elsewhere/etcd", "v3.7.4");
    world.missing.insert("elsewhere/etcd:v3.7.4".to_owned());
    world.turns(30);
    assert_eq!(count(&world, "RestartPod"), 0);
    assert_eq!(world.serving_names().len(), 3);
    assert_eq!(condition(&world, "Ready").reason, "ImageUnavailable");
    world.cluster.spec.image = None;
    world.converge();
    world.forms_one_cluster_of(3);
    // And when it can be pulled and holds the same server: restarts, no new members.
    world.missing.clear();
    let (members, before) = (world.members(), count(&world, "RestartPod"));
    image(&mut world, "elsewhere/etcd", "v3.7.4");
    world.converge();
    assert_eq!(world.members(), members);
    assert_eq!(count(&world, "RestartPod"), before + 3);
}

#[test]
fn the_only_member_is_not_restarted_before_another_pod_has_run_the_image() {
    let mut world = World::new(1);
    world.converge();
    image(&mut world, "etcd", "v3.7.4");
    world.missing.insert("etcd:v3.7.4".to_owned());
    world.turns(30);
    assert!(world.has_quorum());
    assert_eq!(count(&world, "RestartPod"), 0);
    world.missing.clear();
    world.kill_pod(1);
    world.converge();
    world.forms_one_cluster_of(1);
    assert_eq!(
        (world.members(), count(&world, "RestartPod")),
        (vec!["demo-0".to_owned()], 1)
    );
}

#[test]
fn members_are_replaced_towards_stock_etcd_and_restarted_towards_ours() {
    let mut world = three();
    let first: BTreeSet<String> = world.members().into_iter().collect();
    image(&mut world, "stock", "v3.7.3");
    converge_whole(&mut world);
    let second: BTreeSet<String> = world.members().into_iter().collect();
    assert!(first.is_disjoint(&second), "{second:?}");
    assert_eq!(count(&world, "RestartPod"), 0);
    assert_eq!(count(&world, "RemoveMember"), 3);
    image(&mut world, "etcd", "v3.7.3");
    world.converge();
    let third: BTreeSet<String> = world.members().into_iter().collect();
    assert_eq!(second, third, "ours takes the data over where it lies");
    assert_eq!(count(&world, "RestartPod"), 3);
    // And back again, for by now the data is ours.
    image(&mut world, "stock", "v3.7.3");
    converge_whole(&mut world);
    let fourth: BTreeSet<String> = world.members().into_iter().collect();
    assert!(third.is_disjoint(&fourth), "{fourth:?}");
}

#[test]
fn the_only_member_is_replaced_by_one_of_another_server_without_a_gap() {
    let mut world = World::new(1);
    world.converge();
    image(&mut world, "stock", "v3.7.3");
    converge_whole(&mut world);
    world.forms_one_cluster_of(1);
    assert_eq!(world.members(), ["demo-1"]);
}

/// Converges, and requires all the way that as many voters serve as there were.
fn converge_whole(world: &mut World) {
    let whole = world.serving_names().len();
    for _ in 0..200 {
        world.settle();
        assert!(
            world.serving_names().len() >= whole,
            "{}",
            world.steps.join("\n")
        );
        if world.turn(None) == Step::None && world.is_settled() {
            return;
        }
    }
    panic!("{}", world.steps[world.steps.len() - 30..].join("\n"));
}

#[test]
fn a_change_of_server_that_is_taken_back_half_way_ends_where_it_began() {
    for after in 0..40 {
        let mut world = three();
        image(&mut world, "stock", "v3.7.3");
        world.turns(after);
        world.cluster.spec.image = None;
        world.converge();
        world.forms_one_cluster_of(3);
        assert!(
            world.images().iter().all(|image| image == "etcd:v3.7.3"),
            "{after}"
        );
    }
}

#[test]
fn o13_scaling_in_the_middle_of_a_change_of_server_ends_clean() {
    for after in (0..40).step_by(3) {
        for replicas in [1, 5] {
            let mut world = three();
            image(&mut world, "stock", "v3.7.3");
            world.turns(after);
            world.cluster.spec.replicas = replicas;
            world.converge();
            world.forms_one_cluster_of(usize::try_from(replicas).unwrap());
            assert!(
                world.images().iter().all(|image| image == "stock:v3.7.3"),
                "{after}"
            );
        }
    }
}

#[test]
fn an_image_that_cannot_read_the_data_is_found_out_by_one_member_which_is_replaced() {
    let mut world = three();
    // The same repository, so nobody expects another server.
    image(&mut world, "localhost/etcd", "v3.7.3");
    world.converge();
    image(&mut world, "localhost/etcd", "v3.7.3-stock");
    for _ in 0..100 {
        world.settle();
        world.turn(None);
        assert!(world.has_quorum());
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert!(world.images().iter().all(|image| image.ends_with("-stock")));
}

#[test]
fn an_image_changed_while_asleep_that_cannot_read_the_data_is_told_and_a_revert_recovers() {
    let mut world = three();
    world.cluster.spec.replicas = 0;
    world.converge();
    image(&mut world, "stock", "v3.7.3");
    world.cluster.spec.replicas = 3;
    world.turns(20);
    assert!(!world.has_quorum());
    let stalled = condition(&world, "Stalled");
    assert_eq!(
        (stalled.status.as_str(), stalled.reason.as_str()),
        ("True", "UnreadableData")
    );
    world.cluster.spec.image = None;
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn a_member_on_an_empty_dir_is_replaced_and_not_restarted() {
    for replicas in [1, 3] {
        let mut world = World::new(replicas).on_empty_dir();
        world.converge();
        world.cluster.spec.options.snapshot_count = Some(5);
        converge_whole(&mut world);
        world.forms_one_cluster_of(usize::try_from(replicas).unwrap());
        assert_eq!(count(&world, "RestartPod"), 0);
    }
}

#[test]
fn o36_an_upgrade_waits_for_a_voter_that_lags_and_for_one_that_is_down() {
    let mut world = three();
    world.write_entries(100_000);
    let follower = if world.leader().as_deref() == Some("demo-2") {
        "demo-1"
    } else {
        "demo-2"
    };
    world.hold_back(follower, 5_001);
    world.cluster.spec.options.snapshot_count = Some(5);
    let next = look(&world);
    assert_eq!(next.step, Step::None);
    assert_eq!(next.blocked[0].guard, "Unhealthy");
    assert!(next.reason.contains("behind"), "{}", next.reason);
    world.write_entries(1);
    world.hold_back(follower, 5_000);
    assert!(matches!(look(&world).step, Step::UpdateMember { .. }));

    // One is down: it gets the new template first, and nobody else before it is back.
    world.stuck.insert("demo-0".to_owned());
    world.kill_pod(0);
    world.turns(10);
    assert!(
        world
            .steps
            .iter()
            .all(|step| !step.starts_with("RestartPod: restarts"))
    );
    world.stuck.clear();
    world.kill_pod(0);
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn o18_the_version_found_in_an_image_counts_and_so_does_its_tag() {
    let mut world = three();
    image(&mut world, "etcd", "v3.5.9");
    let next = look(&world);
    assert_eq!(
        (next.step, next.blocked[0].guard.as_str()),
        (Step::None, "Downgrade")
    );
    image(&mut world, "etcd", "v3.9.0");
    assert_eq!(look(&world).blocked[0].guard, "VersionSkip");
    image(&mut world, "etcd", "v3.8.0");
    assert!(matches!(look(&world).step, Step::UpdateMember { .. }));
}

#[test]
fn a_version_that_the_image_does_not_bring_stops_at_one_member() {
    let mut world = three();
    world.cluster.spec.version = Some("3.7.4".to_owned());
    image(&mut world, "etcd", "latest");
    world.turns(30);
    assert_eq!(count(&world, "RestartPod"), 1);
    assert_eq!(condition(&world, "Stalled").reason, "VersionMismatch");
    world.cluster.spec.version = None;
    world.converge();
}

#[test]
fn an_annotation_restarts_every_member_once() {
    let mut world = three();
    let restart = |world: &mut World, at: &str| {
        let annotations = world.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert("etcd-core.io/restarted-at".to_owned(), at.to_owned());
        world.converge();
    };
    restart(&mut world, "2026-01-01T00:00:00Z");
    assert_eq!(count(&world, "RestartPod"), 3);
    restart(&mut world, "2026-01-01T00:00:00Z");
    assert_eq!(count(&world, "RestartPod"), 3);
    restart(&mut world, "2026-01-02T00:00:00Z");
    assert_eq!(count(&world, "RestartPod"), 6);
}

fn nightly() -> MaintenanceSpec {
    serde_json::from_value(json!({"windows": [{"schedule": "0 2 * * *", "duration": "2h"}]}))
        .unwrap()
}

#[test]
fn what_a_new_operator_brings_waits_for_a_window_and_the_users_changes_do_not() {
    let mut world = three();
    world.cluster.spec.maintenance = Some(nightly());
    world.now = "2026-01-02T12:00:00Z".parse().unwrap();
    world.settings.operator_image = "operator:2".to_owned();
    world.converge();
    assert_eq!(count(&world, "RestartPod"), 0);
    let pending = condition(&world, "UpdatePending");
    assert_eq!(
        (pending.status.as_str(), pending.reason.as_str()),
        ("True", "WaitsForWindow")
    );
    assert!(
        pending.message.contains("2026-01-03T02:00:00Z"),
        "{}",
        pending.message
    );
    // The window opens.
    world.now = "2026-01-03T02:00:00Z".parse().unwrap();
    world.settle();
    let next = look(&world);
    assert!(next.voluntary, "{next:?}");
    world.converge();
    assert_eq!(count(&world, "RestartPod"), 3);
    assert_eq!(condition(&world, "UpdatePending").status, "False");
    assert_eq!(condition(&world, "MaintenanceWindow").status, "True");
    // Closed again: what the user wants is done at once, and takes the rest along.
    world.now = "2026-01-03T12:00:00Z".parse().unwrap();
    world.settings.operator_image = "operator:3".to_owned();
    world.cluster.spec.options.snapshot_count = Some(9);
    assert!(!look(&world).voluntary);
    world.converge();
    assert_eq!(count(&world, "RestartPod"), 6);
    assert_eq!(condition(&world, "UpdatePending").status, "False");
}

#[test]
fn o32_an_impossible_window_is_told_in_a_condition() {
    let mut world = three();
    let never = json!({"windows": [{"schedule": "0 0 31 2 *", "duration": "2h"}]});
    world.cluster.spec.maintenance = serde_json::from_value(never).unwrap();
    world.converge();
    let told = condition(&world, "MaintenanceWindow");
    assert_eq!(
        (told.status.as_str(), told.reason.as_str()),
        ("False", "InvalidWindow")
    );
    assert!(told.message.contains("0 0 31 2 *"), "{}", told.message);
}

fn grow(world: &mut World, size: &str) {
    let claim = world.cluster.spec.storage.persistent_volume_claim.as_mut();
    claim.unwrap().size = size.to_owned();
}

#[test]
fn o30_volumes_grow_one_after_the_other_and_the_quota_follows_them() {
    let mut world = three();
    grow(&mut world, "16Gi");
    world.turns(2);
    assert_eq!(condition(&world, "Resizing").reason, "Growing");
    world.converge();
    assert_eq!(count(&world, "GrowClaim"), 3);
    assert_eq!(count(&world, "RestartPod"), 3, "for the new quota");
    let status = world.cluster.status.as_ref().unwrap();
    assert_eq!(status.volume_size.as_deref(), Some("16Gi"));
    let last = |step| world.taken().iter().rposition(|taken| *taken == step);
    let first = world
        .taken()
        .iter()
        .position(|taken| *taken == "RestartPod");
    assert!(last("GrowClaim") < first, "not before all have grown");
    assert_eq!(condition(&world, "Resizing").reason, "AsSpecified");
}

#[test]
fn o30_a_quota_that_is_set_does_not_follow_and_resources_change_beside() {
    let mut world = three();
    world.cluster.spec.options.quota_backend_bytes = Some(1 << 30);
    world.converge();
    let before = count(&world, "RestartPod");
    grow(&mut world, "16Gi");
    let shape = json!({"spec": {"resources": {"requests": {"cpu": "1"}}}});
    world.cluster.spec.pod_template = serde_json::from_value(shape).unwrap();
    world.converge();
    assert_eq!(count(&world, "GrowClaim"), 3);
    assert_eq!(count(&world, "RestartPod"), before + 3);
}

#[test]
fn o30_a_volume_grows_while_its_member_is_down_and_without_a_quorum() {
    let mut world = three();
    for name in ["demo-0", "demo-1"] {
        world.stuck.insert(name.to_owned());
    }
    world.kill_pod(0);
    world.kill_pod(0);
    world.turns(3);
    assert!(!world.has_quorum());
    grow(&mut world, "16Gi");
    world.turns(20);
    assert_eq!(count(&world, "GrowClaim"), 3);
    world.stuck.clear();
    world.kill_pod(0);
    world.kill_pod(0);
    world.converge();
    world.forms_one_cluster_of(3);
}

#[test]
fn o30_where_only_a_mount_grows_file_systems_members_restart_one_by_one_the_leader_last() {
    let mut world = three();
    world.cluster.spec.options.quota_backend_bytes = Some(1 << 30);
    world.converge();
    world.stores.unmounted = true;
    let leader = world.leader().unwrap();
    let before = world.steps.len();
    grow(&mut world, "16Gi");
    world.converge();
    let taken = &world.steps[before..];
    let of = |step: &str| -> Vec<&String> {
        let prefix = format!("{step}: ");
        let steps = taken.iter();
        steps.filter(|taken| taken.starts_with(&prefix)).collect()
    };
    assert_eq!(of("GrowClaim").len(), 3, "{taken:?}");
    let restarts = of("RestartPod");
    assert_eq!(restarts.len(), 3, "each once: {taken:?}");
    assert!(restarts[2].contains(&leader), "{leader} last: {restarts:?}");
    assert_eq!(of("MoveLeader").len(), 1, "{taken:?}");
    assert!(
        restarts[0].contains("only when it is mounted"),
        "{restarts:?}"
    );
    assert_eq!(condition(&world, "Resizing").reason, "AsSpecified");
    world.forms_one_cluster_of(3);
}

/// A cluster whose first volume has grown, and whose file system waits for a mount.
fn pending() -> World {
    let mut world = three();
    world.cluster.spec.options.quota_backend_bytes = Some(1 << 30);
    world.converge();
    world.stores.unmounted = true;
    grow(&mut world, "16Gi");
    world.turns(4);
    assert_eq!(count(&world, "GrowClaim"), 1);
    world
}

#[test]
fn o30_a_file_system_that_grows_while_mounted_is_given_the_time_for_it() {
    let mut world = pending();
    let before = count(&world, "RestartPod");
    world.pass(270);
    assert_eq!(look(&world).step, Step::None);
    let told = condition(&world, "Resizing");
    assert!(
        told.message.contains("waiting for a pod that mounts it"),
        "{}",
        told.message
    );
    // It was one that does.
    world.stores.unmounted = false;
    world.converge();
    assert_eq!(count(&world, "RestartPod"), before);
    assert_eq!(condition(&world, "Resizing").reason, "AsSpecified");
}

#[test]
fn o30_no_member_is_restarted_for_its_file_system_while_another_is_down() {
    let mut world = pending();
    let leader = world.leader().unwrap();
    let due = |world: &World| world.observe().members.into_iter();
    let mut waiting = due(&world).filter(|(_, seen)| {
        let claim = seen.claim.as_ref();
        claim.is_some_and(|claim| claim.remount_since.is_some())
    });
    let (due, _) = waiting.next().unwrap();
    let members = world.members();
    let ill = members.iter().position(|m| *m != leader && *m != due);
    let ill = ill.unwrap();
    world.stuck.insert(members[ill].clone());
    let before = count(&world, "RestartPod");
    world.pass(290);
    world.kill_pod(ill);
    world.turns(3);
    world.pass(20);
    world.turns(3);
    assert_eq!(count(&world, "RestartPod"), before);
    let plan = look(&world);
    assert!(
        plan.blocked.iter().any(|held| held.guard == "Unhealthy"),
        "{plan:?}"
    );
}

#[test]
fn o30_a_pod_of_the_same_second_is_not_taken_for_a_newer_one() {
    let mut world = pending();
    world.pass(300);
    let Step::RestartPod { member, .. } = look(&world).step else {
        panic!("{:?}", look(&world));
    };
    let mut observed = world.observe();
    let seen = observed.members.get_mut(&member).unwrap();
    let since = seen.claim.as_ref().unwrap().remount_since;
    seen.pod.as_mut().unwrap().created = since;
    let after = plan(&world.cluster, &observed, &world.settings, world.now);
    assert!(
        matches!(&after.step, Step::RestartPod { member: again, .. } if *again == member),
        "{after:?}"
    );
}

#[test]
fn o30_a_restart_that_did_not_help_is_not_repeated() {
    let mut world = pending();
    world.pass(300);
    let restart = look(&world);
    let Step::RestartPod { member, .. } = &restart.step else {
        panic!("{restart:?}");
    };
    // Its new pod is there, and Kubernetes says of the claim what it said before.
    let mut observed = world.observe();
    let seen = observed.members.get_mut(member).unwrap();
    seen.pod.as_mut().unwrap().created = Some(world.now);
    let now = world.now + SignedDuration::from_mins(10);
    let after = plan(&world.cluster, &observed, &world.settings, now);
    assert_eq!(after.step, Step::None, "{after:?}");
    assert!(after.reason.contains("grow to 16Gi"), "{after:?}");
}

#[test]
fn a_class_that_lets_no_volume_grow_is_named_and_holds_nothing_else_up() {
    let mut world = three();
    world.stores.fixed = true;
    grow(&mut world, "16Gi");
    world.cluster.spec.options.snapshot_count = Some(9);
    world.converge();
    assert_eq!(world.stores.refusals, 1);
    assert_eq!(count(&world, "RestartPod"), 3);
    let told = condition(&world, "Resizing");
    assert_eq!(
        (told.status.as_str(), told.reason.as_str()),
        ("True", "Refused")
    );
    assert!(told.message.contains("class"), "{}", told.message);
    // It is tried again later, for the class may have been changed.
    world.stores.fixed = false;
    world.now += SignedDuration::from_mins(10);
    world.converge();
    assert_eq!(condition(&world, "Resizing").reason, "AsSpecified");
}

fn filled(taken: i64, in_use: i64, history: i64) -> World {
    let mut world = three();
    world.stores.quota = 1_000;
    world.stores.revision = 500;
    world.fill(taken, in_use, history);
    world
}

#[test]
fn a_store_that_is_nearly_full_is_defragmented_one_member_at_a_time_the_leader_last() {
    let mut world = filled(800, 500, 0);
    let leader = world.leader().unwrap();
    let before = world.steps.len();
    world.turns(1);
    let low = condition(&world, "SpaceLow");
    assert_eq!(
        (low.status.as_str(), low.reason.as_str()),
        ("True", "NearQuota")
    );
    world.converge();
    let done: Vec<&String> = world.steps[before..]
        .iter()
        .filter(|step| step.starts_with("Defragment"))
        .collect();
    assert_eq!(done.len(), 3);
    assert!(done[2].contains(&leader), "{done:?}");
    assert_eq!(count(&world, "Compact"), 0);
    assert_eq!(condition(&world, "SpaceLow").reason, "Plenty");
}

#[test]
fn defragmentation_that_can_wait_waits_for_a_window() {
    let mut world = filled(800, 500, 0);
    world.cluster.spec.maintenance = Some(nightly());
    world.now = "2026-01-02T12:00:00Z".parse().unwrap();
    world.turns(5);
    assert_eq!(count(&world, "Defragment"), 0);
    assert!(
        look(&world)
            .blocked
            .iter()
            .any(|by| by.guard == "MaintenanceWindow")
    );
    let ids = world.ids();
    world.stores.bytes.insert(ids[1], (950, 500));
    world.turns(5);
    assert_eq!(count(&world, "Defragment"), 1, "that one is urgent");
    world.now = "2026-01-03T02:00:00Z".parse().unwrap();
    world.converge();
    assert_eq!(count(&world, "Defragment"), 3);
}

#[test]
fn history_nobody_compacts_is_compacted_after_five_minutes_and_then_defragmented() {
    let mut world = filled(850, 840, 500);
    world.turns(10);
    assert_eq!(
        (count(&world, "MarkHistory"), count(&world, "Compact")),
        (1, 0)
    );
    world.now += SignedDuration::from_mins(5);
    world.converge();
    assert_eq!(
        (count(&world, "Compact"), count(&world, "Defragment")),
        (1, 3)
    );
    assert_eq!(world.cluster.status.as_ref().unwrap().history, None);
}

#[test]
fn history_that_the_user_keeps_is_left_alone() {
    for retention in ["0", "8h"] {
        let mut world = filled(850, 840, 500);
        world.cluster.spec.options = OptionsSpec {
            auto_compaction_retention: Some(retention.to_owned()),
            ..OptionsSpec::default()
        };
        world.turns(20);
        world.now += SignedDuration::from_mins(10);
        world.turns(20);
        assert_eq!(
            (count(&world, "MarkHistory"), count(&world, "Compact")),
            (0, 0)
        );
        assert_eq!(condition(&world, "SpaceLow").reason, "NearQuota");
    }
}

#[test]
fn s34_no_space_is_cleared_by_compaction_and_defragmentation_and_then_disarmed() {
    let mut world = filled(1_000, 990, 600);
    let id = world.ids()[0];
    world.stores.no_space.insert(id);
    world.turns(1);
    assert_eq!(condition(&world, "SpaceLow").reason, "NoSpace");
    world.converge();
    assert_eq!(
        (count(&world, "Compact"), count(&world, "Defragment")),
        (1, 3)
    );
    assert!(world.stores.no_space.is_empty());
    assert_eq!(condition(&world, "SpaceLow").reason, "Plenty");
}

#[test]
fn s34_no_space_without_anything_to_free_is_told_and_not_fought_for_ever() {
    let mut world = filled(1_000, 990, 0);
    let id = world.ids()[0];
    world.stores.no_space.insert(id);
    world.turns(30);
    assert!(world.taken().len() < 40, "{:?}", world.taken());
    assert_eq!(count(&world, "Compact"), 1);
    assert_eq!(condition(&world, "SpaceLow").reason, "NoSpace");
    // A greater quota restarts the members, alarm or not, and then it is disarmed.
    world.cluster.spec.options.quota_backend_bytes = Some(2_000);
    world.converge();
    world.stores.quota = 2_000;
    world.converge();
    assert!(world.stores.no_space.is_empty());
}

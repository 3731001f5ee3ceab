//! Restores of clusters, and what must be so on the way.

use crate::{
    api::{QuorumLossPolicy, RestorePhase, RestoreStage},
    plan::world::World,
};

use super::*;

fn world() -> World {
    let mut world = World::new(3);
    world.converge();
    world.back_up("once", false);
    world.converge();
    world
}

fn status(world: &World) -> crate::api::EtcdClusterStatus {
    world.cluster.status.clone().unwrap()
}

fn cluster_id(world: &World) -> String {
    status(world).cluster_id.unwrap()
}

#[test]
fn a_backup_is_taken_once_and_says_so() {
    let world = world();
    let backup = world.backup("once").unwrap().status.unwrap();
    assert_eq!(backup.phase, Some(crate::api::BackupPhase::Completed));
    assert_eq!(backup.artifact.unwrap().cluster_id, cluster_id(&world));
    assert_eq!(world.artifacts.taken, 1);
}

#[test]
fn o21_o22_a_cluster_is_restored_in_place_once_its_backup_was_verified() {
    let mut world = world();
    let before = cluster_id(&world);
    let members = world.members();
    world.restore_from("back", Some("once"));
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.restored("back"), Some(RestorePhase::Completed));
    assert_ne!(cluster_id(&world), before);
    let lineage = status(&world).lineage;
    assert_eq!(lineage.len(), 1);
    assert_eq!(lineage[0].cluster_id, before);
    // Not one of the members before is left, and every one of their claims is.
    let now = world.members();
    assert!(
        now.iter().all(|member| !members.contains(member)),
        "{now:?}"
    );
    let kept: Vec<String> = members
        .iter()
        .map(|m| crate::identity::claim_name(m))
        .collect();
    assert_eq!(lineage[0].volumes, kept);
    for claim in &kept {
        assert!(world.claims().contains(&(claim.clone(), true)), "{claim}");
    }
    let taken = world.taken();
    let at = |step: &str| taken.iter().position(|taken| *taken == step).unwrap();
    assert!(at("BeginRestore") < at("SetReplicas") && at("SetReplicas") < at("CreateFounder"));
    // Applied again, it does nothing any more.
    world.restore_from("again", Some("once"));
    let mut again = world.restore_object("back");
    again.metadata.name = Some("again".to_owned());
    world.delete_restore("again");
    let id = cluster_id(&world);
    world.apply_restore(again);
    world.converge();
    assert_eq!(world.restored("again"), Some(RestorePhase::Superseded));
    assert_eq!(cluster_id(&world), id);
}

#[test]
fn o24_a_corrupt_backup_touches_nothing() {
    let mut world = world();
    world
        .artifacts
        .folders
        .values_mut()
        .for_each(|stored| stored.corrupt = true);
    let (id, members) = (cluster_id(&world), world.members());
    let steps = world.taken().len();
    world.restore_from("back", Some("once"));
    world.converge();
    assert_eq!(world.restored("back"), Some(RestorePhase::Failed));
    let restore = world.restore_object("back").status.unwrap();
    assert_eq!(restore.failure.unwrap().reason, "Corrupt");
    assert_eq!((cluster_id(&world), world.members()), (id, members));
    assert_eq!(
        world.taken().len(),
        steps,
        "nothing was done to the cluster"
    );
}

#[test]
fn a_restore_that_is_deleted_before_the_new_cluster_serves_is_taken_back() {
    let mut world = world();
    let (id, members) = (cluster_id(&world), world.members());
    world.restore_from("back", Some("once"));
    for _ in 0..100 {
        world.turns(1);
        if world.taken().contains(&"CreateFounder") {
            break;
        }
    }
    assert_eq!(
        status(&world).restore.unwrap().stage,
        RestoreStage::Founding
    );
    world.delete_restore("back");
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!((cluster_id(&world), world.members()), (id, members));
    assert_eq!(
        status(&world).restore.unwrap().stage,
        RestoreStage::TakenBack
    );
}

#[test]
fn a_new_cluster_begins_with_a_backup() {
    let mut world = world();
    let folders = world.artifacts.folders.clone();
    // The cluster is lost with all its volumes; what is stored is not.
    let backup = world.backup("once").unwrap();
    let mut again = World::new(3);
    again.artifacts.folders = folders;
    again.keep_backup(backup);
    again.cluster.spec.bootstrap = Some(crate::api::BootstrapSpec {
        restore: Some(crate::api::BootstrapRestore {
            from: crate::api::RestoreSource {
                backup_ref: Some(crate::api::BackupRef {
                    name: "once".to_owned(),
                }),
                ..Default::default()
            },
            ..Default::default()
        }),
    });
    again.converge();
    again.forms_one_cluster_of(3);
    let revision = again.artifacts.folders.values().next().unwrap().revision;
    assert!(
        again.newest_revision() > revision,
        "it goes on from the backup"
    );
    world.converge();
}

#[test]
fn o09_the_most_advanced_survivor_makes_a_new_cluster_on_request() {
    let mut world = World::new(3);
    world.converge();
    let before = cluster_id(&world);
    world.empty_volume("demo-0");
    world.empty_volume("demo-1");
    world.turns(20);
    assert_eq!(stalled(&world), Some(StalledReason::QuorumLost));
    world.restore_from("back", None);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.restored("back"), Some(RestorePhase::Completed));
    assert!(world.members().contains(&"demo-2".to_owned()));
    assert_ne!(cluster_id(&world), before);
    for member in ["demo-0", "demo-1"] {
        assert!(!world.members().contains(&member.to_owned()));
    }
}

/// What the message of a condition of that EtcdRestore says.
fn message(world: &World, restore: &str, type_: &str) -> String {
    let status = world.restore_object(restore).status.unwrap();
    let condition = status.conditions.into_iter().find(|c| c.type_ == type_);
    condition.unwrap().message
}

/// All volumes but that member's are emptied, and what is left is restored; the revision
/// that member had.
fn revive(world: &mut World, survivor: &str) -> i64 {
    for member in world.members() {
        if member != survivor {
            world.empty_volume(&member);
        }
    }
    world.turns(20);
    assert_eq!(stalled(world), Some(StalledReason::QuorumLost));
    let had = world.revision_of(survivor).unwrap();
    world.restore_from("back", None);
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.restored("back"), Some(RestorePhase::Completed));
    had
}

#[test]
fn o09_a_restore_from_the_last_leader_tells_its_revision_and_that_none_is_lost() {
    let mut world = World::new(3);
    world.converge();
    let leader = world.leader().unwrap();
    let had = revive(&mut world, &leader);
    let restore = world.restore_object("back").status.unwrap();
    let restored = restore.restored_revision.unwrap();
    // The model writes once a second, also before the operator first asks.
    assert!((had..had + 10).contains(&restored), "{restored}, {had}");
    assert_eq!(restore.lost_revisions, Some(0));
    assert_eq!(world.lost(), [0]);
    let ready = message(&world, "back", "Ready");
    assert!(
        ready.contains(&format!(
            "revision {restored} is restored, revisions lost: 0"
        )),
        "{ready}"
    );
    let ancestor = &status(&world).lineage[0];
    assert_eq!(ancestor.restored_revision, Some(restored));
    assert_eq!(ancestor.lost_revisions, Some(0));
    assert_eq!(
        ancestor.next_revision,
        Some(restored + 1_000_000_000),
        "it was raised"
    );
}

#[test]
fn o09_a_restore_from_a_follower_says_who_may_have_had_more() {
    let mut world = World::new(3);
    world.converge();
    let leader = world.leader().unwrap();
    let follower = world.members().into_iter().find(|m| *m != leader).unwrap();
    let had = revive(&mut world, &follower);
    let restore = world.restore_object("back").status.unwrap();
    assert!(restore.restored_revision.unwrap() >= had);
    assert_eq!(restore.lost_revisions, None);
    let ready = message(&world, "back", "Ready");
    for part in [
        "how many revisions are lost is not known".to_owned(),
        format!("{leader} led last"),
        "more may have been on ".to_owned(),
        format!("{leader} (when last told, at index "),
    ] {
        assert!(ready.contains(&part), "{part}: {ready}");
    }
}

#[test]
fn o09_an_unraised_revision_is_told_as_it_is_even_if_who_asked_is_gone() {
    let mut world = World::new(3);
    world.converge();
    let leader = world.leader().unwrap();
    for member in world.members() {
        if member != leader {
            world.empty_volume(&member);
        }
    }
    world.turns(20);
    let had = world.revision_of(&leader).unwrap();
    world.restore_from("first", None);
    let mut restore = world.restore_object("first");
    world.delete_restore("first");
    restore.metadata.name = Some("back".to_owned());
    restore.spec.revisions.bump = 0;
    world.apply_restore(restore);
    for _ in 0..100 {
        world.turns(1);
        if status(&world).members.iter().any(|m| {
            m.ticket
                .as_ref()
                .is_some_and(|t| t.kind == crate::api::TicketKind::Revive)
        }) {
            break;
        }
    }
    world.delete_restore("back");
    world.converge();
    let ancestor = &status(&world).lineage[0];
    let restored = ancestor.restored_revision.unwrap();
    assert!((had..had + 10).contains(&restored), "{restored}, {had}");
    assert_eq!(ancestor.next_revision, Some(restored));
}

fn automatic(allowed: i64) -> World {
    let mut world = World::new(3);
    let loss = &mut world.cluster.spec.recovery.quorum_loss;
    loss.policy = QuorumLossPolicy::Automatic;
    loss.max_lost_revisions = allowed;
    world.converge();
    world
}

#[test]
fn o09_the_policy_acts_alone_where_the_last_leader_is_left() {
    let mut world = automatic(0);
    let leader = world.leader().unwrap();
    let others: Vec<String> = world
        .members()
        .into_iter()
        .filter(|m| *m != leader)
        .collect();
    for member in &others {
        world.empty_volume(member);
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert!(world.members().contains(&leader), "{:?}", world.members());
    assert_eq!(world.lost(), [0], "nothing that was acknowledged is lost");
    let ancestor = &status(&world).lineage[0];
    assert_eq!(ancestor.lost_revisions, Some(0));
    assert!(ancestor.restored_revision.is_some());
}

#[test]
fn o09_the_policy_waits_where_what_is_lost_is_not_known() {
    let mut world = automatic(0);
    let leader = world.leader().unwrap();
    let follower = world.members().into_iter().find(|m| *m != leader).unwrap();
    for member in world.members() {
        if member != follower {
            world.empty_volume(&member);
        }
    }
    world.turns(60);
    let status = status(&world);
    assert_eq!(status.restore, None);
    assert_eq!(stalled(&world), Some(StalledReason::QuorumLost));
    let reason = status.plan.unwrap().reason;
    assert!(
        reason.contains(&format!("{leader} led last")) && reason.contains("EtcdRestore"),
        "{reason}"
    );
}

#[test]
fn the_policy_allows_as_much_to_be_lost_as_it_was_told() {
    let mut world = automatic(100_000);
    let leader = world.leader().unwrap();
    let follower = world.members().into_iter().find(|m| *m != leader).unwrap();
    for member in world.members() {
        if member != follower {
            world.empty_volume(&member);
        }
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert!(world.members().contains(&follower));
    let told = status(&world);
    assert_eq!(told.lineage[0].lost_revisions, None, "a bound is no count");
    assert!(told.lineage[0].restored_revision.is_some());
    let message = told.restore.unwrap().message;
    assert!(message.contains("by that look at most"), "{message}");
}

#[test]
fn o36_the_policy_waits_for_nodes_that_are_only_away() {
    let mut world = automatic(100_000);
    let nodes: Vec<usize> = ["demo-1", "demo-2"]
        .map(|m| world.node(m).unwrap())
        .to_vec();
    for node in &nodes {
        world.power(*node, false);
    }
    world.turns(120);
    assert_eq!(status(&world).restore, None);
    let reason = status(&world).plan.unwrap().reason;
    assert!(reason.contains("no quorum of 3 voters answers"), "{reason}");
    // Power is back: all is as before.
    world.mend_nodes();
    world.converge();
    world.forms_one_cluster_of(3);
    assert_eq!(world.members(), ["demo-0", "demo-1", "demo-2"]);
}

#[test]
fn the_policy_acts_when_the_nodes_are_said_to_be_off_for_ever() {
    let mut world = automatic(100_000);
    let nodes: Vec<usize> = ["demo-1", "demo-2"]
        .map(|m| world.node(m).unwrap())
        .to_vec();
    for node in &nodes {
        world.power(*node, false);
    }
    world.turns(120);
    for node in &nodes {
        world.put_out_of_service(*node);
    }
    world.converge();
    world.forms_one_cluster_of(3);
    assert!(world.members().contains(&"demo-0".to_owned()));
}

#[test]
fn o26_a_backup_waits_for_a_store_that_is_away_and_fails_where_it_is_refused() {
    use crate::backup::run::Reason;
    let mut world = World::new(3);
    world.converge();
    world.artifacts.trouble = Some(Reason::StoreUnreachable);
    world.back_up("once", false);
    world.turns(8);
    let backup = world.backup("once").unwrap().status.unwrap();
    assert!(backup.failure.unwrap().transient);
    world.artifacts.trouble = None;
    world.converge();
    assert_eq!(world.artifacts.taken, 1);
    world.artifacts.trouble = Some(Reason::AccessDenied);
    world.back_up("twice", false);
    world.converge();
    let backup = world.backup("twice").unwrap().status.unwrap();
    assert_eq!(backup.phase, Some(crate::api::BackupPhase::Failed));
    assert_eq!(
        backup.run.unwrap().attempt,
        1,
        "what is refused is not asked for again"
    );
}

#[test]
fn o41_a_namespace_that_goes_away_keeps_what_is_stored_and_holds_no_finalizer() {
    let mut world = World::new(3);
    world.converge();
    world.back_up("once", true);
    world.converge();
    assert_eq!(world.artifacts.folders.len(), 1);
    world.terminating = true;
    world.delete_backup("once");
    world.turns(5);
    assert!(world.backup("once").is_none());
    assert_eq!(world.artifacts.folders.len(), 1);
}

#[test]
fn what_is_stored_goes_with_its_object_if_that_says_so() {
    let mut world = World::new(3);
    world.converge();
    world.back_up("once", true);
    world.back_up("kept", false);
    world.converge();
    world.delete_backup("once");
    world.delete_backup("kept");
    world.converge();
    assert_eq!(world.backups(), []);
    assert_eq!(world.artifacts.folders.len(), 1);
    assert!(
        world
            .artifacts
            .folders
            .keys()
            .all(|folder| folder.starts_with("kept"))
    );
}

#[test]
fn what_a_run_stores_while_its_object_goes_does_not_stay() {
    let mut world = World::new(3);
    world.converge();
    world.back_up("once", true);
    let mut outlived = Vec::new();
    for turns in 1..12 {
        let mut world = world.clone();
        world.turns(turns);
        world.delete_backup("once");
        world.converge();
        outlived.push(world.artifacts.late > 0);
        assert_eq!(world.backups(), []);
        assert!(
            world.artifacts.folders.is_empty() && world.artifacts.partial.is_empty(),
            "deleted after {turns} turns: {:?} {:?}{}",
            world.artifacts.folders,
            world.artifacts.partial,
            world.trace()
        );
    }
    assert!(outlived.contains(&true), "no run outlived its Job");
}

#[test]
fn o24_a_drill_finds_what_has_gone_bad_and_says_when_it_is_good_again() {
    let mut world = world();
    let verified = |world: &World| {
        let status = world.backup("once").unwrap().status.unwrap();
        let condition = status
            .conditions
            .iter()
            .find(|c| c.type_ == "Verified")
            .unwrap();
        (condition.status.clone(), condition.reason.clone())
    };
    assert_eq!(verified(&world).0, "True");
    world
        .artifacts
        .folders
        .values_mut()
        .for_each(|stored| stored.corrupt = true);
    world.verify("once", "1");
    world.converge();
    assert_eq!(verified(&world), ("False".to_owned(), "Corrupt".to_owned()));
    world
        .artifacts
        .folders
        .values_mut()
        .for_each(|stored| stored.corrupt = false);
    world.verify("once", "2");
    world.converge();
    assert_eq!(verified(&world).0, "True");
    // A store that does not answer says nothing about it.
    world.artifacts.trouble = Some(crate::backup::run::Reason::AccessDenied);
    world.verify("once", "3");
    world.converge();
    assert_eq!(verified(&world).0, "True");
}

//! Members come and go, one at a time.

use etcd_proto::raftpb::{ConfChangeType, EntryType};
use etcd_raft::{NONE, Role};

use crate::harness::{World, conf_change};
use crate::solo::{acknowledge, conf_state, drain, lead, solo};

use ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeAddNode, ConfChangeRemoveNode};

/// The types of all entries that a leader has committed since it was asked last.
fn committed_types(raft: &mut etcd_raft::Raft) -> Vec<i32> {
    let mut types = Vec::new();
    while raft.has_ready() {
        let ready = raft.ready();
        types.extend(ready.committed.iter().map(|entry| entry.r#type));
        if let Some(persisted) = ready.persisted {
            raft.persisted(persisted);
        }
    }
    types
}

const CHANGE: i32 = EntryType::EntryConfChange as i32;
const NORMAL: i32 = EntryType::EntryNormal as i32;

#[test]
fn only_one_change_is_on_its_way() {
    let mut raft = solo(&[1]);
    lead(&mut raft);
    raft.applied(1);
    let change = |id| conf_change(ConfChangeAddLearnerNode, id);
    raft.propose_conf_change(&change(2)).expect("it leads");
    raft.propose_conf_change(&change(3))
        .expect("accepted, but as nothing");
    assert_eq!(committed_types(&mut raft), [CHANGE, NORMAL]);
    raft.apply_conf_change(&change(2));
    raft.propose_conf_change(&change(3)).expect("it leads");
    assert_eq!(
        committed_types(&mut raft),
        [NORMAL],
        "not reported as applied"
    );
    raft.applied(3);
    raft.propose_conf_change(&change(3)).expect("it leads");
    assert_eq!(committed_types(&mut raft), [CHANGE]);
}

#[test]
fn a_change_that_was_rejected_makes_way_for_the_next() {
    let mut raft = solo(&[1]);
    lead(&mut raft);
    raft.applied(1);
    raft.propose_conf_change(&conf_change(ConfChangeRemoveNode, 1))
        .expect("it leads");
    assert_eq!(committed_types(&mut raft), [CHANGE]);
    let rejected = conf_change(ConfChangeRemoveNode, 0);
    assert_eq!(raft.apply_conf_change(&rejected), conf_state(&[1], &[]));
    raft.applied(2);
    raft.propose_conf_change(&conf_change(ConfChangeAddNode, 2))
        .expect("it leads");
    assert_eq!(committed_types(&mut raft), [CHANGE]);
}

#[test]
fn a_new_leader_first_applies_what_it_found() {
    let mut raft = solo(&[1]);
    lead(&mut raft);
    raft.applied(1);
    raft.propose("a".into()).expect("it leads");
    drain(&mut raft);
    // Steps down and leads anew, with entry 2 not reported as applied.
    raft.step(crate::solo::from_2(
        etcd_proto::raftpb::MessageType::MsgHeartbeat,
        9,
    ))
    .expect("a heartbeat");
    drain(&mut raft);
    raft.campaign();
    drain(&mut raft);
    assert!(raft.is_leader());
    raft.propose_conf_change(&conf_change(ConfChangeAddNode, 2))
        .expect("accepted, but as nothing");
    assert_eq!(committed_types(&mut raft), [NORMAL]);
    raft.applied(2);
    raft.propose_conf_change(&conf_change(ConfChangeAddNode, 2))
        .expect("it leads");
    assert_eq!(committed_types(&mut raft), [CHANGE]);
}

#[test]
fn s24_a_learner_catches_up_is_promoted_and_counts() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.elect(1);
    for n in 0..20 {
        world.propose(1, &n.to_string()).expect("it leads");
        world.settle();
    }
    world.join(4);
    world.change(1, ConfChangeAddLearnerNode, 4);
    world.pass(10);
    assert_eq!(world.nodes[&4].state, world.nodes[&1].state);
    assert!(world.raft(1).status().progress[&4].is_learner);
    // It cannot lead, and its silence does not matter.
    world.raft(4).campaign();
    assert_eq!(world.raft(4).role(), Role::Follower);
    world.change(1, ConfChangeAddNode, 4);
    world.pass(5);
    assert_eq!(world.conf_state(4), &conf_state(&[1, 2, 3, 4], &[]));
    assert!(!world.raft(1).status().progress[&4].is_learner);
    world.isolate(2);
    world.propose(1, "with the new one").expect("it leads");
    world.settle();
    let status = world.raft(1).status();
    assert_eq!(status.commit, status.last_index);
    world.assert_sound();
}

#[test]
fn a_learner_is_no_part_of_a_quorum() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    raft.apply_conf_change(&conf_change(ConfChangeAddLearnerNode, 3));
    raft.propose("a".into()).expect("it leads");
    drain(&mut raft);
    raft.step(acknowledge(&raft, 3, 2)).expect("an answer");
    assert_eq!(raft.status().commit, 1);
    raft.step(acknowledge(&raft, 2, 2)).expect("an answer");
    assert_eq!(raft.status().commit, 2);
}

#[test]
fn s22_a_member_is_added_while_another_is_down() {
    let mut world = World::new(2, &[1, 2, 3]);
    world.elect(1);
    world.isolate(3);
    world.join(4);
    world.isolate(3);
    world.change(1, ConfChangeAddLearnerNode, 4);
    world.pass(10);
    world.change(1, ConfChangeAddNode, 4);
    world.pass(10);
    assert_eq!(world.conf_state(4), &conf_state(&[1, 2, 3, 4], &[]));
    assert_eq!(world.leader(), Some(1));
    world.heal();
    world.pass(30);
    assert_eq!(world.nodes[&3].state, world.nodes[&1].state);
    world.assert_sound();
}

#[test]
fn s23_a_member_that_never_started_can_be_removed() {
    let mut world = World::new(3, &[1, 2, 3]);
    world.elect(1);
    world.change(1, ConfChangeAddNode, 4);
    world.pass(30);
    assert_eq!(world.leader(), Some(1), "three of four are there");
    world.change(1, ConfChangeRemoveNode, 4);
    assert_eq!(world.conf_state(1), &conf_state(&[1, 2, 3], &[]));
    assert!(!world.raft(1).status().progress.contains_key(&4));
    world.assert_sound();
}

#[test]
fn a_removed_leader_steps_down_and_names_a_successor() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.elect(1);
    let term = world.raft(1).term();
    world.change(1, ConfChangeRemoveNode, 1);
    assert!(world.nodes[&1].removed);
    let next = world.leader().expect("without waiting for a timeout");
    assert_eq!(world.raft(next).term(), term + 1);
    assert_eq!(world.conf_state(next), &conf_state(&[2, 3], &[]));
    world.propose(next, "on it goes").expect("it leads");
    world.settle();
    world.assert_sound();
}

#[test]
fn s23_a_removed_follower_does_not_disturb() {
    let mut world = World::new(5, &[1, 2, 3]);
    world.elect(1);
    let term = world.raft(1).term();
    // It never learns that it was removed.
    world.isolate(3);
    world.change(1, ConfChangeRemoveNode, 3);
    world.heal();
    world.pass(100);
    assert_eq!((world.leader(), world.raft(1).term()), (Some(1), term));
    world.assert_sound();
}

#[test]
fn with_fewer_voters_what_they_hold_is_committed() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    drain(&mut raft);
    raft.step(acknowledge(&raft, 2, 1)).expect("an answer");
    assert_eq!(raft.status().commit, 1);
    raft.apply_conf_change(&conf_change(ConfChangeRemoveNode, 3));
    assert_eq!(raft.status().commit, 1);
    raft.apply_conf_change(&conf_change(ConfChangeRemoveNode, 2));
    assert_eq!(raft.status().commit, 2);
}

#[test]
fn a_transfer_to_a_removed_member_is_given_up() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.transfer_leader(3);
    assert_eq!(raft.status().transferee, 3);
    raft.apply_conf_change(&conf_change(ConfChangeRemoveNode, 3));
    assert_eq!(raft.status().transferee, NONE);
}

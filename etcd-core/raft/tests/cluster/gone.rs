//! Leaders whose process has ended, as their hosts tell: nobody waits for that.

use etcd_raft::{NONE, Role};

use crate::harness::World;

/// A world that 1 led until its process ended.
fn without_its_leader(seed: u64, voters: &[u64]) -> World {
    let mut world = World::new(seed, voters);
    world.elect(1);
    world.propose(1, "kept").expect("it leads");
    world.settle();
    // So that all have heard from it just now.
    world.pass(4);
    world.crash(1, usize::MAX, 0);
    world
}

fn tell(world: &mut World, id: u64, gone: u64) {
    world.raft(id).report_gone(gone);
    world.pump(id);
}

#[test]
fn s42_another_leader_is_elected_before_a_tick_has_passed() {
    for voters in [&[1, 2, 3][..], &[1, 2, 3, 4, 5]] {
        let mut world = without_its_leader(1, voters);
        for id in &voters[1..] {
            tell(&mut world, *id, 1);
        }
        world.settle();
        assert_eq!(world.leader(), Some(2));
        assert_eq!(world.raft(2).term(), 3);
        world.propose(2, "next").expect("it leads");
        world.settle();
        let state = world.nodes[&2].state.clone();
        assert!(voters[1..].iter().all(|id| world.nodes[id].state == state));
        world.restart(1);
        world.pass(20);
        assert_eq!((world.leader(), world.raft(1).leader()), (Some(2), 2));
        world.assert_sound();
    }
}

#[test]
fn s42_who_asks_before_the_others_have_noticed_asks_again() {
    let mut world = without_its_leader(2, &[1, 2, 3]);
    tell(&mut world, 2, 1);
    world.settle();
    assert_eq!(world.leader(), None, "3 has heard from it just now");
    tell(&mut world, 3, 1);
    tell(&mut world, 2, 1);
    world.settle();
    assert_eq!(world.leader(), Some(2));
    world.assert_sound();
}

#[test]
fn s42_who_comes_first_and_cannot_lead_is_waited_for_some_ticks_only() {
    // 2 is down as well: it would be first.
    let mut world = without_its_leader(3, &[1, 2, 3, 4, 5]);
    world.crash(2, usize::MAX, 0);
    for id in [3, 4, 5] {
        tell(&mut world, id, 1);
    }
    world.settle();
    assert_eq!(world.leader(), None);
    world.pass(3);
    assert_eq!(world.leader(), Some(3));

    // 2 lacks an entry that is committed.
    let mut world = World::new(4, &[1, 2, 3]);
    world.elect(1);
    world.isolate(2);
    world.propose(1, "kept").expect("it leads");
    world.settle();
    world.crash(1, usize::MAX, 0);
    world.heal();
    for id in [2, 3] {
        tell(&mut world, id, 1);
    }
    world.settle();
    assert_eq!(world.leader(), None);
    world.pass(3);
    assert_eq!(world.leader(), Some(3));
    world.assert_sound();
}

#[test]
fn s18_a_leader_that_lives_is_not_deposed_by_one_that_thinks_otherwise() {
    let mut world = World::new(5, &[1, 2, 3]);
    world.elect(1);
    let term = world.raft(1).term();
    world.pass(4);
    for _ in 0..20 {
        tell(&mut world, 2, 1);
        world.pass(1);
    }
    world.pass(10);
    assert_eq!((world.leader(), world.raft(1).term()), (Some(1), term));
    assert_eq!(world.raft(2).leader(), 1, "it has heard of it again");
    world.assert_sound();
}

#[test]
fn s18_even_if_all_think_otherwise_one_leader_remains() {
    let mut world = World::new(6, &[1, 2, 3]);
    world.elect(1);
    world.pass(4);
    for id in [2, 3] {
        tell(&mut world, id, 1);
    }
    world.pass(20);
    let next = world.leader().expect("one of them leads");
    assert!((1..=3).all(|id| world.raft(id).leader() == next));
    world.assert_sound();
}

#[test]
fn the_end_of_one_that_does_not_lead_changes_nothing() {
    let mut world = World::new(7, &[1, 2, 3]);
    world.elect(1);
    for (id, gone) in [(2, 3), (2, NONE), (2, 9), (1, 2), (1, 1)] {
        tell(&mut world, id, gone);
        assert_eq!(world.raft(id).leader(), 1, "{gone} is gone, {id} hears");
    }
    world.settle();
    assert_eq!(world.leader(), Some(1));
}

#[test]
fn without_pre_votes_the_silence_is_waited_for() {
    let mut world = World::with(8, &[1, 2, 3], |config| config.pre_vote = false);
    world.elect(1);
    let term = world.raft(1).term();
    for id in [2, 3] {
        tell(&mut world, id, 1);
    }
    world.settle();
    assert!((2..=3).all(|id| world.raft(id).role() == Role::Follower));
    assert_eq!((world.leader(), world.raft(2).term()), (Some(1), term));
}

//! Everything that may go wrong, by seed.

use etcd_proto::raftpb::ConfChangeType;
use etcd_raft::Role;

use crate::harness::{Bug, Faults, World};

const STEPS: usize = 6_000;

/// One random thing happens.
fn step(world: &mut World, changes: bool) {
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    let id = ids[world.rng.below(ids.len())];
    match world.rng.below(100) {
        0..40 if !world.net.is_empty() => {
            let place = world.rng.below(world.net.len());
            world.deliver(place);
        }
        40..55 => {
            world.persist(id);
        }
        55..62 => {
            let count = 1 + world.rng.below(3);
            world.apply(id, count);
        }
        62..82 => world.tick(id),
        82..90 if world.is_up(id) => {
            let value = world.rng.next().to_string();
            // Refusals are part of life.
            let _refused = world.propose(id, &value).is_err();
        }
        90..93 if world.is_up(id) => {
            world.read(id);
        }
        93 => {
            let (durable, torn) = (world.rng.below(4), world.rng.below(4));
            if world.is_up(id) && world.rng.percent(30) {
                world.crash(id, durable, torn);
                for other in world.up() {
                    if world.rng.percent(50) {
                        told_of_an_end(world, other, id);
                    }
                }
            }
        }
        94..96 => world.restart(id),
        96 => {
            let keep = world.rng.below(5) as u64;
            if let Some(node) = world.nodes.get_mut(&id) {
                node.checkpoint(keep);
            }
        }
        97 if world.rng.percent(40) => {
            let other = ids[world.rng.below(ids.len())];
            match world.rng.below(5) {
                0 => world.isolate(id),
                1 => {
                    world.cut.insert((id, other));
                }
                _ => world.heal(),
            }
        }
        98 if world.rng.percent(30) && world.is_up(id) => {
            let to = ids[world.rng.below(ids.len())];
            world.raft(id).transfer_leader(to);
            world.pump(id);
        }
        // Not all that is told of an end is true.
        98 if world.is_up(id) => {
            let other = ids[world.rng.below(ids.len())];
            told_of_an_end(world, id, other);
        }
        99 if changes && world.is_up(id) => change_membership(world, id),
        _ => {}
    }
}

fn told_of_an_end(world: &mut World, id: u64, gone: u64) {
    world.raft(id).report_gone(gone);
    world.pump(id);
}

/// Members are added as learners, promoted, and removed for ever.
fn change_membership(world: &mut World, at: u64) {
    let fresh = world.nodes.keys().next_back().copied().unwrap_or(0) + 1;
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    let some = ids[world.rng.below(ids.len())];
    let (kind, id) = match world.rng.below(4) {
        0 if fresh < 9 => {
            world.join(fresh);
            (ConfChangeType::ConfChangeAddLearnerNode, fresh)
        }
        1 | 2 => (ConfChangeType::ConfChangeAddNode, some),
        // Leaves enough of them for the end to have a quorum.
        _ if world.conf_state(at).voters.len() > 3 => (ConfChangeType::ConfChangeRemoveNode, some),
        _ => return,
    };
    if world.nodes.get(&id).is_some_and(|node| node.removed) {
        return;
    }
    let change = crate::harness::conf_change(kind, id);
    let _refused = world.raft(at).propose_conf_change(&change).is_err();
    world.pump(at);
}

/// After the storm everybody agrees, and the cluster works.
fn recover(world: &mut World) {
    world.faults = Faults::default();
    world.heal();
    for id in world.nodes.keys().copied().collect::<Vec<_>>() {
        world.restart(id);
    }
    for _ in 0..50 {
        world.pass(10);
        let Some(leader) = world.leader() else {
            continue;
        };
        if world.propose(leader, "the end").is_err() {
            continue;
        }
        world.pass(10);
        let state = world.nodes[&leader].state.clone();
        let members = [&state.conf_state.voters[..], &state.conf_state.learners[..]].concat();
        let agree = members
            .iter()
            .all(|id| world.nodes.get(id).is_some_and(|node| node.state == state));
        if agree && world.leader() == Some(leader) {
            return;
        }
    }
    let rest: Vec<_> = world
        .nodes
        .values()
        .map(|node| (node.raft.as_ref().map(|raft| raft.status()), node.removed))
        .collect();
    panic!("the cluster does not recover: {rest:#?}");
}

fn run(seed: u64, faults: Faults, changes: bool) -> World {
    let voters: &[u64] = match seed % 3 {
        0 => &[1, 2, 3],
        1 => &[1, 2, 3, 4, 5],
        _ => &[1, 2, 3, 4],
    };
    let mut world = World::with(seed, voters, |config| {
        config.pre_vote = !seed.is_multiple_of(5);
        config.max_uncommitted_bytes = 60 * (seed % 4 / 3);
    });
    world.faults = faults;
    for _ in 0..STEPS {
        step(&mut world, changes);
    }
    world
}

#[test]
fn s01_s02_s18_s21_no_seed_breaks_safety_or_keeps_from_recovering() {
    let (mut reads, mut applied) = (0, 0);
    for seed in 0..300 {
        let faults = Faults {
            drop: seed % 11,
            duplicate: seed % 7,
            bug: Bug::None,
        };
        let mut world = run(seed, faults, false);
        recover(&mut world);
        world.assert_sound();
        reads += world.check.answered_reads;
        applied += world.check.last_applied();
    }
    assert!(reads > 1_000, "reads are answered: {reads}");
    assert!(applied > 10_000, "entries are applied: {applied}");
}

#[test]
fn s22_s23_s24_membership_changes_in_chaos_are_safe() {
    let mut changed = 0;
    for seed in 1_000..1_300 {
        let faults = Faults {
            drop: seed % 5,
            duplicate: seed % 3,
            bug: Bug::None,
        };
        let mut world = run(seed, faults, true);
        recover(&mut world);
        world.assert_sound();
        changed += usize::from(world.nodes.len() > 5);
    }
    assert!(changed > 30, "members come and go: {changed}");
}

#[test]
fn a_seed_replays_to_the_same_history() {
    for seed in 0..5 {
        let faults = Faults {
            drop: 5,
            duplicate: 5,
            bug: Bug::None,
        };
        let (a, b) = (run(seed, faults, true), run(seed, faults, true));
        assert_eq!(a.check.digest(), b.check.digest());
        assert_eq!(a.net, b.net);
        for (left, right) in a.nodes.values().zip(b.nodes.values()) {
            let status = |node: &crate::node::Node| node.raft.as_ref().map(|raft| raft.status());
            assert_eq!(status(left), status(right));
        }
    }
}

/// A checker that misses a planted bug is broken.
#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::EarlyAnswers, Bug::LyingDisk, Bug::ForgottenVote] {
        let found = (0..300).any(|seed| {
            let faults = Faults {
                drop: seed % 5,
                duplicate: 5,
                bug,
            };
            let broken = std::panic::catch_unwind(|| {
                let mut world = run(seed, faults, false);
                let leads = |world: &World, id| {
                    world.nodes[&id]
                        .raft
                        .as_ref()
                        .is_some_and(|raft| raft.role() == Role::Leader)
                };
                let _someone = world.up().into_iter().any(|id| leads(&world, id));
                world.assert_sound();
            });
            broken.is_err()
        });
        assert!(found, "{bug:?} went unnoticed");
    }
}

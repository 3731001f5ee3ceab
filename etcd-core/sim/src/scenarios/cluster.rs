//! Clusters, one fault at a time.

use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmRequest, AlarmType, CompactionRequest, InternalRaftRequest};
use etcd_proto::raftpb::ConfChangeType;
use etcd_replica::Member;

use super::{conf_change, delete, finish, get, is_done, put, quiet, response};
use crate::event::{Event, MS, SECOND};
use crate::profile::Profile;
use crate::request::{Reply, Request};
use crate::world::World;

fn isolate(world: &World, member: u64) -> Vec<(u64, u64)> {
    let others = world.slots.keys().filter(|id| **id != member);
    others
        .flat_map(|id| [(member, *id), (*id, member)])
        .collect()
}

#[test]
fn s18_s20_a_leader_that_is_cut_off_acknowledges_and_reads_nothing() {
    for seed in 0..10 {
        let mut world = quiet(seed);
        let old = world.leader().unwrap().pid.member;
        let probe = world.add_probe();
        let links = isolate(&world, old);
        world.env.cut(&links);
        let mut asked = Vec::new();
        for _ in 0..30 {
            asked.push(world.ask(probe, old, put("lost")));
            asked.push(world.ask(probe, old, get("lost")));
            world.run_for(100 * MS);
        }
        let new = world.leader().unwrap().pid.member;
        assert_ne!(old, new, "the majority goes on");
        let written = world.ask(probe, new, put("kept"));
        world.run_for(2 * SECOND);
        assert!(is_done(world.answer(probe, written)));
        for number in asked {
            let reply = world.answer(probe, number);
            let served = is_done(reply) || matches!(reply, Some(Reply::Read { .. }));
            assert!(!served, "seed {seed}: {reply:?}");
        }
        world.env.mend(&links);
        finish(world, &format!("seed {seed}"));
    }
}

/// Mostly: whoever is not told of the end waits for the silence to last.
#[test]
fn s42_a_leader_that_is_killed_has_a_successor_long_before_an_election_timeout() {
    let mut soon = 0;
    for seed in 0..20 {
        let mut world = quiet(seed);
        let old = world.leader().unwrap().pid.member;
        world.slots.get_mut(&old).unwrap().held = true;
        world.kill(old);
        world.run_for(500 * MS);
        soon += usize::from(world.leader().is_some());
        let probe = world.add_probe();
        world.run_for(3 * SECOND);
        let new = world.leader().unwrap().pid.member;
        let written = world.ask(probe, new, put("kept"));
        world.run_for(SECOND);
        assert!(is_done(world.answer(probe, written)), "seed {seed}");
        world.slots.get_mut(&old).unwrap().held = false;
        finish(world, &format!("seed {seed}"));
    }
    assert!(soon >= 15, "{soon} of 20 had one after 0.5 s");
}

#[test]
fn s22_a_member_is_added_and_promoted_while_one_is_down() {
    let mut world = quiet(3);
    let leader = world.leader().unwrap().pid.member;
    let down = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    world.slots.get_mut(&down).unwrap().held = true;
    world.kill(down);
    let probe = world.add_probe();
    let member = Member {
        id: 4,
        peer_urls: vec!["http://m4:2380".into()],
        is_learner: true,
        ..Member::default()
    };
    let learner = ConfChangeType::ConfChangeAddLearnerNode;
    let added = world.ask(probe, leader, conf_change(learner, member.clone(), false));
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, added)));
    world.env.after(0, Event::Start(4));
    world.run_for(10 * SECOND);
    assert_eq!(world.map().ready_learners, [4], "it has caught up");
    let leader = world.leader().unwrap().pid.member;
    let voter = Member {
        is_learner: false,
        ..member
    };
    let promote = conf_change(ConfChangeType::ConfChangeAddNode, voter, true);
    let promoted = world.ask(probe, leader, promote);
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, promoted)));
    let written = world.ask(probe, leader, put("kept"));
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, written)));
    world.slots.get_mut(&down).unwrap().held = false;
    finish(world, "one down");
}

/// Nothing can be committed without the follower, and the follower cannot be counted
/// before it has the state that the leader started from.
#[test]
fn s06_a_leader_that_has_just_started_sends_the_state_it_started_from() {
    let mut world = quiet(4);
    let leader = world.leader().unwrap().pid.member;
    let mut followers = [1, 2, 3].into_iter().filter(|id| *id != leader);
    let (behind, other) = (followers.next().unwrap(), followers.next().unwrap());
    world.slots.get_mut(&behind).unwrap().held = true;
    world.kill(behind);
    world.run_for(12 * SECOND);
    world.silence();
    world.run_for(10 * SECOND);
    for member in [leader, other] {
        world.defragment(member);
    }
    world.run_for(SECOND);
    world.slots.get_mut(&other).unwrap().held = true;
    world.kill(leader);
    world.kill(other);
    world.slots.get_mut(&behind).unwrap().held = false;
    world.start(leader);
    world.start(behind);
    let started_from = world.process(leader).unwrap().applied_index();
    let had = world.process(behind).unwrap().consensus.status().last_index;
    assert!(had + 20 < started_from, "{had} {started_from}");
    world.run_for(10 * SECOND);
    let leader = world.leader().expect("a leader");
    let status = leader.consensus.status();
    assert_eq!(status.commit, status.last_index);
    assert!(status.commit > started_from);
    finish(world, "one behind");
}

#[test]
fn s34_beyond_the_quota_reads_deletions_and_compactions_work_and_space_returns() {
    let settings = Profile::Calm.settings();
    let mut world = World::new(5, settings, None, true);
    world.quota = Some(40_000);
    let probe = world.add_probe();
    world.run_for(5 * SECOND);
    let leader = world.leader().unwrap().pid.member;
    let keys = ["a", "b", "c", "d"];
    for round in 0..100 {
        world.ask(probe, leader, put(keys[round % keys.len()]));
        world.run_for(50 * MS);
    }
    let view = world.leader().unwrap().view.clone();
    assert!(view.alarms.is_raised(AlarmType::Nospace));
    let refused = world.ask(probe, leader, put("a"));
    let read = world.ask(probe, leader, get("a"));
    let deleted = world.ask(probe, leader, delete("d"));
    world.run_for(SECOND);
    assert!(!is_done(world.answer(probe, refused)));
    assert!(matches!(
        world.answer(probe, read),
        Some(Reply::Read { kv: Some(_), .. })
    ));
    assert!(response(world.answer(probe, deleted)).is_some());
    let revision = world.leader().unwrap().view.kv.revision();
    let compact = InternalRaftRequest {
        compaction: Some(CompactionRequest {
            revision,
            physical: true,
        }),
        ..InternalRaftRequest::default()
    };
    let compacted = world.ask(probe, leader, Request::Write(Box::new(compact)));
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, compacted)));
    let members: Vec<u64> = world.slots.keys().copied().collect();
    for member in members {
        world.defragment(member);
        let disarm = InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: AlarmAction::Deactivate as i32,
                member_id: member,
                alarm: AlarmType::Nospace as i32,
            }),
            ..InternalRaftRequest::default()
        };
        world.ask(probe, leader, Request::Write(Box::new(disarm)));
    }
    world.run_for(2 * SECOND);
    let written = world.ask(probe, leader, put("a"));
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, written)));
    finish(world, "quota");
}

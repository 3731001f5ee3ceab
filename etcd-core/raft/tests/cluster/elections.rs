//! Who may lead, and when.

use etcd_proto::raftpb::{ConfChangeType, Message, MessageType};
use etcd_raft::{NONE, ProposeError, Role};

use crate::harness::World;
use crate::solo::{drain, entries, from_2, lead, of, solo, solo_with};

#[test]
fn a_cluster_elects_one_leader_and_keeps_it() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.pass(50);
    let leader = world.leader().expect("one is elected");
    let term = world.raft(leader).term();
    world.pass(200);
    assert_eq!(world.leader(), Some(leader));
    assert!((1..=3).all(|id| world.raft(id).term() == term && world.raft(id).leader() == leader));
    world.assert_sound();
}

#[test]
fn s18_a_minority_neither_leads_nor_raises_the_term_and_rejoins_quietly() {
    let mut world = World::new(2, &[1, 2, 3]);
    world.elect(1);
    let term = world.raft(1).term();
    world.isolate(3);
    world.pass(200);
    assert_eq!(world.raft(3).term(), term, "pre-votes raise no term");
    assert_eq!(world.raft(3).leader(), NONE);
    world.heal();
    world.pass(30);
    assert_eq!((world.leader(), world.raft(3).term()), (Some(1), term));
    world.assert_sound();
}

#[test]
fn s18_a_leader_without_a_quorum_steps_down_and_loses_nothing_that_was_committed() {
    let mut world = World::new(3, &[1, 2, 3]);
    world.elect(1);
    world.propose(1, "kept").expect("it leads");
    world.settle();
    let committed = world.raft(1).status().commit;
    world.isolate(1);
    world.propose(1, "lost").expect("it does not know yet");
    world.pass(21);
    assert_ne!(world.raft(1).role(), Role::Leader);
    world.pass(40);
    let next = world.leader().expect("the majority elects");
    assert_ne!(next, 1);
    assert!(world.raft(next).status().commit > committed);
    world.heal();
    world.pass(40);
    let state = world.nodes[&next].state.clone();
    assert!(world.nodes.values().all(|node| node.state == state));
    world.assert_sound();
}

#[test]
fn a_single_voter_leads_as_soon_as_its_vote_is_durable() {
    let mut raft = solo(&[1]);
    raft.campaign();
    let ready = raft.ready();
    assert_eq!(raft.role(), Role::Candidate);
    let hard_state = ready.hard_state.expect("a new term");
    assert_eq!((hard_state.term, hard_state.vote), (2, 1));
    assert!(ready.must_sync);
    raft.persisted(ready.persisted.expect("something to persist"));
    assert!(raft.is_leader());
}

#[test]
fn votes_are_asked_for_only_when_the_own_one_is_durable() {
    let mut raft = solo_with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    raft.campaign();
    let ready = raft.ready();
    assert_eq!(ready.messages, []);
    assert_eq!(
        of(MessageType::MsgVote, ready.messages_after_persist).len(),
        2
    );
}

#[test]
fn a_vote_is_answered_only_when_it_is_durable_and_never_given_twice() {
    let mut raft = solo(&[1, 2, 3]);
    let request = from_2(MessageType::MsgVote, 5);
    raft.step(request.clone()).expect("a request");
    let ready = raft.ready();
    assert_eq!(ready.messages, []);
    let answer = &ready.messages_after_persist[0];
    assert_eq!((answer.to, answer.term, answer.reject), (2, 5, false));
    let other = Message {
        from: 3,
        ..request.clone()
    };
    raft.step(other).expect("a request");
    raft.step(request).expect("a request");
    let ready = raft.ready();
    let answers: Vec<_> = ready
        .messages_after_persist
        .iter()
        .map(|m| (m.to, m.reject))
        .collect();
    assert_eq!(answers, [(3, true), (2, false)], "the vote may be repeated");
}

#[test]
fn a_candidate_that_lacks_entries_gets_no_vote() {
    for (index, log_term, granted) in [(3, 2, true), (9, 1, false), (2, 2, false), (1, 3, true)] {
        let mut raft = solo_with(&[1, 2, 3], &[1, 2, 2], |_| {});
        let request = Message {
            index,
            log_term,
            ..from_2(MessageType::MsgVote, 5)
        };
        raft.step(request).expect("a request");
        let answer = of(MessageType::MsgVoteResp, drain(&mut raft)).remove(0);
        assert_eq!(!answer.reject, granted, "{index} of term {log_term}");
    }
}

#[test]
fn whoever_hears_from_a_leader_ignores_votes_unless_the_leader_wants_them() {
    for kind in [MessageType::MsgVote, MessageType::MsgPreVote] {
        let mut raft = solo(&[1, 2, 3]);
        raft.step(Message {
            from: 3,
            ..from_2(MessageType::MsgHeartbeat, 2)
        })
        .expect("a heartbeat");
        drain(&mut raft);
        raft.step(from_2(kind, 9)).expect("ignored");
        assert_eq!((raft.term(), raft.has_ready()), (2, false));
        let forced = Message {
            context: "CampaignTransfer".into(),
            ..from_2(kind, 9)
        };
        raft.step(forced).expect("a forced request");
        assert_eq!(drain(&mut raft).len(), 1);
    }
}

#[test]
fn a_leader_of_an_older_term_is_told() {
    let mut raft = solo_with(&[1, 2, 3], &[5], |_| {});
    for kind in [MessageType::MsgHeartbeat, MessageType::MsgApp] {
        raft.step(from_2(kind, 3)).expect("an old message");
        let answer = of(MessageType::MsgAppResp, drain(&mut raft)).remove(0);
        assert_eq!((answer.term, answer.to, answer.index), (5, 2, 0));
    }
    raft.step(from_2(MessageType::MsgPreVote, 3)).expect("old");
    let answer = of(MessageType::MsgPreVoteResp, drain(&mut raft)).remove(0);
    assert_eq!((answer.term, answer.reject), (5, true));
}

#[test]
fn a_lost_pre_vote_raises_no_term_and_a_higher_term_ends_it() {
    let mut raft = solo(&[1, 2, 3]);
    raft.campaign();
    assert_eq!(raft.role(), Role::PreCandidate);
    let requests = drain(&mut raft);
    assert!(requests.iter().all(|m| m.term == 2));
    for from in [2, 3] {
        let refusal = Message {
            from,
            reject: true,
            ..from_2(MessageType::MsgPreVoteResp, 1)
        };
        raft.step(refusal).expect("a refusal");
    }
    assert_eq!((raft.role(), raft.term()), (Role::Follower, 1));
    raft.campaign();
    let refusal = Message {
        reject: true,
        ..from_2(MessageType::MsgPreVoteResp, 7)
    };
    raft.step(refusal).expect("a refusal");
    assert_eq!((raft.role(), raft.term()), (Role::Follower, 7));
}

#[test]
fn a_stale_pre_vote_grant_is_no_vote() {
    let mut raft = solo(&[1, 2, 3]);
    raft.campaign();
    drain(&mut raft);
    raft.step(from_2(MessageType::MsgPreVoteResp, 2))
        .expect("a grant");
    drain(&mut raft);
    assert_eq!(raft.role(), Role::Candidate);
    raft.step(Message {
        from: 3,
        ..from_2(MessageType::MsgPreVoteResp, 2)
    })
    .expect("late");
    assert_eq!(raft.role(), Role::Candidate);
    raft.step(from_2(MessageType::MsgVoteResp, 2))
        .expect("a vote");
    assert_eq!(raft.role(), Role::Leader);
}

#[test]
fn an_unapplied_membership_change_keeps_from_campaigning() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.elect(1);
    world
        .raft(1)
        .propose_conf_change(&crate::harness::conf_change(
            ConfChangeType::ConfChangeAddLearnerNode,
            4,
        ))
        .expect("it leads");
    // Everything but applying.
    loop {
        for id in 1..=3 {
            world.pump(id);
            while world.persist(id) {}
        }
        if world.net.is_empty() {
            break;
        }
        world.deliver(0);
    }
    for _ in 0..3 {
        world.tick(1);
    }
    while !world.net.is_empty() {
        world.deliver(0);
    }
    let status = world.raft(2).status();
    assert!(status.applied < status.commit);
    world.raft(2).campaign();
    assert_eq!(world.raft(2).role(), Role::Follower);
    world.apply(2, usize::MAX);
    world.raft(2).campaign();
    assert_eq!(world.raft(2).role(), Role::PreCandidate);
}

#[test]
fn leadership_is_transferred_with_the_term_up_by_one() {
    let mut world = World::new(5, &[1, 2, 3]);
    world.elect(1);
    world.propose(1, "a").expect("it leads");
    world.settle();
    let term = world.raft(1).term();
    // A follower passes the wish on.
    world.raft(3).transfer_leader(2);
    world.settle();
    assert_eq!(world.leader(), Some(2));
    assert_eq!(world.raft(2).term(), term + 1);
    world.assert_sound();
}

#[test]
fn a_transferee_first_gets_what_it_lacks() {
    let mut world = World::new(6, &[1, 2, 3]);
    world.elect(1);
    world.isolate(2);
    for n in 0..30 {
        world.propose(1, &n.to_string()).expect("it leads");
        world.settle();
    }
    world.heal();
    world.raft(1).transfer_leader(2);
    assert_eq!(
        world.propose(1, "refused"),
        Err(ProposeError::Transferring { to: 2 })
    );
    world.pass(9);
    assert_eq!(world.leader(), Some(2));
    world.assert_sound();
}

#[test]
fn a_transfer_to_the_dead_is_given_up_after_an_election_timeout() {
    let mut world = World::new(7, &[1, 2, 3]);
    world.elect(1);
    world.isolate(2);
    world.raft(1).transfer_leader(2);
    world.pass(9);
    assert_eq!(world.raft(1).status().transferee, 2);
    world.pass(1);
    assert_eq!(world.raft(1).status().transferee, NONE);
    world.propose(1, "accepted").expect("it leads on");
    assert_eq!(world.leader(), Some(1));
}

#[test]
fn leadership_goes_to_voters_only() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.apply_conf_change(&crate::harness::conf_change(
        ConfChangeType::ConfChangeAddLearnerNode,
        4,
    ));
    for to in [1, 4, 9] {
        raft.transfer_leader(to);
        assert_eq!(raft.status().transferee, NONE);
    }
    raft.transfer_leader(2);
    assert_eq!(raft.status().transferee, 2);
    raft.transfer_leader(1);
    assert_eq!(raft.status().transferee, NONE, "taken back");
}

#[test]
fn a_candidate_follows_whoever_was_elected() {
    let mut raft = solo_with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    raft.campaign();
    drain(&mut raft);
    let append = Message {
        entries: entries(0, &[2]),
        ..from_2(MessageType::MsgApp, 2)
    };
    raft.step(append).expect("an append");
    assert_eq!(
        (raft.role(), raft.leader(), raft.term()),
        (Role::Follower, 2, 2)
    );
}

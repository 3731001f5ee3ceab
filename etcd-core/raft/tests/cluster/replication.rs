//! Entries on their way from the leader to the others.

use bytes::Bytes;
use etcd_proto::raftpb::{Message, MessageType};
use etcd_raft::{NONE, ProgressState, ProposeError, StepError};

use crate::harness::World;
use crate::solo::{acknowledge, drain, entries, from_2, lead, of, solo, solo_with};

fn appends(raft: &mut etcd_raft::Raft) -> Vec<Message> {
    of(MessageType::MsgApp, drain(raft))
}

fn appends_to(to: u64, raft: &mut etcd_raft::Raft) -> Vec<Message> {
    let mut sent = appends(raft);
    sent.retain(|m| m.to == to);
    sent
}

#[test]
fn what_is_proposed_in_one_turn_leaves_in_one_message() {
    let mut raft = solo_with(&[1, 2, 3], &[], |config| {
        config.max_size_per_message = 1 << 20;
        config.max_inflight_bytes = 0;
    });
    lead(&mut raft);
    for _ in 0..50 {
        raft.propose("a".into()).expect("it leads");
    }
    let sent = appends_to(2, &mut raft);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].entries.len(), sent[0].index, sent[0].commit),
        (50, 1, 1)
    );
}

#[test]
fn a_message_is_bounded_in_bytes_but_carries_at_least_one_entry() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    for bytes in [100, 10, 10] {
        raft.propose(Bytes::from(vec![b'x'; bytes]))
            .expect("it leads");
    }
    let counts: Vec<_> = appends(&mut raft).iter().map(|m| m.entries.len()).collect();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn a_full_window_waits_and_an_answered_heartbeat_tries_one_empty_append() {
    let mut raft = solo_with(&[1, 2], &[], |config| config.max_inflight_bytes = 0);
    lead(&mut raft);
    for _ in 0..9 {
        raft.propose("a".into()).expect("it leads");
        drain(&mut raft);
    }
    let next = raft.status().progress[&2].next;
    assert_eq!(next, 6, "four messages of one entry are in flight");
    let beat = from_2(MessageType::MsgHeartbeatResp, raft.term());
    raft.step(beat.clone()).expect("an answer");
    let sent = appends(&mut raft);
    assert_eq!(
        (sent.len(), sent[0].entries.len(), sent[0].index),
        (1, 0, 5)
    );
    assert_eq!(appends(&mut raft), []);
    raft.step(acknowledge(&raft, 2, 3)).expect("an answer");
    let sent = appends(&mut raft);
    assert_eq!(
        (sent[0].index, sent[0].entries.len()),
        (5, 5),
        "all that waited"
    );
}

#[test]
fn a_window_is_full_by_bytes_too() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    for _ in 0..6 {
        raft.propose(Bytes::from(vec![b'x'; 110]))
            .expect("it leads");
    }
    assert_eq!(appends(&mut raft).len(), 2, "220 bytes exceed the 200");
    raft.step(acknowledge(&raft, 2, 2)).expect("an answer");
    assert_eq!(appends(&mut raft).len(), 1);
}

#[test]
fn an_unreachable_follower_is_probed_until_it_answers() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    drain(&mut raft);
    raft.report_unreachable(2);
    let progress = raft.status().progress[&2];
    assert_eq!((progress.state, progress.next), (ProgressState::Probe, 2));
    raft.propose("b".into()).expect("it leads");
    let sent = appends(&mut raft);
    assert_eq!(
        (sent.len(), sent[0].entries.len()),
        (1, 2),
        "from what is known"
    );
    raft.propose("c".into()).expect("it leads");
    assert_eq!(appends(&mut raft), [], "one probe at a time");
    raft.step(acknowledge(&raft, 2, 3)).expect("an answer");
    assert_eq!(raft.status().progress[&2].state, ProgressState::Replicate);
    assert_eq!(appends(&mut raft)[0].entries.len(), 1);
}

#[test]
fn an_idle_follower_found_unreachable_is_streamed_to_again() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.elect(1);
    world.raft(1).report_unreachable(2);
    world.pass(4);
    let state = world.raft(1).status().progress[&2].state;
    assert_eq!(state, ProgressState::Replicate);
}

#[test]
fn heartbeats_carry_no_commit_beyond_what_was_acknowledged() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    drain(&mut raft);
    raft.step(acknowledge(&raft, 2, 2)).expect("an answer");
    drain(&mut raft);
    (0..3).for_each(|_| raft.tick());
    let beats = of(MessageType::MsgHeartbeat, drain(&mut raft));
    let commits: Vec<_> = beats.iter().map(|m| (m.to, m.commit)).collect();
    assert_eq!(commits, [(2, 2), (3, 0)]);
}

#[test]
fn a_tail_that_was_never_committed_is_overwritten_within_few_rounds() {
    let mut world = World::new(2, &[1, 2, 3]);
    world.elect(1);
    world.isolate(1);
    for n in 0..40 {
        world.propose(1, &n.to_string()).expect("it leads");
    }
    world.pass(60);
    let next = world.leader().expect("the majority elects");
    world.propose(next, "kept").expect("it leads");
    world.heal();
    world.pass(8);
    assert_eq!(world.nodes[&1].state, world.nodes[&next].state);
    let last = world.raft(next).status().last_index;
    assert_eq!(world.raft(1).status().last_index, last);
    world.assert_sound();
}

#[test]
fn a_refusal_says_where_the_logs_may_agree() {
    let mut raft = solo_with(&[1, 2, 3], &[1, 3, 3, 4, 4, 5], |_| {});
    let append = |index, log_term| Message {
        index,
        log_term,
        ..from_2(MessageType::MsgApp, 9)
    };
    for (probe, hint) in [((9, 9), (6, 5)), ((8, 3), (3, 3)), ((6, 4), (5, 4))] {
        raft.step(append(probe.0, probe.1)).expect("an append");
        let answer = drain(&mut raft).remove(0);
        assert!(answer.reject);
        assert_eq!(answer.index, probe.0);
        assert_eq!((answer.reject_hint, answer.log_term), hint);
    }
}

#[test]
fn an_old_append_is_answered_with_what_is_committed() {
    let mut raft = solo(&[1, 2, 3]);
    let append = Message {
        entries: entries(0, &[2, 2, 2]),
        commit: 3,
        ..from_2(MessageType::MsgApp, 2)
    };
    raft.step(append.clone()).expect("an append");
    drain(&mut raft);
    let old = Message {
        entries: entries(0, &[2]),
        commit: 0,
        ..append
    };
    raft.step(old).expect("an append");
    let answer = drain(&mut raft).remove(0);
    assert_eq!((answer.index, answer.reject), (3, false));
    assert_eq!(raft.status().last_index, 3);
}

#[test]
fn s10_a_log_that_lost_what_it_acknowledged_is_noticed() {
    let mut raft = solo_with(&[1, 2, 3], &[1], |_| {});
    let beat = Message {
        commit: 5,
        ..from_2(MessageType::MsgHeartbeat, 1)
    };
    let error = raft.step(beat).expect_err("it must not go unnoticed");
    assert_eq!(
        error,
        StepError::LogLost {
            from: 2,
            commit: 5,
            last: 1
        }
    );
    assert!(error.is_fatal());
    assert_eq!(raft.status().commit, 0);
}

#[test]
fn s46_a_leader_that_contradicts_what_is_committed_is_noticed() {
    let ours = || {
        let mut raft = solo_with(&[1, 2, 3], &[1, 1, 1], |_| {});
        let commit = Message {
            commit: 2,
            ..from_2(MessageType::MsgHeartbeat, 3)
        };
        raft.step(commit).expect("a heartbeat");
        raft
    };
    let append = |index, log_term, terms: &[u64]| Message {
        index,
        log_term,
        entries: entries(index, terms),
        ..from_2(MessageType::MsgApp, 3)
    };
    for (m, index) in [
        (append(2, 2, &[3]), 2),
        (append(1, 1, &[2, 3]), 2),
        (append(0, 0, &[1, 2]), 2),
        (append(1, 2, &[]), 1),
    ] {
        let error = ours().step(m).expect_err("it must not go unnoticed");
        assert_eq!(error, StepError::Diverged { from: 2, index });
        assert!(error.is_fatal());
    }
    // Beyond what is committed logs may differ.
    let mut raft = ours();
    raft.step(append(2, 1, &[3])).expect("an append");
    assert_eq!(raft.term_of(3), Some(3));
}

#[test]
fn a_follower_whose_state_machine_is_far_behind_takes_no_more_entries() {
    let mut raft = solo_with(&[1, 2, 3], &[], |config| config.max_uncommitted_bytes = 7);
    let append = |index, log_term, commit| Message {
        index,
        log_term,
        commit,
        entries: entries(index, &[2, 2]),
        ..from_2(MessageType::MsgApp, 2)
    };
    raft.step(append(0, 0, 2)).expect("an append");
    assert_eq!(drain(&mut raft).len(), 1, "and both entries are handed out");
    raft.step(append(2, 2, 4)).expect("an append");
    assert_eq!((drain(&mut raft), raft.status().last_index), (vec![], 2));
    let empty = Message {
        entries: vec![],
        ..append(2, 2, 2)
    };
    raft.step(empty).expect("an append");
    assert_eq!(drain(&mut raft).len(), 1, "what costs nothing is answered");
    raft.applied(1);
    raft.step(append(2, 2, 4)).expect("an append");
    assert_eq!(raft.status().last_index, 4);
}

#[test]
fn two_leaders_of_one_term_are_noticed() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    let error = raft
        .step(from_2(MessageType::MsgHeartbeat, raft.term()))
        .expect_err("it must not go unnoticed");
    assert!(error.is_fatal());
}

#[test]
fn an_answer_for_entries_that_do_not_exist_is_refused() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    let error = raft.step(acknowledge(&raft, 2, 99)).expect_err("refused");
    assert!(matches!(error, StepError::Malformed { .. }) && !error.is_fatal());
    assert_eq!(raft.status().progress[&2].matched, 1);
    // Any refusal is harmless, whatever it hints at.
    for (index, hint, log_term) in [(1, u64::MAX, 0), (0, 0, 0), (1 << 61, 7, u64::MAX)] {
        let refusal = Message {
            reject: true,
            reject_hint: hint,
            log_term,
            ..acknowledge(&raft, 3, index)
        };
        raft.step(refusal).expect("a refusal");
        drain(&mut raft);
    }
}

#[test]
fn a_stranger_changes_nothing() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    let before = raft.status();
    for kind in [MessageType::MsgAppResp, MessageType::MsgHeartbeatResp] {
        raft.step(Message {
            from: 9,
            index: 1,
            ..from_2(kind, raft.term())
        })
        .expect("ignored");
    }
    assert_eq!(raft.status(), before);
}

#[test]
fn s33_a_leader_takes_only_so_much_that_is_not_applied() {
    let mut raft = solo_with(&[1, 2], &[], |config| config.max_uncommitted_bytes = 100);
    lead(&mut raft);
    let large = || Bytes::from(vec![b'x'; 500]);
    raft.propose(large()).expect("nothing else is outstanding");
    assert_eq!(
        raft.propose("a".into()),
        Err(ProposeError::TooLarge { limit: 100 })
    );
    raft.propose(Bytes::new())
        .expect("an empty one weighs nothing");
    drain(&mut raft);
    raft.step(acknowledge(&raft, 2, 3)).expect("an answer");
    drain(&mut raft);
    assert!(raft.propose("a".into()).is_err(), "committed, not applied");
    raft.applied(2);
    raft.propose("a".into()).expect("applied");
}

#[test]
fn proposals_are_forwarded_to_the_leader_and_dropped_without_one() {
    let mut raft = solo(&[1, 2, 3]);
    assert_eq!(raft.propose("a".into()), Err(ProposeError::NoLeader));
    raft.step(from_2(MessageType::MsgHeartbeat, 2))
        .expect("a heartbeat");
    drain(&mut raft);
    raft.propose("a".into()).expect("forwarded");
    let sent = drain(&mut raft);
    let m = &sent[0];
    assert_eq!(
        (m.r#type, m.to, m.from, m.term),
        (MessageType::MsgProp as i32, 2, 1, 0)
    );
    assert_eq!(&m.entries[0].data[..], b"a");

    let mut world = World::new(3, &[1, 2, 3]);
    world.elect(1);
    world.propose(3, "by way of 1").expect("it has a leader");
    world.settle();
    let last = world.raft(1).status().last_index;
    assert_eq!(world.raft(3).status().applied, last);
    world.assert_sound();
}

#[test]
fn a_forwarded_proposal_that_cannot_be_decoded_becomes_nothing() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    let mut proposal = from_2(MessageType::MsgProp, 0);
    proposal.entries = entries(0, &[0, 0]);
    proposal.entries[0].r#type = 1;
    proposal.entries[0].data = Bytes::from_static(b"\xff\xff");
    proposal.entries[1].r#type = 2;
    raft.step(proposal).expect("a proposal");
    let sent = appends(&mut raft).remove(0);
    assert!(
        sent.entries
            .iter()
            .all(|e| e.r#type == 0 && e.data.is_empty())
    );
    assert_eq!(sent.entries.len(), 2);
}

#[test]
fn only_entries_of_the_own_term_are_committed_by_counting() {
    let mut raft = solo_with(&[1, 2, 3], &[1, 1], |config| config.pre_vote = false);
    raft.campaign();
    drain(&mut raft);
    raft.step(from_2(MessageType::MsgVoteResp, 2))
        .expect("a vote");
    drain(&mut raft);
    raft.step(acknowledge(&raft, 2, 2)).expect("an answer");
    assert_eq!(raft.status().commit, 0, "figure 8 of the paper");
    raft.step(acknowledge(&raft, 2, 3)).expect("an answer");
    assert_eq!(raft.status().commit, 3);
}

#[test]
fn a_new_leader_tells_everyone_at_once() {
    let mut raft = solo_with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    raft.campaign();
    drain(&mut raft);
    assert_eq!(raft.leader(), NONE);
    raft.step(from_2(MessageType::MsgVoteResp, 2))
        .expect("a vote");
    let to: Vec<_> = appends(&mut raft).iter().map(|m| m.to).collect();
    assert_eq!(to, [2, 3]);
}

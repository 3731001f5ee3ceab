//! Linearizable reads.

use bytes::Bytes;
use etcd_proto::raftpb::{Entry, Message, MessageType};
use etcd_raft::{Raft, ReadState};

use crate::harness::World;
use crate::solo::{acknowledge, drain, from_2, lead, of, solo, solo_with};

/// Takes all Readys; returns the reads that were answered.
fn answered(raft: &mut Raft) -> Vec<ReadState> {
    let mut reads = Vec::new();
    while raft.has_ready() {
        let ready = raft.ready();
        reads.extend(ready.reads);
        if let Some(persisted) = ready.persisted {
            raft.persisted(persisted);
        }
    }
    reads
}

fn heartbeats(raft: &mut Raft) -> Vec<Message> {
    of(MessageType::MsgHeartbeat, drain(raft))
}

fn answer(beat: &Message, from: u64) -> Message {
    Message {
        from,
        context: beat.context.clone(),
        ..from_2(MessageType::MsgHeartbeatResp, beat.term)
    }
}

#[test]
fn a_single_voter_answers_at_once_but_not_before_its_first_commit() {
    let mut raft = solo_with(&[1], &[1, 1], |_| {});
    raft.campaign();
    let ready = raft.ready();
    raft.persisted(ready.persisted.expect("its vote"));
    assert!(raft.is_leader());
    raft.read_index(7);
    let ready = raft.ready();
    assert_eq!(ready.reads, [], "entries 1 and 2 may be committed");
    raft.persisted(ready.persisted.expect("its first entry"));
    assert_eq!(
        answered(&mut raft),
        [ReadState {
            context: 7,
            index: 3
        }]
    );
    raft.read_index(8);
    assert_eq!(
        raft.ready().reads,
        [ReadState {
            context: 8,
            index: 3
        }]
    );
}

#[test]
fn a_read_waits_for_a_majority_to_confirm_after_it_came() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.read_index(1);
    let first = heartbeats(&mut raft);
    raft.read_index(2);
    let second = heartbeats(&mut raft);
    assert_eq!((first.len(), second.len()), (2, 2));
    assert_ne!(first[0].context, second[0].context);
    raft.step(answer(&first[0], 2)).expect("an answer");
    assert_eq!(
        answered(&mut raft),
        [ReadState {
            context: 1,
            index: 1
        }]
    );
    raft.step(answer(&second[1], 3)).expect("an answer");
    assert_eq!(
        answered(&mut raft),
        [ReadState {
            context: 2,
            index: 1
        }]
    );
    raft.step(answer(&second[0], 2)).expect("an answer");
    assert_eq!(answered(&mut raft), []);
}

#[test]
fn reads_of_one_turn_share_one_round() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    (1..=100).for_each(|context| raft.read_index(context));
    let beats = heartbeats(&mut raft);
    assert_eq!(beats.len(), 2, "one to each");
    raft.step(answer(&beats[0], 2)).expect("an answer");
    assert_eq!(answered(&mut raft).len(), 100);
}

#[test]
fn the_context_is_eight_bytes_big_endian() {
    let mut raft = solo(&[1, 2, 3]);
    raft.step(from_2(MessageType::MsgHeartbeat, 2))
        .expect("a heartbeat");
    drain(&mut raft);
    raft.read_index(0x0102_0304_0506_0708);
    let request = of(MessageType::MsgReadIndex, drain(&mut raft)).remove(0);
    assert_eq!((request.to, request.term), (2, 0));
    assert_eq!(request.entries[0].data[..], [1, 2, 3, 4, 5, 6, 7, 8]);
    let response = Message {
        index: 9,
        entries: request.entries,
        ..from_2(MessageType::MsgReadIndexResp, 2)
    };
    raft.step(response).expect("a response");
    let context = 0x0102_0304_0506_0708;
    assert_eq!(raft.ready().reads, [ReadState { context, index: 9 }]);
}

#[test]
fn a_followers_read_comes_back_to_it_with_whatever_context_it_chose() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    let request = Message {
        term: 0,
        entries: vec![Entry {
            data: Bytes::from_static(b"theirs"),
            ..Entry::default()
        }],
        ..from_2(MessageType::MsgReadIndex, 0)
    };
    raft.step(request.clone()).expect("a request");
    let beats = heartbeats(&mut raft);
    raft.step(answer(&beats[1], 3)).expect("an answer");
    let response = of(MessageType::MsgReadIndexResp, drain(&mut raft)).remove(0);
    assert_eq!((response.to, response.index), (2, 1));
    assert_eq!(response.entries, request.entries);
}

#[test]
fn a_leader_answers_nothing_before_it_has_committed_in_its_term() {
    let mut raft = solo_with(&[1, 2, 3], &[1, 1], |config| config.pre_vote = false);
    raft.campaign();
    drain(&mut raft);
    raft.step(from_2(MessageType::MsgVoteResp, 2))
        .expect("a vote");
    drain(&mut raft);
    raft.read_index(1);
    assert_eq!(
        heartbeats(&mut raft),
        [],
        "it may not know what is committed"
    );
    raft.step(acknowledge(&raft, 2, 3)).expect("an answer");
    let beats = heartbeats(&mut raft);
    raft.step(answer(&beats[0], 2)).expect("an answer");
    assert_eq!(
        answered(&mut raft),
        [ReadState {
            context: 1,
            index: 3
        }]
    );
}

#[test]
fn s20_a_deposed_leader_answers_no_read() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.elect(1);
    world.isolate(1);
    world.read(1);
    world.pass(5);
    // The others elect, and commit what the old leader knows nothing of.
    world.pass(60);
    let next = world.leader().expect("the majority elects");
    world.propose(next, "new").expect("it leads");
    world.settle();
    world.heal();
    world.pass(20);
    assert_eq!(
        world.check.answered_reads, 0,
        "it was lost with the leadership"
    );
    for id in 1..=3 {
        world.read(id);
    }
    world.pass(3);
    assert_eq!(world.check.answered_reads, 3);
    world.assert_sound();
}

#[test]
fn a_read_without_a_leader_is_dropped() {
    let mut raft = solo(&[1, 2, 3]);
    raft.read_index(1);
    assert!(!raft.has_ready());
}

#[test]
fn fewer_voters_confirm_what_waits() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.read_index(1);
    drain(&mut raft);
    let remove = |id| {
        crate::harness::conf_change(etcd_proto::raftpb::ConfChangeType::ConfChangeRemoveNode, id)
    };
    raft.apply_conf_change(&remove(2));
    assert_eq!(answered(&mut raft), []);
    raft.apply_conf_change(&remove(3));
    assert_eq!(
        answered(&mut raft),
        [ReadState {
            context: 1,
            index: 1
        }]
    );
}

#[test]
fn nonsense_in_a_context_confirms_nothing() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.read_index(1);
    drain(&mut raft);
    for context in ["", "odd", "too long to be a number"] {
        let odd = Message {
            context: context.into(),
            ..from_2(MessageType::MsgHeartbeatResp, raft.term())
        };
        raft.step(odd).expect("an answer");
    }
    assert_eq!(answered(&mut raft), []);
}

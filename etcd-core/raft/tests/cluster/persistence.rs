//! What waits for the disk, and what does not.

use etcd_proto::raftpb::{ConfState, HardState, Message, MessageType};
use etcd_raft::{ConfigError, Raft, Restored};

use crate::harness::{World, config};
use crate::solo::{acknowledge, conf_state, drain, entries, from_2, lead, of, solo, solo_with};

fn append(term: u64, index: u64, log_term: u64, terms: &[u64]) -> Message {
    Message {
        index,
        log_term,
        entries: entries(index, terms),
        ..from_2(MessageType::MsgApp, term)
    }
}

#[test]
fn s01_an_append_is_acknowledged_only_when_it_is_durable() {
    let mut raft = solo(&[1, 2, 3]);
    raft.step(append(2, 0, 0, &[2, 2])).expect("an append");
    let ready = raft.ready();
    assert_eq!(ready.messages, []);
    assert_eq!(ready.messages_after_persist[0].index, 2);
    assert_eq!(ready.entries.len(), 2);
    assert!(ready.must_sync);
    let persisted = ready.persisted.expect("entries");
    assert_eq!(
        (persisted.term, persisted.last_index, persisted.last_term),
        (2, 2, 2)
    );
}

#[test]
fn an_answer_that_promises_nothing_new_waits_for_nothing() {
    let mut raft = solo_with(&[1, 2, 3], &[1], |_| {});
    raft.step(append(1, 1, 1, &[])).expect("an append");
    let ready = raft.ready();
    assert_eq!(of(MessageType::MsgAppResp, ready.messages).len(), 1);
    assert_eq!(ready.persisted, None);
    // But not while something else is on its way to the disk.
    raft.step(append(1, 1, 1, &[1])).expect("an append");
    let first = raft.ready().persisted.expect("an entry");
    raft.step(append(1, 2, 1, &[])).expect("an append");
    let ready = raft.ready();
    assert_eq!(ready.messages, []);
    assert!(!ready.must_sync && ready.persisted.is_some());
    raft.persisted(first);
}

#[test]
fn s01_a_leader_counts_itself_only_when_its_disk_is_done() {
    let mut raft = solo(&[1, 2]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    let ready = raft.ready();
    assert_eq!(
        of(MessageType::MsgApp, ready.messages).len(),
        1,
        "sent in parallel"
    );
    raft.step(acknowledge(&raft, 2, 2)).expect("an answer");
    assert_eq!(raft.status().commit, 1);
    raft.persisted(ready.persisted.expect("an entry"));
    assert_eq!(raft.status().commit, 2);
}

#[test]
fn s01_a_single_voter_commits_by_its_own_disk() {
    let mut raft = solo(&[1]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    let ready = raft.ready();
    assert_eq!((ready.committed.len(), raft.status().commit), (0, 1));
    raft.persisted(ready.persisted.expect("an entry"));
    let ready = raft.ready();
    assert_eq!(ready.committed.len(), 1);
    assert_eq!(ready.hard_state.map(|state| state.commit), Some(2));
    assert!(!ready.must_sync, "a commit index is learnt again");
}

#[test]
fn what_others_committed_is_applied_only_when_it_is_durable_here() {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    raft.propose("a".into()).expect("it leads");
    let first = raft.ready();
    for from in [2, 3] {
        raft.step(acknowledge(&raft, from, 2)).expect("an answer");
    }
    assert_eq!(raft.status().commit, 2, "by the two others");
    let second = raft.ready();
    assert_eq!(second.committed, []);
    raft.persisted(first.persisted.expect("an entry"));
    assert_eq!(raft.ready().committed.len(), 1);
}

#[test]
fn completion_of_an_older_term_stabilises_nothing() {
    let mut raft = solo(&[1, 2, 3]);
    raft.step(append(2, 0, 0, &[2])).expect("an append");
    let first = raft.ready().persisted.expect("an entry");
    // Another leader overwrites, and a third one brings the first entry back.
    raft.step(append(3, 0, 0, &[3])).expect("an append");
    let second = raft.ready().persisted.expect("an entry");
    raft.step(Message {
        commit: 1,
        ..append(4, 0, 0, &[2, 4])
    })
    .expect("an append");
    let third = raft.ready().persisted.expect("an entry");
    assert_eq!(raft.status().commit, 1);
    raft.persisted(first);
    assert_eq!(
        raft.ready().committed,
        [],
        "entry 3 is yet to come to the disk"
    );
    raft.persisted(second);
    assert_eq!(raft.ready().committed, []);
    raft.persisted(third);
    assert_eq!(raft.ready().committed, entries(0, &[2]));
}

#[test]
fn every_completion_attests_the_end_of_the_log_anew() {
    let mut raft = solo(&[1, 2, 3]);
    raft.step(append(2, 0, 0, &[2])).expect("an append");
    let first = raft.ready().persisted.expect("an entry");
    let beat = Message {
        from: 3,
        ..from_2(MessageType::MsgHeartbeat, 3)
    };
    raft.step(beat).expect("a heartbeat");
    let ready = raft.ready();
    assert_eq!(ready.entries, []);
    let second = ready.persisted.expect("a term");
    assert_eq!(
        (second.term, second.last_index, second.last_term),
        (3, 1, 2)
    );
    raft.persisted(first);
    raft.step(Message {
        from: 3,
        ..Message {
            commit: 1,
            ..append(3, 1, 2, &[])
        }
    })
    .expect("an append");
    assert_eq!(raft.ready().committed, []);
    raft.persisted(second);
    assert_eq!(raft.ready().committed.len(), 1);
}

#[test]
fn s15_a_leader_with_a_stalled_disk_ticks_on_and_can_hand_over() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.elect(1);
    world.stalled.insert(1);
    for n in 0..10 {
        world.propose(1, &n.to_string()).expect("it leads");
        world.settle();
    }
    world.pass(60);
    assert_eq!(world.leader(), Some(1));
    let status = world.raft(1).status();
    assert_eq!(status.commit, status.last_index, "the others have it");
    assert!(status.applied < status.commit);
    assert_eq!(status.progress[&2].matched, status.last_index);
    world.raft(1).transfer_leader(2);
    world.settle();
    assert_eq!(world.leader(), Some(2));
    world.propose(2, "on it goes").expect("it leads");
    world.settle();
    world.stalled.clear();
    world.pass(10);
    assert_eq!(world.nodes[&1].state, world.nodes[&2].state);
    world.assert_sound();
}

#[test]
fn s02_entries_without_their_term_are_a_sound_start() {
    let raft = Raft::new(
        config(1, 0),
        Restored {
            hard_state: HardState {
                term: 4,
                vote: 2,
                commit: 1,
            },
            conf_state: conf_state(&[1, 2, 3], &[]),
            entries: entries(0, &[4, 5]),
            ..Restored::default()
        },
    )
    .expect("a torn write");
    let status = raft.status();
    assert_eq!((status.term, status.vote, status.commit), (5, 0, 1));
    assert!(raft.has_ready(), "the term is written again");
}

#[test]
fn s07_a_start_hands_out_nothing_that_was_applied() {
    let restored = Restored {
        hard_state: HardState {
            term: 2,
            vote: 0,
            commit: 3,
        },
        conf_state: conf_state(&[1, 2, 3], &[]),
        snapshot_index: 1,
        snapshot_term: 1,
        entries: entries(1, &[2, 2, 2, 2]),
        applied: 2,
    };
    let mut raft = Raft::new(config(1, 0), restored.clone()).expect("sound");
    let ready = raft.ready();
    assert_eq!(ready.committed, entries(2, &[2]));
    assert_eq!((ready.hard_state, ready.persisted), (None, None));
    // A state machine that is ahead of the commit index raises it.
    let ahead = Restored {
        applied: 5,
        ..restored.clone()
    };
    let raft = Raft::new(config(1, 0), ahead).expect("sound");
    assert_eq!(raft.status().commit, 5);
    let beyond = Restored {
        applied: 6,
        ..restored
    };
    assert!(matches!(
        Raft::new(config(1, 0), beyond),
        Err(ConfigError::AppliedOutsideLog {
            applied: 6,
            first: 1,
            last: 5
        })
    ));
}

#[test]
fn impossible_settings_are_refused() {
    let start = |change: &dyn Fn(&mut etcd_raft::Config)| {
        let mut config = config(1, 0);
        change(&mut config);
        Raft::new(config, Restored::default())
            .map(|_| ())
            .expect_err("refused")
    };
    assert_eq!(start(&|c| c.id = 0), ConfigError::NoId);
    assert!(matches!(
        start(&|c| c.heartbeat_tick = 0),
        ConfigError::Ticks { .. }
    ));
    assert!(matches!(
        start(&|c| c.election_tick = 3),
        ConfigError::Ticks { .. }
    ));
    assert_eq!(
        start(&|c| c.max_inflight_messages = 0),
        ConfigError::NoInflight
    );
    assert!(matches!(
        start(&|c| c.max_inflight_bytes = 1),
        ConfigError::InflightBytes { .. }
    ));
}

#[test]
fn s04_a_first_start_is_a_follower_of_nobody_that_cannot_lead() {
    let mut raft = Raft::new(config(1, 0), Restored::default()).expect("an empty disk");
    assert!(!raft.has_ready());
    (0..100).for_each(|_| raft.tick());
    assert!(!raft.has_ready());
    assert_eq!(raft.status().conf_state, ConfState::default());
    assert_eq!(drain(&mut raft), []);
}

#[test]
fn compaction_never_drops_what_is_not_applied() {
    let mut raft = solo(&[1]);
    lead(&mut raft);
    for _ in 0..5 {
        raft.propose("a".into()).expect("it leads");
    }
    drain(&mut raft);
    raft.applied(4);
    raft.compact(100);
    let status = raft.status();
    assert_eq!((status.first_index, status.last_index), (5, 6));
    assert_eq!((raft.term_of(4), raft.term_of(3)), (Some(2), None));
    assert!(status.log_bytes > 0);
}

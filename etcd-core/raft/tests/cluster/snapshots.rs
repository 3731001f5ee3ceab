//! Members that are too far behind for the log.

use etcd_proto::raftpb::{
    ConfChangeType, ConfState, Message, MessageType, Snapshot, SnapshotMetadata,
};
use etcd_raft::{ProgressState, Raft, Role, StepError};

use crate::harness::{World, conf_change};
use crate::solo::{acknowledge, conf_state, drain, entries, from_2, lead, of, solo, solo_with};

fn snapshot(term: u64, index: u64, log_term: u64, state: ConfState) -> Message {
    Message {
        snapshot: Some(Snapshot {
            metadata: Some(SnapshotMetadata {
                conf_state: Some(state),
                index,
                term: log_term,
            }),
            ..Snapshot::default()
        }),
        ..from_2(MessageType::MsgSnap, term)
    }
}

/// A leader whose log begins after 4, with member 3 knowing nothing.
fn compacted() -> Raft {
    let mut raft = solo(&[1, 2, 3]);
    lead(&mut raft);
    for _ in 0..5 {
        raft.propose("a".into()).expect("it leads");
    }
    drain(&mut raft);
    raft.step(acknowledge(&raft, 2, 6)).expect("an answer");
    drain(&mut raft);
    raft.applied(6);
    raft.compact(4);
    raft
}

/// Member 3 answers a heartbeat: it is there, and what was sent to it may be lost.
fn alive(raft: &Raft) -> Message {
    Message {
        from: 3,
        ..from_2(MessageType::MsgHeartbeatResp, raft.term())
    }
}

fn snapshots(raft: &mut Raft) -> Vec<Message> {
    of(MessageType::MsgSnap, drain(raft))
}

#[test]
fn a_member_that_was_away_catches_up_by_a_snapshot() {
    let mut world = World::new(1, &[1, 2, 3]);
    world.elect(1);
    world.isolate(3);
    for n in 0..40 {
        world.propose(1, &n.to_string()).expect("it leads");
        world.settle();
    }
    for id in [1, 2] {
        world.nodes.get_mut(&id).expect("a member").checkpoint(2);
    }
    let applied = world.raft(3).status().applied;
    assert!(world.raft(1).status().first_index > applied + 1);
    world.heal();
    world.pass(10);
    assert_eq!(world.nodes[&3].state, world.nodes[&1].state);
    assert!(world.nodes[&3].disk.start.0 > 30, "not by the log");
    assert_eq!(
        world.raft(1).status().progress[&3].state,
        ProgressState::Replicate
    );
    world.assert_sound();
}

#[test]
fn a_member_that_joins_gets_a_snapshot_that_knows_it() {
    let mut world = World::new(2, &[1, 2, 3]);
    world.elect(1);
    for n in 0..20 {
        world.propose(1, &n.to_string()).expect("it leads");
        world.settle();
    }
    world.nodes.get_mut(&1).expect("a member").checkpoint(0);
    world.join(4);
    world.change(1, ConfChangeType::ConfChangeAddLearnerNode, 4);
    world.settle();
    assert!(world.raft(1).wants_snapshot(), "the available one is older");
    world.pass(10);
    assert!(!world.raft(1).wants_snapshot());
    assert_eq!(world.nodes[&4].state, world.nodes[&1].state);
    world.assert_sound();
}

#[test]
fn without_a_snapshot_the_follower_is_probed_until_there_is_one() {
    let mut raft = compacted();
    raft.step(alive(&raft)).expect("an answer");
    assert_eq!(snapshots(&mut raft), []);
    assert_eq!(raft.status().progress[&3].state, ProgressState::Probe);
    assert!(raft.wants_snapshot());
    // One that the log does not continue is of no use.
    raft.snapshot_available(3, 2, conf_state(&[1, 2, 3], &[]));
    assert_eq!(snapshots(&mut raft), []);
    raft.snapshot_available(5, 2, conf_state(&[1, 2, 3], &[]));
    let sent = snapshots(&mut raft).remove(0);
    assert_eq!(sent.to, 3);
    let snapshot = sent.snapshot.expect("metadata");
    assert!(snapshot.data.is_empty());
    let metadata = snapshot.metadata.expect("metadata");
    assert_eq!((metadata.index, metadata.term), (5, 2));
    assert_eq!(metadata.conf_state, Some(conf_state(&[1, 2, 3], &[])));
    assert!(!raft.wants_snapshot());
    let progress = raft.status().progress[&3];
    assert_eq!(
        (progress.state, progress.pending_snapshot, progress.next),
        (ProgressState::Snapshot, 5, 6)
    );
}

#[test]
fn nothing_is_sent_to_whoever_installs_a_snapshot() {
    let mut raft = compacted();
    raft.snapshot_available(5, 2, conf_state(&[1, 2, 3], &[]));
    raft.step(alive(&raft)).expect("an answer");
    assert_eq!(snapshots(&mut raft).len(), 1);
    raft.propose("b".into()).expect("it leads");
    raft.step(alive(&raft)).expect("an answer");
    assert!(drain(&mut raft).iter().all(|m| m.to != 3));
    raft.report_snapshot(3, true);
    assert!(
        drain(&mut raft).iter().all(|m| m.to != 3),
        "it is still installing"
    );
    raft.step(acknowledge(&raft, 3, 5)).expect("an answer");
    let sent = of(MessageType::MsgApp, drain(&mut raft));
    let to_3: Vec<_> = sent.iter().filter(|m| m.to == 3).collect();
    assert_eq!((to_3[0].index, to_3[0].entries.len()), (5, 2));
}

#[test]
fn s06_s12_a_snapshot_that_failed_is_sent_again_after_a_heartbeat() {
    let mut raft = compacted();
    raft.snapshot_available(5, 2, conf_state(&[1, 2, 3], &[]));
    raft.step(alive(&raft)).expect("an answer");
    assert_eq!(snapshots(&mut raft).len(), 1);
    raft.report_snapshot(3, false);
    assert_eq!(snapshots(&mut raft), []);
    raft.step(alive(&raft)).expect("an answer");
    assert_eq!(snapshots(&mut raft).len(), 1);
}

#[test]
fn the_silent_get_no_snapshot() {
    let mut raft = compacted();
    raft.snapshot_available(5, 2, conf_state(&[1, 2, 3], &[]));
    // The end of the log is probed, in vain: member 3 was never heard of.
    for _ in 0..20 {
        raft.tick();
        raft.report_unreachable(3);
        assert_eq!(snapshots(&mut raft), []);
        raft.step(from_2(MessageType::MsgHeartbeatResp, raft.term()))
            .expect("an answer");
    }
}

#[test]
fn a_snapshot_replaces_the_log_when_it_is_durable() {
    let mut raft = solo_with(&[1, 2], &[1, 1], |_| {});
    raft.step(snapshot(3, 9, 2, conf_state(&[1, 2, 3], &[4])))
        .expect("a snapshot");
    let ready = raft.ready();
    let metadata = ready.snapshot.expect("to install").metadata;
    assert_eq!(metadata.map(|m| (m.index, m.term)), Some((9, 2)));
    assert_eq!(ready.hard_state.map(|state| state.commit), Some(9));
    assert_eq!(ready.messages, []);
    assert_eq!(ready.messages_after_persist[0].index, 9);
    let persisted = ready.persisted.expect("a snapshot");
    assert_eq!(persisted.snapshot_index, Some(9));
    let status = raft.status();
    assert_eq!((status.first_index, status.last_index), (10, 9));
    assert_eq!(status.conf_state, conf_state(&[1, 2, 3], &[4]));
    // Entries go on behind it, and are not applied before it.
    let append = Message {
        index: 9,
        log_term: 2,
        entries: entries(9, &[3]),
        commit: 10,
        ..from_2(MessageType::MsgApp, 3)
    };
    raft.step(append).expect("an append");
    let next = raft.ready().persisted.expect("an entry");
    raft.campaign();
    assert_eq!(raft.role(), Role::Follower, "not while installing");
    raft.persisted(persisted);
    assert_eq!(raft.status().applied, 9);
    raft.persisted(next);
    assert_eq!(raft.ready().committed, entries(9, &[3]));
}

#[test]
fn a_snapshot_of_what_the_log_holds_only_commits() {
    let mut raft = solo_with(&[1, 2], &[1, 1, 1], |_| {});
    raft.step(snapshot(3, 2, 1, conf_state(&[1, 2], &[])))
        .expect("a snapshot");
    let ready = raft.ready();
    assert_eq!(ready.snapshot, None);
    assert_eq!(ready.committed.len(), 2);
    assert_eq!(raft.status().last_index, 3);
    raft.step(snapshot(3, 1, 1, conf_state(&[1, 2], &[])))
        .expect("an old snapshot");
    let answer = of(MessageType::MsgAppResp, drain(&mut raft));
    assert_eq!(answer[0].index, 2);
}

#[test]
fn x13_a_snapshot_that_is_not_one_is_refused() {
    let mut raft = solo(&[1, 2, 3]);
    let joint = ConfState {
        voters_outgoing: vec![1],
        ..conf_state(&[1, 2], &[])
    };
    let twice = conf_state(&[1, 2], &[2]);
    let sound = conf_state(&[1, 2], &[]);
    for bad in [
        snapshot(3, 9, 2, joint),
        snapshot(3, 9, 2, twice),
        snapshot(3, 9, 4, sound.clone()),
        snapshot(3, u64::MAX, 2, sound.clone()),
        from_2(MessageType::MsgSnap, 3),
    ] {
        let error = raft.step(bad).expect_err("refused");
        assert!(matches!(error, StepError::Malformed { .. }));
    }
    raft.step(snapshot(3, 9, 2, conf_state(&[2, 3], &[])))
        .expect("ignored: we are no part of it");
    assert_eq!((raft.status().commit, raft.ready().snapshot), (0, None));
}

#[test]
fn s06_two_snapshots_in_a_row() {
    let mut raft = solo(&[1, 2]);
    raft.step(snapshot(3, 5, 2, conf_state(&[1, 2], &[])))
        .expect("a snapshot");
    let first = raft.ready().persisted.expect("a snapshot");
    raft.step(snapshot(3, 9, 3, conf_state(&[1, 2, 3], &[])))
        .expect("a snapshot");
    let second = raft.ready().persisted.expect("a snapshot");
    raft.persisted(first);
    assert_eq!(raft.status().applied, 5);
    raft.persisted(second);
    assert_eq!((raft.status().applied, raft.status().last_index), (9, 9));
    assert_eq!(raft.status().conf_state, conf_state(&[1, 2, 3], &[]));
}

#[test]
fn a_change_that_a_snapshot_has_overtaken_is_not_applied_again() {
    let mut raft = solo(&[1, 2]);
    let mut append = Message {
        entries: entries(0, &[2]),
        commit: 1,
        ..from_2(MessageType::MsgApp, 2)
    };
    let change = conf_change(ConfChangeType::ConfChangeAddNode, 3);
    append.entries[0].r#type = 1;
    append.entries[0].data = prost::Message::encode_to_vec(&change).into();
    raft.step(append).expect("an append");
    let persisted = raft.ready().persisted.expect("an entry");
    raft.persisted(persisted);
    assert_eq!(raft.ready().committed.len(), 1, "on its way to the applier");
    // Member 3 has been removed since.
    raft.step(snapshot(2, 9, 2, conf_state(&[1, 2], &[])))
        .expect("a snapshot");
    let persisted = raft.ready().persisted.expect("a snapshot");
    raft.persisted(persisted);
    assert_eq!(raft.apply_conf_change(&change), conf_state(&[1, 2], &[]));
    raft.applied(1);
    assert_eq!(raft.status().applied, 9);
    // The next one is no longer overtaken.
    raft.apply_conf_change(&conf_change(ConfChangeType::ConfChangeAddNode, 4));
    assert_eq!(raft.status().conf_state, conf_state(&[1, 2, 4], &[]));
}

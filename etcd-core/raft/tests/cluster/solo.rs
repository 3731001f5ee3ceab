//! One member alone, whose peers are the test.

use bytes::Bytes;
use etcd_proto::raftpb::{ConfState, Entry, HardState, Message, MessageType};
use etcd_raft::{Config, Raft, Ready, Restored};

use crate::harness::config;

pub(crate) fn conf_state(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..ConfState::default()
    }
}

/// Member 1 at term 1 with an empty log, and these voters.
pub(crate) fn solo(voters: &[u64]) -> Raft {
    solo_with(voters, &[], |_| {})
}

/// Member 1 with these terms in its log, nothing of it committed.
pub(crate) fn solo_with(voters: &[u64], terms: &[u64], change: impl Fn(&mut Config)) -> Raft {
    let mut config = config(1, 0);
    change(&mut config);
    let restored = Restored {
        hard_state: HardState {
            term: terms.last().copied().unwrap_or(1),
            ..HardState::default()
        },
        conf_state: conf_state(voters, &[]),
        entries: entries(0, terms),
        ..Restored::default()
    };
    Raft::new(config, restored).expect("a sound start")
}

pub(crate) fn entries(after: u64, terms: &[u64]) -> Vec<Entry> {
    terms
        .iter()
        .zip(after + 1..)
        .map(|(term, index)| Entry {
            term: *term,
            index,
            data: Bytes::from_static(b"data"),
            ..Entry::default()
        })
        .collect()
}

/// A message of member 2 to member 1.
pub(crate) fn from_2(kind: MessageType, term: u64) -> Message {
    Message {
        r#type: kind as i32,
        from: 2,
        to: 1,
        term,
        ..Message::default()
    }
}

/// Takes all Readys with a disk that is instantly done; returns what is sent, in order.
pub(crate) fn drain(raft: &mut Raft) -> Vec<Message> {
    let mut sent = Vec::new();
    while raft.has_ready() {
        let Ready {
            messages,
            messages_after_persist,
            persisted,
            ..
        } = raft.ready();
        sent.extend(messages);
        if let Some(persisted) = persisted {
            raft.persisted(persisted);
        }
        sent.extend(messages_after_persist);
    }
    sent
}

/// Makes member 1 the leader of its next term, with everything it sends thrown away.
/// Member 2 has acknowledged all; the others have said nothing but to vote.
pub(crate) fn lead(raft: &mut Raft) {
    raft.campaign();
    drain(raft);
    let term = raft.term();
    for kind in [MessageType::MsgPreVoteResp, MessageType::MsgVoteResp] {
        for from in raft.status().conf_state.voters {
            let vote = Message {
                from,
                ..from_2(kind, term + 1)
            };
            if from != 1 && !raft.is_leader() {
                raft.step(vote).expect("a vote");
                drain(raft);
            }
        }
    }
    assert!(raft.is_leader());
    let last = raft.status().last_index;
    if raft.status().conf_state.voters.contains(&2) {
        raft.step(acknowledge(raft, 2, last)).expect("an answer");
    }
    drain(raft);
    assert_eq!(raft.status().commit, last, "the first entry is committed");
}

pub(crate) fn acknowledge(raft: &Raft, from: u64, index: u64) -> Message {
    Message {
        from,
        index,
        ..from_2(MessageType::MsgAppResp, raft.term())
    }
}

/// Those messages that are of one type.
pub(crate) fn of(kind: MessageType, sent: Vec<Message>) -> Vec<Message> {
    sent.into_iter()
        .filter(|m| m.r#type == kind as i32)
        .collect()
}

//! Whatever a peer sends, a member does not panic.

use bytes::Bytes;
use etcd_proto::raftpb::{ConfState, Entry, Message, Snapshot, SnapshotMetadata};
use proptest::prelude::*;

use crate::solo::{drain, lead, solo_with};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0u64..8,
        1 => Just(1 << 62),
        1 => any::<u64>(),
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"CampaignTransfer")),
        number().prop_map(|n| Bytes::copy_from_slice(&n.to_be_bytes())),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (0i32..4, number(), number(), bytes()).prop_map(|(kind, term, index, data)| Entry {
        r#type: kind,
        term,
        index,
        data,
    })
}

fn conf_state() -> impl Strategy<Value = ConfState> {
    let ids = || proptest::collection::vec(0u64..4, 0..4);
    (ids(), ids(), proptest::collection::vec(0u64..4, 0..2)).prop_map(|(voters, learners, out)| {
        ConfState {
            voters,
            learners,
            voters_outgoing: out,
            ..ConfState::default()
        }
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (proptest::option::of(conf_state()), number(), number()).prop_map(
        |(conf_state, index, term)| Snapshot {
            metadata: Some(SnapshotMetadata {
                conf_state,
                index,
                term,
            }),
            ..Snapshot::default()
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let head = (-1i32..25, 0u64..4, number(), number(), number(), number());
    let body = (
        proptest::collection::vec(entry(), 0..3),
        // Entries that follow each other are rare otherwise.
        any::<bool>(),
        number(),
        any::<bool>(),
        bytes(),
        proptest::option::of(snapshot()),
    );
    (head, body).prop_map(|(head, body)| {
        let (kind, from, term, log_term, index, commit) = head;
        let (mut entries, consecutive, reject_hint, reject, context, snapshot) = body;
        if consecutive {
            for (entry, n) in entries.iter_mut().zip(1..) {
                entry.index = index.wrapping_add(n);
                entry.term = entry.term.clamp(log_term.min(term), term);
            }
        }
        Message {
            r#type: kind,
            from,
            to: 1,
            term,
            log_term,
            index,
            commit,
            entries,
            reject,
            reject_hint,
            context,
            snapshot,
            ..Message::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn s38_no_message_makes_a_member_panic(
        leads in any::<bool>(),
        messages in proptest::collection::vec((message(), 0u8..8), 1..30),
    ) {
        let mut raft = solo_with(&[1, 2, 3], &[1, 1, 2], |_| {});
        if leads {
            lead(&mut raft);
        }
        for (message, then) in messages {
            if let Err(error) = raft.step(message) {
                prop_assert!(!error.to_string().is_empty());
            }
            match then {
                0 => raft.tick(),
                1 => raft.campaign(),
                2 => raft.read_index(1),
                3 => raft.compact(2),
                4 => raft.report_snapshot(2, true),
                _ => {}
            }
            drain(&mut raft);
            let status = raft.status();
            prop_assert!(status.applied <= status.commit && status.commit <= status.last_index);
        }
    }
}

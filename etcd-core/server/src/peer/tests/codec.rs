use bytes::BytesMut;
use etcd_proto::raftpb::{Entry, Message, MessageType};
use proptest::prelude::*;

use super::super::codec::{Decoder, Encoder, Item, StreamKind};
use super::{append, heartbeat};

/// Feeds a stream in pieces of a size and returns what comes out.
fn decode(kind: StreamKind, bytes: &[u8], piece: usize) -> Vec<Item> {
    let mut decoder = Decoder::new(kind, 2, 1);
    let mut items = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.feed(piece);
        while let Some(item) = decoder.next().unwrap() {
            items.push(item);
        }
    }
    items
}

#[test]
fn appends_that_follow_each_other_take_the_short_form() {
    let mut encoder = Encoder::new(StreamKind::MsgApp);
    let mut out = BytesMut::new();
    let kinds: Vec<u8> = [
        append(1, 2, 10, 5),
        append(1, 2, 11, 5),
        Message {
            entries: Vec::new(),
            ..append(1, 2, 12, 0)
        },
        append(1, 2, 12, 5),
        append(1, 2, 20, 5),
        Message {
            term: 4,
            ..append(1, 2, 21, 5)
        },
        Message {
            term: 4,
            log_term: 4,
            ..append(1, 2, 22, 5)
        },
    ]
    .iter()
    .map(|message| {
        let start = out.len();
        encoder.message(message, &mut out);
        out[start]
    })
    .collect();
    assert_eq!(kinds, [2, 1, 1, 1, 2, 2, 1]);
}

#[test]
fn frames_have_the_bytes_of_etcd() {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(StreamKind::MsgApp);
    encoder.heartbeat(&mut out);
    assert_eq!(out.split().as_ref(), [0]);
    encoder.message(&append(1, 2, 7, 0), &mut out);
    let first = out.split();
    assert_eq!(first[..9], [2, 0, 0, 0, 0, 0, 0, 0, first.len() as u8 - 9]);
    encoder.message(&append(1, 2, 8, 1), &mut out);
    let second = [
        &[1][..],
        &1u64.to_be_bytes(),
        &7u64.to_be_bytes(),
        &[0x10, 3, 0x18, 9, 0x22, 1, 8],
        &8u64.to_be_bytes(),
    ];
    assert_eq!(out.split().as_ref(), second.concat());
    Encoder::new(StreamKind::Message).heartbeat(&mut out);
    assert_eq!(out.as_ref(), [0, 0, 0, 0, 0, 0, 0, 2, 8, 8]);
}

#[test]
fn oversize_and_unknown_frames_are_errors() {
    for (kind, bytes) in [
        (StreamKind::Message, vec![0, 0, 0, 1, 0, 0, 0, 0]),
        (StreamKind::MsgApp, vec![2, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        (StreamKind::MsgApp, vec![1, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        (
            StreamKind::MsgApp,
            [&[1][..], &1u64.to_be_bytes(), &u64::MAX.to_be_bytes()].concat(),
        ),
        (StreamKind::MsgApp, vec![3]),
        (StreamKind::Message, vec![0, 0, 0, 0, 0, 0, 0, 1, 0xff]),
    ] {
        let mut decoder = Decoder::new(kind, 2, 1);
        decoder.feed(&bytes);
        assert!(decoder.next().is_err(), "{bytes:?}");
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    let follows = (
        any::<bool>(),
        0u64..4,
        prop::collection::vec(0usize..2000, 0..4),
        any::<u64>(),
    );
    follows.prop_map(|(jumps, step, sizes, commit)| {
        let entries = sizes.iter().map(|len| Entry {
            data: vec![7; *len].into(),
            ..Entry::default()
        });
        Message {
            r#type: MessageType::MsgApp as i32,
            from: 1,
            to: 2,
            entries: entries.collect(),
            commit,
            // Filled in by `sequence`.
            index: if jumps { step } else { 0 },
            term: step,
            ..Message::default()
        }
    })
}

/// Makes a log of loose messages: most continue the one before, some jump or change the term.
fn sequence(mut messages: Vec<Message>) -> Vec<Message> {
    let (mut term, mut index) = (1, 5);
    for message in &mut messages {
        message.log_term = term;
        if message.index > 0 {
            term += message.term;
            index += message.index;
        }
        message.term = term;
        message.index = index;
        for entry in &mut message.entries {
            index += 1;
            (entry.term, entry.index) = (term, index);
        }
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn appends_come_back_in_whatever_pieces(
        messages in prop::collection::vec(any_message(), 0..20),
        piece in 1usize..5000,
    ) {
        let messages = sequence(messages);
        for kind in [StreamKind::MsgApp, StreamKind::Message] {
            let mut encoder = Encoder::new(kind);
            let mut out = BytesMut::new();
            let mut expected = Vec::new();
            for message in &messages {
                encoder.message(message, &mut out);
                encoder.heartbeat(&mut out);
                expected.extend([Item::Message(message.clone()), Item::Heartbeat]);
            }
            prop_assert_eq!(&decode(kind, &out, piece), &expected);
            prop_assert_eq!(&decode(kind, &out, usize::MAX), &expected);
        }
    }

    #[test]
    fn s38_random_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..200), piece in 1usize..50) {
        for kind in [StreamKind::MsgApp, StreamKind::Message] {
            let mut decoder = Decoder::new(kind, 2, 1);
            'stream: for piece in bytes.chunks(piece) {
                decoder.feed(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }
}

#[test]
fn other_messages_may_come_on_the_stream_of_appends() {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(StreamKind::MsgApp);
    encoder.message(&append(1, 2, 7, 3), &mut out);
    encoder.message(&heartbeat(1, 2, 9), &mut out);
    let items = decode(StreamKind::MsgApp, &out, 3);
    assert_eq!(
        items,
        [
            Item::Message(append(1, 2, 7, 3)),
            Item::Message(heartbeat(1, 2, 9))
        ]
    );
}

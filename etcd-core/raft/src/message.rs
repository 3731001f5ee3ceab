//! Messages between members: making them, and refusing those that make no sense.

use bytes::Bytes;
use etcd_proto::raftpb::{Message, MessageType};

use crate::errors::StepError;
use crate::log::EntryId;

/// The context of a vote request that ignores leases: the leader asked for it.
pub(crate) const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// No cluster gets as far as this term or index. Beyond it arithmetic would have to be
/// careful everywhere, so what claims to be is refused.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

/// Why a number above [`MAX_NUMBER`] is refused.
pub(crate) const OUT_OF_REACH: &str = "its term or index is out of reach";

/// A message of one type to one member, else empty.
pub(crate) fn message(kind: MessageType, to: u64) -> Message {
    Message {
        r#type: kind as i32,
        to,
        ..Message::default()
    }
}

/// The answer to a vote request, for the term that is to be answered.
pub(crate) fn vote_response(kind: MessageType, to: u64, term: u64, reject: bool) -> Message {
    Message {
        term,
        reject,
        ..message(kind, to)
    }
}

/// The entry before those that an append carries.
pub(crate) fn before(m: &Message) -> EntryId {
    EntryId {
        index: m.index,
        term: m.log_term,
    }
}

/// An 8-byte number as contexts carry it.
pub(crate) fn context(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// The number in a context, if it is one.
pub(crate) fn context_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The type of a message from another member to `id`, if the message is one and is
/// sound in itself. What it says of our own state is for its handler to judge.
pub(crate) fn check(m: &Message, id: u64) -> Result<MessageType, StepError> {
    use MessageType::*;
    let kind = MessageType::try_from(m.r#type).map_err(|_| StepError::UnknownType(m.r#type))?;
    let malformed = |reason| {
        Err(StepError::Malformed {
            kind: kind.as_str_name(),
            from: m.from,
            reason,
        })
    };
    match kind {
        MsgHup | MsgBeat | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum | MsgStorageAppend
        | MsgStorageAppendResp | MsgStorageApply | MsgStorageApplyResp | MsgForgetLeader => {
            return Err(StepError::LocalType(kind.as_str_name()));
        }
        _ => {}
    }
    if m.to != id {
        return Err(StepError::NotForUs { to: m.to });
    }
    // A transfer forwarded to the leader names the transferee as its sender.
    if m.from == 0 || (m.from == id && kind != MsgTransferLeader) {
        return Err(StepError::BadSender { from: m.from });
    }
    if m.term == 0 && !matches!(kind, MsgProp | MsgReadIndex | MsgTransferLeader) {
        return malformed("it carries no term");
    }
    if m.term > MAX_NUMBER || m.index > MAX_NUMBER {
        return malformed(OUT_OF_REACH);
    }
    match kind {
        MsgProp if m.entries.is_empty() => malformed("it proposes nothing"),
        MsgReadIndex | MsgReadIndexResp if m.entries.len() != 1 => {
            malformed("it must carry one request")
        }
        MsgApp => match entries_follow(m) {
            true => Ok(kind),
            false => malformed("its entries do not follow each other"),
        },
        MsgSnap if m.snapshot.as_ref().is_none_or(|s| s.metadata.is_none()) => {
            malformed("it has no metadata")
        }
        _ => Ok(kind),
    }
}

/// Whether indexes rise by one, terms never fall, and none is above the sender's.
fn entries_follow(m: &Message) -> bool {
    let mut last = before(m);
    for entry in &m.entries {
        if Some(entry.index) != last.index.checked_add(1) || entry.term < last.term {
            return false;
        }
        last = EntryId::of(entry);
    }
    last.term <= m.term
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_proto::raftpb::Entry;

    fn from_2(kind: MessageType) -> Message {
        Message {
            from: 2,
            term: 3,
            ..message(kind, 1)
        }
    }

    #[test]
    fn s21_messages_for_others_or_from_nobody_are_refused() {
        let m = Message {
            to: 9,
            ..from_2(MessageType::MsgHeartbeat)
        };
        assert_eq!(check(&m, 1), Err(StepError::NotForUs { to: 9 }));
        for from in [0, 1] {
            let m = Message {
                from,
                ..from_2(MessageType::MsgHeartbeat)
            };
            assert_eq!(check(&m, 1), Err(StepError::BadSender { from }));
        }
    }

    #[test]
    fn local_and_unknown_types_are_refused() {
        assert_eq!(
            check(&from_2(MessageType::MsgHup), 1),
            Err(StepError::LocalType("MsgHup"))
        );
        let m = Message {
            r#type: 99,
            ..from_2(MessageType::MsgHup)
        };
        assert_eq!(check(&m, 1), Err(StepError::UnknownType(99)));
    }

    #[test]
    fn entries_that_do_not_follow_are_refused() {
        let entry = |index, term| Entry {
            index,
            term,
            ..Entry::default()
        };
        let app = |entries| Message {
            index: 4,
            log_term: 2,
            entries,
            ..from_2(MessageType::MsgApp)
        };
        assert!(check(&app(vec![entry(5, 2), entry(6, 3)]), 1).is_ok());
        for bad in [
            vec![entry(6, 2)],
            vec![entry(5, 2), entry(5, 2)],
            vec![entry(5, 1)],
            vec![entry(5, 4)],
        ] {
            assert!(matches!(
                check(&app(bad), 1),
                Err(StepError::Malformed { .. })
            ));
        }
        let m = Message {
            index: u64::MAX,
            ..app(vec![entry(0, 3)])
        };
        assert!(check(&m, 1).is_err(), "the index must not wrap");
    }

    #[test]
    fn a_context_is_eight_bytes() {
        assert_eq!(context_number(&context(7)), Some(7));
        assert_eq!(context_number(b"seven"), None);
    }
}

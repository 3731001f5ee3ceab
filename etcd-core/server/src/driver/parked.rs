//! Proposals that wait for a leader.

use std::time::{Duration, Instant};

use etcd_proto::etcdserverpb::InternalRaftRequest;
use etcd_proto::raftpb::{ConfChange, Entry, EntryType, Message};
use etcd_replica::Input;
use prost::Message as _;

use super::request::Waiters;

/// Bytes of proposals that wait; beyond it they are refused.
const PARKED_BYTES_MAX: usize = 64 << 20;
/// What a proposal counts for beside its data.
const PROPOSAL_BYTES: usize = 256;

/// Proposals that no leader has, certainly: made while none was known, while one
/// handed over, or for one that was not reached.
#[derive(Default)]
pub(crate) struct Parked {
    waiting: Vec<(Instant, Input)>,
    bytes: usize,
}

impl Parked {
    /// Keeps a proposal, or gives it back for want of room.
    pub(crate) fn push(&mut self, input: Input, now: Instant) -> Result<(), Input> {
        let size = size(&input);
        if !self.waiting.is_empty() && self.bytes + size > PARKED_BYTES_MAX {
            return Err(input);
        }
        self.bytes += size;
        self.waiting.push((now, input));
        Ok(())
    }

    /// All that wait, in their order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Input> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(_, input)| input)
    }

    /// Drops what nobody waits for any more: our own when their caller has left, those
    /// of other members after `patience`, when theirs has.
    pub(crate) fn tidy(&mut self, waiters: &Waiters, now: Instant, patience: Duration) {
        self.waiting
            .retain(|(since, input)| match proposal_id(input) {
                Some(id) => waiters.is_waiting(id),
                None => now.duration_since(*since) < patience,
            });
        self.bytes = self.waiting.iter().map(|(_, input)| size(input)).sum();
    }
}

/// The ID that a proposal's caller waits for; `None` if it came from another member.
pub(crate) fn proposal_id(input: &Input) -> Option<u64> {
    match input {
        Input::Propose { id, .. } => Some(*id),
        Input::ProposeConfChange(change) => Some(change.id),
        _ => None,
    }
}

/// What a MsgProp of this member was made of.
pub(crate) fn proposals(message: Message) -> impl Iterator<Item = Input> {
    message.entries.into_iter().filter_map(proposal)
}

fn proposal(entry: Entry) -> Option<Input> {
    // We encoded it ourselves.
    match entry.r#type() {
        EntryType::EntryNormal => {
            let request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
            Some(Input::Propose {
                id: request.header?.id,
                data: entry.data,
                term: None,
            })
        }
        EntryType::EntryConfChange => ConfChange::decode(entry.data)
            .ok()
            .map(Input::ProposeConfChange),
        EntryType::EntryConfChangeV2 => None,
    }
}

fn size(input: &Input) -> usize {
    let data = match input {
        Input::Propose { data, .. } => data.len(),
        Input::ProposeConfChange(change) => change.context.len(),
        Input::Message(message) => message.entries.iter().map(|entry| entry.data.len()).sum(),
        _ => 0,
    };
    data + PROPOSAL_BYTES
}

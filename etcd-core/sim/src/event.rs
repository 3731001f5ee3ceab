//! What can happen, and when.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_mvcc::watch::Response;
use etcd_proto::raftpb::Message;

use crate::request::{Call, Caller, Reply};

/// One second, in microseconds: the unit of virtual time.
pub(crate) const SECOND: u64 = 1_000_000;
/// One millisecond.
pub(crate) const MS: u64 = 1000;

/// A process: member and the number of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pid {
    pub(crate) member: u64,
    pub(crate) life: u32,
}

/// What a process of a member does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The clock of its ticks.
    Tick,
    /// Consensus takes in what has arrived.
    Consensus,
    /// The disk thread begins a batch.
    DiskWrite,
    /// The disk thread ends it.
    DiskSync,
    /// The apply thread takes a task.
    Apply,
    /// The checkpoint thread writes.
    Checkpoint,
    /// The watch thread publishes, reads history and sends.
    Watch,
    /// The leader looks for leases that have run out.
    Leases,
}

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    Turn(Pid, Turn),
    /// A message arrives.
    Message(Box<Message>),
    /// A snapshot arrives, image and all.
    Snapshot {
        message: Box<Message>,
        image: Bytes,
    },
    /// The transport tells its process that a peer was not reached.
    Unreachable {
        at: Pid,
        peer: u64,
    },
    /// The transport tells its process that a peer's has ended.
    Gone {
        at: u64,
        peer: u64,
    },
    /// The transport tells its process what became of a snapshot.
    SnapshotFate {
        at: u64,
        to: u64,
        ok: bool,
    },
    /// A request arrives at a member.
    Call(Box<Call>),
    /// An answer arrives at a client.
    Reply {
        to: Caller,
        reply: Box<Reply>,
    },
    /// A client has waited long enough.
    Timeout(Caller),
    /// A watch response arrives.
    Watched {
        to: Caller,
        /// `None`: the connection is lost.
        response: Option<Box<Response>>,
    },
    /// A client does something next.
    Wake(usize),
    /// A member's process is killed.
    Kill(u64),
    /// A member's process is started.
    Start(u64),
    /// Something goes wrong.
    Chaos,
    /// A fault ends.
    Mend(Fault),
}

/// A fault that lasts.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// These directed links lose everything.
    Cut(Vec<(u64, u64)>),
    /// A disk is full.
    Full(u64),
    /// A disk is slow.
    Stall(u64),
    /// A member applies slowly.
    SlowApply(u64),
}

/// Events in the order of their time, and of their scheduling at one time.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at_us, self.scheduled), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }

    /// When the next event happens.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }
}

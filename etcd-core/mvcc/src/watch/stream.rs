//! A client's stream: its watches and what waits to be sent to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::response::Response;

/// What a queued item counts with beyond its events' bytes.
pub(super) const ITEM_BYTES: usize = 64;

/// Bytes allowed for a response's header and its small fields when events are
/// split into fragments.
const RESPONSE_ROOM: usize = 64;

/// Names a stream. Never reused, though its index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub(super) index: u32,
    pub(super) generation: u64,
}

impl StreamId {
    /// A small number, unique among the open streams: an index for what the
    /// caller keeps per stream.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Something to send.
#[derive(Debug)]
pub(super) enum Item {
    Control(Box<Response>),
    Events(Batch),
}

/// Events of one revision for one watch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) watch_id: i64,
    pub(super) fragment: bool,
    /// The response's header revision.
    pub(super) revision: i64,
    pub(super) bytes: usize,
    /// Shared by all watchers of the same range that asked for the same.
    pub(super) events: Arc<[Bytes]>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) generation: u64,
    /// Watchers by watch ID.
    pub(super) watchers: BTreeMap<i64, u32>,
    next_watch_id: i64,
    queue: VecDeque<Item>,
    /// Cost of the queued events.
    queued_bytes: usize,
    controls: usize,
    /// Lagging watchers that wait for room.
    pub(super) parked: BTreeSet<u32>,
    /// Watchers that are not synced.
    pub(super) lagging: usize,
    /// Watchers with `progress_notify`.
    pub(super) notified: usize,
    /// At least the greatest start revision of the watchers.
    pub(super) latest_start: i64,
    /// The greatest header revision given out: a header's revision never falls.
    pub(super) last_revision: i64,
    /// The caller has been told of output and has not polled it empty since.
    pub(super) reported: bool,
}

impl Stream {
    pub(super) fn new(generation: u64) -> Stream {
        Stream {
            generation,
            ..Stream::default()
        }
    }

    /// The next free automatic watch ID.
    pub(super) fn take_watch_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_watch_id) {
            self.next_watch_id += 1;
        }
        let id = self.next_watch_id;
        self.next_watch_id += 1;
        id
    }

    /// The header revision for a response made at `revision`.
    pub(super) fn header_revision(&mut self, revision: i64) -> i64 {
        self.last_revision = self.last_revision.max(revision);
        self.last_revision
    }

    pub(super) fn push_control(&mut self, response: Response) {
        self.controls += 1;
        self.queue.push_back(Item::Control(Box::new(response)));
    }

    /// Queues a batch unless it would exceed `budget`. A batch that alone is
    /// greater than the budget is taken when no other waits: a revision is not
    /// split, so it could never be sent otherwise.
    pub(super) fn offer(&mut self, batch: Batch, budget: usize) -> bool {
        let cost = ITEM_BYTES + batch.bytes;
        if self.queued_bytes > 0 && self.queued_bytes + cost > budget {
            return false;
        }
        self.queued_bytes += cost;
        self.queue.push_back(Item::Events(batch));
        true
    }

    pub(super) fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn controls(&self) -> usize {
        self.controls
    }

    /// Takes responses worth up to `credit` bytes, at least one if there is any
    /// and `credit` is not 0. Neighbouring batches of one watch become one
    /// response of up to `merge` bytes; a batch above `fragment` bytes is split if
    /// its watch allows it.
    pub(super) fn take(&mut self, credit: usize, merge: usize, fragment: usize) -> Vec<Response> {
        let mut out: Vec<Response> = Vec::new();
        let mut spent = 0;
        // Bytes in the last response while more batches may join it.
        let mut open: Option<usize> = None;
        while spent < credit
            && let Some(item) = self.queue.pop_front()
        {
            let batch = match item {
                Item::Control(response) => {
                    self.controls -= 1;
                    spent += ITEM_BYTES + response.cancel_reason.len();
                    out.push(*response);
                    open = None;
                    continue;
                }
                Item::Events(batch) => batch,
            };
            self.queued_bytes -= ITEM_BYTES + batch.bytes;
            spent += ITEM_BYTES + batch.bytes;
            if batch.fragment && batch.bytes + RESPONSE_ROOM >= fragment && batch.events.len() > 1 {
                split(&batch, fragment, &mut out);
                open = None;
                continue;
            }
            match (open, out.last_mut()) {
                (Some(bytes), Some(last))
                    if last.watch_id == batch.watch_id && bytes + batch.bytes <= merge =>
                {
                    last.events.extend(batch.events.iter().cloned());
                    last.revision = batch.revision;
                    open = Some(bytes + batch.bytes);
                }
                _ => {
                    out.push(response(&batch, batch.events.to_vec()));
                    open = Some(batch.bytes);
                }
            }
        }
        out
    }
}

fn response(batch: &Batch, events: Vec<Bytes>) -> Response {
    Response {
        revision: batch.revision,
        watch_id: batch.watch_id,
        events,
        ..Response::default()
    }
}

/// Splits a revision's events into responses below `limit` bytes, where single
/// events allow it; all but the last are marked as fragments.
fn split(batch: &Batch, limit: usize, out: &mut Vec<Response>) {
    let mut events = Vec::new();
    let mut bytes = RESPONSE_ROOM;
    for event in batch.events.iter() {
        if !events.is_empty() && bytes + event.len() >= limit {
            let mut part = response(batch, std::mem::take(&mut events));
            part.fragment = true;
            out.push(part);
            bytes = RESPONSE_ROOM;
        }
        bytes += event.len();
        events.push(event.clone());
    }
    out.push(response(batch, events));
}

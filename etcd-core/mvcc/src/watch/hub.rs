//! The hub: streams, their watches, and the events between them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::history::History;
use super::ranges::RangeIndex;
use super::response::{NO_WATCH, Response};
use super::slab::Slab;
use super::stream::{Stream, StreamId};
use super::watcher::{KeyRange, Outcome, Rejection, Standing, Variant, WatchCreate, Watcher};

/// The hub's bounds, all in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What may wait in a stream's queue before its watches lag.
    pub stream_bytes: usize,
    /// A stream's share of `total_bytes` is never below this.
    pub stream_bytes_min: usize,
    /// What each watch adds to its stream's bound, so that one event for all
    /// watches of a crowded stream does not make them lag.
    pub watch_bytes: usize,
    /// What may wait in all streams' queues; the more streams, the smaller the
    /// share of each.
    pub total_bytes: usize,
    /// Batches of one watch are joined into responses up to this size.
    pub response_bytes: usize,
    /// A response this large is split for a watch that asked for fragments: etcd's
    /// receive limit, the maximum request size and 512 KiB.
    pub fragment_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            stream_bytes: 256 << 10,
            stream_bytes_min: 4 << 10,
            watch_bytes: 2 << 10,
            total_bytes: 64 << 20,
            response_bytes: 64 << 10,
            fragment_bytes: 2 << 20,
        }
    }
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Watches on them.
    pub watchers: usize,
    /// Watches that are behind.
    pub slow_watchers: usize,
    /// Events given to a stream's queue since the start.
    pub events: u64,
}

/// All watches of a member. See the [module](super) for how it works.
///
/// Whatever puts something into a stream's queue notes the stream as woken,
/// once until it has been polled empty; [`WatchHub::publish`] and its like return
/// the streams woken so far, [`WatchHub::take_woken`] does it alone.
#[derive(Debug)]
pub struct WatchHub {
    pub(super) config: Config,
    /// Every event up to this main revision is queued or behind a cursor.
    pub(super) head: i64,
    pub(super) watchers: Slab<Watcher>,
    pub(super) streams: Slab<Stream>,
    pub(super) ranges: RangeIndex,
    /// Lagging watchers whose stream has room, by cursor.
    pub(super) ready: BTreeSet<(i64, u32)>,
    /// Where the last slice of history ended: the next one begins beyond it, so
    /// that every group of laggards has its turn.
    pub(super) hand: i64,
    pub(super) slow: usize,
    pub(super) events: u64,
    generations: u64,
    woken: Vec<StreamId>,
    /// Buffers kept between revisions.
    pub(super) hits: Vec<u32>,
    pub(super) touched: Vec<u32>,
}

impl WatchHub {
    /// A hub of a store at main revision `head`.
    pub fn new(mut config: Config, head: i64) -> WatchHub {
        config.stream_bytes_min = config.stream_bytes_min.min(config.stream_bytes);
        config.response_bytes = config.response_bytes.min(config.fragment_bytes / 2);
        WatchHub {
            config,
            head,
            watchers: Slab::default(),
            streams: Slab::default(),
            ranges: RangeIndex::default(),
            ready: BTreeSet::new(),
            hand: i64::MIN,
            slow: 0,
            events: 0,
            generations: 0,
            woken: Vec::new(),
            hits: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The main revision up to which events have been published.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.slow,
            events: self.events,
        }
    }

    /// Opens a stream without watches.
    pub fn open_stream(&mut self) -> StreamId {
        self.generations += 1;
        let generation = self.generations;
        let index = self.streams.insert(Stream::new(generation));
        StreamId { index, generation }
    }

    /// Ends a stream, its watches and all that waits in it.
    pub fn close_stream(&mut self, stream: StreamId) {
        let Some(open) = self.stream(stream) else {
            return;
        };
        for index in std::mem::take(&mut open.watchers).into_values() {
            self.drop_watcher(index);
        }
        self.streams.remove(stream.index);
        self.woken.retain(|woken| *woken != stream);
    }

    /// Adds a watch. Its response, created or rejected, is queued ahead of its
    /// events; `history` tells the store's present revision.
    pub fn create(
        &mut self,
        stream: StreamId,
        request: &WatchCreate,
        history: &dyn History,
    ) -> Outcome {
        let present = self.head.max(history.revision());
        let head = self.head;
        let Some(open) = self.stream(stream) else {
            return Outcome::StreamClosed;
        };
        if request.start_revision < 0 {
            return self.reject(stream, Rejection::NegativeRevision, history);
        }
        let span = match KeyRange::from_request(&request.key, &request.range_end) {
            Ok(span) => span,
            Err(rejection) => return self.reject(stream, rejection, history),
        };
        let watch_id = match request.watch_id {
            0 => open.take_watch_id(),
            taken if open.watchers.contains_key(&taken) => {
                return self.reject(stream, Rejection::DuplicateId, history);
            }
            id => id,
        };
        let start = match request.start_revision {
            0 => present + 1,
            start => start,
        };
        open.latest_start = open.latest_start.max(start);
        open.notified += usize::from(request.progress_notify);
        let response = Response {
            revision: open.header_revision(present),
            watch_id,
            created: true,
            ..Response::default()
        };
        open.push_control(response);
        let range = self.ranges.insert(span);
        let index = self.watchers.insert(Watcher {
            stream: stream.index,
            watch_id,
            range,
            place: 0,
            start,
            standing: Standing::Synced,
            variant: Variant {
                prev_kv: request.prev_kv,
                filters: request.filters,
            },
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
        });
        self.streams[stream.index].watchers.insert(watch_id, index);
        self.enlist(index);
        if start <= head {
            self.fall_behind(index, start);
        }
        self.wake(stream.index);
        Outcome::Created { watch_id }
    }

    /// Answers a creation with a refusal, in its place among the responses.
    pub fn reject(
        &mut self,
        stream: StreamId,
        rejection: Rejection,
        history: &dyn History,
    ) -> Outcome {
        let present = self.head.max(history.revision());
        let Some(open) = self.stream(stream) else {
            return Outcome::StreamClosed;
        };
        let cancel_reason = match &rejection {
            Rejection::Refused(reason) => reason.clone(),
            other => Cow::Owned(other.to_string()),
        };
        let response = Response {
            revision: open.header_revision(present),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason,
            ..Response::default()
        };
        open.push_control(response);
        self.wake(stream.index);
        Outcome::Rejected(rejection)
    }

    /// Ends a watch; what is queued for it is still sent, then the
    /// acknowledgement. `false`, and silence, if the stream has no such watch.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64, history: &dyn History) -> bool {
        let present = self.head.max(history.revision());
        let Some(open) = self.stream(stream) else {
            return false;
        };
        let Some(index) = open.watchers.remove(&watch_id) else {
            return false;
        };
        let response = Response {
            revision: open.header_revision(present),
            watch_id,
            canceled: true,
            ..Response::default()
        };
        open.push_control(response);
        self.drop_watcher(index);
        self.wake(stream.index);
        true
    }

    /// Takes what waits for a stream, up to `credit` bytes but at least one
    /// response if there is any. The caller asks again until
    /// [`WatchHub::has_output`] is `false`; only then is the stream woken anew.
    pub fn poll(&mut self, stream: StreamId, credit: usize) -> Vec<Response> {
        let budget = self.budget(stream.index);
        let (merge, fragment) = (self.config.response_bytes, self.config.fragment_bytes);
        let Some(open) = self.stream(stream) else {
            return Vec::new();
        };
        let out = open.take(credit, merge, fragment);
        if !open.has_output() {
            open.reported = false;
        }
        // Only once half the budget is free: a scan for every event would be dear.
        if !open.parked.is_empty() && open.queued_bytes() <= budget / 2 {
            for index in std::mem::take(&mut open.parked) {
                let watcher = &mut self.watchers[index];
                if let Standing::Parked(next) = watcher.standing {
                    watcher.standing = Standing::Ready(next);
                    self.ready.insert((next, index));
                }
            }
        }
        out
    }

    /// Whether anything waits for a stream.
    pub fn has_output(&self, stream: StreamId) -> bool {
        self.get(stream).is_some_and(Stream::has_output)
    }

    /// Responses other than events that wait for a stream. They answer requests,
    /// so their bound is the caller's: it stops reading requests while there are
    /// many.
    pub fn control_backlog(&self, stream: StreamId) -> usize {
        self.get(stream).map_or(0, Stream::controls)
    }

    /// Bytes of events that wait for a stream, with 64 for each batch.
    pub fn queued_bytes(&self, stream: StreamId) -> usize {
        self.get(stream).map_or(0, Stream::queued_bytes)
    }

    /// The streams that have output since they were last reported.
    pub fn take_woken(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn stream(&mut self, stream: StreamId) -> Option<&mut Stream> {
        let open = self.streams.get_mut(stream.index)?;
        (open.generation == stream.generation).then_some(open)
    }

    fn get(&self, stream: StreamId) -> Option<&Stream> {
        let open = self.streams.get(stream.index)?;
        (open.generation == stream.generation).then_some(open)
    }

    /// Notes a stream that has output as woken, unless it is already.
    pub(super) fn wake(&mut self, index: u32) {
        let open = &mut self.streams[index];
        if open.has_output() && !open.reported {
            open.reported = true;
            self.woken.push(StreamId {
                index,
                generation: open.generation,
            });
        }
    }
}

//! The hub: streams, their watches, and the events between them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::event::Frames;
use super::history::History;
use super::ranges::RangeIndex;
use super::response::{NO_WATCH, Response};
use super::slab::Slab;
use super::stream::{Batch, Stream, StreamId};
use super::watcher::{KeyRange, Outcome, Rejection, Standing, Variant, WatchCreate, Watcher};
use crate::{ArchiveError, Record};

/// Bytes of queue that each watch adds to its stream's budget, so that one event
/// for all watches of a crowded stream does not make them lag.
const WATCH_BYTES: usize = 2 << 10;
/// A stream's budget is never below this, however many streams there are.
const STREAM_BYTES_MIN: usize = 4 << 10;

/// The hub's bounds, all in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What may wait in a stream's queue before its watches lag.
    pub stream_bytes: usize,
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
    slow: usize,
    events: u64,
    generations: u64,
    woken: Vec<StreamId>,
    /// Buffers kept between revisions.
    hits: Vec<u32>,
    touched: Vec<u32>,
}

/// Whom a revision is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// The synced watchers.
    Synced,
    /// The lagging ones taking part in a slice.
    Feeding,
}

impl WatchHub {
    /// A hub of a store at main revision `head`.
    pub fn new(mut config: Config, head: i64) -> WatchHub {
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

    /// Publishes whole revisions, in order, each exactly once; `history` includes
    /// them. Returns the streams woken.
    ///
    /// If revisions are missing between the head and the first one, they are read
    /// from the history; those at or below the head have been published already
    /// and are passed over.
    pub fn publish(&mut self, records: &[Record], history: &dyn History) -> Vec<StreamId> {
        for revision in records.chunk_by(|a, b| a.rev.main == b.rev.main) {
            let main = revision[0].rev.main;
            if main <= self.head {
                continue;
            }
            self.advance(main - 1);
            self.head = main;
            // What cannot be read now is tried again, and reported, by catch_up.
            let _retried_by_catch_up = self.deliver(revision, Audience::Synced, history);
        }
        self.take_woken()
    }

    /// Moves the head over revisions that were never published, as after the store
    /// was replaced by a snapshot: every watcher that may have missed something
    /// lags and reads it from the history.
    pub fn advance(&mut self, head: i64) {
        if head <= self.head {
            return;
        }
        let missed = self.head + 1;
        self.head = head;
        for range in self.ranges.indices() {
            for place in (0..self.ranges[range].synced.len()).rev() {
                let index = self.ranges[range].synced[place];
                let start = self.watchers[index].start;
                if start <= head {
                    self.fall_behind(index, start.max(missed));
                }
            }
        }
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

    /// Tells the progress of the whole stream, if none of its watches is behind or
    /// waits for a revision beyond the next one; otherwise says nothing.
    pub fn request_progress(&mut self, stream: StreamId) -> bool {
        let head = self.head;
        let Some(open) = self.streams.get_mut(stream.index) else {
            return false;
        };
        if open.generation != stream.generation
            || open.watchers.is_empty()
            || open.lagging > 0
            || open.last_revision > head
        {
            return false;
        }
        if open.latest_start > head + 1 {
            let starts = open
                .watchers
                .values()
                .map(|index| self.watchers[*index].start);
            open.latest_start = starts.max().unwrap_or(0);
            if open.latest_start > head + 1 {
                return false;
            }
        }
        let response = Response {
            revision: open.header_revision(head),
            watch_id: NO_WATCH,
            ..Response::default()
        };
        open.push_control(response);
        self.wake(stream.index);
        true
    }

    /// One tick of `progress_notify` for a stream: tells the progress of each of
    /// its watches that asked for it, is synced, and had no event since the last
    /// tick. A stream with unread output gets none.
    pub fn tick_progress(&mut self, stream: StreamId) -> Vec<StreamId> {
        if self.stream(stream).is_some() {
            self.tick(stream.index);
        }
        self.take_woken()
    }

    /// [`WatchHub::tick_progress`] for all streams.
    pub fn tick_progress_all(&mut self) -> Vec<StreamId> {
        let indices: Vec<u32> = self.streams.indices().collect();
        for index in indices {
            self.tick(index);
        }
        self.take_woken()
    }

    /// The streams that have output since they were last reported.
    pub fn take_woken(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.woken)
    }

    fn tick(&mut self, index: u32) {
        let head = self.head;
        let open = &mut self.streams[index];
        if open.notified == 0 {
            return;
        }
        let quiet = !open.has_output() && open.last_revision <= head;
        let watchers: Vec<u32> = open.watchers.values().copied().collect();
        for watcher in watchers {
            let watcher = &mut self.watchers[watcher];
            if !watcher.progress_notify {
                continue;
            }
            let due = std::mem::replace(&mut watcher.quiet, true);
            if due && quiet && watcher.is_synced() && watcher.start <= head + 1 {
                let response = Response {
                    revision: head,
                    watch_id: watcher.watch_id,
                    ..Response::default()
                };
                let open = &mut self.streams[index];
                open.header_revision(head);
                open.push_control(response);
            }
        }
        self.wake(index);
    }

    /// Queues one revision for those of the audience who want it. Who finds no
    /// room, or needs a previous value that could not be read, gets a cursor at
    /// this revision.
    pub(super) fn deliver(
        &mut self,
        revision: &[Record],
        audience: Audience,
        history: &dyn History,
    ) -> Result<(), ArchiveError> {
        self.find_ranges(revision, audience);
        if self.touched.is_empty() {
            return Ok(());
        }
        let mut result = Ok(());
        let mut frames: Vec<Frames> = Vec::new();
        frames.resize_with(revision.len(), Frames::default);
        let touched = std::mem::take(&mut self.touched);
        for &range in &touched {
            let hits = std::mem::take(&mut self.ranges[range].hits);
            let mut batches: [Option<Events>; Variant::COUNT] = Default::default();
            // From the end: who falls behind leaves the list, and its place is
            // taken by one that has had its turn.
            for place in (0..self.audience(range, audience).len()).rev() {
                let index = self.audience(range, audience)[place];
                let watcher = &self.watchers[index];
                if !watcher.takes(revision[0].rev.main, audience) {
                    continue;
                }
                let variant = watcher.variant;
                let events = match &batches[variant.index()] {
                    Some(events) => events,
                    None => {
                        let built = build(revision, &hits, variant, &mut frames, history);
                        match built {
                            Ok(events) => batches[variant.index()].insert(events),
                            Err(error) => {
                                result = Err(error);
                                self.fall_behind(index, revision[0].rev.main);
                                continue;
                            }
                        }
                    }
                };
                if let Some(events) = events.clone() {
                    self.queue(index, events, revision[0].rev.main);
                }
            }
            self.ranges[range].hits = hits;
            self.ranges[range].hits.clear();
        }
        self.touched = touched;
        self.touched.clear();
        result
    }

    /// Notes in each range with an audience which of the records lie in it, and
    /// these ranges in `touched`.
    fn find_ranges(&mut self, revision: &[Record], audience: Audience) {
        for (position, record) in (0u32..).zip(revision) {
            self.hits.clear();
            self.ranges.stab(&record.key, &mut self.hits);
            for &hit in &self.hits {
                let range = &mut self.ranges[hit];
                let watched = match audience {
                    Audience::Synced => !range.synced.is_empty(),
                    Audience::Feeding => !range.lagging.is_empty(),
                };
                if watched {
                    if range.hits.is_empty() {
                        self.touched.push(hit);
                    }
                    range.hits.push(position);
                }
            }
        }
    }

    fn audience(&self, range: u32, audience: Audience) -> &[u32] {
        match audience {
            Audience::Synced => &self.ranges[range].synced,
            Audience::Feeding => &self.ranges[range].lagging,
        }
    }

    /// Queues one revision's events for a watcher, or gives it a cursor there.
    fn queue(&mut self, index: u32, (events, bytes): (Arc<[Bytes]>, usize), main: i64) {
        let watcher = &self.watchers[index];
        let stream = watcher.stream;
        let budget = self.budget(stream);
        let open = &mut self.streams[stream];
        let count = events.len() as u64;
        let taken = open.offer(
            Batch {
                watch_id: watcher.watch_id,
                fragment: watcher.fragment,
                revision: open.last_revision.max(self.head),
                bytes,
                events,
            },
            budget,
        );
        if taken {
            open.header_revision(self.head);
            self.events += count;
            self.watchers[index].quiet = false;
            self.wake(stream);
        } else {
            self.fall_behind(index, main);
            self.park(index);
        }
    }

    /// The bytes that may wait in a stream's queue.
    fn budget(&self, stream: u32) -> usize {
        let share = self.config.total_bytes / self.streams.len().max(1);
        let watches = self
            .streams
            .get(stream)
            .map_or(0, |open| open.watchers.len());
        share
            .clamp(
                STREAM_BYTES_MIN,
                self.config.stream_bytes.max(STREAM_BYTES_MIN),
            )
            .saturating_add(watches * WATCH_BYTES)
    }

    fn stream(&mut self, stream: StreamId) -> Option<&mut Stream> {
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

    /// Gives a watcher a cursor at main revision `next`, ready to be served.
    pub(super) fn fall_behind(&mut self, index: u32, next: i64) {
        self.leave_standing(index);
        self.stand(index, Standing::Ready(next));
        self.ready.insert((next, index));
    }

    /// Takes a ready watcher out of service until its stream has room.
    fn park(&mut self, index: u32) {
        let watcher = &mut self.watchers[index];
        if let Standing::Ready(next) = watcher.standing {
            watcher.standing = Standing::Parked(next);
            self.ready.remove(&(next, index));
            self.streams[watcher.stream].parked.insert(index);
        }
    }

    /// Lets a watcher that has had everything follow the head again.
    pub(super) fn rejoin(&mut self, index: u32) {
        self.leave_standing(index);
        self.stand(index, Standing::Synced);
    }

    /// Takes a watcher out of the set that its standing keeps it in.
    fn leave_standing(&mut self, index: u32) {
        let watcher = &self.watchers[index];
        match watcher.standing {
            Standing::Synced | Standing::Feeding(_) => {}
            Standing::Ready(next) => {
                self.ready.remove(&(next, index));
            }
            Standing::Parked(_) => {
                self.streams[watcher.stream].parked.remove(&index);
            }
        }
    }

    /// Changes a watcher's standing, and its list in its range with it.
    fn stand(&mut self, index: u32, standing: Standing) {
        let was_synced = self.watchers[index].is_synced();
        let is_synced = standing == Standing::Synced;
        if was_synced == is_synced {
            self.watchers[index].standing = standing;
            return;
        }
        self.delist(index);
        self.watchers[index].standing = standing;
        self.enlist(index);
        let open = &mut self.streams[self.watchers[index].stream];
        if is_synced {
            open.lagging -= 1;
            self.slow -= 1;
        } else {
            open.lagging += 1;
            self.slow += 1;
        }
    }

    /// Adds a watcher to the list of its range that its standing asks for.
    fn enlist(&mut self, index: u32) {
        let watcher = &mut self.watchers[index];
        let range = &mut self.ranges[watcher.range];
        let list = if watcher.is_synced() {
            &mut range.synced
        } else {
            &mut range.lagging
        };
        watcher.place = list.len() as u32;
        list.push(index);
    }

    /// Takes a watcher off its range's list.
    fn delist(&mut self, index: u32) {
        let watcher = &self.watchers[index];
        let place = watcher.place as usize;
        let range = &mut self.ranges[watcher.range];
        let list = if watcher.is_synced() {
            &mut range.synced
        } else {
            &mut range.lagging
        };
        list.swap_remove(place);
        if let Some(&moved) = list.get(place) {
            self.watchers[moved].place = place as u32;
        }
    }

    /// Forgets a watcher that its stream no longer lists.
    pub(super) fn drop_watcher(&mut self, index: u32) {
        self.leave_standing(index);
        self.delist(index);
        let Some(watcher) = self.watchers.remove(index) else {
            return;
        };
        if self.ranges[watcher.range].is_unwatched() {
            self.ranges.remove(watcher.range);
        }
        let open = &mut self.streams[watcher.stream];
        open.notified -= usize::from(watcher.progress_notify);
        if !watcher.is_synced() {
            open.lagging -= 1;
            self.slow -= 1;
        }
    }
}

impl Watcher {
    /// Whether the watcher belongs to the audience of a revision.
    fn takes(&self, main: i64, audience: Audience) -> bool {
        match (audience, self.standing) {
            (Audience::Synced, Standing::Synced) => self.start <= main,
            (Audience::Feeding, Standing::Feeding(next)) => next <= main,
            _ => false,
        }
    }
}

/// A revision's events for one range and variant with their bytes, or `None` if
/// the filters leave none.
type Events = Option<(Arc<[Bytes]>, usize)>;

fn build(
    revision: &[Record],
    hits: &[u32],
    variant: Variant,
    frames: &mut [Frames],
    history: &dyn History,
) -> Result<Events, ArchiveError> {
    let mut events = Vec::with_capacity(hits.len());
    let mut bytes = 0;
    for &hit in hits {
        let record = &revision[hit as usize];
        if variant.filters.passes(record.tombstone) {
            let frame = frames[hit as usize].get(record, variant.prev_kv, history)?;
            bytes += frame.len();
            events.push(frame);
        }
    }
    Ok((!events.is_empty()).then(|| (events.into(), bytes)))
}

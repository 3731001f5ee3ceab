//! From a revision's records to the queues of those who watch their keys.

use std::sync::Arc;

use bytes::Bytes;

use super::event::Frames;
use super::history::History;
use super::hub::WatchHub;
use super::stream::{Batch, StreamId};
use super::watcher::{Standing, Variant, Watcher};
use crate::{ArchiveError, Record};

/// Whom a revision is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// The synced watchers.
    Synced,
    /// The lagging ones taking part in a slice.
    Feeding,
}

impl WatchHub {
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
    pub(super) fn budget(&self, stream: u32) -> usize {
        let share = self.config.total_bytes / self.streams.len().max(1);
        let watches = self
            .streams
            .get(stream)
            .map_or(0, |open| open.watchers.len());
        share
            .clamp(self.config.stream_bytes_min, self.config.stream_bytes)
            .saturating_add(watches * self.config.watch_bytes)
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

//! Changes that wait to be stored.

use std::time::Instant;

use etcd_proto::mvccpb::Event;
use jiff::{SignedDuration, Timestamp};

use crate::backup::{
    increment::{Frames, Mark},
    run::{Failure, Reason},
};

/// Marks are not closer together than this: a target time is as exact.
const MARKS: SignedDuration = SignedDuration::from_millis(500);

/// Whole revisions, in order and without gaps, and perhaps half of the next.
pub(super) struct Buffer {
    frames: Frames,
    /// The revision before the first.
    after: i64,
    /// The last whole one.
    revision: i64,
    /// Events of the next one, of which more are to come.
    half: Vec<Event>,
    /// When the oldest arrived.
    oldest: Option<Instant>,
    /// The last mark.
    mark: Option<Mark>,
    /// When the cluster was last known to be at `revision`.
    known: Timestamp,
    /// Whether that is newer than what was cut.
    news: bool,
}

/// What was cut off a buffer.
pub(super) struct Cut {
    /// The changes.
    pub frames: Frames,
    /// The last revision in it.
    pub revision: i64,
    /// When the cluster was known to be there.
    pub time: Timestamp,
    /// When its oldest change arrived.
    pub oldest: Option<Instant>,
}

impl Buffer {
    /// An empty one behind a revision.
    pub(super) fn new(after: i64) -> Buffer {
        Buffer {
            frames: Frames::default(),
            after,
            revision: after,
            half: Vec::new(),
            oldest: None,
            mark: None,
            known: Timestamp::now(),
            news: false,
        }
    }

    /// The last whole revision.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.frames.len() + self.half.iter().map(size).sum::<usize>()
    }

    /// Whether it holds no change.
    pub(super) fn is_empty(&self) -> bool {
        self.revision == self.after
    }

    /// When the oldest change arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Takes in events as a watch gave them. If it `goes_on`, the last revision's other
    /// events come with the next.
    ///
    /// # Errors
    /// [`Reason::MemberFailed`] if a revision is missing: the member is then asked again.
    pub(super) fn take(
        &mut self,
        events: Vec<Event>,
        goes_on: bool,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.half.extend(events);
        let held = std::mem::take(&mut self.half);
        let mut rest = held.as_slice();
        while let Some(revision) = rest.first().and_then(revision_of) {
            let count = rest
                .iter()
                .take_while(|event| revision_of(event) == Some(revision))
                .count();
            if goes_on && count == rest.len() {
                break;
            }
            let (whole, after) = rest.split_at(count);
            rest = after;
            // Sent again after a reconnection.
            if revision <= self.revision {
                continue;
            }
            if revision != self.revision + 1 {
                return Err(Failure::new(
                    Reason::MemberFailed,
                    format!(
                        "after revision {} the member sent {revision}",
                        self.revision
                    ),
                ));
            }
            self.frames.changes(revision, whole);
            self.revision = revision;
            self.oldest.get_or_insert_with(Instant::now);
            self.news = true;
        }
        self.half = rest.to_vec();
        self.reached(self.revision, now);
        Ok(())
    }

    /// The cluster is at `revision`, and all changes up to it were sent.
    pub(super) fn reached(&mut self, revision: i64, now: Timestamp) {
        if revision != self.revision || now < self.known {
            return;
        }
        self.known = now;
        self.news = true;
        let due = self
            .mark
            .is_none_or(|mark| mark.revision != revision && now.duration_since(mark.time) >= MARKS);
        if due {
            let mark = Mark {
                revision,
                time: now,
            };
            self.frames.mark(mark);
            self.mark = Some(mark);
        }
    }

    /// All the leases there are.
    pub(super) fn leases(&mut self, revision: i64, leases: &[etcd_proto::leasepb::Lease]) {
        self.frames.leases(revision, leases);
        self.news = true;
    }

    /// What the history is compacted to.
    pub(super) fn compacted(&mut self, revision: i64, compact_revision: i64) {
        self.frames.compacted(revision, compact_revision);
        self.news = true;
    }

    /// Forgets a revision of which the rest will not come.
    pub(super) fn forget_half(&mut self) {
        self.half.clear();
    }

    /// Takes out what is whole; `None` if nothing is new.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        self.after = self.revision;
        self.mark = None;
        Some(Cut {
            frames: std::mem::take(&mut self.frames),
            revision: self.revision,
            time: self.known,
            oldest: self.oldest.take(),
        })
    }
}

fn revision_of(event: &Event) -> Option<i64> {
    event.kv.as_ref().map(|kv| kv.mod_revision)
}

fn size(event: &Event) -> usize {
    event
        .kv
        .as_ref()
        .map_or(0, |kv| kv.key.len() + kv.value.len() + 64)
}

#[cfg(test)]
mod tests {
    use etcd_proto::mvccpb::KeyValue;

    use super::*;

    fn event(revision: i64) -> Event {
        Event {
            kv: Some(KeyValue {
                key: bytes::Bytes::from_static(b"k"),
                mod_revision: revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_revision_in_fragments_is_taken_when_it_is_whole() {
        let mut buffer = Buffer::new(10);
        assert!(buffer.cut().is_none());
        buffer
            .take(vec![event(11), event(12)], true, at(1))
            .unwrap();
        assert_eq!(buffer.revision(), 11);
        let cut = buffer.cut().unwrap();
        assert_eq!((cut.revision, cut.frames.events()), (11, 1));
        buffer.take(vec![event(12)], true, at(2)).unwrap();
        assert_eq!((buffer.revision(), buffer.is_empty()), (11, true));
        buffer
            .take(vec![event(12), event(13)], false, at(3))
            .unwrap();
        let cut = buffer.cut().unwrap();
        assert_eq!((cut.revision, cut.frames.events()), (13, 4));
    }

    #[test]
    fn after_a_reconnection_nothing_is_taken_twice_or_left_out() {
        let mut buffer = Buffer::new(10);
        buffer
            .take(vec![event(11), event(12)], true, at(1))
            .unwrap();
        buffer.forget_half();
        buffer
            .take(vec![event(11), event(12)], false, at(2))
            .unwrap();
        assert_eq!((buffer.revision(), buffer.frames.events()), (12, 2));
        let gap = buffer.take(vec![event(14)], false, at(3)).unwrap_err();
        assert_eq!(gap.reason, Reason::MemberFailed);
    }

    #[test]
    fn a_quiet_cluster_still_has_something_to_store_once_it_says_so() {
        let mut buffer = Buffer::new(10);
        buffer.reached(9, at(1));
        assert!(buffer.cut().is_none());
        let later = at(2);
        buffer.reached(10, later);
        let cut = buffer.cut().unwrap();
        assert_eq!((cut.revision, cut.time, cut.oldest), (10, later, None));
        assert!(buffer.cut().is_none());
    }
}

//! A watch: what it asks for and where it stands.

use std::borrow::Cow;

use bytes::Bytes;

/// Where a watched range ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeEnd {
    /// The range is its first key alone.
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// All keys from the first on.
    Unbounded,
}

/// The keys that a watch is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// The first key.
    pub key: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// Reads a request's `key` and `range_end`: an empty key is the smallest one,
    /// an empty end means the key alone, an end of one zero byte everything from
    /// the key on. The bytes are copied, so that they do not pin the request.
    pub fn from_request(key: &[u8], range_end: &[u8]) -> Result<KeyRange, Rejection> {
        let key: &[u8] = if key.is_empty() { &[0] } else { key };
        let end = match range_end {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            end if end <= key => return Err(Rejection::EmptyRange),
            end => RangeEnd::Before(Bytes::copy_from_slice(end)),
        };
        Ok(KeyRange {
            key: Bytes::copy_from_slice(key),
            end,
        })
    }

    /// Whether a key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.key,
            RangeEnd::Before(end) => key >= &self.key[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.key[..],
        }
    }
}

/// Kinds of events that a watch does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// `NOPUT`: no puts.
    pub no_put: bool,
    /// `NODELETE`: no deletions.
    pub no_delete: bool,
}

impl Filters {
    /// Whether an event of this kind is wanted.
    pub fn passes(self, tombstone: bool) -> bool {
        if tombstone {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

/// A request for a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreate {
    /// First key; empty for the smallest.
    pub key: Bytes,
    /// End of the range, exclusive; see [`KeyRange::from_request`].
    pub range_end: Bytes,
    /// First revision wanted; 0 for the one after the present. One in the future
    /// is waited for.
    pub start_revision: i64,
    /// Send the progress when there are no events.
    pub progress_notify: bool,
    /// Kinds of events not wanted.
    pub filters: Filters,
    /// Send with each event the pair it replaced.
    pub prev_kv: bool,
    /// The watch's ID on its stream; 0 to be given one.
    pub watch_id: i64,
    /// A revision's events may come in several responses.
    pub fragment: bool,
}

/// Why a watch was not created. The text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The range's end is not above its key.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The stream already has a watch of the requested ID.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// A negative start revision.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeRevision,
    /// The caller's own reason, for instance a missing permission.
    #[error("{0}")]
    Refused(Cow<'static, str>),
}

/// What became of a creation; the response is in the stream's output either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The watch exists.
    Created {
        /// Its ID on its stream.
        watch_id: i64,
    },
    /// It does not.
    Rejected(Rejection),
    /// The stream has been closed; nobody will read a response.
    StreamClosed,
}

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// At the hub's head, or waiting for its start revision beyond it.
    Synced,
    /// Behind: the next main revision it is owed. Its stream has room.
    Ready(i64),
    /// Behind, and its stream has no room.
    Parked(i64),
    /// Taking part in the slice being fed; owed from this main revision on.
    Feeding(i64),
}

#[derive(Debug)]
pub(super) struct Watcher {
    /// Index of its stream.
    pub(super) stream: u32,
    /// Its ID on that stream.
    pub(super) watch_id: i64,
    /// Index of its range.
    pub(super) range: u32,
    /// Its place in the range's list of synced or of lagging watchers.
    pub(super) place: u32,
    /// No event below this main revision.
    pub(super) start: i64,
    pub(super) standing: Standing,
    pub(super) variant: Variant,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
    /// No event since the last tick of progress.
    pub(super) quiet: bool,
}

impl Watcher {
    pub(super) fn is_synced(&self) -> bool {
        self.standing == Standing::Synced
    }
}

/// What distinguishes the event batches of watchers on one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) prev_kv: bool,
    pub(super) filters: Filters,
}

impl Variant {
    /// Number of distinct variants.
    pub(super) const COUNT: usize = 8;

    /// A number below [`Variant::COUNT`].
    pub(super) fn index(self) -> usize {
        usize::from(self.prev_kv)
            | usize::from(self.filters.no_put) << 1
            | usize::from(self.filters.no_delete) << 2
    }
}

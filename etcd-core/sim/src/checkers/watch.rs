//! Watch completeness and order: a watch gets every change of its keys once, in order,
//! or is told that what it wants was compacted.

use etcd_mvcc::Record;
use etcd_mvcc::watch::{KeyRange, RangeEnd, Response, WatchCreate};
use etcd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use etcd_proto::mvccpb::Event;
use prost::Message as _;

use super::state::{State, decode};

/// A client's side of one watch, over all its connections.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) create: WatchCreate,
    range: KeyRange,
    /// The first revision that it is owed; 0 before it was told.
    pub(crate) next: i64,
    /// Events of a revision of which more is announced.
    partial: Vec<Event>,
    pub(crate) events: u64,
    pub(crate) compactions: u64,
}

/// What a response means to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continues {
    Yes,
    /// It has to ask again, from its `next` on.
    Canceled,
}

impl Watcher {
    pub(crate) fn new(create: WatchCreate) -> Watcher {
        let range = KeyRange::from_request(&create.key, &create.range_end).unwrap_or(KeyRange {
            key: create.key.clone(),
            end: RangeEnd::Single,
        });
        Watcher {
            next: create.start_revision,
            create,
            range,
            partial: Vec::new(),
            events: 0,
            compactions: 0,
        }
    }

    /// The request for the next connection.
    pub(crate) fn request(&mut self) -> WatchCreate {
        self.partial.clear();
        WatchCreate {
            start_revision: self.next,
            ..self.create.clone()
        }
    }

    fn wants(&self, record: &Record) -> bool {
        self.range.contains(&record.key) && self.create.filters.passes(record.tombstone)
    }

    /// Whether it has had everything up to a revision.
    pub(crate) fn check_complete(&self, state: &State) -> Result<(), String> {
        match self.missing(state, state.revision()) {
            Some(record) => Err(format!(
                "watch completeness: at the end revision {} of {:?} is missing, {self:?}",
                record.rev.main, record.key
            )),
            None => Ok(()),
        }
    }

    /// The first change it is owed up to a revision.
    pub(crate) fn missing<'s>(&self, state: &'s State, upto: i64) -> Option<&'s Record> {
        state
            .between(self.next, upto)
            .find(|record| self.wants(record))
    }

    /// Takes a response in.
    pub(crate) fn take(&mut self, response: &Response, state: &State) -> Result<Continues, String> {
        let mut bytes = Vec::new();
        response.encode(&ResponseHeader::default(), &mut bytes);
        let response = WatchResponse::decode(&bytes[..])
            .map_err(|error| format!("watch: a response cannot be decoded: {error}"))?;
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        if response.canceled {
            return self.canceled(&response, state);
        }
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Ok(Continues::Yes);
        }
        if response.events.is_empty() {
            return self.progress(revision, state);
        }
        self.partial.extend(response.events);
        if response.fragment {
            return Ok(Continues::Yes);
        }
        let events = std::mem::take(&mut self.partial);
        self.take_events(&events, revision, state)
    }

    fn take_events(
        &mut self,
        events: &[Event],
        revision: i64,
        state: &State,
    ) -> Result<Continues, String> {
        let mains = events
            .iter()
            .map(|e| e.kv.as_ref().map_or(0, |kv| kv.mod_revision));
        let last = mains.clone().max().unwrap_or(0);
        let expected: Vec<&Record> = state
            .between(self.next, last)
            .filter(|record| self.wants(record))
            .collect();
        let equal = expected.len() == events.len()
            && expected.iter().zip(events).all(|(r, e)| is_event(r, e));
        if !equal {
            return Err(format!(
                "watch order: owed {:?} from revision {}, got {:?}, {:?}",
                expected
                    .iter()
                    .map(|r| (r.rev.main, r.rev.sub))
                    .collect::<Vec<_>>(),
                self.next,
                mains.collect::<Vec<_>>(),
                self.create,
            ));
        }
        if revision < last {
            return Err(format!(
                "watch: a header of revision {revision} over an event of {last}"
            ));
        }
        if self.create.prev_kv {
            for (record, event) in expected.iter().zip(events) {
                check_previous(record, event, state)?;
            }
        }
        self.events += events.len() as u64;
        self.next = last + 1;
        Ok(Continues::Yes)
    }

    fn progress(&mut self, revision: i64, state: &State) -> Result<Continues, String> {
        if let Some(record) = self.missing(state, revision) {
            return Err(format!(
                "watch progress: told {revision}, but {} is not delivered, {:?}",
                record.rev.main, self.create
            ));
        }
        self.next = self.next.max(revision + 1);
        Ok(Continues::Yes)
    }

    fn canceled(&mut self, response: &WatchResponse, state: &State) -> Result<Continues, String> {
        let compacted = response.compact_revision;
        if compacted == 0 {
            return Err(format!("watch: canceled for {:?}", response.cancel_reason));
        }
        if self.next >= compacted || compacted > state.compacted() {
            return Err(format!(
                "watch: canceled at {} by a compaction at {compacted}, the newest is {}",
                self.next,
                state.compacted()
            ));
        }
        self.next = compacted;
        self.compactions += 1;
        Ok(Continues::Canceled)
    }
}

fn is_event(record: &Record, event: &Event) -> bool {
    let Some(kv) = &event.kv else {
        return false;
    };
    let deleted = event.r#type == etcd_proto::mvccpb::event::EventType::Delete as i32;
    if kv.key != record.key || kv.mod_revision != record.rev.main || deleted != record.tombstone {
        return false;
    }
    record.tombstone || decode(record).as_ref() == Some(kv)
}

/// The previous pair is the right one, or was compacted.
fn check_previous(record: &Record, event: &Event, state: &State) -> Result<(), String> {
    let right = state.at(&record.key, record.rev.main - 1);
    let sound = match (&event.prev_kv, right) {
        (Some(told), Some(right)) => decode(right).as_ref() == Some(told),
        (Some(_), None) => false,
        (None, Some(right)) => right.rev.main < state.compacted(),
        (None, None) => true,
    };
    if sound {
        return Ok(());
    }
    Err(format!(
        "watch: revision {} came with the previous pair {:?}, not {right:?}",
        record.rev.main, event.prev_kv
    ))
}

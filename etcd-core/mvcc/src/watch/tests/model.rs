//! The hub against the plain statement of what a watch is: every event that
//! matches, once, in order, or an explicit compaction.

use bytes::Bytes;
use etcd_proto::mvccpb::{Event, KeyValue, event::EventType};
use proptest::prelude::*;
use prost::Message;

use super::client::{Client, settle};
use super::store::{Change, TestStore};
use crate::Record;
use crate::watch::{Config, Filters, KeyRange, Outcome, Slice, SliceBudget, WatchCreate, WatchHub};

const STREAMS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    /// Compact this many revisions below the newest.
    Compact(i64),
    /// Publish what the hub has not seen yet, so many revisions of it.
    Publish(usize),
    /// Skip to the store's revision, as after a snapshot.
    Advance,
    Create {
        stream: usize,
        key: u8,
        end: u8,
        /// Relative to the store's revision; `None` for 0.
        start: Option<i64>,
        filters: Filters,
        prev_kv: bool,
        fragment: bool,
        notify: bool,
    },
    Cancel {
        stream: usize,
        pick: usize,
    },
    Close {
        stream: usize,
    },
    Poll {
        stream: usize,
        credit: usize,
    },
    CatchUp(usize),
    /// Read a slice now, feed it after the next steps.
    Read(usize),
    Feed,
    Progress {
        stream: usize,
    },
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0u8..6, proptest::option::weighted(0.7, 0u8..80));
    prop_oneof![
        8 => proptest::collection::vec(change, 1..4).prop_map(Step::Commit),
        1 => (0i64..8).prop_map(Step::Compact),
        6 => (1usize..5).prop_map(Step::Publish),
        1 => Just(Step::Advance),
        3 => (
            (0..STREAMS, 0u8..6, 0u8..9, proptest::option::of(-12i64..4)),
            (0u8..4, any::<bool>(), any::<bool>(), any::<bool>()),
        ).prop_map(|((stream, key, end, start), (filter, prev_kv, fragment, notify))| Step::Create {
            stream, key, end, start, prev_kv, fragment, notify,
            filters: Filters { no_put: filter == 1, no_delete: filter == 2 },
        }),
        1 => (0..STREAMS, 0usize..8).prop_map(|(stream, pick)| Step::Cancel { stream, pick }),
        1 => (0..STREAMS).prop_map(|stream| Step::Close { stream }),
        5 => (0..STREAMS, 1usize..600).prop_map(|(stream, credit)| Step::Poll { stream, credit }),
        4 => (1usize..6).prop_map(Step::CatchUp),
        1 => (1usize..6).prop_map(Step::Read),
        2 => Just(Step::Feed),
        1 => (0..STREAMS).prop_map(|stream| Step::Progress { stream }),
        1 => Just(Step::Tick),
    ]
}

/// A watch as the model knows it.
#[derive(Debug)]
struct Expected {
    client: usize,
    watch_id: i64,
    range: KeyRange,
    /// First revision wanted.
    start: i64,
    filters: Filters,
    prev_kv: bool,
    canceled: bool,
}

fn key(n: u8) -> Bytes {
    Bytes::from(vec![b'a' + n])
}

/// The events that a watch is owed up to the store's revision. With `prev_kv`
/// set, previous values are included whether or not they were compacted.
fn owed(store: &TestStore, expected: &Expected) -> Vec<Event> {
    let wanted = |record: &&Record| {
        record.rev.main >= expected.start
            && expected.range.contains(&record.key)
            && expected.filters.passes(record.tombstone)
    };
    store
        .all
        .iter()
        .filter(wanted)
        .map(|record| {
            let deleted = KeyValue {
                key: record.key.clone(),
                mod_revision: record.rev.main,
                ..KeyValue::default()
            };
            let created = record.create_revision == record.rev.main;
            let prev = record
                .replaces
                .filter(|_| expected.prev_kv && !created)
                .map(|replaced| {
                    let at = store
                        .all
                        .binary_search_by_key(&replaced, |r| r.rev)
                        .unwrap();
                    KeyValue::decode(store.all[at].value.clone()).unwrap()
                });
            Event {
                r#type: if record.tombstone {
                    EventType::Delete
                } else {
                    EventType::Put
                }
                .into(),
                kv: Some(if record.tombstone {
                    deleted
                } else {
                    KeyValue::decode(record.value.clone()).unwrap()
                }),
                prev_kv: prev,
            }
        })
        .collect()
}

/// Equal, but that a previous value may be absent if it could have been compacted
/// by now.
fn same(got: &Event, owed: &Event, compacted: i64) -> bool {
    let main = owed.kv.as_ref().unwrap().mod_revision;
    let may_lack_prev = main <= compacted;
    got == owed
        || (may_lack_prev
            && *got
                == Event {
                    prev_kv: None,
                    ..owed.clone()
                })
}

fn run(steps: Vec<Step>) {
    let mut store = TestStore::new();
    let mut hub = WatchHub::new(
        Config {
            stream_bytes: 400,
            stream_bytes_min: 400,
            watch_bytes: 0,
            total_bytes: 1 << 20,
            response_bytes: 200,
            fragment_bytes: 160,
        },
        1,
    );
    let mut clients: Vec<Client> = (0..STREAMS).map(|_| Client::open(&mut hub)).collect();
    let mut open: Vec<usize> = (0..STREAMS).collect();
    let mut watches: Vec<Expected> = Vec::new();
    let mut slice: Option<Slice> = None;
    let budget = |records| SliceBudget {
        records,
        bytes: 1 << 20,
    };
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let mut distinct = std::collections::BTreeMap::new();
                for (k, value) in changes {
                    distinct.insert(k, value);
                }
                let changes: Vec<Change> = distinct
                    .into_iter()
                    .map(|(k, value)| match value {
                        Some(len) => Change::Put(key(k), vec![b'v'; len.into()].into()),
                        None => Change::Delete(key(k)),
                    })
                    .collect();
                store.commit(&changes);
            }
            Step::Compact(below) => {
                let revision = store.revision - below;
                if revision > store.compacted {
                    store.compact(revision);
                }
            }
            Step::Publish(count) => {
                let (from, upto) = (hub.head() + 1, hub.head() + count as i64);
                let records: Vec<Record> = store
                    .all
                    .iter()
                    .filter(|r| (from..=upto).contains(&r.rev.main))
                    .cloned()
                    .collect();
                hub.publish(&records, &store);
            }
            Step::Advance => hub.advance(store.revision),
            Step::Create {
                stream,
                key: first,
                end,
                start,
                filters,
                prev_kv,
                fragment,
                notify,
            } => {
                let client = open[stream];
                let range_end = match end {
                    0..6 => key(end),
                    6 => Bytes::new(),
                    7 => Bytes::from_static(b"\0"),
                    _ => Bytes::from_static(b"zz"),
                };
                let start_revision = start.map_or(0, |start| (store.revision + start).max(1));
                let request = WatchCreate {
                    key: key(first),
                    range_end: range_end.clone(),
                    start_revision,
                    progress_notify: notify,
                    filters,
                    prev_kv,
                    watch_id: 0,
                    fragment,
                };
                let outcome = hub.create(clients[client].stream, &request, &store);
                match KeyRange::from_request(&key(first), &range_end) {
                    Ok(range) => {
                        let Outcome::Created { watch_id } = outcome else {
                            panic!("not created: {outcome:?}");
                        };
                        let start = match start_revision {
                            0 => store.revision + 1,
                            start => start,
                        };
                        watches.push(Expected {
                            client,
                            watch_id,
                            range,
                            start,
                            filters,
                            prev_kv,
                            canceled: false,
                        });
                    }
                    Err(rejection) => assert_eq!(outcome, Outcome::Rejected(rejection)),
                }
            }
            Step::Cancel { stream, pick } => {
                let client = open[stream];
                let mut of: Vec<&mut Expected> = watches
                    .iter_mut()
                    .filter(|w| w.client == client && !w.canceled)
                    .collect();
                if !of.is_empty() {
                    let at = pick % of.len();
                    let watch = &mut of[at];
                    // A compaction may have ended it before.
                    watch.canceled = hub.cancel(clients[client].stream, watch.watch_id, &store);
                }
            }
            Step::Close { stream } => {
                hub.close_stream(clients[open[stream]].stream);
                watches.retain(|w| w.client != open[stream]);
                open[stream] = clients.len();
                let client = Client::open(&mut hub);
                clients.push(client);
            }
            Step::Poll { stream, credit } => {
                clients[open[stream]].poll(&mut hub, credit);
            }
            Step::CatchUp(records) => {
                hub.catch_up(budget(records), &store).unwrap();
            }
            Step::Read(records) => {
                if let Some(plan) = hub.plan(&store) {
                    slice = Some(Slice::read(plan, budget(records), &store).unwrap());
                }
            }
            Step::Feed => {
                if let Some(slice) = slice.take() {
                    hub.feed(&slice, &store).unwrap();
                }
            }
            Step::Progress { stream } => {
                hub.request_progress(clients[open[stream]].stream);
            }
            Step::Tick => {
                hub.tick_progress_all();
            }
        }
        for &client in &open {
            let stream = clients[client].stream;
            // The bound, or one revision of three changes and previous values.
            assert!(hub.queued_bytes(stream) <= 800);
        }
    }
    let rest: Vec<Record> = store
        .all
        .iter()
        .filter(|r| r.rev.main > hub.head())
        .cloned()
        .collect();
    hub.publish(&rest, &store);
    settle(&mut hub, &mut clients, &store);
    for expected in &watches {
        let seen = &clients[expected.client].watches[&expected.watch_id];
        let owed = owed(&store, expected);
        assert!(
            seen.events.len() <= owed.len(),
            "too many events: {expected:?}\n{seen:?}"
        );
        for (got, owed) in seen.events.iter().zip(&owed) {
            assert!(
                same(got, owed, store.compacted),
                "{got:?} instead of {owed:?}"
            );
        }
        let missing = owed.get(seen.events.len());
        if !seen.canceled {
            assert_eq!(missing, None, "lost an event: {expected:?}");
        } else if seen.compact_revision > 0 {
            assert!(expected.start < seen.compact_revision);
        } else {
            assert!(expected.canceled);
        }
        for &(revision, events) in &seen.progress {
            let due = owed
                .iter()
                .filter(|e| e.kv.as_ref().unwrap().mod_revision <= revision)
                .count();
            assert!(
                events >= due,
                "progress {revision} ahead of events: {expected:?}"
            );
            assert!(revision + 1 >= expected.start, "progress before the start");
        }
    }
    let stats = hub.stats();
    assert_eq!(stats.slow_watchers, 0);
    for &client in &open {
        hub.close_stream(clients[client].stream);
    }
    let stats = hub.stats();
    assert_eq!((stats.streams, stats.watchers), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_every_event_once_in_order(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        run(steps);
    }
}

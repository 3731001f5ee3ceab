//! What a watching client may rely on.

mod client;
mod model;
mod store;

use bytes::Bytes;
use etcd_proto::mvccpb::event::EventType;

use self::client::{Client, settle};
use self::store::{Change, TestStore};
use super::{Config, Filters, Outcome, Rejection, Slice, SliceBudget, WatchCreate, WatchHub};

fn hub(store: &TestStore) -> WatchHub {
    WatchHub::new(Config::default(), store.revision)
}

fn on(key: &'static str) -> WatchCreate {
    WatchCreate {
        key: Bytes::from_static(key.as_bytes()),
        ..WatchCreate::default()
    }
}

fn prefix(key: &'static str, end: &'static str) -> WatchCreate {
    WatchCreate {
        range_end: Bytes::from_static(end.as_bytes()),
        ..on(key)
    }
}

fn from(revision: i64, watch: WatchCreate) -> WatchCreate {
    WatchCreate {
        start_revision: revision,
        ..watch
    }
}

impl Client {
    fn watch(&mut self, hub: &mut WatchHub, request: &WatchCreate, store: &TestStore) -> i64 {
        match hub.create(self.stream, request, store) {
            Outcome::Created { watch_id } => watch_id,
            other => panic!("not created: {other:?}"),
        }
    }

    /// Mod revisions of the events that a watch has seen.
    fn revisions(&self, watch_id: i64) -> Vec<i64> {
        let events = &self.watches[&watch_id].events;
        events
            .iter()
            .map(|e| e.kv.as_ref().unwrap().mod_revision)
            .collect()
    }
}

/// Puts and publishes.
fn put(store: &mut TestStore, hub: &mut WatchHub, key: &str, value: &str) {
    let records = store.put(key, value);
    hub.publish(&records, store);
}

fn delete(store: &mut TestStore, hub: &mut WatchHub, key: &str) {
    let records = store.delete(key);
    hub.publish(&records, store);
}

#[test]
fn b085_a_watch_without_revision_begins_with_the_next_event() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    put(&mut store, &mut hub, "k", "before");
    let mut client = Client::open(&mut hub);
    let id = client.watch(&mut hub, &on("k"), &store);
    put(&mut store, &mut hub, "k", "after");
    put(&mut store, &mut hub, "other", "no");
    client.drain(&mut hub);
    assert_eq!(client.responses[0].header.unwrap().revision, 2);
    assert!(client.responses[0].created);
    assert_eq!(client.revisions(id), [3]);
}

#[test]
fn b086_a_past_revision_is_replayed_in_order() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    for value in ["1", "2", "3"] {
        put(&mut store, &mut hub, "k", value);
    }
    let mut clients = [Client::open(&mut hub)];
    let id = clients[0].watch(&mut hub, &from(3, on("k")), &store);
    settle(&mut hub, &mut clients, &store);
    put(&mut store, &mut hub, "k", "4");
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(id), [3, 4, 5]);
}

#[test]
fn b087_s29_a_future_revision_is_waited_for() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let request = WatchCreate {
        progress_notify: true,
        ..from(4, on("k"))
    };
    let id = client.watch(&mut hub, &request, &store);
    hub.take_woken();
    client.drain(&mut hub);
    assert!(
        !hub.request_progress(client.stream),
        "progress before the start"
    );
    assert_eq!(hub.tick_progress_all(), []);
    for value in ["2", "3", "4", "5"] {
        put(&mut store, &mut hub, "k", value);
    }
    client.drain(&mut hub);
    assert_eq!(client.revisions(id), [4, 5]);
}

#[test]
fn b088_an_empty_range_is_rejected() {
    let store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    for (key, end) in [("b", "a"), ("a", "a")] {
        let outcome = hub.create(client.stream, &prefix(key, end), &store);
        assert_eq!(outcome, Outcome::Rejected(Rejection::EmptyRange));
    }
    client.drain(&mut hub);
    let response = &client.responses[1];
    assert!(response.created && response.canceled);
    assert_eq!(response.watch_id, -1);
    assert_eq!(response.cancel_reason, "mvcc: watcher range is empty");
    assert_eq!(hub.stats().watchers, 0);
}

#[test]
fn b089_an_empty_key_with_a_zero_end_is_everything() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let id = client.watch(&mut hub, &prefix("", "\0"), &store);
    put(&mut store, &mut hub, "a", "");
    put(&mut store, &mut hub, "\u{10ffff}", "");
    client.drain(&mut hub);
    assert_eq!(client.revisions(id), [2, 3]);
}

#[test]
fn b091_a_canceled_watch_sends_nothing_more() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    put(&mut store, &mut hub, "k", "1");
    let mut clients = [Client::open(&mut hub)];
    let synced = clients[0].watch(&mut hub, &on("k"), &store);
    let unsynced = clients[0].watch(&mut hub, &from(2, on("k")), &store);
    let stream = clients[0].stream;
    assert!(hub.cancel(stream, synced, &store));
    assert!(hub.cancel(stream, unsynced, &store));
    assert!(!hub.cancel(stream, unsynced, &store), "unknown: silence");
    put(&mut store, &mut hub, "k", "2");
    settle(&mut hub, &mut clients, &store);
    assert!(clients[0].revisions(synced).is_empty());
    assert!(clients[0].revisions(unsynced).is_empty());
    assert_eq!(clients[0].responses.len(), 4);
    assert_eq!(hub.stats().watchers, 0);
}

#[test]
fn b092_a_put_between_view_and_publication_is_neither_lost_nor_early() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    // The view already shows the put, the hub has not been told.
    let records = store.put("k", "1");
    let mut client = Client::open(&mut hub);
    let next = client.watch(&mut hub, &on("k"), &store);
    let this = client.watch(&mut hub, &from(2, on("k")), &store);
    assert!(
        !hub.request_progress(client.stream),
        "revision 2 is not sent yet"
    );
    hub.publish(&records, &store);
    put(&mut store, &mut hub, "k", "2");
    client.drain(&mut hub);
    assert_eq!(client.watches[&next].created_at, 2);
    assert_eq!(client.revisions(next), [3]);
    assert_eq!(client.revisions(this), [2, 3]);
}

#[test]
fn b093_b095_watchers_on_one_key_receive_the_same() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut a = Client::open(&mut hub);
    let mut b = Client::open(&mut hub);
    let ids = [
        a.watch(&mut hub, &on("k"), &store),
        a.watch(&mut hub, &prefix("k", "l"), &store),
    ];
    let other = b.watch(&mut hub, &on("k"), &store);
    put(&mut store, &mut hub, "k", "1");
    delete(&mut store, &mut hub, "k");
    a.drain(&mut hub);
    b.drain(&mut hub);
    assert_eq!(a.watches[&ids[0]].events, b.watches[&other].events);
    assert_eq!(a.watches[&ids[1]].events, b.watches[&other].events);
}

#[test]
fn b094_a_transaction_is_one_response() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    client.watch(&mut hub, &prefix("a", "z"), &store);
    let records = store.commit(&[
        Change::Put("b".into(), "1".into()),
        Change::Put("c".into(), "2".into()),
    ]);
    hub.publish(&records, &store);
    client.drain(&mut hub);
    assert_eq!(client.responses.len(), 2);
    let events = &client.responses[1].events;
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|e| e.kv.as_ref().unwrap().mod_revision == 2)
    );
}

#[test]
fn b097_filters_leave_out_events_and_empty_responses() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub)];
    let filtered = |no_put, no_delete| WatchCreate {
        filters: Filters { no_put, no_delete },
        ..on("k")
    };
    let no_put = clients[0].watch(&mut hub, &filtered(true, false), &store);
    let no_delete = clients[0].watch(&mut hub, &filtered(false, true), &store);
    put(&mut store, &mut hub, "k", "1");
    delete(&mut store, &mut hub, "k");
    let late = clients[0].watch(&mut hub, &from(2, filtered(true, false)), &store);
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(no_put), [3]);
    assert_eq!(clients[0].revisions(no_delete), [2]);
    assert_eq!(clients[0].revisions(late), [3]);
    assert!(
        clients[0]
            .responses
            .iter()
            .all(|r| r.created || !r.events.is_empty())
    );
}

#[test]
fn b098_prev_kv_is_per_watcher() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let with = WatchCreate {
        prev_kv: true,
        ..on("k")
    };
    let with = client.watch(&mut hub, &with, &store);
    let without = client.watch(&mut hub, &on("k"), &store);
    put(&mut store, &mut hub, "k", "1");
    put(&mut store, &mut hub, "k", "2");
    delete(&mut store, &mut hub, "k");
    put(&mut store, &mut hub, "k", "3");
    client.drain(&mut hub);
    let prev: Vec<Option<(i64, Bytes)>> = client.watches[&with]
        .events
        .iter()
        .map(|e| e.prev_kv.clone().map(|kv| (kv.mod_revision, kv.value)))
        .collect();
    assert_eq!(
        prev,
        [None, Some((2, "1".into())), Some((3, "2".into())), None]
    );
    assert!(
        client.watches[&without]
            .events
            .iter()
            .all(|e| e.prev_kv.is_none())
    );
    let deleted = &client.watches[&with].events[2];
    assert_eq!(deleted.r#type(), EventType::Delete);
    let kv = deleted.kv.clone().unwrap();
    assert_eq!(
        (kv.mod_revision, kv.create_revision, kv.version, kv.lease),
        (4, 0, 0, 0)
    );
    assert!(kv.value.is_empty());
}

#[test]
fn b100_progress_notify_tells_quiet_watches_only() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let notify = |key| WatchCreate {
        progress_notify: true,
        ..on(key)
    };
    let busy = client.watch(&mut hub, &notify("busy"), &store);
    let quiet = client.watch(&mut hub, &notify("quiet"), &store);
    let silent = client.watch(&mut hub, &on("silent"), &store);
    put(&mut store, &mut hub, "busy", "1");
    client.drain(&mut hub);
    assert_eq!(hub.tick_progress_all(), [client.stream]);
    client.drain(&mut hub);
    assert_eq!(client.watches[&busy].progress, []);
    assert_eq!(client.watches[&quiet].progress, [(2, 0)]);
    assert_eq!(client.watches[&silent].progress, []);
    hub.tick_progress(client.stream);
    client.drain(&mut hub);
    assert_eq!(client.watches[&busy].progress, [(2, 1)]);
}

#[test]
fn b101_b102_s30_progress_is_never_ahead_of_events() {
    let mut store = TestStore::new();
    let mut hub = WatchHub::new(
        Config {
            stream_bytes: 4096,
            watch_bytes: 0,
            ..Config::default()
        },
        store.revision,
    );
    let mut clients = [Client::open(&mut hub)];
    let stream = clients[0].stream;
    let request = WatchCreate {
        progress_notify: true,
        ..on("k")
    };
    let id = clients[0].watch(&mut hub, &request, &store);
    assert!(hub.request_progress(stream));
    let value = "v".repeat(3000);
    for _ in 0..20 {
        put(&mut store, &mut hub, "k", &value);
        hub.request_progress(stream);
        hub.tick_progress_all();
    }
    assert_eq!(hub.stats().slow_watchers, 1);
    assert!(!hub.request_progress(stream), "a watcher is behind");
    settle(&mut hub, &mut clients, &store);
    assert!(hub.request_progress(stream));
    clients[0].drain(&mut hub);
    let seen = &clients[0].watches[&id];
    assert_eq!(seen.events.len(), 20);
    assert_eq!(seen.progress.last(), Some(&(21, 20)));
    for &(revision, events) in &seen.progress {
        assert!(
            events as i64 >= revision - 1,
            "progress {revision} after {events} events"
        );
    }
    assert_eq!(clients[0].responses.last().unwrap().watch_id, -1);
}

#[test]
fn a_stream_without_watches_makes_no_progress() {
    let store = TestStore::new();
    let mut hub = hub(&store);
    let client = Client::open(&mut hub);
    assert!(!hub.request_progress(client.stream));
}

#[test]
fn b104_s28_a_start_below_the_compaction_is_told_so() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    for value in ["1", "2", "3", "4"] {
        put(&mut store, &mut hub, "k", value);
    }
    store.compact(4);
    let mut clients = [Client::open(&mut hub)];
    let below = clients[0].watch(&mut hub, &from(3, on("k")), &store);
    let exact = clients[0].watch(&mut hub, &from(4, on("k")), &store);
    settle(&mut hub, &mut clients, &store);
    let seen = &clients[0].watches[&below];
    assert!(seen.canceled && seen.events.is_empty());
    assert_eq!(seen.compact_revision, 4);
    let canceled = clients[0].responses.iter().find(|r| r.canceled).unwrap();
    assert_eq!(canceled.header.unwrap().revision, 0);
    assert_eq!(clients[0].revisions(exact), [4, 5]);
}

#[test]
fn s28_a_watch_from_the_compacted_revision_sees_the_deletion_there() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    put(&mut store, &mut hub, "k", "1");
    delete(&mut store, &mut hub, "k");
    put(&mut store, &mut hub, "k", "2");
    store.compact(3);
    let mut clients = [Client::open(&mut hub)];
    let request = WatchCreate {
        prev_kv: true,
        ..from(3, on("k"))
    };
    let id = clients[0].watch(&mut hub, &request, &store);
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(id), [3, 4]);
    assert_eq!(clients[0].watches[&id].events[0].prev_kv, None, "compacted");
}

#[test]
fn b105_a_compaction_between_reading_and_feeding_loses_nothing() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    for value in ["1", "2", "3", "4"] {
        put(&mut store, &mut hub, "k", value);
    }
    let mut clients = [Client::open(&mut hub)];
    let id = clients[0].watch(&mut hub, &from(2, on("k")), &store);
    let budget = SliceBudget {
        records: 2,
        bytes: usize::MAX,
    };
    let plan = hub.plan(&store).unwrap();
    let slice = Slice::read(plan, budget, &store).unwrap();
    store.compact(5);
    hub.feed(&slice, &store).unwrap();
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(id), [2, 3]);
    assert_eq!(
        clients[0].watches[&id].compact_revision, 5,
        "4 is gone, and it says so"
    );
}

#[test]
fn b106_a_large_revision_is_split_for_those_who_allow_it() {
    let mut store = TestStore::new();
    let mut hub = WatchHub::new(
        Config {
            fragment_bytes: 4096,
            ..Config::default()
        },
        store.revision,
    );
    let mut client = Client::open(&mut hub);
    let whole = client.watch(&mut hub, &prefix("k", "l"), &store);
    let request = WatchCreate {
        fragment: true,
        ..prefix("k", "l")
    };
    let split = client.watch(&mut hub, &request, &store);
    let changes: Vec<Change> = (0..20)
        .map(|i| Change::Put(format!("k{i:02}").into(), vec![b'v'; 1000].into()))
        .collect();
    let records = store.commit(&changes);
    hub.publish(&records, &store);
    client.drain(&mut hub);
    assert_eq!(client.watches[&whole].events, client.watches[&split].events);
    let parts: Vec<_> = client
        .responses
        .iter()
        .filter(|r| r.watch_id == split && !r.created)
        .collect();
    assert_eq!(parts.len(), 7);
    let (last, others) = parts.split_last().unwrap();
    assert!(!last.fragment && others.iter().all(|r| r.fragment));
    assert!(parts.iter().all(|r| prost::Message::encoded_len(*r) < 4096));
    assert_eq!(
        client
            .responses
            .iter()
            .filter(|r| r.watch_id == whole)
            .count(),
        2
    );
}

#[test]
fn b107_watch_ids_are_chosen_or_given() {
    let store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let numbered = |watch_id| WatchCreate {
        watch_id,
        ..on("k")
    };
    let stream = client.stream;
    assert_eq!(client.watch(&mut hub, &numbered(0), &store), 0);
    assert_eq!(client.watch(&mut hub, &numbered(1), &store), 1);
    assert_eq!(client.watch(&mut hub, &numbered(0), &store), 2);
    let outcome = hub.create(stream, &numbered(1), &store);
    assert_eq!(outcome, Outcome::Rejected(Rejection::DuplicateId));
    assert!(hub.cancel(stream, 1, &store));
    assert_eq!(client.watch(&mut hub, &numbered(1), &store), 1);
    client.drain(&mut hub);
    let rejected = client
        .responses
        .iter()
        .find(|r| r.created && r.canceled)
        .unwrap();
    assert_eq!(
        rejected.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
}

#[test]
fn b108_the_number_of_watchers_falls_with_a_cancel_and_a_close() {
    let store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let id = client.watch(&mut hub, &on("k"), &store);
    client.watch(&mut hub, &on("k"), &store);
    assert_eq!(hub.stats().watchers, 2);
    hub.cancel(client.stream, id, &store);
    assert_eq!(hub.stats().watchers, 1);
    hub.close_stream(client.stream);
    assert_eq!(hub.stats(), Default::default());
    assert_eq!(
        hub.create(client.stream, &on("k"), &store),
        Outcome::StreamClosed
    );
}

#[test]
fn b110_a_refused_watch_leaves_watch_zero_alone() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    hub.reject(client.stream, Rejection::Refused(reason.into()), &store);
    let id = client.watch(&mut hub, &on("k"), &store);
    put(&mut store, &mut hub, "k", "1");
    client.drain(&mut hub);
    assert_eq!(id, 0);
    assert_eq!(client.responses[0].cancel_reason, reason);
    assert_eq!(client.revisions(0), [2]);
}

#[test]
fn b112_s29_a_snapshot_leaves_no_gap() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub)];
    let id = clients[0].watch(&mut hub, &on("k"), &store);
    let future = clients[0].watch(&mut hub, &from(4, on("k")), &store);
    put(&mut store, &mut hub, "k", "2");
    // The member was cut off; what it missed came as a snapshot.
    for value in ["3", "4", "5"] {
        store.put("k", value);
    }
    hub.advance(store.revision);
    put(&mut store, &mut hub, "k", "6");
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(id), [2, 3, 4, 5, 6]);
    assert_eq!(clients[0].revisions(future), [4, 5, 6]);
}

#[test]
fn s29_a_missing_publication_is_read_from_the_history() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub)];
    let id = clients[0].watch(&mut hub, &on("k"), &store);
    store.put("k", "2");
    let records = store.put("k", "3");
    hub.publish(&records, &store);
    hub.publish(&records, &store);
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(id), [2, 3]);
}

#[test]
fn s31_a_stalled_stream_is_bounded_and_loses_nothing() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub), Client::open(&mut hub)];
    let stalled = clients[0].watch(&mut hub, &prefix("k", "l"), &store);
    let healthy = clients[1].watch(&mut hub, &prefix("k", "l"), &store);
    let bound = Config::default().stream_bytes + 2048;
    let value = "v".repeat(1000);
    let count = 3000;
    for i in 0..count {
        put(&mut store, &mut hub, &format!("k{}", i % 10), &value);
        while hub.wants_catch_up() {
            hub.catch_up(SliceBudget::default(), &store).unwrap();
        }
        clients[1].drain(&mut hub);
        assert!(hub.queued_bytes(clients[0].stream) <= bound);
    }
    assert_eq!(clients[1].revisions(healthy).len(), count);
    assert_eq!(hub.stats().slow_watchers, 1);
    settle(&mut hub, &mut clients, &store);
    assert_eq!(
        clients[0].revisions(stalled),
        (2..count as i64 + 2).collect::<Vec<_>>()
    );
    assert_eq!(hub.stats().slow_watchers, 0);
}

#[test]
fn s31_only_a_compaction_ends_a_slow_watch() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub)];
    let id = clients[0].watch(&mut hub, &on("k"), &store);
    let value = "v".repeat(100_000);
    for _ in 0..20 {
        put(&mut store, &mut hub, "k", &value);
    }
    store.compact(store.revision);
    settle(&mut hub, &mut clients, &store);
    let seen = &clients[0].watches[&id];
    let sent = seen.events.len();
    assert!(sent > 0 && sent < 20);
    assert_eq!(
        clients[0].revisions(id),
        (2..2 + sent as i64).collect::<Vec<_>>()
    );
    assert_eq!(seen.compact_revision, 21);
}

#[test]
fn s31_many_streams_share_one_bound() {
    let mut store = TestStore::new();
    let config = Config {
        total_bytes: 1 << 20,
        ..Config::default()
    };
    let mut hub = WatchHub::new(config, store.revision);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::open(&mut hub)).collect();
    for client in &mut clients {
        client.watch(&mut hub, &on("k"), &store);
    }
    let value = "v".repeat(500);
    for _ in 0..500 {
        put(&mut store, &mut hub, "k", &value);
    }
    let queued: usize = clients.iter().map(|c| hub.queued_bytes(c.stream)).sum();
    assert!(queued <= (1 << 20) + 100 * 2048, "{queued}");
    settle(&mut hub, &mut clients, &store);
    assert!(clients.iter().all(|c| c.revisions(0).len() == 500));
}

#[test]
fn laggards_share_a_slice_and_far_groups_take_turns() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    for i in 0..100 {
        put(&mut store, &mut hub, "k", &i.to_string());
    }
    let mut client = Client::open(&mut hub);
    let old = [2, 3, 5].map(|rev| client.watch(&mut hub, &from(rev, on("k")), &store));
    let new = client.watch(&mut hub, &from(100, on("k")), &store);
    let budget = SliceBudget {
        records: 10,
        bytes: usize::MAX,
    };
    hub.catch_up(budget, &store).unwrap();
    client.drain(&mut hub);
    assert_eq!(old.map(|id| client.revisions(id).len()), [10, 9, 7]);
    hub.catch_up(budget, &store).unwrap();
    client.drain(&mut hub);
    assert_eq!(
        client.revisions(new),
        [100, 101],
        "its turn comes before theirs again"
    );
    hub.catch_up(budget, &store).unwrap();
    client.drain(&mut hub);
    assert_eq!(old.map(|id| client.revisions(id).len()), [20, 19, 17]);
}

#[test]
fn a_stream_is_woken_once_until_it_is_polled_empty() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    client.watch(&mut hub, &on("k"), &store);
    assert_eq!(hub.take_woken(), [client.stream]);
    let records = store.put("k", "1");
    assert_eq!(hub.publish(&records, &store), []);
    assert_eq!(
        client.poll(&mut hub, 1),
        1,
        "a credit of one byte is one response"
    );
    assert!(hub.has_output(client.stream));
    client.drain(&mut hub);
    let records = store.put("k", "2");
    assert_eq!(hub.publish(&records, &store), [client.stream]);
    assert_eq!(hub.poll(client.stream, 0), []);
}

#[test]
fn a_history_that_cannot_be_read_is_reported_and_loses_nothing() {
    let mut store = TestStore::new();
    let mut hub = hub(&store);
    let mut clients = [Client::open(&mut hub)];
    let request = WatchCreate {
        prev_kv: true,
        ..on("k")
    };
    let with = clients[0].watch(&mut hub, &request, &store);
    let without = clients[0].watch(&mut hub, &on("k"), &store);
    put(&mut store, &mut hub, "k", "1");
    store.broken = true;
    put(&mut store, &mut hub, "k", "2");
    assert!(hub.catch_up(SliceBudget::default(), &store).is_err());
    assert!(hub.catch_up(SliceBudget::default(), &store).is_err());
    clients[0].drain(&mut hub);
    assert_eq!(clients[0].revisions(without), [2, 3]);
    assert_eq!(clients[0].revisions(with), [2]);
    store.broken = false;
    settle(&mut hub, &mut clients, &store);
    assert_eq!(clients[0].revisions(with), [2, 3]);
}

#[test]
fn responses_waiting_for_a_client_that_does_not_read_are_counted() {
    let store = TestStore::new();
    let mut hub = hub(&store);
    let mut client = Client::open(&mut hub);
    for _ in 0..10 {
        client.watch(&mut hub, &on("k"), &store);
    }
    assert_eq!(hub.control_backlog(client.stream), 10);
    client.drain(&mut hub);
    assert_eq!(hub.control_backlog(client.stream), 0);
}

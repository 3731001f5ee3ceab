//! Watches of what happens now.

use etcd_e2e::client::{ZERO, delete, delete_range, op, put};
use etcd_e2e::compare::txn;
use etcd_e2e::watch::{key, prefix, range};
use etcd_e2e::{Watch, eventually};
use etcd_proto::etcdserverpb::watch_create_request::FilterType;
use etcd_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest};
use etcd_proto::mvccpb::Event;
use etcd_proto::mvccpb::event::EventType;

use crate::pool::server;

fn text(event: &Event) -> (EventType, String, i64) {
    let kv = event.kv.as_ref().expect("an event has a key");
    (
        event.r#type(),
        String::from_utf8_lossy(&kv.key).into_owned(),
        kv.mod_revision,
    )
}

fn previous(event: &Event) -> Option<String> {
    event
        .prev_kv
        .as_ref()
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

#[tokio::test]
async fn b085_from_now_on() {
    let server = server().await;
    let client = &server.client;
    let revision = client
        .put("k", "old")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let mut watch = client.watch();
    let created = watch.create(key("k")).await;
    assert!(created.created && !created.canceled && created.events.is_empty());
    assert_eq!(
        (created.watch_id, created.header.unwrap().revision),
        (0, revision)
    );
    let next = client
        .put("k", "new")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let response = watch.next().await;
    assert_eq!(
        (response.watch_id, response.header.unwrap().revision),
        (0, next)
    );
    assert_eq!(response.events.len(), 1);
    let event = &response.events[0];
    let kv = event.kv.as_ref().unwrap();
    assert_eq!(
        (event.r#type(), &kv.value[..], kv.version),
        (EventType::Put, &b"new"[..], 2)
    );
    assert_eq!((kv.create_revision, kv.mod_revision), (revision, next));
    assert_eq!(event.prev_kv, None);
    let deleted = client
        .delete(delete("k"))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let event = watch.events(1).await.remove(0);
    let kv = event.kv.as_ref().unwrap();
    assert_eq!(text(&event), (EventType::Delete, "k".into(), deleted));
    assert_eq!(
        (kv.create_revision, kv.version, kv.lease, kv.value.len()),
        (0, 0, 0, 0)
    );
}

#[tokio::test]
async fn b088_empty_range() {
    let server = server().await;
    let mut watch = server.client.watch();
    for (from, end) in [("b", "a"), ("b", "b")] {
        let refused = watch.create(range(from, end)).await;
        assert!(refused.created && refused.canceled, "{refused:?}");
        assert_eq!(
            (refused.watch_id, refused.cancel_reason.as_str()),
            (-1, "mvcc: watcher range is empty")
        );
    }
    // The stream goes on.
    let created = watch.create(key("k")).await;
    assert_eq!((created.canceled, created.watch_id), (false, 0));
    server.client.put("k", "v").await.unwrap();
    watch.events(1).await;
}

#[tokio::test]
async fn b089_everything() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    watch.create(range("", ZERO)).await;
    client.put(ZERO, "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    client.put(b"\xff\xff", "v").await.unwrap();
    let keys: Vec<_> = watch
        .events(3)
        .await
        .into_iter()
        .map(|event| event.kv.unwrap().key)
        .collect();
    assert_eq!(keys, [&b"\0"[..], b"k", b"\xff\xff"]);
}

#[tokio::test]
async fn b089_bounds() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    watch.create(range("b", "d")).await;
    let mut open = client.watch();
    open.create(range("c", ZERO)).await;
    for name in ["a", "b", "ba", "c", "cz", "d", "e"] {
        client.put(name, "v").await.unwrap();
    }
    let keys = |events: Vec<Event>| events.iter().map(|event| text(event).1).collect::<Vec<_>>();
    assert_eq!(keys(watch.events(4).await), ["b", "ba", "c", "cz"]);
    assert_eq!(keys(open.events(4).await), ["c", "cz", "d", "e"]);
}

#[tokio::test]
async fn b092_put_while_creating() {
    let server = server().await;
    let client = &server.client;
    for round in 0..20 {
        let name = format!("race/{round}");
        let mut watch = client.watch();
        let (created, put) = tokio::join!(watch.create(key(&name)), client.put(&name, "v"));
        let revision = put.unwrap().header.unwrap().revision;
        // From what the created response names as current, nothing is left out.
        if created.header.unwrap().revision < revision {
            assert_eq!(text(&watch.events(1).await[0]).2, revision);
        } else {
            let second = client
                .put(&name, "w")
                .await
                .unwrap()
                .header
                .unwrap()
                .revision;
            assert_eq!(text(&watch.events(1).await[0]).2, second);
        }
    }
}

#[tokio::test]
async fn b093_two_watchers_of_a_key() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    let first = watch.create(key("k")).await.watch_id;
    let second = watch.create(key("k")).await.watch_id;
    assert_eq!((first, second), (0, 1));
    let mut other = client.watch();
    other.create(key("k")).await;
    let revision = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = watch.next().await;
        assert_eq!(text(&response.events[0]).2, revision);
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1]);
    assert_eq!(text(&other.events(1).await[0]).2, revision);
}

#[tokio::test]
async fn b094_transaction_is_one_response() {
    let server = server().await;
    let client = &server.client;
    client.put("t/d", "v").await.unwrap();
    let mut watch = client.watch();
    watch.create(prefix("t/")).await;
    let ops = [
        op(put("t/c", "1")),
        op(put("t/a", "1")),
        op(put("other", "1")),
        op(delete("t/d")),
        op(put("t/b", "1")),
    ];
    let revision = client
        .txn(txn([], ops, []))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let response = watch.next().await;
    let events: Vec<_> = response.events.iter().map(text).collect();
    // In the order in which the transaction did them.
    assert_eq!(
        events,
        [
            (EventType::Put, "t/c".into(), revision),
            (EventType::Put, "t/a".into(), revision),
            (EventType::Delete, "t/d".into(), revision),
            (EventType::Put, "t/b".into(), revision)
        ]
    );
    assert_eq!(response.header.unwrap().revision, revision);
}

#[tokio::test]
async fn b095_streams_see_the_same() {
    let server = server().await;
    let client = &server.client;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut watch = client.watch();
        watch.create(prefix("s/")).await;
        streams.push(watch);
    }
    for number in 0..50 {
        client
            .put(format!("s/{}", number % 7), format!("{number}"))
            .await
            .unwrap();
        if number % 10 == 9 {
            client.delete(delete_range("s/", "s/3")).await.unwrap();
        }
    }
    let expected = streams[0].events(50 + 5 * 3).await;
    for watch in &mut streams[1..] {
        assert_eq!(watch.events(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn b097_filters() {
    let server = server().await;
    let client = &server.client;
    let filtered = |filter: FilterType| WatchCreateRequest {
        filters: vec![filter.into()],
        ..key("k")
    };
    let mut deletes = client.watch();
    deletes.create(filtered(FilterType::Noput)).await;
    let mut puts = client.watch();
    puts.create(filtered(FilterType::Nodelete)).await;
    for _ in 0..2 {
        client.put("k", "v").await.unwrap();
        client.delete(delete("k")).await.unwrap();
    }
    for event in puts.events(2).await {
        assert_eq!(event.r#type(), EventType::Put);
    }
    for event in deletes.events(2).await {
        assert_eq!(event.r#type(), EventType::Delete);
    }
    // Also from the past.
    let from = client.revision().await.unwrap() - 3;
    let mut past = client.watch();
    past.create(WatchCreateRequest {
        start_revision: from,
        ..filtered(FilterType::Noput)
    })
    .await;
    for event in past.events(2).await {
        assert_eq!(event.r#type(), EventType::Delete);
    }
}

#[tokio::test]
async fn b098_prev_kv_per_watcher() {
    let server = server().await;
    let client = &server.client;
    let mut with = client.watch();
    with.create(WatchCreateRequest {
        prev_kv: true,
        ..key("k")
    })
    .await;
    let mut mixed = client.watch();
    mixed
        .create(WatchCreateRequest {
            watch_id: 5,
            ..key("k")
        })
        .await;
    mixed
        .create(WatchCreateRequest {
            watch_id: 6,
            prev_kv: true,
            ..key("k")
        })
        .await;
    client.put("k", "1").await.unwrap();
    client.put("k", "2").await.unwrap();
    client.delete(delete("k")).await.unwrap();
    client.put("k", "3").await.unwrap();
    let expected = [None, Some("1".into()), Some("2".into()), None];
    assert_eq!(
        with.events(4)
            .await
            .iter()
            .map(previous)
            .collect::<Vec<_>>(),
        expected
    );
    let (mut plain, mut full) = (Vec::new(), Vec::new());
    while plain.len() + full.len() < 8 {
        let response = mixed.next().await;
        let values = response.events.iter().map(previous);
        if response.watch_id == 6 {
            full.extend(values)
        } else {
            plain.extend(values)
        }
    }
    assert_eq!(full, expected);
    assert_eq!(plain, [None, None, None, None]);
}

#[tokio::test]
async fn b098_prev_kv_of_a_compacted_revision_is_absent() {
    let server = server().await;
    let client = &server.client;
    client.put("k", "1").await.unwrap();
    let second = client.put("k", "2").await.unwrap().header.unwrap().revision;
    client.put("k", "3").await.unwrap();
    client.compact(second).await.unwrap();
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            prev_kv: true,
            start_revision: second,
            ..key("k")
        })
        .await;
    let found: Vec<_> = watch.events(2).await.iter().map(previous).collect();
    assert_eq!(found, [None, Some("2".into())]);
}

#[tokio::test]
async fn b098_prev_kv_within_a_transaction() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(60, 0).await.unwrap().id;
    client
        .put_with(PutRequest {
            lease,
            ..put("p/a", "1")
        })
        .await
        .unwrap();
    client.put("p/b", "1").await.unwrap();
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            prev_kv: true,
            ..prefix("p/")
        })
        .await;
    client
        .delete(DeleteRangeRequest {
            prev_kv: true,
            ..delete_range("p/", "p0")
        })
        .await
        .unwrap();
    let events = watch.events(2).await;
    let before = events[0].prev_kv.as_ref().unwrap();
    assert_eq!(
        (&before.key[..], &before.value[..], before.lease),
        (&b"p/a"[..], &b"1"[..], lease)
    );
    assert_eq!(previous(&events[1]), Some("1".into()));
}

#[tokio::test]
async fn b114_revisions_never_fall() {
    let server = server().await;
    let client = &server.client;
    let start = client.revision().await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    client
                        .put(format!("w/{writer}/{number}"), "v")
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    // Watches begin while the writers write, on one stream and on several.
    let mut streams: Vec<Watch> = Vec::new();
    for _ in 0..4 {
        let mut watch = client.watch();
        watch
            .create(WatchCreateRequest {
                start_revision: start + 1,
                ..prefix("w/")
            })
            .await;
        streams.push(watch);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for watch in &mut streams {
        let mut last = start;
        while last < start + 400 {
            let response = watch.next().await;
            for event in &response.events {
                let revision = text(event).2;
                assert_eq!(revision, last + 1);
                last = revision;
            }
            assert!(response.header.unwrap().revision >= last);
        }
    }
    eventually(
        etcd_e2e::watch::ANSWER_WITHIN,
        "the last revision",
        async || {
            let now = client
                .revision()
                .await
                .map_err(|status| status.to_string())?;
            if now == start + 400 {
                Ok(())
            } else {
                Err(now.to_string())
            }
        },
    )
    .await;
}

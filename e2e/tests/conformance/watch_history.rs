//! Watches that begin in the past or in the future.

use std::time::Duration;

use etcd_e2e::Options;
use etcd_e2e::client::{delete, delete_range, put};
use etcd_e2e::watch::{key, prefix};
use etcd_proto::etcdserverpb::WatchCreateRequest;
use etcd_proto::mvccpb::Event;

use crate::pool::{fresh, server};

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

#[tokio::test]
async fn b086_replay() {
    let server = server().await;
    let client = &server.client;
    let mut expected = Vec::new();
    for number in 0..20 {
        expected.push(
            client
                .put(format!("r/{}", number % 3), "v")
                .await
                .unwrap()
                .header
                .unwrap()
                .revision,
        );
        client.put("other", "v").await.unwrap();
    }
    expected.push(
        client
            .delete(delete("r/1"))
            .await
            .unwrap()
            .header
            .unwrap()
            .revision,
    );
    for from in [0, 7, 20] {
        let mut watch = client.watch();
        let created = watch
            .create(WatchCreateRequest {
                start_revision: expected[from],
                ..prefix("r/")
            })
            .await;
        assert_eq!(created.header.unwrap().revision, *expected.last().unwrap());
        let found: Vec<i64> = watch
            .events(expected.len() - from)
            .await
            .iter()
            .map(revision)
            .collect();
        assert_eq!(found, &expected[from..]);
    }
    // And goes on with what happens next.
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            start_revision: *expected.last().unwrap(),
            ..prefix("r/")
        })
        .await;
    let next = client
        .put("r/9", "v")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let found: Vec<i64> = watch.events(2).await.iter().map(revision).collect();
    assert_eq!(found, [*expected.last().unwrap(), next]);
}

#[tokio::test]
async fn b087_s29_future() {
    let server = server().await;
    let client = &server.client;
    let now = client.revision().await.unwrap();
    let mut watch = client.watch();
    let created = watch
        .create(WatchCreateRequest {
            start_revision: now + 5,
            ..prefix("f/")
        })
        .await;
    assert_eq!(
        (created.canceled, created.header.unwrap().revision),
        (false, now)
    );
    for number in 1..=6 {
        let at = client
            .put(format!("f/{number}"), "v")
            .await
            .unwrap()
            .header
            .unwrap()
            .revision;
        assert_eq!(at, now + number);
    }
    let found: Vec<i64> = watch.events(2).await.iter().map(revision).collect();
    assert_eq!(found, [now + 5, now + 6]);
}

#[tokio::test]
async fn b104_negative_start() {
    let server = server().await;
    let mut watch = server.client.watch();
    let refused = watch
        .create(WatchCreateRequest {
            start_revision: -1,
            ..key("k")
        })
        .await;
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.watch_id, -1);
    assert_eq!(
        refused.cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert!(!watch.create(key("k")).await.canceled);
}

#[tokio::test]
async fn b104_s28_below_compacted() {
    let server = server().await;
    let client = &server.client;
    for number in 0..10 {
        client.put("k", format!("{number}")).await.unwrap();
    }
    let now = client.revision().await.unwrap();
    client.compact(now - 3).await.unwrap();
    let mut watch = client.watch();
    let created = watch
        .create(WatchCreateRequest {
            start_revision: now - 4,
            ..key("k")
        })
        .await;
    assert_eq!((created.canceled, created.watch_id), (false, 0));
    let canceled = watch.next().await;
    assert!(canceled.canceled && !canceled.created, "{canceled:?}");
    assert_eq!((canceled.watch_id, canceled.compact_revision), (0, now - 3));
    assert_eq!(canceled.header.unwrap().revision, 0);
    assert!(canceled.events.is_empty());
    // The compacted revision itself is still there.
    watch
        .create(WatchCreateRequest {
            start_revision: now - 3,
            ..key("k")
        })
        .await;
    let found: Vec<i64> = watch.events(4).await.iter().map(revision).collect();
    assert_eq!(found, [now - 3, now - 2, now - 1, now]);
}

#[tokio::test]
async fn b105_s28_compaction_beside_a_watcher() {
    let server = server().await;
    let client = &server.client;
    let start = client.revision().await.unwrap();
    let mut live = client.watch();
    live.create(prefix("c/")).await;
    let (writer, compactor) = (client.clone(), client.clone());
    let writing = tokio::spawn(async move {
        for number in 0..300 {
            writer
                .put(format!("c/{}", number % 5), format!("{number}"))
                .await
                .unwrap();
        }
    });
    let compacting = tokio::spawn(async move {
        let mut last = start;
        while last < start + 300 {
            let now = compactor.revision().await.unwrap();
            if now > last {
                compactor.compact(now).await.unwrap();
                last = now;
            }
        }
    });
    // One that was in step loses nothing to compaction.
    let found: Vec<i64> = live.events(300).await.iter().map(revision).collect();
    assert_eq!(found, (start + 1..=start + 300).collect::<Vec<_>>());
    writing.await.unwrap();
    compacting.await.unwrap();
}

#[tokio::test]
async fn b105_s28_laggards_get_all_or_are_canceled() {
    let server = server().await;
    let client = &server.client;
    for number in 0..100 {
        client.put("k", format!("{number}")).await.unwrap();
    }
    let now = client.revision().await.unwrap();
    let start = now - 99;
    for step in 0..10 {
        let mut watch = client.watch();
        let request = WatchCreateRequest {
            start_revision: start + step * 10,
            ..key("k")
        };
        let (created, compacted) =
            tokio::join!(watch.create(request), client.compact(start + step * 10 + 5));
        compacted.unwrap();
        assert!(!created.canceled);
        let mut next = start + step * 10;
        while next <= now {
            let response = watch.next().await;
            if response.canceled {
                assert_eq!(response.compact_revision, start + step * 10 + 5);
                break;
            }
            for event in &response.events {
                assert_eq!(revision(event), next);
                next += 1;
            }
        }
    }
}

/// Twenty values of 256 KiB, deleted at once, for a watcher that wants the previous values: 5 MiB in one revision.
async fn big_revision(fragment: bool) -> (i64, Vec<etcd_proto::etcdserverpb::WatchResponse>) {
    let (_server, client) = fresh(Options::single()).await;
    for number in 0..20 {
        client
            .put_with(put(format!("big/{number:02}"), vec![b'v'; 256 << 10]))
            .await
            .unwrap();
    }
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            prev_kv: true,
            fragment,
            ..prefix("big/")
        })
        .await;
    let at = client
        .delete(delete_range("big/", "big0"))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let mut responses = Vec::new();
    let mut events = 0;
    while events < 20 {
        let response = watch.next().await;
        events += response.events.len();
        responses.push(response);
    }
    assert_eq!(
        watch.try_next(Duration::from_millis(50)).await.unwrap(),
        None
    );
    (at, responses)
}

#[tokio::test]
async fn b106_without_fragments() {
    let (at, responses) = big_revision(false).await;
    assert_eq!(responses.len(), 1);
    assert!(!responses[0].fragment);
    assert!(
        responses[0]
            .events
            .iter()
            .all(|event| revision(event) == at)
    );
}

#[tokio::test]
async fn b106_with_fragments() {
    let (at, responses) = big_revision(true).await;
    assert!(
        responses.len() >= 3,
        "{} responses hold 5 MiB",
        responses.len()
    );
    let (last, others) = responses.split_last().unwrap();
    assert!(!last.fragment && others.iter().all(|response| response.fragment));
    let mut keys = Vec::new();
    for response in &responses {
        assert_eq!(response.header.unwrap().revision, at);
        // 1.5 MiB for a request and 512 KiB around it.
        assert!(prost::Message::encoded_len(response) <= 2 << 20);
        for event in &response.events {
            assert_eq!(
                (revision(event), event.prev_kv.as_ref().unwrap().value.len()),
                (at, 256 << 10)
            );
            keys.push(event.kv.as_ref().unwrap().key.clone());
        }
    }
    assert_eq!(
        keys,
        (0..20)
            .map(|number| format!("big/{number:02}"))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn b106_small_ones_are_not_split() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            fragment: true,
            ..key("k")
        })
        .await;
    client.put("k", "v").await.unwrap();
    let response = watch.next().await;
    assert_eq!((response.fragment, response.events.len()), (false, 1));
}

#[tokio::test]
async fn b111_resume() {
    let server = server().await;
    let client = &server.client;
    let start = client.revision().await.unwrap();
    let writer = client.clone();
    let writing = tokio::spawn(async move {
        for number in 0..300 {
            writer
                .put(format!("r/{}", number % 5), format!("{number}"))
                .await
                .unwrap();
        }
    });
    let mut next = start + 1;
    while next <= start + 300 {
        // A connection of its own, cut after a few events.
        let mut watch = server.client().watch();
        watch
            .create(WatchCreateRequest {
                start_revision: next,
                ..prefix("r/")
            })
            .await;
        let goal = (next + 20).min(start + 300);
        while next <= goal {
            for event in watch.next().await.events {
                assert_eq!(revision(&event), next);
                next += 1;
            }
        }
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn b113_expiry_is_a_deletion() {
    let server = server().await;
    let client = &server.client;
    let lease = client.grant(1, 0).await.unwrap().id;
    let mut watch = client.watch();
    watch
        .create(WatchCreateRequest {
            prev_kv: true,
            ..key("k")
        })
        .await;
    client
        .put_with(etcd_proto::etcdserverpb::PutRequest {
            lease,
            ..put("k", "v")
        })
        .await
        .unwrap();
    let events = watch.events(2).await;
    assert_eq!(
        events[1].r#type(),
        etcd_proto::mvccpb::event::EventType::Delete
    );
    assert_eq!(revision(&events[1]), revision(&events[0]) + 1);
    let before = events[1].prev_kv.as_ref().unwrap();
    assert_eq!((&before.value[..], before.lease), (&b"v"[..], lease));
}

//! Cancelling, identities and progress of watches.

use std::time::Duration;

use etcd_e2e::client::put;
use etcd_e2e::watch::{ANSWER_WITHIN, key, prefix};
use etcd_e2e::{Options, Watch, eventually, http};
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest};

use crate::pool::{fresh, server};

#[tokio::test]
async fn b091_cancel_a_synced_watch() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    let id = watch.create(key("k")).await.watch_id;
    let fence = watch.create(key("fence")).await.watch_id;
    client.put("k", "v").await.unwrap();
    assert_eq!(watch.next().await.watch_id, id);
    let canceled = watch.cancel(id).await;
    assert_eq!(
        (
            canceled.created,
            canceled.compact_revision,
            canceled.cancel_reason.as_str()
        ),
        (false, 0, "")
    );
    client.put("k", "v").await.unwrap();
    client.put("fence", "v").await.unwrap();
    assert_eq!(watch.next().await.watch_id, fence);
}

#[tokio::test]
async fn b091_cancel_an_unsynced_watch() {
    let server = server().await;
    let client = &server.client;
    let start = client.put("k", "v").await.unwrap().header.unwrap().revision;
    for _ in 0..50 {
        client.put("k", vec![b'v'; 10_000]).await.unwrap();
    }
    let mut watch = client.watch();
    for round in 0..20 {
        let request = WatchCreateRequest {
            start_revision: start,
            watch_id: 100 + round,
            ..key("k")
        };
        watch.send(RequestUnion::CreateRequest(request)).await;
        watch.cancel(100 + round).await;
    }
    // Nothing of them comes after their canceled responses.
    watch.create(key("fence")).await;
    client.put("k", "v").await.unwrap();
    client.put("fence", "v").await.unwrap();
    let response = watch.next().await;
    assert!(response.watch_id < 100, "{response:?}");
}

#[tokio::test]
async fn b091_cancel_of_an_unknown_watch_is_silent() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    watch
        .send(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: 77,
        }))
        .await;
    let id = watch.create(key("k")).await.watch_id;
    client.put("k", "v").await.unwrap();
    let response = watch.next().await;
    assert_eq!((response.watch_id, response.events.len()), (id, 1));
}

#[tokio::test]
async fn b100_progress_notify() {
    let (_server, client) =
        fresh(Options::single().args(["--watch-progress-notify-interval=200ms"])).await;
    let mut watch = client.watch();
    let id = watch
        .create(WatchCreateRequest {
            progress_notify: true,
            ..key("k")
        })
        .await
        .watch_id;
    let mut silent = client.watch();
    silent.create(key("k")).await;
    let now = client
        .put("other", "v")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    // Two in a row: the first may have been on its way before the put.
    let mut revision = 0;
    for _ in 0..2 {
        let progress = watch.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (id, 0));
        assert!(!progress.created && !progress.canceled);
        assert!(progress.header.unwrap().revision >= revision);
        revision = progress.header.unwrap().revision;
    }
    assert_eq!(revision, now);
    // Who did not ask is not told.
    let last = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let response = silent.next().await;
    assert_eq!(
        (response.events.len(), response.header.unwrap().revision),
        (1, last)
    );
}

#[tokio::test]
async fn b101_requested_progress() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    watch.create(key("k")).await;
    watch.create(key("l")).await;
    let now = client
        .put("other", "v")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    let progress = requested(&mut watch).await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, now);
    // One for the whole stream.
    client.put("k", "v").await.unwrap();
    assert_eq!(watch.next().await.events.len(), 1);
}

/// Asks until the answer comes: one is due only when all watches of the stream are in step.
async fn requested(watch: &mut Watch) -> etcd_proto::etcdserverpb::WatchResponse {
    for _ in 0..100 {
        watch.request_progress().await;
        if let Some(response) = watch.try_next(Duration::from_millis(200)).await.unwrap() {
            return response;
        }
    }
    panic!("no progress");
}

#[tokio::test]
async fn b101_no_progress_while_one_waits_for_the_future() {
    let server = server().await;
    let client = &server.client;
    let now = client.revision().await.unwrap();
    let mut watch = client.watch();
    watch.create(key("k")).await;
    watch
        .create(WatchCreateRequest {
            start_revision: now + 10,
            ..key("l")
        })
        .await;
    watch.request_progress().await;
    client.put("k", "v").await.unwrap();
    // The event comes, the progress does not.
    let response = watch.next().await;
    assert_eq!((response.watch_id, response.events.len()), (0, 1));
}

#[tokio::test]
async fn b102_s30_progress_is_never_ahead() {
    let server = server().await;
    let client = &server.client;
    let start = client.revision().await.unwrap();
    let writer = client.clone();
    let writing = tokio::spawn(async move {
        for number in 0..500 {
            writer
                .put_with(put(format!("p/{number}"), "v"))
                .await
                .unwrap();
        }
    });
    let mut watch = client.watch();
    // One that is in step and one that has to catch up.
    watch
        .create(WatchCreateRequest {
            watch_id: 1,
            ..prefix("p/")
        })
        .await;
    watch
        .create(WatchCreateRequest {
            watch_id: 2,
            start_revision: start + 1,
            ..prefix("p/")
        })
        .await;
    let mut last = start;
    let mut progressed = 0;
    while last < start + 500 {
        watch.request_progress().await;
        let response = watch.next().await;
        let revision = response.header.unwrap().revision;
        if response.events.is_empty() {
            assert_eq!(response.watch_id, -1);
            assert!(
                revision <= last,
                "progress to {revision} before the events after {last}"
            );
            progressed += 1;
        } else if response.watch_id == 2 {
            for event in &response.events {
                assert_eq!(event.kv.as_ref().unwrap().mod_revision, last + 1);
                last += 1;
            }
        }
    }
    writing.await.unwrap();
    // In the end it comes.
    while progressed == 0 {
        if requested(&mut watch).await.events.is_empty() {
            progressed += 1;
        }
    }
}

#[tokio::test]
async fn b107_chosen_ids() {
    let server = server().await;
    let client = &server.client;
    let mut watch = client.watch();
    let chosen = |watch_id| WatchCreateRequest {
        watch_id,
        ..key("k")
    };
    assert_eq!(watch.create(chosen(1)).await.watch_id, 1);
    let refused = watch.create(chosen(1)).await;
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.watch_id, -1);
    assert_eq!(
        refused.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    // Those the server chooses skip what is taken.
    assert_eq!(watch.create(chosen(0)).await.watch_id, 0);
    assert_eq!(watch.create(chosen(0)).await.watch_id, 2);
    // A canceled one is free again.
    watch.cancel(1).await;
    assert_eq!(watch.create(chosen(1)).await.watch_id, 1);
    // Streams have their own.
    let mut other = client.watch();
    assert_eq!(other.create(chosen(1)).await.watch_id, 1);
    client.put("k", "v").await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(watch.next().await.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2]);
}

#[tokio::test]
async fn b108_metric_of_watchers() {
    let (server, client) = fresh(Options::single()).await;
    let url = server.client_url();
    let watchers = |expected: f64| {
        let url = url.clone();
        async move {
            eventually(ANSWER_WITHIN, &format!("{expected} watchers"), async || {
                let count = http::metric(&url, "etcd_debugging_mvcc_watcher_total")
                    .await
                    .map_err(|e| e.to_string())?;
                if count == Some(expected) {
                    Ok(())
                } else {
                    Err(format!("{count:?}"))
                }
            })
            .await;
        }
    };
    let mut watch = client.watch();
    let first = watch.create(key("a")).await.watch_id;
    watch.create(key("b")).await;
    watchers(2.0).await;
    watch.cancel(first).await;
    watchers(1.0).await;
    drop(watch);
    watchers(0.0).await;
}

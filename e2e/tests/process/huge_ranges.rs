//! Ranges of many MiB that nobody reads, beside puts and heartbeats.

use std::time::{Duration, Instant};

use etcd_e2e::client::{op, prefix, put};
use etcd_e2e::{Client, Cluster, Options, Process};
use etcd_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest};
use tonic::transport::{Channel, Endpoint};

/// Bytes of all values of a range.
const RANGE_BYTES: usize = 16 << 20;
/// Ranges under way at once, and the connections that they share.
const RANGES: usize = 100;
const CONNECTIONS: usize = 10;

async fn fill(client: &Client, value: usize) {
    let count = RANGE_BYTES / value;
    let keys: Vec<usize> = (0..count).collect();
    for some in keys.chunks((1 << 20) / value) {
        let puts = some
            .iter()
            .map(|n| op(put(format!("huge/{n:06}"), vec![b'v'; value])));
        let request = TxnRequest {
            success: puts.collect(),
            ..TxnRequest::default()
        };
        client.txn(request).await.unwrap();
    }
}

/// A connection that takes no more of a reply than HTTP/2's first window.
async fn connect(member: &Process) -> Channel {
    Endpoint::from_shared(member.client_url())
        .unwrap()
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .connect()
        .await
        .unwrap()
}

/// Begins a range and reads nothing of the answer but its head.
async fn unread(channel: Channel, request: RangeRequest) -> tonic::Streaming<RangeResponse> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RangeRequest, RangeResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
    grpc.server_streaming(tonic::Request::new(request), path, codec)
        .await
        .unwrap()
        .into_inner()
}

/// Puts one after the other for so long; how long each took, in ascending order.
async fn puts(client: &Client, during: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut all = Vec::new();
    while start.elapsed() < during {
        let sent = Instant::now();
        client.put("beside", "1").await.unwrap();
        all.push(sent.elapsed());
    }
    all.sort_unstable();
    all
}

/// What happened beside the ranges.
struct Beside {
    /// The slowest put before, and the slowest one during them.
    slowest: (Duration, Duration),
    /// Memory that they took, not backed by a file, in bytes.
    held: u64,
    /// The member's term before and after.
    terms: (u64, u64),
}

async fn beside(member: &Process, value: usize) -> Beside {
    let client = member.client();
    fill(&client, value).await;
    let term = client.status().await.unwrap().raft_term;
    let alone = puts(&client, Duration::from_secs(2)).await;
    let before = member.usage().unwrap().rss_anon;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(member).await);
    }
    let begun: Vec<_> = (0..RANGES)
        .map(|n| tokio::spawn(unread(channels[n % CONNECTIONS].clone(), prefix("huge/"))))
        .collect();
    let during = puts(&client, Duration::from_secs(2)).await;
    let mut ranges = Vec::new();
    for range in begun {
        ranges.push(range.await.unwrap());
    }
    let held = member.usage().unwrap().rss_anon.saturating_sub(before);
    let terms = (term, client.status().await.unwrap().raft_term);
    // They are whole once somebody reads them, and as they were when they were asked.
    for mut range in [ranges.remove(RANGES / 2), ranges.remove(0)] {
        let response = range.message().await.unwrap().unwrap();
        assert_eq!(response.count as usize, RANGE_BYTES / value);
        assert_eq!(response.kvs.len() as i64, response.count);
        let sizes = response.kvs.iter().map(|kv| kv.value.len());
        assert!(sizes.min() == Some(value) && response.kvs.is_sorted_by_key(|kv| &kv.key));
        assert_eq!(range.message().await.unwrap(), None);
    }
    Beside {
        slowest: (*alone.last().unwrap(), *during.last().unwrap()),
        held,
        terms,
    }
}

/// One hundred of them: puts go on, the leader stays, and large values are not copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s43_ranges_that_nobody_reads_hold_up_neither_puts_nor_heartbeats() {
    for value in [64 << 10, 1 << 10] {
        let options = Options::single().args(["--max-txn-ops=2048"]);
        let cluster = Cluster::start(3, options).await.unwrap();
        let leader = cluster.leader().await;
        let seen = beside(&cluster.members[leader], value).await;
        let (alone, during) = seen.slowest;
        // They took 1.2 s and more when a reply was copied by the threads that serve.
        assert!(
            during < Duration::from_millis(400) + 2 * alone,
            "{value}: the slowest put took {during:?}, {alone:?} without them"
        );
        assert_eq!(seen.terms.0, seen.terms.1, "{value}: the leader changed");
        let replies = (RANGES * RANGE_BYTES) as u64;
        let expected = if value < 16 << 10 {
            replies * 2
        } else {
            replies / 10
        };
        assert!(
            seen.held < expected,
            "{value}: {} MiB for {} MiB of replies",
            seen.held >> 20,
            replies >> 20
        );
    }
}

//! A store of a million keys, saved and restored by ours and by stock etcd.
//!
//! `E2E_KEYS`: how many instead.

use std::time::Instant;

use bytes::Bytes;
use etcd_e2e::client::{ZERO, delete_range, op, put, range};
use etcd_e2e::saved::{restored, saved};
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Client, Etcdutl, Options, Process, Target};
use etcd_proto::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// Puts in a transaction, and transactions under way.
const BATCH: usize = 100;
const AT_ONCE: usize = 16;
/// Keys of a page that is compared.
const PAGE: i64 = 20_000;

/// Every hundredth key has a lease; a tenth is overwritten, a twentieth deleted, and what was
/// before half of the overwriting is compacted.
async fn fill(client: &Client, keys: usize) {
    for lease in 1..=10 {
        client.grant(100_000, lease).await.unwrap();
    }
    let batch = async |from: usize, value: &str| {
        let puts = (from..from + BATCH).map(|number| {
            op(PutRequest {
                lease: if number % 100 == 0 {
                    1 + (number / 100 % 10) as i64
                } else {
                    0
                },
                ..put(format!("key/{number:08}"), format!("{value}-{number}"))
            })
        });
        let request = TxnRequest {
            success: puts.collect(),
            ..TxnRequest::default()
        };
        client.txn(request).await.map(drop)
    };
    let all = async |upto: usize, value: &str| {
        let batches = stream::iter((0..upto).step_by(BATCH)).map(|from| batch(from, value));
        let done: Result<Vec<()>, _> = batches.buffer_unordered(AT_ONCE).try_collect().await;
        done.unwrap();
    };
    all(keys, "first").await;
    all(keys / 20, "second").await;
    let middle = client.revision().await.unwrap();
    all(keys / 10, "third").await;
    let from = format!("key/{:08}", keys / 2);
    let to = format!("key/{:08}", keys / 2 + keys / 20);
    client.delete(delete_range(from, to)).await.unwrap();
    client.compact(middle).await.unwrap();
}

/// Two members answer every range and every hash alike.
async fn alike(one: &Client, other: &Client, what: &str) {
    let hash = async |client: &Client| {
        let hash = client.hash_kv(0).await.unwrap();
        (hash.hash, hash.hash_revision, hash.compact_revision)
    };
    assert_eq!(hash(one).await, hash(other).await, "{what}");
    let mut from = Bytes::from_static(ZERO);
    loop {
        let page = RangeRequest {
            limit: PAGE,
            ..range(&from, ZERO)
        };
        let (mine, theirs) = tokio::join!(one.range(page.clone()), other.range(page));
        let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
        assert_eq!(
            (mine.count, mine.more),
            (theirs.count, theirs.more),
            "{what}"
        );
        // Not by assert_eq, which would print two pages.
        assert!(
            mine.kvs == theirs.kvs,
            "{what}: the page from {from:?} differs"
        );
        let Some(last) = mine.kvs.last().filter(|_| mine.more) else {
            break;
        };
        from = [&last.key[..], b"\0"].concat().into();
    }
    for lease in 1..=10 {
        let keys = async |client: &Client| {
            let mut keys = client.time_to_live(lease, true).await.unwrap().keys;
            keys.sort_unstable();
            keys
        };
        assert!(
            keys(one).await == keys(other).await,
            "{what}: lease {lease}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o24_a_million_keys_come_back_whichever_way_they_go() {
    let keys = std::env::var("E2E_KEYS").map_or(1_000_000, |text| text.parse().unwrap());
    let tools = [
        ("ours", Etcdutl::ours().unwrap()),
        ("stock", Etcdutl::new().unwrap()),
    ];
    for source in [Target::Ours, Target::Stock] {
        let scratch = Scratch::new().unwrap();
        let member = Process::start(Options {
            target: source,
            ..Options::single()
        });
        let member = member.await.unwrap();
        let began = Instant::now();
        fill(&member.client(), keys).await;
        eprintln!("{source} was filled in {:?}", began.elapsed());
        let file = saved(&member, scratch.path(), "saved.db").await.unwrap();
        for (name, tool) in &tools {
            for target in [Target::Ours, Target::Stock] {
                let what = format!("saved from {source}, restored by {name}, run by {target}");
                let began = Instant::now();
                let copy = restored(target, tool, &file).await.unwrap();
                eprintln!("{what}: serves after {:?}", began.elapsed());
                alike(&member.client(), &copy.client(), &what).await;
            }
        }
    }
}

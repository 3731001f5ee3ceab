//! Filling a store, and the puts whose latency is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_e2e::Client;
use etcd_e2e::client::{op, put};
use etcd_proto::etcdserverpb::TxnRequest;

/// Puts of one transaction.
const BATCH: u64 = 64;
/// Transactions under way at once.
const FILLERS: usize = 8;
/// Puts under way at once while latencies are measured.
const WRITERS: usize = 8;

/// Puts so many keys with values that do not compress.
pub(crate) async fn fill(client: &Client, keys: u64, value: usize) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let fillers: Vec<_> = (0..FILLERS)
        .map(|_| {
            let (client, next) = (client.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= keys {
                        return Ok::<_, tonic::Status>(());
                    }
                    let puts = (first..(first + BATCH).min(keys)).map(|number| {
                        op(put(
                            format!("registry/objects/{number:012}"),
                            noise(number, value),
                        ))
                    });
                    client
                        .txn(TxnRequest {
                            success: puts.collect(),
                            ..TxnRequest::default()
                        })
                        .await?;
                }
            })
        })
        .collect();
    for filler in fillers {
        filler.await.context("a filler panicked")??;
    }
    Ok(())
}

/// Bytes that differ from key to key and hold no run that a compressor would find.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Puts of small values, one after the other for each of a few writers, until it is
/// ended.
pub(crate) struct Puts {
    stop: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<Result<Vec<Duration>, tonic::Status>>>,
}

impl Puts {
    pub(crate) fn start(url: &str) -> Puts {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS)
            .map(|writer| {
                let (client, stop) = (Client::new(url), stop.clone());
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let sent = Instant::now();
                        client
                            .put(format!("probe/{writer}"), vec![b'p'; 256])
                            .await?;
                        latencies.push(sent.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        Puts { stop, writers }
    }

    /// How long each put took, in ascending order.
    pub(crate) async fn end(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for writer in self.writers {
            all.extend(writer.await.context("a writer panicked")??);
        }
        all.sort_unstable();
        Ok(all)
    }
}

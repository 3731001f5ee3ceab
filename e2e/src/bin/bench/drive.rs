//! Turns: as many requests as are answered in a given time, and what they cost the servers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_e2e::Client;
use tonic::Status;

use crate::report::Sample;
use crate::world::World;

/// Keeps `concurrency` requests under way for `turn`. `request` gets a client, the worker's number
/// and a number that no other request of this bench gets, and says how many operations it was.
pub(crate) async fn turn<F, R>(
    world: &World,
    concurrency: usize,
    turn: Duration,
    request: F,
) -> Result<Sample>
where
    F: Fn(Client, usize, u64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<u64, Status>> + Send,
{
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    world.idle().await?;
    let cpu = world.cpu()?;
    let operations = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + turn;
    let workers: Vec<_> = (0..concurrency)
        .map(|worker| {
            let client = world.clients[worker % world.clients.len()].clone();
            let (request, operations) = (request.clone(), operations.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let done = request(client.clone(), worker, number).await?;
                    operations.fetch_add(done, Ordering::Relaxed);
                    latencies.push(sent.elapsed());
                }
                Ok::<_, Status>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        let done = worker.await.context("a worker panicked")?;
        latencies.extend(done.with_context(|| format!("a request to {}", world.target))?);
    }
    let wall = start.elapsed();
    world.idle().await?;
    Ok(Sample {
        operations: operations.load(Ordering::Relaxed),
        wall,
        cpu: world.cpu()? - cpu,
        latencies,
    })
}

//! Filling a store.

use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_e2e::client::{op, put};
use etcd_e2e::compare::txn;

use crate::world::World;

/// Puts in one transaction: the most that etcd allows by default is 128.
const BATCH: u64 = 100;
const CONCURRENCY: u64 = 16;

/// Puts `keys` keys that `name` names.
pub(crate) async fn fill(
    world: &World,
    keys: u64,
    value: usize,
    name: impl Fn(u64) -> String + Clone + Send + 'static,
) -> Result<()> {
    let start = Instant::now();
    let value = Bytes::from(vec![b'v'; value]);
    let workers: Vec<_> = (0..CONCURRENCY)
        .map(|worker| {
            let client =
                world.clients[usize::try_from(worker).unwrap_or(0) % world.clients.len()].clone();
            let (name, value) = (name.clone(), value.clone());
            tokio::spawn(async move {
                let mut batch = worker;
                while batch * BATCH < keys {
                    let numbers = batch * BATCH..((batch + 1) * BATCH).min(keys);
                    let ops: Vec<_> = numbers
                        .map(|number| op(put(name(number), &value)))
                        .collect();
                    client.txn(txn([], ops, [])).await?;
                    batch += CONCURRENCY;
                }
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    for worker in workers {
        worker
            .await
            .context("a worker panicked")?
            .with_context(|| format!("filling {}", world.target))?;
    }
    eprintln!(
        "  {}: {keys} keys in {:.1} s",
        world.target,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

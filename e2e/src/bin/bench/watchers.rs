//! Many watchers of the same keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use etcd_e2e::watch::prefix;
use etcd_e2e::{Client, Watch};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::Settings;
use crate::report::{Report, Sample};
use crate::world::{Pair, World};

/// Puts whose events have not all arrived yet: enough to keep the server busy, too few to leave watchers behind.
const WINDOW: usize = 16;

/// With 100 and with 1,000 watchers. One operation is one event delivered to one watcher.
pub(crate) async fn all(pair: &mut Pair, settings: &Settings, report: &mut Report) -> Result<()> {
    for watchers in [100, 1000] {
        let name = format!("watch-{watchers}");
        // Of three members it shows nothing new, and a thousand streams take their time.
        if !settings.wants(&name) || (pair.members > 1 && watchers > 100) {
            continue;
        }
        eprintln!("{} member(s): {name}", pair.members);
        for round in 0..settings.rounds {
            for place in Pair::order(round) {
                let sample = turn(&pair.worlds[place], watchers, settings).await?;
                report.add(pair.members, &name, place, sample);
            }
        }
    }
    Ok(())
}

async fn turn(world: &World, watchers: usize, settings: &Settings) -> Result<Sample> {
    let epoch = Instant::now();
    let under = "/registry/watched/";
    let room = Arc::new(Semaphore::new(WINDOW * watchers));
    let delivered = Arc::new(AtomicU64::new(0));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..watchers {
        let mut watch = world.clients[number % world.clients.len()].watch();
        watch.create(prefix(under)).await;
        let (room, delivered, latencies) = (room.clone(), delivered.clone(), latencies.clone());
        tasks.push(tokio::spawn(receive(
            watch, number, epoch, room, delivered, latencies,
        )));
    }
    world.idle().await?;
    let cpu = world.cpu()?;
    let start = Instant::now();
    let end = start + settings.turn;
    let mut puts = 0u64;
    let permits = u32::try_from(watchers).context("few enough watchers")?;
    let mut writers = tokio::task::JoinSet::new();
    while Instant::now() < end {
        room.acquire_many(permits).await?.forget();
        let client: Client = world.clients[usize::try_from(puts)? % world.clients.len()].clone();
        let (key, size) = (format!("{under}{:05}", puts % 1000), settings.value);
        writers.spawn(async move {
            // The value begins with the time at which it was sent.
            let mut value = u64::try_from(epoch.elapsed().as_nanos())
                .unwrap_or(u64::MAX)
                .to_le_bytes()
                .to_vec();
            value.resize(size.max(8), b'v');
            client.put(key, value).await
        });
        puts += 1;
        while let Some(done) = writers.try_join_next() {
            done.context("a writer panicked")?
                .context("a put beside watchers")?;
        }
    }
    while let Some(done) = writers.join_next().await {
        done.context("a writer panicked")?
            .context("a put beside watchers")?;
    }
    let due = puts * watchers as u64;
    // All room is given back when everything has arrived.
    room.acquire_many(u32::try_from(WINDOW * watchers)?)
        .await?
        .forget();
    let wall = start.elapsed();
    anyhow::ensure!(
        delivered.load(Ordering::Relaxed) == due,
        "events were lost or doubled"
    );
    world.idle().await?;
    let cpu = world.cpu()? - cpu;
    for task in tasks {
        task.abort();
    }
    let latencies = std::mem::take(&mut *latencies.lock());
    Ok(Sample {
        operations: due,
        wall,
        cpu,
        latencies,
    })
}

async fn receive(
    mut watch: Watch,
    number: usize,
    epoch: Instant,
    room: Arc<Semaphore>,
    delivered: Arc<AtomicU64>,
    latencies: Arc<Mutex<Vec<std::time::Duration>>>,
) {
    loop {
        let Ok(response) = watch.try_next(std::time::Duration::from_secs(3600)).await else {
            return;
        };
        let events = response.map(|response| response.events).unwrap_or_default();
        delivered.fetch_add(events.len() as u64, Ordering::Relaxed);
        // A few watchers are enough for the latency.
        if number.is_multiple_of(50) {
            let now = epoch.elapsed();
            for event in &events {
                let sent = event
                    .kv
                    .as_ref()
                    .and_then(|kv| kv.value.first_chunk::<8>().copied())
                    .map(u64::from_le_bytes);
                let sent = std::time::Duration::from_nanos(sent.unwrap_or(0));
                latencies.lock().push(now.saturating_sub(sent));
            }
        }
        room.add_permits(events.len());
    }
}

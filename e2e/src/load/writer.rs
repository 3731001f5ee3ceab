//! Writers that never repeat a put.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::client::{Client, put};
use crate::load::{Acked, Ledger};

/// A put that takes longer counts as failed and the writer moves on to the next member.
const PUT_LIMIT: Duration = Duration::from_millis(1000);

/// Writers at work.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Instant>>>,
    started: Instant,
    tasks: Vec<JoinHandle<WriterLog>>,
}

#[derive(Debug, Default)]
struct WriterLog {
    acked: Vec<Acked>,
    ambiguous: Vec<Bytes>,
}

impl Writers {
    /// Starts `count` writers that put below `under` as fast as they are answered, each beginning at another of `clients`.
    pub fn start(clients: &[Client], count: usize, under: &str) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let acks = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..count)
            .map(|writer| {
                let (clients, under) = (clients.to_vec(), under.to_owned());
                let (stop, acks) = (stop.clone(), acks.clone());
                tokio::spawn(async move { write(writer, &clients, &under, &stop, &acks).await })
            })
            .collect();
        Writers {
            stop,
            acks,
            started: Instant::now(),
            tasks,
        }
    }

    /// How many puts have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acks.lock().len()
    }

    /// Stops the writers and returns their ledger.
    ///
    /// # Panics
    /// If a writer panicked.
    pub async fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let end = Instant::now();
        let mut ledger = Ledger::default();
        for task in self.tasks {
            let log = task.await.expect("a writer does not panic");
            ledger.acked.extend(log.acked);
            ledger.ambiguous.extend(log.ambiguous);
        }
        let mut times = self.acks.lock().clone();
        times.sort();
        let mut last = self.started;
        for time in times.into_iter().filter(|time| *time < end).chain([end]) {
            ledger.longest_gap = ledger.longest_gap.max(time - last);
            last = time;
        }
        ledger
    }
}

async fn write(
    writer: usize,
    clients: &[Client],
    under: &str,
    stop: &AtomicBool,
    acks: &Mutex<Vec<Instant>>,
) -> WriterLog {
    let mut log = WriterLog::default();
    let mut member = writer % clients.len();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let key = Bytes::from(format!("{under}{writer:03}/{number:08}"));
        let value = Bytes::from(format!("value of {writer} {number}"));
        number += 1;
        let request = put(&key, &value);
        match tokio::time::timeout(PUT_LIMIT, clients[member].put_with(request)).await {
            Ok(Ok(answer)) => {
                acks.lock().push(Instant::now());
                let revision = answer.header.unwrap_or_default().revision;
                log.acked.push(Acked {
                    key,
                    value,
                    revision,
                });
            }
            // It may or may not have been applied; the key is never used again.
            Ok(Err(_)) => {
                log.ambiguous.push(key);
                member = (member + 1) % clients.len();
                // A member that is down refuses at once; do not spin on it.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => {
                log.ambiguous.push(key);
                member = (member + 1) % clients.len();
            }
        }
    }
    log
}

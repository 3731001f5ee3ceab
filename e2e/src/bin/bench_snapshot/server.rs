//! A server that a snapshot is taken of.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_e2e::{Options, Process, Target};
use etcd_proto::etcdserverpb::SnapshotRequest;

use crate::Arguments;
use crate::fill::{Puts, fill};
use crate::tool::memory;

/// How long puts alone are measured.
const ALONE: Duration = Duration::from_secs(10);
/// How long a reader that hardly reads is waited for.
const SLOW: Duration = Duration::from_secs(10);

fn options(target: Target, arguments: &Arguments) -> Options {
    Options {
        target,
        program: (target == Target::Ours).then(|| arguments.ours.clone()),
        heartbeat_ms: 100,
        election_ms: 1000,
        ..Options::single()
    }
    .args(["--quota-backend-bytes=17179869184", "--log-level=error"])
}

/// Fills a server, takes a snapshot while it is written to, and prints what that cost. Then
/// it takes one into `file`, if one is given.
pub(crate) async fn measure(
    target: Target,
    arguments: &Arguments,
    keys: u64,
    file: Option<&Path>,
) -> Result<()> {
    let member = Process::start(options(target, arguments)).await?;
    let began = Instant::now();
    fill(&member.client(), keys, arguments.value).await?;
    eprintln!("{target}: filled in {:.0} s", began.elapsed().as_secs_f64());
    settle(&member).await?;

    let puts = Puts::start(&member.client_url());
    tokio::time::sleep(ALONE).await;
    print(target, "puts alone", &puts.end().await?);

    let before = member.usage()?;
    let puts = Puts::start(&member.client_url());
    let peak = Peak::start(&member)?;
    let began = Instant::now();
    // Not onto the disk that the log is on, which would be what is measured.
    let bytes = save(&member, None).await?;
    let wall = began.elapsed();
    let (rss, anon) = peak.end();
    print(target, "puts beside it", &puts.end().await?);
    println!(
        "{:5} snapshot of {} MiB  {:.2} s, memory not backed by a file {} MiB before, {} MiB at most (resident in all {} and {} MiB)",
        target.to_string(),
        bytes >> 20,
        wall.as_secs_f64(),
        before.rss_anon >> 20,
        anon >> 20,
        before.rss >> 20,
        rss >> 20,
    );

    if let Some(file) = file {
        save(&member, Some(file)).await?;
    }

    // A reader that takes a blob and no more: nothing may gather for it.
    let before = member.usage()?;
    let peak = Peak::start(&member)?;
    let mut stream = member
        .client()
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    ensure!(stream.message().await?.is_some(), "an empty snapshot");
    tokio::time::sleep(SLOW).await;
    let (_, anon) = peak.end();
    println!(
        "{:5} a snapshot that nobody reads: memory not backed by a file {} MiB before, {} MiB at most",
        target.to_string(),
        before.rss_anon >> 20,
        anon >> 20,
    );
    Ok(())
}

/// How long a server takes to serve on a restored directory, and its memory then.
pub(crate) async fn first_start(
    target: Target,
    arguments: &Arguments,
    data: &Path,
) -> Result<(Duration, u64)> {
    let mut member = Process::prepare(options(target, arguments))?;
    let data = format!("--data-dir={}", data.display());
    member.options().args.extend([data]);
    let began = Instant::now();
    member.spawn()?;
    member.ready().await?;
    Ok((began.elapsed(), member.usage()?.rss_anon))
}

/// Reads a snapshot as fast as it comes; its bytes.
async fn save(member: &Process, file: Option<&Path>) -> Result<u64> {
    let mut out: Box<dyn std::io::Write> = match file {
        Some(file) => Box::new(std::io::BufWriter::new(std::fs::File::create(file)?)),
        None => Box::new(std::io::sink()),
    };
    let mut stream = member
        .client()
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    let mut bytes = 0;
    while let Some(response) = stream.message().await? {
        bytes += response.blob.len() as u64;
        out.write_all(&response.blob)?;
    }
    out.flush()?;
    Ok(bytes)
}

/// Waits until the server has done what it put off.
async fn settle(member: &Process) -> Result<()> {
    let mut before = member.usage()?.cpu;
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = member.usage()?.cpu;
        if now - before < Duration::from_millis(40) {
            break;
        }
        before = now;
    }
    Ok(())
}

fn print(target: Target, what: &str, latencies: &[Duration]) {
    let at = |share: f64| {
        let place = ((latencies.len() as f64 * share) as usize).min(latencies.len() - 1);
        latencies[place].as_secs_f64() * 1000.0
    };
    println!(
        "{:5} {what:18} {:6} puts, ms: p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
        target.to_string(),
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
}

/// Watches a process's memory.
struct Peak {
    stop: Arc<AtomicBool>,
    found: Arc<(AtomicU64, AtomicU64)>,
    watcher: std::thread::JoinHandle<()>,
}

impl Peak {
    fn start(member: &Process) -> Result<Peak> {
        let pid = member.pid().context("it runs")?;
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let watcher = std::thread::spawn({
            let (stop, found) = (stop.clone(), found.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some((rss, anon)) = memory(pid) {
                        found.0.fetch_max(rss, Ordering::Relaxed);
                        found.1.fetch_max(anon, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Ok(Peak {
            stop,
            found,
            watcher,
        })
    }

    /// Resident memory, and that which no file backs, each at most.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.watcher.join();
        (
            self.found.0.load(Ordering::Relaxed),
            self.found.1.load(Ordering::Relaxed),
        )
    }
}

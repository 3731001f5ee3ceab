//! Our server and stock etcd under the same load, side by side, interleaved.
//!
//! ```text
//! Pair of worlds (ours, stock) ── for each workload, for each round: one, then the other
//!    │ CPU of the server processes, latencies of the requests
//!    └──> report: per workload both figures, their ratio, and the floor it has to stay below
//! ```
//!
//! CPU time is that of the servers alone, background work included: after each
//! turn it waits until they are idle again.

mod drive;
mod load;
mod report;
mod watchers;
mod workloads;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::report::Report;
use crate::world::Pair;

/// Compares our etcd with stock etcd.
#[derive(Debug, Parser)]
struct Arguments {
    /// Short turns: two to three minutes in all.
    #[arg(long)]
    quick: bool,
    /// Seconds of one turn of one workload.
    #[arg(long)]
    seconds: Option<f64>,
    /// Turns of each workload for each server.
    #[arg(long)]
    rounds: Option<usize>,
    /// Keys of the large store.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 512)]
    value: usize,
    /// Requests under way at once.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Only workloads whose name contains this (may be given several times).
    #[arg(long)]
    only: Vec<String>,
    /// Our binary [default: $ETCD_BIN, else target/release/etcd].
    #[arg(long, env = "ETCD_BIN")]
    ours: Option<PathBuf>,
    /// Also writes the figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Ends with code 1 if a ratio is above its floor.
    #[arg(long)]
    check: bool,
}

/// What every workload needs to know.
#[derive(Debug, Clone)]
struct Settings {
    turn: Duration,
    rounds: usize,
    keys: u64,
    value: usize,
    concurrency: usize,
    only: Vec<String>,
}

impl Settings {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings {
        turn: Duration::from_secs_f64(arguments.seconds.unwrap_or(if arguments.quick {
            1.5
        } else {
            5.0
        })),
        rounds: arguments
            .rounds
            .unwrap_or(if arguments.quick { 2 } else { 4 }),
        keys: arguments.keys,
        value: arguments.value,
        concurrency: arguments.concurrency,
        only: arguments.only.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&settings, world::ours(arguments.ours)?))?;
    report.print();
    if let Some(path) = arguments.json {
        std::fs::write(path, report.json()?)?;
    }
    if arguments.check && report.above_floor() {
        std::process::exit(1);
    }
    Ok(())
}

async fn run(settings: &Settings, ours: PathBuf) -> Result<Report> {
    let mut report = Report::default();
    for members in [1, 3] {
        eprintln!("{members} member(s): starting both servers");
        let mut pair = Pair::start(members, &ours).await?;
        workloads::small(&mut pair, settings, &mut report).await?;
        watchers::all(&mut pair, settings, &mut report).await?;
    }
    if ["page", "restart", "memory"]
        .iter()
        .any(|name| settings.wants(name))
    {
        eprintln!(
            "1 member with {} keys: starting both servers",
            settings.keys
        );
        let mut pair = Pair::start(1, &ours).await?;
        workloads::large(&mut pair, settings, &mut report).await?;
    }
    Ok(report)
}

//! Snapshots of a large store: what taking one costs a server that is written to, and
//! what looking at it and restoring it costs, ours beside stock etcd.
//!
//! ```text
//! filled server ── puts alone, puts beside a snapshot ──> latencies, memory, time
//!       └── file ── etcdutl snapshot status, hashkv, snapshot restore ──> time, memory
//!                                       └── a server on the directory ──> time until it serves
//! ```

mod fill;
mod server;
mod tool;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Target, stock};

use crate::tool::Cost;

/// Compares snapshots of our etcd with those of stock etcd.
#[derive(Debug, Parser)]
struct Arguments {
    /// MiB of values in the store.
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 2048)]
    value: usize,
    /// Our binary; etcdutl lies beside it.
    #[arg(long, env = "ETCD_BIN")]
    ours: PathBuf,
    /// A snapshot to look at and restore, instead of filling servers.
    #[arg(long)]
    file: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let scratch = Scratch::new()?;
    let saved = scratch.path().join("saved.db");
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => {
            // Stock's own is measured and not kept: both tools get the same file, ours.
            for (target, to) in [(Target::Stock, None), (Target::Ours, Some(saved.as_path()))] {
                let keys = (arguments.mib << 20) / arguments.value as u64;
                eprintln!(
                    "{target}: filling it with {keys} keys of {} bytes",
                    arguments.value
                );
                server::measure(target, arguments, keys, to).await?;
            }
            saved.clone()
        }
    };
    let bytes = std::fs::metadata(&file)?.len();
    println!("\nthe file: {} MiB", bytes >> 20);
    let ours = arguments.ours.with_file_name("etcdutl");
    let tools = [
        ("stock", stock::binaries()?.etcdutl, Target::Stock),
        ("ours", ours, Target::Ours),
    ];
    for (name, program, target) in &tools {
        // Stock etcdutl opens a file that it looks at for writing, and alters it.
        let own = scratch.path().join("own.db");
        std::fs::copy(&file, &own).context("copying the file")?;
        let own_path = own.to_str().context("a printable path")?;
        let whole = file.to_str().context("a printable path")?;
        let data = scratch.path().join("data");
        let to = data.to_str().context("a printable path")?;
        let status = tool::run(program, &["snapshot", "status", own_path])?;
        report(name, "snapshot status", &status);
        let hash = tool::run(program, &["hashkv", own_path])?;
        report(name, "hashkv", &hash);
        std::fs::remove_file(&own)?;
        let restore = tool::run(program, &["snapshot", "restore", whole, "--data-dir", to])?;
        report(name, "snapshot restore", &restore);
        first_start(*target, arguments, &data).await?;
        std::fs::remove_dir_all(&data)?;
    }
    Ok(())
}

fn report(name: &str, what: &str, cost: &Cost) {
    println!(
        "{name:5} {what:18} {:7.2} s  peak memory {:6} MiB, of that not backed by a file {:5} MiB",
        cost.wall.as_secs_f64(),
        cost.rss >> 20,
        cost.anon >> 20,
    );
}

async fn first_start(target: Target, arguments: &Arguments, data: &Path) -> Result<()> {
    let (wall, anon) = server::first_start(target, arguments, data).await?;
    println!(
        "{:5} first start on it  {:7.2} s  memory not backed by a file {} MiB once it serves",
        target.to_string(),
        wall.as_secs_f64(),
        anon >> 20,
    );
    Ok(())
}

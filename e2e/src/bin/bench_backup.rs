//! Time and peak memory of a backup, its verification and its restore, of a store of a size.
//!
//! `make bench-backup` (ARGS="--mib 256" for a first look): our server, MinIO on loopback, values of 4 KiB of which half
//! compresses. Stock `etcdutl snapshot restore` does the same file for comparison.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use etcd_e2e::pod::Running;
use etcd_e2e::{Client, Minio, Options, Pod, Process, Target, stock};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    /// Size of the store in MiB.
    #[arg(long, default_value_t = 2048)]
    mib: u64,
}

const VALUE: usize = 4096;
/// Puts under way at a time.
const WRITERS: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let minio = Minio::start().await?;
    let bucket = minio.bucket("bench").await?;
    let options = Options {
        target: Target::Ours,
        ..Options::single()
    };
    let quota = format!("--quota-backend-bytes={}", (args.mib << 20) * 2);
    let member = Process::start(options.args([quota])).await?;
    let keys = (args.mib << 20) / (VALUE as u64 + 128);
    println!("filling {} MiB with {keys} keys", args.mib);
    fill(&member.client(), keys).await?;
    let header = member.client().status().await?.header.unwrap_or_default();
    let mut pod = Pod::s3(&minio, None, "bench", "etcd")?;
    pod.patience = 240;
    pod.write(
        "encryption-key/age.key",
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
    )?;
    println!(
        "{:44} {:>9} {:>10} {:>10} {:>10}",
        "run", "seconds", "own MiB", "RSS MiB", "stored MiB"
    );
    let snapshot = |folder: &str, compression: &str, encrypted: bool, verification: &str| {
        json!({
            "cluster": {"namespace": "ns", "name": "bench", "uid": "u", "clusterID": format!("{:x}", header.cluster_id)},
            "voters": [{"endpoint": member.client_url()}],
            "destination": pod.destination,
            "folder": folder,
            "compression": compression,
            "encrypted": encrypted,
            "verification": verification,
        })
    };
    let mut size = 0;
    for (what, told) in [
        (
            "snapshot, zstd, Checksum",
            snapshot("zstd", "Zstd", false, "Checksum"),
        ),
        (
            "snapshot, zstd, age, Checksum",
            snapshot("age", "Zstd", true, "Checksum"),
        ),
        (
            "snapshot, zstd, Restore",
            snapshot("restore", "Zstd", false, "Restore"),
        ),
        (
            "snapshot, not compressed, Checksum",
            snapshot("plain", "None", false, "Checksum"),
        ),
    ] {
        let report = measured(what, pod.start("snapshot", &told)?).await?;
        size = report["snapshot"]["artifact"]["sizeBytes"]
            .as_u64()
            .unwrap_or_default();
        let stored = report["snapshot"]["artifact"]["storedBytes"]
            .as_u64()
            .unwrap_or_default();
        println!(
            "{:44} {:>9} {:>10} {:>10} {:>10}",
            "",
            "",
            "",
            "",
            stored >> 20
        );
        // Only two are read later; disks are small.
        if ["age", "restore"].contains(&told["folder"].as_str().unwrap_or_default()) {
            let delete = json!({
                "cluster": told["cluster"], "destination": pod.destination, "folders": [told["folder"]],
            });
            pod.succeed("delete", &delete).await?;
        }
    }
    let source =
        |folder: &str| json!({"backup": {"destination": pod.destination, "folder": folder}});
    for verification in ["Checksum", "Restore"] {
        let told = json!({"source": source("zstd"), "verification": verification});
        measured(
            &format!("verify, {verification}"),
            pod.start("verify", &told)?,
        )
        .await?;
    }
    let told = json!({
        "id": "bench",
        "source": source("zstd"),
        "dataDir": pod.folder("restored"),
        "member": "m",
        "members": [{"name": "m", "peerURLs": ["http://127.0.0.1:1"]}],
        "token": "bench",
    });
    measured("restore", pod.start("restore", &told)?).await?;
    std::fs::remove_dir_all(pod.folder("restored"))?;

    let keys = bucket.keys("etcd/plain/snapshot-").await?;
    let key = keys.first().context("a plain backup")?;
    let file = pod.folder("plain.db");
    std::fs::write(&file, bucket.get(key).await?)?;
    let mut command = tokio::process::Command::new(stock::binaries()?.etcdutl);
    command
        .args(["snapshot", "restore"])
        .arg(&file)
        .arg("--data-dir")
        .arg(pod.folder("by-etcdutl"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    let start = Instant::now();
    let mut child = command.spawn().context("starting etcdutl")?;
    let mut peak = Peak::default();
    while child.try_wait()?.is_none() {
        peak.look(child.id().unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    line(
        "stock etcdutl snapshot restore, from a file",
        start.elapsed(),
        peak,
    );
    println!("the image has {} MiB", size >> 20);
    Ok(())
}

async fn fill(client: &Client, keys: u64) -> Result<()> {
    stream::iter(0..keys)
        .map(|number| {
            let client = client.clone();
            async move {
                let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut value = vec![b'x'; VALUE];
                for byte in value.iter_mut().take(VALUE / 2) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = (state >> 32) as u8;
                }
                client.put(format!("bench/{number:012}"), value).await
            }
        })
        .buffer_unordered(WRITERS)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("filling the store")
}

/// Waits for a run, and prints what it took; its answer.
async fn measured(what: &str, mut run: Running) -> Result<Value> {
    let start = Instant::now();
    let mut peak = Peak::default();
    while run.is_running() {
        peak.look(run.pid());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    let outcome = run.end().await?;
    if outcome.code != Some(0) {
        bail!("{what}: {}\n{}", outcome.answer, outcome.log);
    }
    line(what, took, peak);
    Ok(outcome.answer)
}

fn line(what: &str, took: Duration, peak: Peak) {
    println!(
        "{what:44} {:>9.1} {:>10} {:>10}",
        took.as_secs_f64(),
        peak.own >> 20,
        peak.resident >> 20
    );
}

/// The most memory a process was seen with.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    /// That no file backs, in bytes: what it needs.
    own: u64,
    /// With the pages of files it has mapped, in bytes: the kernel takes those back when others need room.
    resident: u64,
}

impl Peak {
    fn look(&mut self, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024)
        };
        self.own = self.own.max(bytes("RssAnon:"));
        self.resident = self.resident.max(bytes("VmHWM:"));
    }
}

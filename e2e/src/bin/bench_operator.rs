//! The operator with many clusters: what it costs when they are healthy, and how soon new
//! ones are Ready.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use etcd_e2e::fleet::{self, Fleet, Look, Operator, memory, settled};
use serde_json::Value;

/// The aims, for 1,000 healthy clusters of three.
const MEMORY_MIB: f64 = 100.0;
const CORE_PERCENT: f64 = 5.0;

/// Measures the operator with many clusters of three.
#[derive(Debug, Parser)]
struct Arguments {
    /// Clusters in all.
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    /// Clusters created at once, whose time to Ready is measured.
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Seconds for which the healthy clusters are watched.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Seconds until what was created must be Ready.
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// Spec of the clusters, JSON.
    #[arg(
        long,
        default_value = r#"{"replicas": 3, "tls": {"client": {"mode": "Disabled"}, "peer": {"mode": "Disabled"}}}"#
    )]
    spec: String,
    /// At the end, upgrade the operator over all of them: nothing may restart.
    #[arg(long)]
    upgrade: bool,
    /// End with code 1 if an aim is missed.
    #[arg(long)]
    check: bool,
    /// Where its Kubernetes keeps its state.
    #[arg(long, default_value = "/var/lib/etcd-core-e2e/bench")]
    state: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!(
        "a control plane without nodes, in {}",
        arguments.state.display()
    );
    let missed = fleet::with(&arguments.state, arguments.clusters, async |fleet| {
        bench(&fleet, &arguments).await
    })?;
    for missed in &missed {
        println!("missed: {missed}");
    }
    ensure!(!arguments.check || missed.is_empty(), "an aim was missed");
    Ok(())
}

async fn bench(fleet: &Fleet<'_>, arguments: &Arguments) -> Result<Vec<String>> {
    let spec: Value = serde_json::from_str(&arguments.spec).context("--spec")?;
    let limit = Duration::from_secs(arguments.limit);
    let clusters = &fleet.clusters;
    let operator = fleet.operator("localhost/etcd-core:1").await?;

    let burst = arguments.burst.min(arguments.clusters);
    let before = Look::at(operator.pid()).await?;
    let mut took = clusters.grow(0, burst, &spec, limit).await?;
    took.sort();
    let made = Look::at(operator.pid()).await?.since(&before);
    println!("\n{burst} clusters of three created at once");
    println!(
        "  apply to Ready: first {:.1?}, median {:.1?}, last {:.1?}",
        took[0],
        took[burst / 2],
        took[burst - 1]
    );
    println!(
        "  for each: {:.0} requests to the API server, {:.0} of them writes, {:.0} ms of CPU",
        made.all() / burst as f64,
        made.writes() / burst as f64,
        made.cpu.as_secs_f64() * 1000.0 / burst as f64
    );
    clusters
        .grow(burst, arguments.clusters, &spec, limit)
        .await?;
    println!("{} clusters are Ready", arguments.clusters);
    settled(&operator, limit).await?;
    steady(operator.pid(), arguments.clusters, limit).await?;
    let missed = healthy(operator.pid(), arguments).await?;
    if arguments.upgrade {
        upgrade(fleet, operator, arguments.clusters, limit).await?;
    }
    Ok(missed)
}

/// Waits until the clusters are looked at as rarely as healthy ones are.
async fn steady(pid: u32, clusters: usize, limit: Duration) -> Result<()> {
    let rare = async {
        loop {
            let before = Look::at(pid).await?;
            tokio::time::sleep(Duration::from_secs(15)).await;
            let looks = Look::at(pid).await?.since(&before).reconciles;
            // Every 15 seconds before, once a minute then.
            if looks < 0.5 * clusters as f64 {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, rare)
        .await
        .context("healthy clusters are looked at all the time")?
}

/// What healthy clusters cost; which aims are missed.
async fn healthy(pid: u32, arguments: &Arguments) -> Result<Vec<String>> {
    let before = Look::at(pid).await?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let usage = Look::at(pid).await?.since(&before);
    let (now, most) = memory(pid)?;
    let clusters = arguments.clusters as f64;
    let hourly = 3600.0 / usage.took.as_secs_f64() / clusters;
    println!("\n{clusters} healthy clusters, for {:.0?}", usage.took);
    println!("  CPU: {:.1} % of a core", usage.percent());
    println!("  memory: {now:.0} MiB, at most {most:.0} MiB since it started");
    println!(
        "  looks at each cluster and hour: {:.0}",
        usage.reconciles * hourly
    );
    println!(
        "  requests to the API server for each cluster and hour: {:.2}, of them writes: {:.2}",
        usage.all() * hourly,
        usage.writes() * hourly
    );
    for ((verb, resource), count) in &usage.requests {
        println!("    {verb} {resource}: {count} in all");
    }
    let mut missed = Vec::new();
    let mut aim = |holds: bool, text: String| {
        if !holds {
            missed.push(text);
        }
    };
    aim(
        usage.writes() < 1.0,
        format!("{} writes for healthy clusters", usage.writes()),
    );
    aim(
        usage.percent() < CORE_PERCENT,
        format!("{:.1} % of a core, aim {CORE_PERCENT} %", usage.percent()),
    );
    aim(
        now < MEMORY_MIB,
        format!("{now:.0} MiB, aim {MEMORY_MIB} MiB"),
    );
    Ok(missed)
}

/// Another operator, whose pods would look different: it restarts nothing by itself.
async fn upgrade(
    fleet: &Fleet<'_>,
    operator: Operator,
    clusters: usize,
    limit: Duration,
) -> Result<()> {
    let image = "localhost/etcd-core:2";
    let (operator, pods) = fleet.upgrade(operator, image, clusters, limit).await?;
    println!(
        "\nthe operator was upgraded over {clusters} clusters: 0 of {pods} pods restarted, each says UpdatePending"
    );
    let (_, most) = memory(operator.pid())?;
    println!("  memory after a start with all of them there: at most {most:.0} MiB");
    Ok(())
}

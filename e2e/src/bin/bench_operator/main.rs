//! The operator with many clusters: what it costs when they are healthy, and how soon new
//! ones are Ready.
//!
//! ```text
//!  API server, its controllers and scheduler, on our etcd     (e2e/kubernetes, no nodes)
//!      ^                       ^
//!  etcd-operator           kubelet.rs: nodes that exist, pods that "run"
//!      | dials 10.200.x.y      | tickets
//!      v                       v
//!  answers.rs  <------  members.rs: what each member would say
//! ```
//!
//! The operator is the program of the product, unchanged and without a setting of its
//! own for this; that the addresses it dials are all of one network is nothing it sees.

mod answers;
mod fleet;
mod ground;
mod kubelet;
mod measure;
mod members;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use etcd_e2e::kubernetes::Kubernetes;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::fleet::Fleet;
use crate::ground::{Ground, Operator};
use crate::measure::{Look, memory};
use crate::members::Members;

/// Pods a node takes.
const PODS_PER_NODE: usize = 300;
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
    let kubernetes = Kubernetes::start_without_nodes(&arguments.state)?;
    // Networks are a thread's; what the runtime starts is in that of the thread that makes it.
    let ground = Ground::enter(&kubernetes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let missed = runtime.block_on(bench(&kubernetes, &arguments))?;
    runtime.shutdown_background();
    drop(ground);
    for missed in &missed {
        println!("missed: {missed}");
    }
    ensure!(!arguments.check || missed.is_empty(), "an aim was missed");
    Ok(())
}

async fn bench(kubernetes: &Kubernetes, arguments: &Arguments) -> Result<Vec<String>> {
    let spec: Value = serde_json::from_str(&arguments.spec).context("--spec")?;
    let limit = Duration::from_secs(arguments.limit);
    let file = Kubeconfig::read_from(kubernetes.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    install(kubernetes).await?;
    let members = Arc::new(Members::default());
    answers::serve(Arc::clone(&members)).await?;
    let nodes = (3 * arguments.clusters).div_ceil(PODS_PER_NODE).max(3);
    kubelet::run(&client, nodes, members).await?;
    let log = arguments.state.join("log/operator.log");
    let start = |image| Operator::start(kubernetes.places(), &kubernetes.kubeconfig(), image, &log);
    let operator = start("localhost/etcd-core:1")?;
    let fleet = Fleet::new(&client).await?;

    let burst = arguments.burst.min(arguments.clusters);
    let before = started(operator.pid()).await?;
    let mut took = fleet.grow(0, burst, &spec, limit).await?;
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
    fleet.grow(burst, arguments.clusters, &spec, limit).await?;
    println!("{} clusters are Ready", arguments.clusters);
    settled(operator.pid(), limit).await?;
    steady(operator.pid(), arguments.clusters, limit).await?;
    let missed = healthy(operator.pid(), arguments).await?;
    if arguments.upgrade {
        upgrade(&fleet, operator, start, arguments.clusters, limit).await?;
    }
    Ok(missed)
}

async fn install(kubernetes: &Kubernetes) -> Result<()> {
    let crds = kubernetes.places().repository.join("crds");
    let crds = crds.to_str().context("a path in UTF-8")?;
    let kubectl = kubernetes.kubectl();
    kubectl.run(&["apply", "--server-side", "-k", crds]).await?;
    kubectl
        .run(&[
            "wait",
            "--for=condition=Established",
            "crd/etcdclusters.etcd-core.io",
        ])
        .await?;
    Ok(())
}

/// Waits until the operator answers.
async fn started(pid: u32) -> Result<Look> {
    let mut last = None;
    for _ in 0..600 {
        match Look::at(pid).await {
            Ok(look) => return Ok(look),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last.context("never looked")?).context("the operator does not answer")
}

/// Waits until a whole round of looks has written nothing.
async fn settled(pid: u32, limit: Duration) -> Result<()> {
    let quiet = async {
        loop {
            let before = Look::at(pid).await?;
            tokio::time::sleep(Duration::from_secs(10)).await;
            if Look::at(pid).await?.since(&before).writes() < 1.0 {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, quiet)
        .await
        .context("the operator goes on writing")?
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
    fleet: &Fleet,
    operator: Operator,
    start: impl Fn(&'static str) -> Result<Operator>,
    clusters: usize,
    limit: Duration,
) -> Result<()> {
    let before = fleet.pods().await?;
    operator.stop()?;
    let operator = start("localhost/etcd-core:2")?;
    started(operator.pid()).await?;
    fleet.until_all(clusters, "UpdatePending", limit).await?;
    settled(operator.pid(), limit).await?;
    let after = fleet.pods().await?;
    ensure!(
        before == after,
        "the new operator restarted pods: {} before, {} after, {} the same",
        before.len(),
        after.len(),
        before
            .iter()
            .filter(|(name, uid)| after.get(*name) == Some(*uid))
            .count()
    );
    println!(
        "\nthe operator was upgraded over {clusters} clusters: 0 of {} pods restarted, each says UpdatePending",
        after.len()
    );
    let (_, most) = memory(operator.pid())?;
    println!("  memory after a start with all of them there: at most {most:.0} MiB");
    Ok(())
}

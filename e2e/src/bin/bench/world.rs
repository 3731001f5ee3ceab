//! One server under test, with its clients; and the pair that is compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_e2e::{Client, Cluster, Options, Target};

/// Connections to each member.
const CONNECTIONS: usize = 2;

/// Below this much CPU in [`IDLE_WINDOW`] a server counts as idle.
const IDLE_CPU: Duration = Duration::from_millis(20);
const IDLE_WINDOW: Duration = Duration::from_millis(200);
/// A server that never idles is measured all the same.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// A cluster of one target and connections to all of its members.
pub(crate) struct World {
    pub(crate) target: Target,
    pub(crate) cluster: Cluster,
    pub(crate) clients: Vec<Client>,
}

/// Both worlds, ours first.
pub(crate) struct Pair {
    pub(crate) members: usize,
    pub(crate) worlds: [World; 2],
}

/// Our binary: as given, or the release build.
pub(crate) fn ours(given: Option<PathBuf>) -> Result<PathBuf> {
    let path = match given.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => path,
        None => std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
                PathBuf::from,
            )
            .join("release/etcd"),
    };
    ensure!(
        path.is_file(),
        "{} is missing: build it with `cargo build --release -p etcd-server`, or name a binary with --ours",
        path.display()
    );
    std::path::absolute(&path).with_context(|| format!("resolving {}", path.display()))
}

impl World {
    async fn start(target: Target, members: usize, program: PathBuf) -> Result<World> {
        // etcd's defaults, but for the quota that a million keys would exceed.
        let options = Options {
            target,
            program: Some(program),
            heartbeat_ms: 100,
            election_ms: 1000,
            ..Options::single()
        }
        .args(["--quota-backend-bytes=8589934592", "--log-level=error"]);
        let cluster = Cluster::start(members, options).await?;
        let clients = (0..CONNECTIONS).flat_map(|_| cluster.clients()).collect();
        Ok(World {
            target,
            cluster,
            clients,
        })
    }

    /// CPU time of all members so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.cluster
            .members
            .iter()
            .map(|member| Ok(member.usage()?.cpu))
            .sum()
    }

    /// Resident memory of all members: all of it, and what no file backs.
    pub(crate) fn memory(&self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for member in &self.cluster.members {
            let usage = member.usage()?;
            sum = (sum.0 + usage.rss, sum.1 + usage.rss_anon);
        }
        Ok(sum)
    }

    /// Waits until the members have done what they put off.
    pub(crate) async fn idle(&self) -> Result<()> {
        let start = std::time::Instant::now();
        let mut before = self.cpu()?;
        while start.elapsed() < IDLE_LIMIT {
            tokio::time::sleep(IDLE_WINDOW).await;
            let now = self.cpu()?;
            if now - before <= IDLE_CPU * u32::try_from(self.cluster.members.len())? {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

impl Pair {
    /// Starts both.
    pub(crate) async fn start(members: usize, ours: &Path) -> Result<Pair> {
        let stock = etcd_e2e::stock::binaries()?.etcd;
        Ok(Pair {
            members,
            worlds: [
                World::start(Target::Ours, members, ours.to_owned()).await?,
                World::start(Target::Stock, members, stock).await?,
            ],
        })
    }

    /// The order of a round: each goes first every other time.
    pub(crate) fn order(round: usize) -> [usize; 2] {
        if round.is_multiple_of(2) {
            [0, 1]
        } else {
            [1, 0]
        }
    }
}

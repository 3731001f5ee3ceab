//! Many EtcdClusters whose members are only told of: a real API server with its
//! controllers and scheduler, on our etcd, and one operator.
//!
//! ```text
//!  API server, its controllers and scheduler, on our etcd     (e2e/kubernetes, no nodes)
//!      ^                       ^
//!  etcd-operator           kubelet.rs: nodes that exist, pods that "run"
//!      | dials 10.200.x.y      | tickets, Secrets
//!      v                       v
//!  answers.rs  <------  members.rs: what each member would say
//!      secure.rs: by which certificate
//! ```
//!
//! The operator is the program of the product, unchanged and without a setting of its
//! own for this; that the addresses it dials are all of one network is nothing it sees.

mod answers;
mod clusters;
mod ground;
mod kubelet;
mod measure;
mod members;
mod secure;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub use clusters::Clusters;
pub use ground::Operator;
pub use measure::{Look, Usage, memory};

use crate::kubernetes::Kubernetes;
use ground::Ground;
use members::Members;
use secure::Secure;

/// Pods a node takes.
const PODS_PER_NODE: usize = 300;

/// Where clusters are made and the operator runs.
pub struct Fleet<'a> {
    kubernetes: &'a Kubernetes,
    log: PathBuf,
    /// The clusters.
    pub clusters: Clusters,
}

/// Makes all of it, with its state in `state` and room for that many clusters of three,
/// and does `work` there, in a thread of its own.
///
/// # Errors
/// If it does not start, and those of `work`.
pub fn with<T: Send>(
    state: &Path,
    room: usize,
    work: impl AsyncFnOnce(Fleet<'_>) -> Result<T> + Send,
) -> Result<T> {
    let kubernetes = Kubernetes::start_without_nodes(state)?;
    std::thread::scope(|scope| {
        // Networks are a thread's; what the runtime starts is in that of the thread that makes it.
        let thread = scope.spawn(|| {
            let ground = Ground::enter(&kubernetes)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let done = runtime.block_on(async {
                let log = state.join("log/operator.log");
                work(Fleet::new(&kubernetes, room, log).await?).await
            });
            runtime.shutdown_background();
            drop(ground);
            done
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl<'a> Fleet<'a> {
    async fn new(kubernetes: &'a Kubernetes, room: usize, log: PathBuf) -> Result<Fleet<'a>> {
        let file = Kubeconfig::read_from(kubernetes.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        define(kubernetes).await?;
        let members = Arc::new(Members::default());
        let secure = Arc::new(Secure::default());
        answers::serve(Arc::clone(&members), Arc::clone(&secure)).await?;
        let nodes = (3 * room).div_ceil(PODS_PER_NODE).max(3);
        kubelet::run(&client, nodes, members, secure).await?;
        Ok(Fleet {
            kubernetes,
            log,
            clusters: Clusters::new(&client).await?,
        })
    }

    /// Starts an operator that calls itself and the members' image `image`.
    ///
    /// # Errors
    /// If it does not start or does not answer.
    pub async fn operator(&self, image: &str) -> Result<Operator> {
        let kubeconfig = self.kubernetes.kubeconfig();
        let operator = Operator::start(self.kubernetes.places(), &kubeconfig, image, &self.log)?;
        let mut last = None;
        for _ in 0..600 {
            match Look::at(operator.pid()).await {
                Ok(_) => return Ok(operator),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(last.context("never looked")?).context("the operator does not answer")
    }

    /// Puts another operator in this one's place, whose pods would look different, and
    /// waits until it has said so of all `clusters` and writes nothing more. How many
    /// pods there are, none of them restarted.
    ///
    /// # Errors
    /// If a pod is not what it was, or it takes longer than `limit`.
    pub async fn upgrade(
        &self,
        operator: Operator,
        image: &str,
        clusters: usize,
        limit: Duration,
    ) -> Result<(Operator, usize)> {
        let before = self.clusters.pods().await?;
        operator.stop()?;
        let operator = self.operator(image).await?;
        self.clusters
            .until_all(clusters, "UpdatePending", limit)
            .await?;
        settled(&operator, limit).await?;
        let after = self.clusters.pods().await?;
        let same = |(name, uid): &(&String, &String)| after.get(*name) == Some(*uid);
        ensure!(
            before == after,
            "the new operator restarted pods: {} before, {} after, {} the same",
            before.len(),
            after.len(),
            before.iter().filter(same).count()
        );
        Ok((operator, after.len()))
    }
}

async fn define(kubernetes: &Kubernetes) -> Result<()> {
    let crds = kubernetes.places().repository.join("crds");
    let crds = crds.to_str().context("a path in UTF-8")?;
    let kubectl = kubernetes.kubectl();
    kubectl.run(&["apply", "--server-side", "-k", crds]).await?;
    kubectl
        .run(&["wait", "--for=condition=Established", "crd", "--all"])
        .await?;
    Ok(())
}

/// Waits until a whole round of looks has written nothing.
///
/// # Errors
/// If that takes longer than `limit`.
pub async fn settled(operator: &Operator, limit: Duration) -> Result<()> {
    let quiet = async {
        loop {
            let before = Look::at(operator.pid()).await?;
            tokio::time::sleep(Duration::from_secs(10)).await;
            if Look::at(operator.pid()).await?.since(&before).writes() < 1.0 {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, quiet)
        .await
        .context("the operator goes on writing")?
}

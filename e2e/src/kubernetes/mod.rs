//! A whole Kubernetes of three nodes, as `e2e/kubernetes/` starts it.
//!
//! ```text
//!  Places (what make built) -> Kubernetes (up.sh, in namespaces) -> enter() -> this thread reaches
//!                                                                     API server, nodes and pods by address
//!                                   Kubectl, Helm: programs, run as a person would
//!                                   Machine: programs killed, cables cut
//!                                   Guest: a second API server, stored in a cluster of the first
//! ```

mod guest;
mod machine;
mod places;
mod tool;

pub use guest::{Guest, GuestStorage};
pub use machine::{Machine, Taken};
pub use places::Places;
pub use tool::{Output, Tool};

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::spawner;

/// Where the tests' Kubernetes keeps its state, logs included; `down.sh` with this folder clears
/// away what a killed run left.
pub const TEST_STATE: &str = "/var/lib/etcd-core-e2e/test";

/// How long until every node is ready: seconds on an idle machine.
const STARTS_WITHIN: Duration = Duration::from_secs(300);

/// A running Kubernetes; it ends with the program that started it, at the latest.
#[derive(Debug)]
pub struct Kubernetes {
    places: Places,
    state: PathBuf,
    /// The program that holds the namespaces.
    unshare: Child,
    tag: String,
}

impl Kubernetes {
    /// Packs the images and starts it with its state in `state`, which is emptied.
    ///
    /// `STORAGE=stock` in the environment gives the API server stock etcd for its
    /// storage instead of ours.
    ///
    /// # Errors
    /// If this is not root, something is not built (the text says what to run), or it does not
    /// become ready; the text holds what it said.
    pub fn start(state: &Path) -> Result<Kubernetes> {
        Kubernetes::start_with(state, 3)
    }

    /// Starts a control plane that has no nodes, whose controllers and scheduler are not held
    /// back, with its state in `state`, which is emptied.
    ///
    /// # Errors
    /// As [`Kubernetes::start`].
    pub fn start_without_nodes(state: &Path) -> Result<Kubernetes> {
        Kubernetes::start_with(state, 0)
    }

    fn start_with(state: &Path, nodes: u32) -> Result<Kubernetes> {
        ensure!(
            rustix::process::getuid().is_root(),
            "a Kubernetes is made of namespaces and mounts: run this as root"
        );
        let places = Places::find()?;
        std::fs::create_dir_all(state).with_context(|| format!("creating {}", state.display()))?;
        let tag = if nodes == 0 {
            String::new()
        } else {
            pack(&places, state)?
        };
        let said = state.join("up.log");
        let log = File::create(&said).with_context(|| format!("creating {}", said.display()))?;
        let ready = state.join("ready");
        // What an earlier run left would be taken for ours.
        if let Err(error) = std::fs::remove_file(&ready) {
            ensure!(
                error.kind() == std::io::ErrorKind::NotFound,
                "removing {}: {error}",
                ready.display()
            );
        }
        let errors = log.try_clone().context("sharing the log")?;
        let unshare = spawner::spawn(&places.script("up.sh"), |command| {
            places.environment(command);
            if nodes == 0 {
                // What a person's Kubernetes would have more machines for.
                command
                    .env("CONTROLLER_FLAGS", "--kube-api-qps=500 --kube-api-burst=1000 --concurrent-statefulset-syncs=20")
                    .env("SCHEDULER_FLAGS", "--kube-api-qps=500 --kube-api-burst=1000");
            }
            command
                .arg(state)
                .arg(nodes.to_string())
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors);
        })?;
        let mut kubernetes = Kubernetes {
            places,
            state: state.to_owned(),
            unshare,
            tag,
        };
        let start = Instant::now();
        while !ready.exists() {
            let ended = kubernetes.unshare.try_wait().context("waiting for up.sh")?;
            if ended.is_some() || start.elapsed() > STARTS_WITHIN {
                let text = std::fs::read_to_string(&said).unwrap_or_default();
                bail!(
                    "Kubernetes did not start ({ended:?}): {text}; its logs are in {}",
                    state.join("log").display()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(kubernetes)
    }

    /// Moves the calling thread, and the programs it starts from now on, into the network of
    /// the control plane: the API server, nodes and pods are reachable by address.
    ///
    /// # Errors
    /// If it has ended.
    pub fn enter(&self) -> Result<()> {
        let outer = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))
            .context("looking for the first process inside")?;
        let inner = children
            .split_whitespace()
            .next()
            .context("nothing runs inside")?;
        let namespace = File::open(format!("/proc/{inner}/ns/net")).context("its network")?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&namespace),
            Some(LinkNameSpaceType::Network),
        )
        .context("entering its network")
    }

    /// kubectl as the administrator. Works in a thread that has entered.
    pub fn kubectl(&self) -> Tool {
        self.tool("kubectl")
    }

    /// helm as the administrator. Works in a thread that has entered.
    pub fn helm(&self) -> Tool {
        self.tool("helm")
    }

    fn tool(&self, program: &str) -> Tool {
        Tool::new(self.places.bin.join(program))
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.state.join("kubectl"))
            .env("HELM_CACHE_HOME", self.state.join("helm"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    /// Its programs and cables.
    pub fn machine(&self) -> Machine {
        Machine::new(&self.state)
    }

    /// The tag of `localhost/etcd-core` on every node.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Where everything is that `make` built.
    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// Packs the images for the nodes; the tag of ours.
fn pack(places: &Places, state: &Path) -> Result<String> {
    let packed = places
        .command(&places.script("images.sh"))
        .arg(state.join("images"))
        .stdin(Stdio::null())
        .output()
        .context("running images.sh")?;
    ensure!(
        packed.status.success(),
        "packing the images: {}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let tag = std::fs::read_to_string(state.join("images/tag")).context("reading the tag")?;
    Ok(tag.trim().to_owned())
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // With `unshare` everything inside ends; down.sh clears the control groups away.
        let ended = self.unshare.kill().and_then(|()| self.unshare.wait());
        if let Err(error) = ended {
            eprintln!("ending up.sh: {error}");
        }
        let cleared = self
            .places
            .command(&self.places.script("down.sh"))
            .arg(&self.state)
            .status();
        if !cleared
            .as_ref()
            .is_ok_and(std::process::ExitStatus::success)
        {
            eprintln!("down.sh {}: {cleared:?}", self.state.display());
        }
    }
}

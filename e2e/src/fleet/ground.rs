//! Where it happens: a control plane without nodes, and a network of its own for the
//! operator and the members it dials.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::kubernetes::{Kubernetes, Places};
use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where metrics and health of the operator are served.
pub(super) const OPERATOR: &str = "127.0.0.1:8080";

/// A network whose every address in 10.200.0.0/16 is its own, with a cable to the API server.
pub(super) struct Ground {
    holder: Child,
}

impl Ground {
    /// Makes it, and moves this thread and what it starts from now on into it.
    pub(super) fn enter(kubernetes: &Kubernetes) -> Result<Ground> {
        kubernetes.enter()?;
        let holder = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--net",
                "sleep",
                "infinity",
            ])
            .spawn()
            .context("a network namespace")?;
        let ground = Ground { holder };
        let pid = ground.holder.id().to_string();
        let here = std::fs::read_link("/proc/thread-self/ns/net").context("our network")?;
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).context("its network")? == here {
            std::thread::yield_now();
        }
        let cable = [
            &[
                "link", "add", "fleet0", "type", "veth", "peer", "name", "fleet1",
            ][..],
            &["link", "set", "fleet0", "master", "br0", "up"],
            &["link", "set", "fleet1", "netns", &pid],
        ];
        for args in cable {
            ip(args)?;
        }
        let network = File::open(format!("/proc/{pid}/ns/net")).context("its network")?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering the network")?;
        for args in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", "172.31.0.200/24", "dev", "fleet1"],
            &["link", "set", "fleet1", "up"],
            &["route", "add", "local", "10.200.0.0/16", "dev", "lo"],
        ] {
            ip(args)?;
        }
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let ended = self.holder.kill().and_then(|()| self.holder.wait());
        if let Err(error) = ended {
            eprintln!("ending the network: {error}");
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(args).output().context("ip")?;
    ensure!(
        done.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// The operator, as its chart would run it.
pub struct Operator(Child);

impl Operator {
    /// Starts it, named by `image`; its log goes on in `log`.
    pub fn start(places: &Places, kubeconfig: &Path, image: &str, log: &Path) -> Result<Operator> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{}", log.display()))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(places.product.join("etcd-operator"))
            .args(["run", "--listen-address", OPERATOR])
            .args(["--operator-image", image])
            // As the chart does it: the members' image is the operator's own.
            .args(["--etcd-image", image])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting the operator")?;
        Ok(Operator(child))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as Kubernetes would, so that it gives its Lease back.
    pub fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .context("stopping the operator")?;
        self.0.wait().context("waiting for the operator")?;
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that was stopped is not there any more.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

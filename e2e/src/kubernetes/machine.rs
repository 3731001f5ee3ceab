//! The programs and cables a Kubernetes is made of: taken away and given back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a killed program may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The parts of the Kubernetes whose state is in one folder.
#[derive(Debug, Clone)]
pub struct Machine {
    state: PathBuf,
}

/// Something taken away; dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back when this is dropped"]
pub struct Taken {
    what: What,
}

#[derive(Debug)]
enum What {
    /// The file that keeps a program from being started again.
    Program(PathBuf),
    /// Our end of a node's cable.
    Cable(String),
}

impl Machine {
    /// The machine with its state in `state`.
    pub fn new(state: &Path) -> Machine {
        Machine {
            state: state.to_owned(),
        }
    }

    /// Kills the API server and keeps it down. Its storage stays.
    ///
    /// # Errors
    /// If it does not run, or cannot be killed.
    pub fn take_api_server(&self) -> Result<Taken> {
        let log = self.state.join("log/audit.log");
        self.take("apiserver", &format!("--audit-log-path={}", log.display()))
    }

    /// Kills the API server's storage and keeps it down.
    ///
    /// # Errors
    /// If it does not run, or cannot be killed.
    pub fn take_storage(&self) -> Result<Taken> {
        let data = self.state.join("etcd");
        self.take("storage", &format!("--data-dir={}", data.display()))
    }

    /// Kills a node's kubelet and keeps it down; the node's containers run on.
    ///
    /// # Errors
    /// If it does not run, or cannot be killed.
    pub fn take_kubelet(&self, node: &str) -> Result<Taken> {
        let root = self.state.join(node).join("kubelet");
        self.take(
            &format!("{node}-kubelet"),
            &format!("--root-dir={}", root.display()),
        )
    }

    /// Kills a node's containerd and keeps it down; the node's containers run on.
    ///
    /// # Errors
    /// If it does not run, or cannot be killed.
    pub fn take_containerd(&self, node: &str) -> Result<Taken> {
        let config = self.state.join(node).join("containerd.toml");
        self.take(&format!("{node}-containerd"), &config.display().to_string())
    }

    /// Unplugs a node. To be called by a thread that has entered the network.
    ///
    /// # Errors
    /// If there is no such cable.
    pub fn cut(&self, node: &str) -> Result<Taken> {
        let number = node.strip_prefix("node-").context("a node's name")?;
        let cable = format!("h{number}");
        plug(&cable, "down")?;
        Ok(Taken {
            what: What::Cable(cable),
        })
    }

    /// Kills, with -9, every process of the pod that was started as `program`. How many there were.
    ///
    /// # Errors
    /// If one cannot be killed.
    pub fn kill_in_pod(&self, uid: &str, program: &str) -> Result<usize> {
        let group = format!("pod{uid}");
        let found = processes(|pid, args| {
            let named = args
                .first()
                .is_some_and(|name| Path::new(OsStr::from_bytes(name)).ends_with(program));
            named && group_of(pid).contains(&group)
        });
        found.iter().try_for_each(|pid| kill(*pid))?;
        Ok(found.len())
    }

    /// Kills, with -9, every process of every pod on a node.
    ///
    /// # Errors
    /// If there is none, or one cannot be killed.
    pub fn kill_pods(&self, node: &str) -> Result<()> {
        // Pods are in groups below the one that the kubelet was given.
        let path = self.state.join(node).join("kubelet.yaml");
        let config = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let group = config
            .lines()
            .find_map(|line| line.strip_prefix("cgroupRoot: "))
            .context("the kubelet's cgroupRoot")?;
        let below = format!("{group}/kubepods");
        let found = processes(|pid, _| group_of(pid).contains(&below));
        ensure!(!found.is_empty(), "nothing runs in pods of {node}");
        found.iter().try_for_each(|pid| kill(*pid))
    }

    /// Processes of this Kubernetes that were started as `program`, outside of pods.
    pub fn pids(&self, program: &str) -> Vec<i32> {
        let state = self.state.as_os_str().as_bytes();
        let ours = |arg: &&[u8]| arg.windows(state.len()).any(|part| part == state);
        let found = processes(|_, args| {
            let named = args
                .first()
                .is_some_and(|name| Path::new(OsStr::from_bytes(name)).ends_with(program));
            named && args.iter().skip(1).any(ours)
        });
        found.iter().map(|pid| pid.as_raw_nonzero().get()).collect()
    }

    fn take(&self, name: &str, argument: &str) -> Result<Taken> {
        let hold = self.state.join("hold").join(name);
        std::fs::write(&hold, "").with_context(|| format!("making {}", hold.display()))?;
        let taken = Taken {
            what: What::Program(hold),
        };
        let running =
            || processes(|_, args| args.iter().skip(1).any(|arg| *arg == argument.as_bytes()));
        let found = running();
        ensure!(!found.is_empty(), "{name} does not run");
        found.iter().try_for_each(|pid| kill(*pid))?;
        let start = Instant::now();
        while !running().is_empty() {
            ensure!(start.elapsed() < GONE_WITHIN, "{name} cannot be killed");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let given = match &self.what {
            What::Program(hold) => std::fs::remove_file(hold).map_err(anyhow::Error::from),
            What::Cable(cable) => plug(cable, "up"),
        };
        if let Err(error) = given {
            eprintln!("{:?} is not given back: {error:#}", self.what);
        }
    }
}

fn plug(cable: &str, state: &str) -> Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", cable, state])
        .status()
        .context("running ip (Debian package iproute2)")?;
    ensure!(status.success(), "ip link set {cable} {state}: {status}");
    Ok(())
}

/// The processes of this machine for which `wanted` holds, by their numbers and arguments.
fn processes(wanted: impl Fn(Pid, &[&[u8]]) -> bool) -> Vec<Pid> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // It may have ended meanwhile.
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let args: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            wanted(pid, &args).then_some(pid)
        })
        .collect()
}

/// The control groups of a process, one line per tree.
fn group_of(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default()
}

fn kill(pid: Pid) -> Result<()> {
    match kill_process(pid, Signal::KILL) {
        // It ended by itself meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("killing {pid:?}")),
    }
}

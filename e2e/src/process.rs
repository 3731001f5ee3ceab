//! One etcd as a real process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;

use crate::client::Client;
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::signal;
use crate::target::Target;
use crate::wait::eventually;

/// How long a start may take before it counts as failed. Generous: other builds may share the machine.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a member is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose binary.
    pub target: Target,
    /// The binary itself; none = where `target` finds it.
    pub program: Option<PathBuf>,
    /// `--name`.
    pub name: String,
    /// `--heartbeat-interval` in milliseconds.
    pub heartbeat_ms: u64,
    /// `--election-timeout` in milliseconds.
    pub election_ms: u64,
    /// `--initial-cluster`; none = this member alone.
    pub initial_cluster: Option<String>,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: &'static str,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// Any further flags; they come last.
    pub args: Vec<String>,
    /// Environment of the server beside the inherited one.
    pub env: Vec<(String, String)>,
}

impl Options {
    /// A member of its own with quick elections (50 ms, 500 ms), of the target that `TARGET` names.
    pub fn single() -> Options {
        Options {
            target: Target::from_env(),
            program: None,
            name: "default".into(),
            heartbeat_ms: 50,
            election_ms: 500,
            initial_cluster: None,
            initial_cluster_state: "new",
            initial_cluster_token: "etcd-cluster".into(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Adds flags.
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Options {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// An etcd with a data directory and two ports of its own; killed on drop.
#[derive(Debug)]
pub struct Process {
    options: Options,
    scratch: Scratch,
    client_port: Port,
    peer_port: Port,
    child: Option<Child>,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Of that, memory that no file backs, in bytes.
    pub rss_anon: u64,
}

impl Process {
    /// Reserves a directory and ports, and starts nothing yet.
    ///
    /// # Errors
    /// If they cannot be had.
    pub fn prepare(options: Options) -> Result<Process> {
        Ok(Process {
            options,
            scratch: Scratch::new()?,
            client_port: Port::reserve()?,
            peer_port: Port::reserve()?,
            child: None,
        })
    }

    /// Starts a member and waits until it answers a linearizable read.
    ///
    /// # Errors
    /// If it ends first or is not ready within [`READY_WITHIN`]; the text holds the log's end.
    pub async fn start(options: Options) -> Result<Process> {
        let mut process = Process::prepare(options)?;
        process.spawn()?;
        process.ready().await?;
        Ok(process)
    }

    /// Starts a member whose client listener speaks TLS, as `flags` say, and waits until it serves.
    ///
    /// # Errors
    /// If it ends first or does not serve within [`READY_WITHIN`]; the text holds the log's end.
    pub async fn start_https(
        options: Options,
        flags: impl IntoIterator<Item = String>,
    ) -> Result<Process> {
        let mut process = Process::prepare(options)?;
        let url = process.https_client_url();
        process.options.args.extend([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
        ]);
        process.options.args.extend(flags);
        process.spawn()?;
        let start = std::time::Instant::now();
        while !process.log().contains("ready to serve client requests") {
            ensure!(
                process.is_running() && start.elapsed() < READY_WITHIN,
                "{} does not serve; its log ends:\n{}",
                process.options.name,
                process.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(process)
    }

    /// Runs the binary; does not wait until it serves.
    ///
    /// # Errors
    /// If it runs already or cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.options.name);
        let program = match &self.options.program {
            Some(program) => program.clone(),
            None => self.options.target.etcd()?,
        };
        let arguments = self.arguments();
        let out = self.log_file()?;
        let err = out.try_clone().context("sharing the log")?;
        let folder = self.scratch.path().to_owned();
        let env = self.options.env.clone();
        self.child = Some(crate::spawner::spawn(&program, move |command| {
            // What is meant for this library, or for another etcd, is not meant for this server.
            for (name, _) in std::env::vars_os() {
                if name.as_encoded_bytes().starts_with(b"ETCD") {
                    command.env_remove(name);
                }
            }
            command
                .args(arguments)
                .envs(env)
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err);
        })?);
        Ok(())
    }

    /// The flags of the next [`Process::spawn`].
    pub fn arguments(&self) -> Vec<String> {
        let o = &self.options;
        let own = format!("{}={}", o.name, self.peer_url());
        let mut args = vec![
            format!("--name={}", o.name),
            format!("--data-dir={}", self.data_dir().display()),
            format!("--listen-client-urls={}", self.client_url()),
            format!("--advertise-client-urls={}", self.client_url()),
            format!("--listen-peer-urls={}", self.peer_url()),
            format!("--initial-advertise-peer-urls={}", self.peer_url()),
            format!(
                "--initial-cluster={}",
                o.initial_cluster.as_ref().unwrap_or(&own)
            ),
            format!("--initial-cluster-state={}", o.initial_cluster_state),
            format!("--initial-cluster-token={}", o.initial_cluster_token),
            format!("--heartbeat-interval={}", o.heartbeat_ms),
            format!("--election-timeout={}", o.election_ms),
        ];
        args.extend(o.args.iter().cloned());
        args
    }

    /// Waits until the member answers a linearizable read.
    ///
    /// # Errors
    /// If it ends first or is not ready within [`READY_WITHIN`]; the text holds the log's end.
    pub async fn ready(&mut self) -> Result<()> {
        self.wait(true).await
    }

    /// Waits until the member answers `Status`, leader or not.
    ///
    /// # Errors
    /// As [`Process::ready`].
    pub async fn serving(&mut self) -> Result<()> {
        self.wait(false).await
    }

    async fn wait(&mut self, quorum: bool) -> Result<()> {
        let client = self.client();
        let start = std::time::Instant::now();
        loop {
            let probe = async {
                if quorum {
                    client.get("health").await.map(drop)
                } else {
                    client.status().await.map(drop)
                }
            };
            // One lost probe must not use up the whole time: the server may not have listened when it was sent.
            let outcome = tokio::time::timeout(Duration::from_secs(2), probe).await;
            if let Ok(Ok(())) = outcome {
                return Ok(());
            }
            if let Some(status) = self.exited() {
                bail!(
                    "{} ended with {status}; its log ends:\n{}",
                    self.options.name,
                    self.log_tail()
                );
            }
            if start.elapsed() > READY_WITHIN {
                bail!(
                    "{} is not ready ({outcome:?}); its log ends:\n{}",
                    self.options.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended already, which is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// If it does not run, or still runs after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        signal::send(self.running()?, Signal::TERM)?;
        self.exit(limit).await
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// If it never ran, or still runs after `limit`.
    pub async fn exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return Ok(status);
            }
            ensure!(self.child.is_some(), "{} does not run", self.options.name);
            ensure!(
                start.elapsed() < limit,
                "{} still runs after {limit:?}; its log ends:\n{}",
                self.options.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it and starts it again on the same directory; waits until it is ready.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.spawn()?;
        self.ready().await
    }

    /// SIGSTOP: the process stands still, its sockets stay open.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        signal::pause(self.running()?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        signal::send(self.running()?, Signal::CONT)
    }

    fn running(&self) -> Result<&Child> {
        let child = self.child.as_ref();
        child.with_context(|| format!("{} does not run", self.options.name))
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// CPU time and memory from /proc.
    ///
    /// # Errors
    /// If it does not run.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.options.name))?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold blanks; the numbers begin after it with field 3.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .ok_or_else(|| anyhow!("no name in /proc/{pid}/stat"))?
            .1
            .split_whitespace()
            .collect();
        let ticks = |field: usize| -> Result<u64> {
            Ok(fields.get(field - 3).context("a short stat")?.parse()?)
        };
        let cpu = Duration::from_millis((ticks(14)? + ticks(15)?) * 10);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| -> u64 {
            status
                .lines()
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .split_whitespace()
                        .next()?
                        .parse()
                        .ok()
                })
                .unwrap_or(0)
        };
        Ok(Usage {
            cpu,
            rss: kib("VmRSS:") * 1024,
            rss_anon: kib("RssAnon:") * 1024,
        })
    }

    /// A client of this member alone. It connects when first used and again after a restart.
    pub fn client(&self) -> Client {
        Client::new(&self.client_url())
    }

    /// `http://127.0.0.1:<port>` for clients.
    pub fn client_url(&self) -> String {
        self.client_port.url()
    }

    /// `http://127.0.0.1:<port>` for peers.
    pub fn peer_url(&self) -> String {
        self.peer_port.url()
    }

    /// As [`Process::client_url`], with `https`.
    pub fn https_client_url(&self) -> String {
        self.client_url().replacen("http", "https", 1)
    }

    /// As [`Process::peer_url`], with `https`.
    pub fn https_peer_url(&self) -> String {
        self.peer_url().replacen("http", "https", 1)
    }

    /// `--name`.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// How the next start is done.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The folder around the data directory, for files of the test's own.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// All that it has printed, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log holds `text`.
    ///
    /// # Panics
    /// If it does not within `limit`.
    pub async fn logged(&self, text: &str, limit: Duration) {
        eventually(
            limit,
            &format!("{} logs {text:?}", self.options.name),
            async || {
                if self.log().contains(text) {
                    Ok(())
                } else {
                    Err(self.log_tail())
                }
            },
        )
        .await;
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn log_file(&self) -> Result<File> {
        let path = self.log_path();
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

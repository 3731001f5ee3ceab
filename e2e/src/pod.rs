//! A pod in which a run of a backup happens: files where the kubelet would mount them, and the operator's program.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::http;
use crate::minio::{Credentials, Minio};
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::spawner;
use crate::target::Target;

/// No run of these tests may take longer.
const LIMIT: Duration = Duration::from_secs(120);

/// A pod's files, and its destination.
#[derive(Debug)]
pub struct Pod {
    scratch: Scratch,
    /// The destination, as a manifest says it.
    pub destination: Value,
    /// `--patience` in seconds.
    pub patience: u64,
    /// Bytes that the claim has room for, if they are few.
    pub claim_bytes: Option<u64>,
    /// Environment of runs beside what they are told.
    pub env: Vec<(String, String)>,
}

/// A run that goes on; killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    port: Port,
    command: String,
    message: PathBuf,
    log: PathBuf,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The termination message; null if there is none.
    pub answer: Value,
    /// What it logged.
    pub log: String,
}

impl Pod {
    fn new(destination: Value) -> Result<Pod> {
        let pod = Pod {
            scratch: Scratch::new()?,
            destination,
            patience: 20,
            claim_bytes: None,
            env: Vec::new(),
        };
        std::fs::create_dir_all(pod.place("scratch")).context("making the scratch volume")?;
        Ok(pod)
    }

    /// One whose destination is a bucket of `minio`, reached at `endpoint` if that is another one.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn s3(minio: &Minio, endpoint: Option<&str>, bucket: &str, prefix: &str) -> Result<Pod> {
        let mut s3 = json!({
            "bucket": bucket,
            "prefix": prefix,
            "endpoint": endpoint.map_or_else(|| minio.endpoint(), str::to_owned),
            "endpointNetwork": "Private",
            "forcePathStyle": true,
            "credentialsSecretRef": {"name": "s3"},
        });
        if minio.authority().is_some() {
            s3["caSecretRef"] = json!({"name": "ca"});
        }
        let pod = Pod::new(json!({ "s3": s3 }))?;
        pod.credentials(minio.credentials())?;
        if let Some(authority) = minio.authority() {
            pod.write("s3-ca/ca.crt", authority.pem())?;
        }
        Ok(pod)
    }

    /// One whose destination is a volume: a folder of its own.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn claim() -> Result<Pod> {
        let pod = Pod::new(json!({"persistentVolumeClaim": {"claimName": "backups"}}))?;
        std::fs::create_dir_all(pod.place("claim")).context("making the claim")?;
        Ok(pod)
    }

    /// Another pod with the same destination and secrets, and nothing else.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn another(&self) -> Result<Pod> {
        let pod = Pod::new(self.destination.clone())?;
        for place in ["s3-credentials", "s3-ca", "member-tls", "encryption-key"] {
            let from = self.place(place);
            for entry in std::fs::read_dir(&from).into_iter().flatten().flatten() {
                let name = format!("{place}/{}", entry.file_name().to_string_lossy());
                pod.write(&name, &std::fs::read_to_string(entry.path())?)?;
            }
        }
        if self.place("claim").exists() {
            std::os::unix::fs::symlink(self.place("claim"), pod.place("claim"))?;
        }
        Ok(Pod {
            patience: self.patience,
            ..pod
        })
    }

    /// Where something is mounted.
    pub fn place(&self, name: &str) -> PathBuf {
        self.scratch.path().join("files").join(name)
    }

    /// A folder of the pod for anything else, such as a data volume.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Writes a mounted file, as a Secret that changes: at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.place(name);
        let folder = path.parent().context("a file in a folder")?;
        std::fs::create_dir_all(folder).context("making a mount")?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, content).context("writing a mounted file")?;
        std::fs::rename(&partial, &path).context("renaming a mounted file")
    }

    /// Mounts these credentials.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn credentials(&self, credentials: &Credentials) -> Result<()> {
        self.write("s3-credentials/AWS_ACCESS_KEY_ID", &credentials.id)?;
        self.write("s3-credentials/AWS_SECRET_ACCESS_KEY", &credentials.secret)
    }

    /// Starts a run.
    ///
    /// # Errors
    /// If the operator is not built.
    pub fn start(&self, command: &str, told: &Value) -> Result<Running> {
        let port = Port::reserve()?;
        let number = port.number();
        let message = self.scratch.path().join(format!("message-{number}"));
        let log = self.scratch.path().join(format!("log-{number}"));
        std::fs::write(&message, "").context("making the termination message")?;
        let out = std::fs::File::create(&log).context("making the log")?;
        let err = out.try_clone().context("sharing the log")?;
        let program = operator()?;
        let args = [
            command.to_owned(),
            format!("--files={}", self.scratch.path().join("files").display()),
            format!("--termination-log={}", message.display()),
            format!("--listen=127.0.0.1:{number}"),
            format!("--patience={}", self.patience),
            "--allow-loopback".to_owned(),
        ];
        let (small, claim) = (self.claim_bytes, self.place("claim"));
        let outer = match small {
            Some(_) => Path::new("unshare"),
            None => &program,
        };
        let text = told.to_string();
        let inner = program.clone();
        let env = self.env.clone();
        let child = spawner::spawn(outer, move |c| {
            if let Some(bytes) = small {
                let mount = format!(
                    "mount -t tmpfs -o size={bytes} tmpfs {} && exec \"$@\"",
                    claim.display()
                );
                if !rustix::process::geteuid().is_root() {
                    c.arg("--map-root-user");
                }
                c.args(["--mount", "sh", "-c", &mount, "sh"]).arg(&inner);
            }
            c.args(args)
                .env("ETCD_BACKUP_RUN", text)
                .env_remove("AWS_ACCESS_KEY_ID")
                .env_remove("AWS_SECRET_ACCESS_KEY")
                .env_remove("AWS_PROFILE")
                .env("HOME", "/nonexistent")
                .envs(env)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err);
        })?;
        Ok(Running {
            child,
            port,
            command: command.to_owned(),
            message,
            log,
        })
    }

    /// Does a run to its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn run(&self, command: &str, told: &Value) -> Result<Outcome> {
        self.start(command, told)?.end().await
    }

    /// Does a run that must succeed; its report.
    ///
    /// # Errors
    /// If it fails; the text holds its answer and its log.
    pub async fn succeed(&self, command: &str, told: &Value) -> Result<Value> {
        let outcome = self.run(command, told).await?;
        ensure!(
            outcome.code == Some(0),
            "{command} ended with {:?}: {}\n{}",
            outcome.code,
            outcome.answer,
            outcome.log
        );
        Ok(outcome.answer[command].clone())
    }

    /// Does a run that must fail; why it did.
    ///
    /// # Errors
    /// If it succeeds, or leaves no reason.
    pub async fn fail(&self, command: &str, told: &Value) -> Result<Failed> {
        self.run(command, told).await?.failed()
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The reason.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// Whether it may pass.
    pub transient: bool,
}

impl Outcome {
    /// Why it failed.
    ///
    /// # Errors
    /// If it did not, or its exit code says something else.
    pub fn failed(&self) -> Result<Failed> {
        let failed = &self.answer["failed"];
        let (Some(reason), Some(message), Some(transient)) = (
            failed["reason"].as_str(),
            failed["message"].as_str(),
            failed["transient"].as_bool(),
        ) else {
            bail!(
                "it did not fail: {:?} {}\n{}",
                self.code,
                self.answer,
                self.log
            );
        };
        let code = if transient { 75 } else { 78 };
        ensure!(
            self.code == Some(code),
            "it ended with {:?} and says {failed}",
            self.code
        );
        Ok(Failed {
            reason: reason.to_owned(),
            message: message.to_owned(),
            transient,
        })
    }
}

impl Running {
    /// How far it is; none if it cannot be asked.
    pub async fn progress(&self) -> Option<Value> {
        let url = format!("{}/progress", self.port.url());
        let (status, body) = http::get(&url).await.ok()?;
        (status == 200).then(|| serde_json::from_str(&body).ok())?
    }

    /// Waits until what it shows satisfies `condition`.
    ///
    /// # Errors
    /// If it ends first, or does not within two minutes.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let start = Instant::now();
        let mut last = Value::Null;
        loop {
            if let Some(progress) = self.progress().await {
                if condition(&progress) {
                    return Ok(progress);
                }
                last = progress;
            }
            if let Some(status) = self.child.try_wait().context("waiting for a run")? {
                bail!(
                    "{} ended with {status} before {what}: {}",
                    self.command,
                    self.log()
                );
            }
            ensure!(
                start.elapsed() < LIMIT,
                "not in time: {what}; it shows {last}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it with SIGKILL, as a node that dies does.
    pub fn kill(mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, as the kubelet does, and waits until it has.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn terminate(self) -> Result<Outcome> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        rustix::process::kill_process(pid, Signal::TERM).context("signalling a run")?;
        self.end().await
    }

    /// Waits until it has ended. None of the secrets that tests make up may then have been told.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn end(mut self) -> Result<Outcome> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for a run")? {
                let message = std::fs::read_to_string(&self.message)?;
                ensure!(
                    message.len() <= 4096,
                    "a message of {} bytes is cut off by the kubelet",
                    message.len()
                );
                let log = self.log();
                ensure!(
                    !log.contains("canary") && !message.contains("canary"),
                    "a secret is told: {message}\n{log}"
                );
                return Ok(Outcome {
                    code: status.code(),
                    answer: serde_json::from_str(&message).unwrap_or(Value::Null),
                    log,
                });
            }
            ensure!(
                start.elapsed() < LIMIT,
                "{} does not end: {}",
                self.command,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its process, for the kernel.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The operator, beside our server.
///
/// # Errors
/// If it is not built.
pub fn operator() -> Result<PathBuf> {
    let program = Target::Ours.etcd()?.with_file_name("etcd-operator");
    ensure!(
        program.is_file(),
        "{} is missing: build it with the server (`make build`, or `cargo build -p etcd-server -p etcd-operator`)",
        program.display()
    );
    Ok(program)
}

//! MinIO, an S3 server, as a real process: on loopback, or on an address of a Kubernetes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::authority::{Authority, Leaf};
use crate::bucket::Bucket;
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::{signal, spawner};

/// The version of MinIO that `e2e/minio/build.sh` builds.
pub const VERSION: &str = "0.0.0-20260212201848-7aac2a2c5b7c";

/// How long a start may take before it counts as failed. Generous: other builds may share the machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Who may do everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's ID.
    pub id: String,
    /// The secret.
    pub secret: String,
}

impl Credentials {
    /// Made-up ones; equal names give equal credentials.
    pub fn new(name: &str) -> Credentials {
        Credentials {
            id: format!("id-{name}"),
            secret: format!("canary-secret-{name}"),
        }
    }
}

/// A MinIO with one folder for its disk; killed on drop.
#[derive(Debug)]
pub struct Minio {
    scratch: Scratch,
    place: Place,
    port: Port,
    authority: Option<Authority>,
    credentials: Credentials,
    disk_bytes: Option<u64>,
    child: Option<Child>,
}

/// Where it listens.
#[derive(Debug, Clone)]
struct Place {
    ip: String,
    /// The file of a network namespace, if it is not this program's.
    network: Option<String>,
    /// What its certificate is for, if it speaks TLS.
    hosts: Vec<String>,
}

impl Place {
    fn loopback() -> Place {
        Place {
            ip: "127.0.0.1".to_owned(),
            network: None,
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        }
    }
}

/// Where MinIO is.
///
/// # Errors
/// If it is not built; the text says which command builds it.
pub fn program() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    let path = cache
        .join("etcd-core-e2e")
        .join(format!("minio-{VERSION}"))
        .join("minio");
    ensure!(
        path.is_file(),
        "{} is missing: build MinIO with `make minio` (e2e/minio/build.sh, needs Go)",
        path.display()
    );
    Ok(path)
}

impl Minio {
    /// Starts one that speaks plain HTTP, and waits until it serves.
    ///
    /// # Errors
    /// If it is not built, or does not serve in time; the text holds its log's end.
    pub async fn start() -> Result<Minio> {
        Minio::prepare(None, None)?.started().await
    }

    /// Starts one that speaks TLS with a certificate of an authority of its own.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn start_tls() -> Result<Minio> {
        Minio::prepare(Some(Authority::new("s3")?), None)?
            .started()
            .await
    }

    /// Starts one whose disk has only so many bytes. Needs the right to mount in a namespace of its own.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn start_small(bytes: u64) -> Result<Minio> {
        Minio::prepare(None, Some(bytes))?.started().await
    }

    /// Starts one that speaks TLS on an address of the network the calling thread has entered. Its
    /// certificate is for that address and for `hosts`.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn start_at(ip: &str, hosts: &[&str]) -> Result<Minio> {
        Minio::prepare(Some(Authority::new("s3")?), None)?
            .placed(ip, hosts)
            .started()
            .await
    }

    /// As [`Minio::start_at`], with a disk that has only so many bytes.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn start_small_at(ip: &str, hosts: &[&str], bytes: u64) -> Result<Minio> {
        Minio::prepare(Some(Authority::new("s3")?), Some(bytes))?
            .placed(ip, hosts)
            .started()
            .await
    }

    fn placed(mut self, ip: &str, hosts: &[&str]) -> Minio {
        let names = hosts.iter().copied().chain([ip]);
        self.place = Place {
            ip: ip.to_owned(),
            network: Some(spawner::network()),
            hosts: names.map(str::to_owned).collect(),
        };
        self
    }

    fn prepare(authority: Option<Authority>, disk_bytes: Option<u64>) -> Result<Minio> {
        Ok(Minio {
            scratch: Scratch::new()?,
            place: Place::loopback(),
            port: Port::reserve()?,
            authority,
            credentials: Credentials::new("first"),
            disk_bytes,
            child: None,
        })
    }

    async fn started(mut self) -> Result<Minio> {
        self.spawn().await?;
        Ok(self)
    }

    /// Runs it, and waits until it serves.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "MinIO runs already");
        let minio = program()?;
        let folder = self.scratch.path().to_owned();
        let certs = folder.join("certs");
        std::fs::create_dir_all(folder.join("disk"))?;
        std::fs::create_dir_all(&certs)?;
        if let Some(authority) = &self.authority {
            let hosts: Vec<&str> = self.place.hosts.iter().map(String::as_str).collect();
            let pair = authority.issue(&Leaf::new("minio").server_only().hosts(&hosts))?;
            std::fs::copy(&pair.cert, certs.join("public.crt")).context("copying a certificate")?;
            std::fs::copy(&pair.key, certs.join("private.key")).context("copying a key")?;
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("opening the log")?;
        let err = log.try_clone().context("sharing the log")?;
        let (address, credentials) = (self.address(), self.credentials.clone());
        let small = self.disk_bytes;
        let network = self.place.network.clone();
        let program = match (&network, small) {
            (Some(_), _) => "nsenter".into(),
            (None, Some(_)) => "unshare".into(),
            (None, None) => minio.clone(),
        };
        self.child = Some(spawner::spawn(&program, move |command| {
            let serve = [
                "server".to_owned(),
                format!("--address={address}"),
                format!("--certs-dir={}", certs.display()),
                "--quiet".to_owned(),
                folder.join("disk").display().to_string(),
            ];
            if let Some(network) = &network {
                command.arg(format!("--net={network}")).arg("--");
            }
            if let Some(bytes) = small {
                let mount = format!(
                    "mount -t tmpfs -o size={bytes} tmpfs {} && exec \"$@\"",
                    folder.join("disk").display()
                );
                if network.is_some() {
                    command.arg("unshare");
                }
                if !rustix::process::geteuid().is_root() {
                    command.arg("--map-root-user");
                }
                command.args(["--mount", "sh", "-c", &mount, "sh"]);
            }
            if network.is_some() || small.is_some() {
                command.arg(minio);
            }
            command
                .args(serve)
                .env("MINIO_ROOT_USER", credentials.id)
                .env("MINIO_ROOT_PASSWORD", credentials.secret)
                .env("MINIO_SITE_REGION", "us-east-1")
                .env("MINIO_BROWSER", "off")
                .env("MINIO_UPDATE", "off")
                .env("HOME", &folder)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(err);
        })?);
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            // The port opens before the server knows its disk; an empty listing needs both.
            if TcpStream::connect(self.address()).await.is_ok()
                && self.root().buckets().await.is_ok()
            {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context("waiting for MinIO")?
            {
                bail!("MinIO ended with {status}; its log:\n{}", self.log());
            }
            ensure!(
                start.elapsed() < READY_WITHIN,
                "MinIO does not serve; its log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes an empty bucket.
    ///
    /// # Errors
    /// If MinIO refuses.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        let bucket = self.root().named(name);
        bucket.create(false).await?;
        Ok(bucket)
    }

    /// Makes an empty bucket whose objects can be locked.
    ///
    /// # Errors
    /// If MinIO refuses.
    pub async fn bucket_with_locks(&self, name: &str) -> Result<Bucket> {
        let bucket = self.root().named(name);
        bucket.create(true).await?;
        Ok(bucket)
    }

    fn root(&self) -> Bucket {
        let ca = self.authority.as_ref().map(Authority::pem);
        Bucket::new(&self.endpoint(), ca, &self.credentials)
    }

    /// `http://<ip>:<port>`, or with https.
    pub fn endpoint(&self) -> String {
        let scheme = match self.authority {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}", self.address())
    }

    /// `<ip>:<port>`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.place.ip, self.port.number())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The authority of its certificate, if it speaks TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Who may do everything.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The folder of an object, below which its bytes are; a small object's are in `xl.meta`.
    pub fn object_dir(&self, bucket: &str, key: &str) -> PathBuf {
        self.scratch.path().join("disk").join(bucket).join(key)
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended already, which is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again with other credentials; the old ones are then unknown.
    ///
    /// # Errors
    /// As [`Minio::start`].
    pub async fn restart_as(&mut self, credentials: Credentials) -> Result<()> {
        self.kill();
        self.credentials = credentials;
        self.spawn().await
    }

    /// Gives a disk that has only so many bytes that many. Deleting makes room minutes later only.
    /// Needs root.
    ///
    /// # Errors
    /// If it does not run, or its disk is not such a one.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        ensure!(self.disk_bytes.is_some(), "its disk has no size of its own");
        let child = self.child.as_ref().context("MinIO does not run")?;
        let status = Command::new("nsenter")
            .arg(format!("--target={}", child.id()))
            .args(["--mount", "mount", "-o"])
            .arg(format!("remount,size={bytes}"))
            .arg(self.scratch.path().join("disk"))
            .status()
            .context("running nsenter (Debian package util-linux)")?;
        ensure!(status.success(), "mount -o remount,size={bytes}: {status}");
        Ok(())
    }

    /// SIGSTOP: it stands still, its sockets stay open.
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
        self.child.as_ref().context("MinIO does not run")
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.kill();
    }
}

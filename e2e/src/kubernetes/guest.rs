//! Another API server, with controllers, whose storage is a cluster in the Kubernetes.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::kubernetes::{Places, Tool};
use crate::load::Bundle;
use crate::scratch::Scratch;
use crate::spawner;
use crate::wait::eventually;

/// The address of the machine that the nodes are plugged into, and a port nobody else has there.
const IP: &str = "172.31.0.1";
const PORT: u16 = 7443;
/// Its Services would be here; it has no nodes.
const SERVICES: &str = "10.97.0.0/16";
/// How long a start may take before it counts as failed.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Where its storage is.
#[derive(Debug, Clone)]
pub struct GuestStorage {
    /// The host in the certificates of its members.
    pub host: String,
    /// The address of that host: the network's DNS is for pods alone.
    pub ip: String,
    /// What it shows and trusts.
    pub bundle: Bundle,
}

/// kube-apiserver and kube-controller-manager; killed on drop. There are no nodes: pods are made
/// and never run.
#[derive(Debug)]
pub struct Guest {
    scratch: Scratch,
    /// By name.
    programs: Vec<(&'static str, Child)>,
}

impl Guest {
    /// Starts it beside the Kubernetes whose state is in `state`, whose authority it shares, and
    /// waits until it serves. To be called by a thread that has entered the network.
    ///
    /// # Errors
    /// If it does not serve in time; the text holds its log's end.
    pub async fn start(places: &Places, state: &Path, storage: &GuestStorage) -> Result<Guest> {
        let scratch = Scratch::new()?;
        let folder = scratch.path().to_owned();
        let (certificate, key) = storage
            .bundle
            .identity
            .as_ref()
            .context("a client's certificate for its storage")?;
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", storage.ip, storage.host);
        for (name, content) in [
            ("etcd-ca.crt", &storage.bundle.ca),
            ("etcd.crt", certificate),
            ("etcd.key", key),
            ("hosts", &hosts.into_bytes()),
        ] {
            std::fs::write(folder.join(name), content)
                .with_context(|| format!("writing {name}"))?;
        }
        let admin = std::fs::read_to_string(state.join("admin.kubeconfig"))
            .context("reading the administrator's kubeconfig")?;
        let own = admin.replace(&format!("{IP}:6443"), &format!("{IP}:{PORT}"));
        ensure!(own != admin, "the kubeconfig names no {IP}:6443: {admin}");
        std::fs::write(folder.join("admin.kubeconfig"), own).context("writing its kubeconfig")?;

        let pki = |name: &str| state.join("pki").join(name).display().to_string();
        let here = |name: &str| folder.join(name).display().to_string();
        let mut guest = Guest {
            scratch,
            programs: Vec::new(),
        };
        let server = [
            format!("--etcd-servers=https://{}:2379", storage.host),
            format!("--etcd-cafile={}", here("etcd-ca.crt")),
            format!("--etcd-certfile={}", here("etcd.crt")),
            format!("--etcd-keyfile={}", here("etcd.key")),
            format!("--bind-address={IP}"),
            format!("--advertise-address={IP}"),
            format!("--secure-port={PORT}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            "--service-account-issuer=https://guest.svc".to_owned(),
            format!("--service-account-key-file={}", pki("sa.key")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            "--authorization-mode=RBAC".to_owned(),
        ];
        guest.run(places, "kube-apiserver", &server)?;
        guest.ready(&guest.tool(places.bin.join("kubectl"))).await?;
        let controllers = [
            format!("--kubeconfig={}", here("admin.kubeconfig")),
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            // One that leads ends by itself when it cannot renew its lease for ten seconds.
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        guest.run(places, "kube-controller-manager", &controllers)?;
        Ok(guest)
    }

    fn run(&mut self, places: &Places, name: &'static str, args: &[String]) -> Result<()> {
        let log = std::fs::File::create(self.log_path(name)).context("creating a log")?;
        let errors = log.try_clone().context("sharing the log")?;
        let (program, hosts) = (places.bin.join(name), self.scratch.path().join("hosts"));
        let network = spawner::network();
        let child = spawner::spawn(Path::new("nsenter"), |command| {
            command
                .arg(format!("--net={network}"))
                .args(["--", "unshare", "--mount", "sh", "-c"])
                .arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"")
                .arg("sh")
                .arg(hosts)
                .arg(program)
                .args(args)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors);
        })?;
        self.programs.push((name, child));
        Ok(())
    }

    /// Returns once the API server says that it is ready.
    async fn ready(&mut self, kubectl: &Tool) -> Result<()> {
        let guest = tokio::sync::Mutex::new(self);
        eventually(
            READY_WITHIN,
            "the guest's API server is ready",
            async || {
                let look = ["get", "--raw", "/readyz"];
                let answer = kubectl.try_run(&look, "").await;
                let mut guest = guest.lock().await;
                match guest.lives().and(answer) {
                    // Whoever has ended will not be ready.
                    Err(ended) => Ok(Err(ended)),
                    Ok(answer) if answer.success => Ok(Ok(())),
                    Ok(_) => Err(guest.log("kube-apiserver")),
                }
            },
        )
        .await
    }

    /// Process IDs of its programs; each is the one that was started at first.
    ///
    /// # Errors
    /// If one has ended; the text holds its log's end.
    pub fn lives(&mut self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        for (name, child) in &mut self.programs {
            if let Some(status) = child.try_wait().context("looking after a program")? {
                let name = *name;
                bail!(
                    "{name} ended with {status}; the end of its log:\n{}",
                    self.log(name)
                );
            }
            pids.push(child.id());
        }
        Ok(pids)
    }

    /// A tool that talks to it as the administrator.
    pub fn tool(&self, program: PathBuf) -> Tool {
        Tool::new(program)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.scratch.path().join("kubectl"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("admin.kubeconfig")
    }

    fn log_path(&self, program: &str) -> PathBuf {
        self.scratch.path().join(format!("{program}.log"))
    }

    /// The last lines that one of its programs has logged.
    pub fn log(&self, program: &str) -> String {
        let text = std::fs::read_to_string(self.log_path(program)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The controllers first: they would complain.
        for (_, child) in self.programs.iter_mut().rev() {
            // Fails only if it has ended already, which is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

//! The command line: `etcd-operator run | admit | install | crd | rbac`, and the runs of
//! backups: `snapshot | verify | restore | follow | delete | list | export
//! | import`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use kube::Config;
use tracing_subscriber::EnvFilter;

use crate::{
    admit::{self, Admission},
    api,
    backup::{
        commands::{self, RunArgs, Verb},
        run::RUN_VARIABLE,
    },
    controller::{self, Options},
    render::Settings,
};

/// Runs etcd clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "etcd-operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(Run),
    /// In a member's pod: decide whether the member may start, then start it.
    Admit(Admit),
    /// In a member's init container: once admitted, make the data directory of a backup.
    AdmitRestore(AdmitRestore),
    /// Copy this program into a directory: what the pods' init container does.
    Install {
        /// The directory.
        dir: PathBuf,
    },
    /// Print the CustomResourceDefinitions.
    Crd,
    /// Print the rights the operator needs, as JSON.
    Rbac,
    /// In a pod of its own: make a backup.
    Snapshot(RunArgs),
    /// In a pod of its own: prove a backup that exists.
    Verify(RunArgs),
    /// In a member's pod: make its data directory of a backup.
    Restore(RunArgs),
    /// In a pod of its own: store what changes.
    Follow(RunArgs),
    /// In a pod of its own: remove backups.
    Delete(RunArgs),
    /// In a pod of its own: tell what a destination holds.
    List(RunArgs),
    /// In a pod of its own: store the keys below a prefix.
    Export(RunArgs),
    /// In a pod of its own: write keys of a backup or an export into a running cluster.
    Import(RunArgs),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Namespaces to serve, comma separated; all if left out.
    #[arg(
        long,
        env = "WATCH_NAMESPACES",
        value_delimiter = ',',
        default_value = ""
    )]
    watch_namespaces: Vec<String>,
    /// Image of members whose spec names none.
    #[arg(long, env = "ETCD_IMAGE")]
    etcd_image: Option<String>,
    /// Image of this operator, for the members' init container.
    #[arg(long, env = "OPERATOR_IMAGE")]
    operator_image: String,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "0.0.0.0:8080")]
    listen_address: SocketAddr,
    /// Elect a leader among replicas of the operator.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "etcd-operator")]
    lease_name: String,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pod_namespace: String,
    /// Who this replica is.
    #[arg(long, env = "POD_NAME", default_value = "etcd-operator")]
    pod_name: String,
    /// Clusters reconciled at a time.
    #[arg(long, env = "CONCURRENCY", default_value_t = 16)]
    concurrency: u16,
    /// Clusters whose members are restarted at a time for what only the operator has
    /// changed, in their maintenance windows.
    #[arg(long, env = "VOLUNTARY_UPDATES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    voluntary_updates: u16,
    /// Seconds between two looks at the Secrets that others renew, while all is well.
    #[arg(long, env = "SECRETS_INTERVAL", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    secrets_interval: u16,
}

#[derive(Debug, clap::Args)]
struct Admit {
    /// etcd's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// UID of this pod.
    #[arg(long, env = admit::POD_UID)]
    pod_uid: String,
    /// The restore this pod is held for: tell what lies on its disk, and start nothing.
    #[arg(long)]
    hold: Option<String>,
    /// etcd and its flags.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct AdmitRestore {
    /// etcd's data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// UID of this pod.
    #[arg(long, env = admit::POD_UID)]
    pod_uid: String,
    /// What is restored, as JSON.
    #[arg(long, env = RUN_VARIABLE, hide_env_values = true)]
    run: String,
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(run) => {
                log();
                runtime(true)?.block_on(run.start())?;
            }
            Command::Admit(args) => {
                log();
                let admission =
                    Admission::of_this_pod(args.data_dir, args.pod_uid, args.hold, args.command);
                runtime(false)?.block_on(admit::admit(admission))?;
            }
            Command::AdmitRestore(args) => {
                log();
                let told = admit::told(&args.run).map_err(|failure| anyhow!(failure.message))?;
                let admission =
                    Admission::of_this_pod(args.data_dir, args.pod_uid, None, Vec::new());
                runtime(true)?.block_on(admit::found(admission, told))?;
            }
            Command::Install { dir } => admit::install(&dir)?,
            Command::Crd => {
                let documents = crd_yaml()?.into_iter().map(|(_, text)| text);
                print!("{}", documents.collect::<Vec<String>>().join("---\n"));
            }
            Command::Rbac => println!("{}", serde_json::to_string_pretty(controller::rules())?),
            Command::Snapshot(args) => return run(Verb::Snapshot, args),
            Command::Verify(args) => return run(Verb::Verify, args),
            Command::Restore(args) => return run(Verb::Restore, args),
            Command::Follow(args) => return run(Verb::Follow, args),
            Command::Delete(args) => return run(Verb::Delete, args),
            Command::List(args) => return run(Verb::List, args),
            Command::Export(args) => return run(Verb::Export, args),
            Command::Import(args) => return run(Verb::Import, args),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A run of a backup; it says itself how it ended.
fn run(verb: Verb, args: RunArgs) -> anyhow::Result<ExitCode> {
    log();
    commands::run(verb, args)
}

/// The CustomResourceDefinitions as YAML, one document each, as `crds/` holds them: with
/// the name of the file.
pub fn crd_yaml() -> anyhow::Result<Vec<(&'static str, String)>> {
    let yaml = |(file, crd)| {
        // By way of JSON: what the API server will read, and nothing else.
        let crd = serde_json::to_value(crd)?;
        let text = serde_saphyr::to_string(&crd).context("a CustomResourceDefinition as YAML")?;
        Ok((file, text))
    };
    api::crds().into_iter().map(yaml).collect()
}

impl Run {
    async fn start(self) -> anyhow::Result<()> {
        let config = Config::infer().await.context("no way to the API server")?;
        let namespaces: Vec<String> = self
            .watch_namespaces
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        let options = Options {
            namespaces,
            settings: Settings {
                default_image: self
                    .etcd_image
                    .unwrap_or_else(|| self.operator_image.clone()),
                operator_image: self.operator_image,
            },
            listen: self.listen_address,
            lease_namespace: self.leader_election.then_some(self.pod_namespace),
            lease_name: self.lease_name,
            identity: self.pod_name,
            concurrency: self.concurrency,
            voluntary_updates: self.voluntary_updates,
            secrets_interval: Duration::from_secs(self.secrets_interval.into()),
        };
        Ok(controller::run(config, options).await?)
    }
}

fn runtime(threads: bool) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()
}

/// JSON lines on stderr, level by `RUST_LOG`.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

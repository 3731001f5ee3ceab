//! The command line, and what each command does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use crate::api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdRestore};

use super::{
    PluginError,
    backup::{self, BackupArgs},
    backups::{self, Backups},
    change::{self, Change},
    ctl, leader, members,
    restore::{self, RestoreArgs},
    target::Target,
    text,
    view::View,
};

/// Look at etcd clusters and steer them.
///
/// Clusters are EtcdClusters that etcd-operator runs. What is changed here is the
/// EtcdCluster; the operator carries it out, one safe step at a time.
#[derive(Debug, Parser)]
#[command(name = "kubectl-etcd", bin_name = "kubectl etcd", version, about)]
pub struct Cli {
    #[command(flatten)]
    scope: Scope,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where to look, and how to print.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Scope {
    /// Namespace; the context's own if left out.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// Every namespace; only where no cluster is named.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(super) context: Option<String>,
    /// Kubeconfig file; $KUBECONFIG or ~/.kube/config if left out.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub(super) output: Option<Output>,
}

/// Formats besides the short text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Text with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// A cluster at a glance: members, plan, conditions, and what a human should do.
    ///
    /// Raft's figures, sizes and alarms are asked of the members themselves, through
    /// port-forwards; without the right to do so (create pods/portforward) they are
    /// left out. Without a name: one line for every cluster.
    Status {
        /// The cluster; all of the namespace if left out.
        cluster: Option<String>,
    },
    /// The members, as the operator knows them and as they answer.
    Members {
        /// The cluster.
        cluster: String,
    },
    /// The next step, why it is taken, and what is held back by which guard.
    Plan {
        /// The cluster.
        cluster: String,
    },
    /// Set spec.paused: the operator changes nothing until `resume`. Members run on.
    Pause {
        /// The cluster.
        cluster: String,
    },
    /// Clear spec.paused.
    Resume {
        /// The cluster.
        cluster: String,
    },
    /// Restart all members, one at a time, the leader last, as an upgrade does.
    ///
    /// Sets the annotation etcd-core.io/restarted-at; the operator does the rest,
    /// inside a maintenance window if the cluster has any.
    Restart {
        /// The cluster.
        cluster: String,
    },
    /// Make another voter the leader. Clients notice an election at most.
    ///
    /// Asks the member that leads, through a port-forward (create pods/portforward).
    MoveLeader {
        /// The cluster.
        cluster: String,
        /// Member that shall lead; one that is up to date if left out.
        to: Option<String>,
    },
    /// Take a backup now, by the rules of the cluster's schedule, and wait for it.
    ///
    /// Makes an EtcdBackup (create etcdbackups) from the EtcdBackupSchedule of the
    /// cluster (list etcdbackupschedules), as `kubectl create job --from` makes a Job;
    /// or, with --bucket or --claim, to another place. The operator takes, stores and
    /// proves it. Fails if the backup does.
    Backup {
        /// The cluster.
        cluster: String,
        #[command(flatten)]
        asked: Box<BackupArgs>,
    },
    /// The backups of a cluster, proven and not, and how far its schedules are.
    Backups {
        /// The cluster.
        cluster: String,
    },
    /// Give the cluster the data of a backup. Without --yes only says what would be lost.
    ///
    /// The operator verifies the backup first, and compares its revision with the
    /// cluster's. With --yes an EtcdRestore is made (create etcdrestores) that replaces
    /// the cluster ID which the cluster has now; applied again it does nothing. The
    /// members are stopped, one begins anew with the data, the others join it; their old
    /// volumes are kept. Watches are told to begin anew.
    Restore {
        /// The cluster.
        cluster: String,
        #[command(flatten)]
        asked: Box<RestoreArgs>,
    },
    /// Run etcdctl against the cluster: `kubectl etcd ctl x -- get --prefix /`.
    ///
    /// Runs the `etcdctl` on your PATH (or the one ETCDCTL names) through a
    /// port-forward to a member that serves (create pods/portforward). Where clients
    /// need certificates they come from the Secret <cluster>-client (get on that
    /// Secret), for as long as the command runs. Without an etcdctl here, the one in the
    /// member's own pod is run (create pods/exec), if its image has one, as stock
    /// images do, with the member's own certificate.
    Ctl {
        /// The cluster.
        cluster: String,
        /// Arguments of etcdctl.
        #[arg(last = true, required = true)]
        args: Vec<String>,
    },
}

impl Cli {
    /// Does what the command line says; the exit code.
    ///
    /// # Errors
    /// What a person has to know to do better.
    pub async fn run(self) -> Result<u8, PluginError> {
        let named = !matches!(self.command, Command::Status { cluster: None });
        if named && self.scope.all_namespaces {
            return Err(PluginError::AllNamespaces);
        }
        let target = Target::new(&self.scope).await?;
        let output = self.scope.output;
        match self.command {
            Command::Status { cluster: None } => {
                let now = Timestamp::now();
                let clusters = target.list(self.scope.all_namespaces).await?;
                let views: Vec<View> = clusters
                    .iter()
                    .map(|cluster| View::new(cluster, None, now))
                    .collect();
                let spread = self.scope.all_namespaces;
                print(output, &views, |wide| text::list(&views, spread, wide))?;
            }
            Command::Status {
                cluster: Some(name),
            } => {
                let view = asked(&target, &name).await?;
                print(output, &view, |wide| text::status(&view, wide))?;
            }
            Command::Members { cluster } => {
                let view = asked(&target, &cluster).await?;
                print(output, &view.members, |wide| text::members(&view, wide))?;
            }
            Command::Plan { cluster } => {
                let cluster = target.get(&cluster).await?;
                let view = View::new(&cluster, None, Timestamp::now());
                print(output, &view.plan, |_| text::plan(&view))?;
            }
            Command::Pause { cluster } => change(&target, &cluster, Change::Pause).await?,
            Command::Resume { cluster } => change(&target, &cluster, Change::Resume).await?,
            Command::Restart { cluster } => change(&target, &cluster, Change::Restart).await?,
            Command::MoveLeader { cluster, to } => {
                let cluster = target.get(&cluster).await?;
                let moved = leader::move_leader(&target, &cluster, to.as_deref()).await?;
                println!("{moved}");
            }
            Command::Backup { cluster, asked } => {
                let cluster = target.get(&cluster).await?;
                println!("{}", backup::run(&target, &cluster, &asked).await?);
            }
            Command::Backups { cluster } => {
                let cluster = target.get(&cluster).await?;
                let made: Vec<EtcdBackup> = target.all().await?;
                let schedules: Vec<EtcdBackupSchedule> = target.all().await?;
                let view = Backups::new(&cluster, &made, &schedules, Timestamp::now());
                print(output, &view, |wide| backups::text(&view, wide))?;
            }
            Command::Restore { cluster, asked } => {
                let cluster = target.get(&cluster).await?;
                let replaces = restore::replaced(&cluster, &asked)?;
                restore::check(&target, &asked).await?;
                let outlook = if asked.yes {
                    restore::run(&target, &cluster, &replaces, &asked).await?
                } else {
                    restore::dry_run(&target, &cluster, &replaces, &asked).await?
                };
                print(output, &outlook, |_| restore::text(&outlook))?;
                if !asked.yes && !asked.dry_run {
                    let command = restore::command(&outlook, &asked);
                    return Err(PluginError::Unconfirmed(command));
                }
            }
            Command::Ctl { cluster, args } => {
                let cluster = target.get(&cluster).await?;
                return ctl::run(&target, &cluster, &args).await;
            }
        }
        Ok(0)
    }
}

/// A cluster with what its members say.
async fn asked(target: &Target, name: &str) -> Result<View, PluginError> {
    let cluster: EtcdCluster = target.get(name).await?;
    let mut answers = members::ask(target, &cluster).await;
    let restores: Vec<EtcdRestore> = target.all().await.unwrap_or_else(|error| {
        // What the cluster itself says of a restore is shown all the same.
        let note = format!("EtcdRestores are left out: {error}");
        answers.note = Some(match answers.note.take() {
            Some(other) => format!("{other}; {note}"),
            None => note,
        });
        Vec::new()
    });
    let now = Timestamp::now();
    Ok(View::new(&cluster, Some(&answers), now).restored_by(&restores, now))
}

async fn change(target: &Target, name: &str, what: Change) -> Result<(), PluginError> {
    let before = target.get(name).await?;
    if let Some(said) = change::idle(&before, what) {
        println!("{said}");
        return Ok(());
    }
    let now = Timestamp::now();
    target.patch(name, &change::patch(what, now)).await?;
    println!("{}", change::said(&before, what));
    Ok(())
}

fn print<T: Serialize>(
    output: Option<Output>,
    value: &T,
    text: impl FnOnce(bool) -> String,
) -> Result<(), PluginError> {
    match output {
        None => print!("{}", text(false)),
        Some(Output::Wide) => print!("{}", text(true)),
        Some(Output::Json) => println!(
            "{}",
            serde_json::to_string_pretty(value).expect("views have string keys")
        ),
        Some(Output::Yaml) => print!(
            "{}",
            serde_saphyr::to_string(value)
                .map_err(|error| PluginError::Print(error.to_string()))?
        ),
    }
    Ok(())
}

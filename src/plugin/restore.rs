//! `kubectl etcd restore`: what a restore in place would give and lose, and the
//! EtcdRestore that does it.
//!
//! Both are the operator's work. A dry run is an EtcdRestore with `dryRun`, which
//! verifies the backup, asks the members for their revision, and is deleted when it was
//! read.

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::api::{
    BackupRef, ClusterRef, EtcdBackup, EtcdCluster, EtcdRestore, EtcdRestoreSpec, RestorePhase,
    RestoreSource, RestoreTarget, Survivor,
};

use super::{
    PluginError,
    target::Target,
    text::or_dash,
    wait::{self, Waiting, words},
};

/// What is asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["from", "survivor"]))]
pub(super) struct RestoreArgs {
    /// EtcdBackup to restore.
    #[arg(long, value_name = "BACKUP")]
    from: Option<String>,
    /// Restore what is left of the cluster itself after its quorum was lost: its most
    /// advanced member. All that are left are stopped and compared first.
    #[arg(long)]
    survivor: bool,
    /// At this revision, by the changes that were stored after the backup.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..), conflicts_with_all = ["time", "survivor"])]
    revision: Option<i64>,
    /// At the last revision that was reached by then, such as 2026-03-01T11:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "survivor")]
    time: Option<Timestamp>,
    /// Restore it also if it is a backup of another cluster.
    #[arg(long, conflicts_with = "survivor")]
    allow_other_cluster: bool,
    /// Only find out what it would restore, and what would be lost by it.
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Do it: the cluster's data is replaced. Its volumes are kept.
    #[arg(long)]
    pub(super) yes: bool,
    /// Do it only if this is the cluster ID that would be replaced.
    #[arg(long, value_name = "ID")]
    replaces: Option<String>,
    /// Name of the EtcdRestore; made up if left out.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    pub(super) waiting: Waiting,
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "it is a time with its zone, such as 2026-03-01T11:30:00Z".to_owned())
}

/// What a restore would do, or has done; what `-o json` and `-o yaml` print.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outlook {
    pub(super) cluster: String,
    pub(super) namespace: String,
    /// Name of the EtcdRestore; absent of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restore: Option<String>,
    pub(super) source: String,
    /// The cluster ID that is given up.
    pub(super) replaces: String,
    /// The cluster ID it has since.
    #[serde(skip_serializing_if = "Option::is_none", rename = "clusterID")]
    pub(super) cluster_id: Option<String>,
    /// Cluster the backup is of.
    #[serde(skip_serializing_if = "Option::is_none", rename = "sourceClusterID")]
    pub(super) source_cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restored_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost_revisions: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Claims of the members that were replaced; they are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) quarantined_volumes: Vec<String>,
}

/// Refuses what cannot go well, and finds the ID that is to be replaced.
pub(super) fn replaced(cluster: &EtcdCluster, asked: &RestoreArgs) -> Result<String, PluginError> {
    let name = cluster.name_any();
    let current = cluster.status.as_ref().and_then(|s| s.cluster_id.clone());
    let Some(current) = current else {
        return Err(PluginError::Restore(format!(
            "{name} has not formed yet, and has nothing to replace; a new cluster begins with a backup by spec.bootstrap.restore"
        )));
    };
    match &asked.replaces {
        Some(wanted) if *wanted != current => Err(PluginError::Restore(format!(
            "the cluster ID of {name} is {current}, and --replaces says {wanted}: it was restored meanwhile, or is another cluster; nothing was done"
        ))),
        _ => Ok(current),
    }
}

/// The object to make.
pub(super) fn object(
    cluster: &EtcdCluster,
    replaces: &str,
    asked: &RestoreArgs,
    dry_run: bool,
) -> EtcdRestore {
    let name = cluster.name_any();
    let target = match (asked.revision, asked.time) {
        (None, None) => None,
        (revision, time) => Some(RestoreTarget {
            revision,
            time: time.map(Time),
        }),
    };
    let spec = EtcdRestoreSpec {
        cluster_ref: ClusterRef { name: name.clone() },
        replaces: replaces.to_owned(),
        source: RestoreSource {
            backup_ref: asked.from.clone().map(|name| BackupRef { name }),
            survivor: asked.survivor.then_some(Survivor {}),
            allow_other_cluster: asked.allow_other_cluster,
            ..RestoreSource::default()
        },
        target,
        revisions: Default::default(),
        dry_run,
        job: Default::default(),
    };
    let mut restore = EtcdRestore::new("", spec);
    let wanted = asked.name.as_deref().filter(|_| !dry_run);
    wait::name(restore.meta_mut(), wanted, &name);
    restore
}

/// Finds out what it would give; nothing of it stays.
pub(super) async fn dry_run(
    target: &Target,
    cluster: &EtcdCluster,
    replaces: &str,
    asked: &RestoreArgs,
) -> Result<Outlook, PluginError> {
    let made = target
        .create(&object(cluster, replaces, asked, true))
        .await?;
    let name = made.name_any();
    let look = look(target, &name);
    // Asked for or not, there is nothing to tell before it is over.
    let waiting = Waiting {
        wait: true,
        ..asked.waiting.clone()
    };
    let ended = wait::until(target, &name, &look, &waiting, told, is_over).await;
    target.delete::<EtcdRestore>(&name).await?;
    let ended = ended?;
    judge(&ended)?;
    Ok(Outlook {
        restore: None,
        ..outlook(&ended)
    })
}

/// Makes the EtcdRestore, and waits for it if that is asked for.
pub(super) async fn run(
    target: &Target,
    cluster: &EtcdCluster,
    replaces: &str,
    asked: &RestoreArgs,
) -> Result<Outlook, PluginError> {
    let made = target
        .create(&object(cluster, replaces, asked, false))
        .await?;
    let name = made.name_any();
    if !asked.waiting.wait {
        return Ok(outlook(&made));
    }
    let look = look(target, &name);
    let ended = wait::until(target, &name, &look, &asked.waiting, told, is_over).await?;
    judge(&ended)?;
    Ok(outlook(&ended))
}

/// The backup that is named must be there: a restore would wait for it.
pub(super) async fn check(target: &Target, asked: &RestoreArgs) -> Result<(), PluginError> {
    match &asked.from {
        Some(name) => target.read::<EtcdBackup>(name).await.map(|_| ()),
        None => Ok(()),
    }
}

fn look(target: &Target, name: &str) -> String {
    format!("kubectl get etcdrestore {name} -n {}", target.namespace)
}

fn is_over(restore: &EtcdRestore) -> bool {
    crate::jobs::restore::is_over(restore)
}

/// What it is at.
pub(super) fn told(restore: &EtcdRestore) -> String {
    let Some(status) = &restore.status else {
        return "Pending: the operator has not looked at it yet".to_owned();
    };
    let run = status.run.as_ref().filter(|run| run.ended_at.is_none());
    words(
        status.phase.map(|phase| format!("{phase:?}")),
        run.and_then(|run| run.progress.as_ref()),
        &status.conditions,
    )
}

/// Refuses one that ended otherwise than it should.
pub(super) fn judge(restore: &EtcdRestore) -> Result<(), PluginError> {
    let name = restore.name_any();
    let status = restore.status.clone().unwrap_or_default();
    let says = |type_: &str| {
        let found = status.conditions.iter().find(|c| c.type_ == type_);
        found.map_or_else(String::new, |c| format!("{}: {}", c.reason, c.message))
    };
    match status.phase {
        Some(RestorePhase::Completed) => Ok(()),
        Some(RestorePhase::Superseded) => {
            Err(PluginError::Restore(format!("{name}: {}", says("Ready"))))
        }
        _ => Err(PluginError::Restore(format!(
            "{name} was given up: {}",
            says("Stalled")
        ))),
    }
}

/// What its status says.
pub(super) fn outlook(restore: &EtcdRestore) -> Outlook {
    let spec = &restore.spec;
    let status = restore.status.clone().unwrap_or_default();
    Outlook {
        cluster: spec.cluster_ref.name.clone(),
        namespace: restore.namespace().unwrap_or_default(),
        restore: Some(restore.name_any()),
        source: status
            .source
            .unwrap_or_else(|| crate::jobs::source::words(&spec.source, spec.target.as_ref())),
        replaces: spec.replaces.clone(),
        cluster_id: status.cluster_id,
        source_cluster_id: status.source_cluster_id,
        current_revision: status.current_revision,
        restored_revision: status.restored_revision,
        lost_revisions: status.lost_revisions,
        sha256: status.sha256,
        quarantined_volumes: status.quarantined_volumes,
    }
}

/// What is printed.
pub(super) fn text(outlook: &Outlook) -> String {
    let head = match (&outlook.restore, &outlook.cluster_id) {
        (None, _) => "Dry run: nothing was changed.".to_owned(),
        (Some(name), None) => format!(
            "EtcdRestore {name} is made: kubectl get etcdrestore {name} -n {}",
            outlook.namespace
        ),
        (Some(name), Some(_)) => format!("EtcdRestore {name} is done."),
    };
    let mut text = format!(
        "{head}\n{} in {}, from {}\n",
        outlook.cluster, outlook.namespace, outlook.source
    );
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let survivor = outlook.source_cluster_id.is_none() && outlook.restored_revision.is_none();
    let mut line = |name: &str, value: &str| {
        text.push_str(&format!("  {name:<20}{value}\n"));
    };
    line("cluster ID replaced", &outlook.replaces);
    if let Some(id) = &outlook.cluster_id {
        line("cluster ID now", id);
    }
    if outlook.restore.is_some() && outlook.cluster_id.is_none() {
        return text;
    }
    if let Some(of) = &outlook.source_cluster_id {
        let own = *of == outlook.replaces;
        let whose = if own {
            "this one"
        } else {
            "another, or an earlier one"
        };
        line("backup of", &format!("{of} ({whose})"));
    }
    let before = if outlook.cluster_id.is_some() {
        "revision before"
    } else {
        "revision now"
    };
    line(
        before,
        &or_unknown(number(outlook.current_revision), "no member answers"),
    );
    let compared = "known once those that are left are held and compared";
    let restored = number(outlook.restored_revision);
    line("revision restored", &or_unknown(restored, compared));
    let why = if survivor {
        compared
    } else {
        "the cluster's own revision is not known"
    };
    line(
        "revisions lost",
        &or_unknown(number(outlook.lost_revisions), why),
    );
    if let Some(sha256) = &outlook.sha256 {
        line("SHA-256", &or_dash(Some(sha256)));
    }
    if !outlook.quarantined_volumes.is_empty() {
        line("volumes kept", &outlook.quarantined_volumes.join(", "));
    }
    text
}

fn or_unknown(text: Option<String>, why: &str) -> String {
    text.unwrap_or_else(|| format!("not known: {why}"))
}

/// The command that does what was only shown.
pub(super) fn command(outlook: &Outlook, asked: &RestoreArgs) -> String {
    let mut text = format!(
        "kubectl etcd restore {} -n {}",
        outlook.cluster, outlook.namespace
    );
    if let Some(from) = &asked.from {
        text.push_str(&format!(" --from {from}"));
    }
    if asked.survivor {
        text.push_str(" --survivor");
    }
    if let Some(revision) = asked.revision {
        text.push_str(&format!(" --revision {revision}"));
    }
    if let Some(time) = asked.time {
        text.push_str(&format!(" --time {time}"));
    }
    if asked.allow_other_cluster {
        text.push_str(" --allow-other-cluster");
    }
    if let Some(name) = &asked.name {
        text.push_str(&format!(" --name {name}"));
    }
    text.push_str(&format!(" --replaces {} --yes", outlook.replaces));
    text
}

//! `kubectl etcd backup`: one backup out of turn, by the rules of a schedule, as
//! `kubectl create job --from` makes a Job, or into a place that is named.

use clap::Args;
use kube::{Resource, ResourceExt};

use crate::{
    api::{
        BackupPhase, ClaimDestination, ClusterRef, Compression, Destination, EncryptionSpec,
        EndpointNetwork, EtcdBackup, EtcdBackupSchedule, EtcdBackupSpec, EtcdCluster,
        S3Destination, SecretRef, Verification,
    },
    jobs::schedule,
};

use super::{
    PluginError,
    target::Target,
    text::bytes_text,
    wait::{self, Waiting, words},
};

/// What is asked for.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct BackupArgs {
    /// EtcdBackupSchedule whose destination and rules are taken; the cluster's only one
    /// if left out.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bucket", "claim"])]
    schedule: Option<String>,
    /// Do not count it among the schedule's backups: its retention takes it for none of
    /// its own, and it stays until somebody deletes it.
    #[arg(long, conflicts_with_all = ["bucket", "claim"])]
    keep: bool,
    /// Name of the EtcdBackup; made up if left out.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    /// How it is compressed: Zstd, Gzip or None.
    #[arg(long, value_name = "HOW", value_parser = compression)]
    compression: Option<Compression>,
    /// How it is proven: Restore or Checksum.
    #[arg(long, value_name = "HOW", value_parser = verification)]
    verification: Option<Verification>,
    /// Secret with age.key: encrypts it before it leaves the pod.
    #[arg(long, value_name = "SECRET")]
    encryption_secret: Option<String>,
    #[command(flatten)]
    pub(super) waiting: Waiting,
}

/// A place, instead of a schedule's.
#[derive(Clone, Debug, Default, Args)]
struct PlaceArgs {
    /// Bucket of S3, or of a store that speaks it.
    #[arg(long, conflicts_with = "claim")]
    bucket: Option<String>,
    /// What names of objects begin with.
    #[arg(long, requires = "bucket")]
    prefix: Option<String>,
    /// Region of the bucket.
    #[arg(long, requires = "bucket")]
    region: Option<String>,
    /// URL of a store other than AWS.
    #[arg(long, value_name = "URL", requires = "bucket")]
    endpoint: Option<String>,
    /// The endpoint may have a private address.
    #[arg(long, requires = "endpoint")]
    private_network: bool,
    /// Name the bucket in the path instead of in the host's name.
    #[arg(long, requires = "bucket")]
    path_style: bool,
    /// Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "SECRET", requires = "bucket")]
    credentials_secret: Option<String>,
    /// Secret with ca.crt, the authorities of the endpoint.
    #[arg(long, value_name = "SECRET", requires = "endpoint")]
    ca_secret: Option<String>,
    /// PersistentVolumeClaim, instead of a bucket.
    #[arg(long, value_name = "CLAIM")]
    claim: Option<String>,
    /// Folder of the volume.
    #[arg(long, value_name = "FOLDER", requires = "claim")]
    sub_path: Option<String>,
}

impl PlaceArgs {
    /// The destination that is named, if one is.
    fn destination(&self) -> Option<Destination> {
        let secret = |name: &Option<String>| name.clone().map(|name| SecretRef { name });
        let s3 = self.bucket.clone().map(|bucket| S3Destination {
            bucket,
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            endpoint_network: if self.private_network {
                EndpointNetwork::Private
            } else {
                EndpointNetwork::Public
            },
            force_path_style: self.path_style,
            credentials_secret_ref: secret(&self.credentials_secret),
            ca_secret_ref: secret(&self.ca_secret),
            ..S3Destination::default()
        });
        let claim = self.claim.clone().map(|claim_name| ClaimDestination {
            claim_name,
            sub_path: self.sub_path.clone(),
        });
        (s3.is_some() || claim.is_some()).then_some(Destination {
            s3,
            persistent_volume_claim: claim,
        })
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.to_ascii_lowercase().as_str() {
        "zstd" => Ok(Compression::Zstd),
        "gzip" => Ok(Compression::Gzip),
        "none" => Ok(Compression::None),
        _ => Err("it is one of Zstd, Gzip and None".to_owned()),
    }
}

fn verification(text: &str) -> Result<Verification, String> {
    match text.to_ascii_lowercase().as_str() {
        "restore" => Ok(Verification::Restore),
        "checksum" => Ok(Verification::Checksum),
        _ => Err("it is one of Restore and Checksum".to_owned()),
    }
}

/// Makes the backup, and waits for it if that is asked for. What to say.
pub(super) async fn run(
    target: &Target,
    cluster: &EtcdCluster,
    asked: &BackupArgs,
) -> Result<String, PluginError> {
    let schedules = match asked.place.destination() {
        Some(_) => Vec::new(),
        None => target.all::<EtcdBackupSchedule>().await?,
    };
    let backup = object(cluster, &schedules, asked)?;
    let made = target.create(&backup).await?;
    let name = made.name_any();
    let look = format!("kubectl get etcdbackup {name} -n {}", target.namespace);
    if !asked.waiting.wait {
        return Ok(format!("EtcdBackup {name} is made: {look}"));
    }
    let ended = wait::until(target, &name, &look, &asked.waiting, told, is_over).await?;
    outcome(&ended)
}

/// The object to make.
pub(super) fn object(
    cluster: &EtcdCluster,
    schedules: &[EtcdBackupSchedule],
    asked: &BackupArgs,
) -> Result<EtcdBackup, PluginError> {
    let of = cluster.name_any();
    let (mut backup, base) = match asked.place.destination() {
        Some(destination) => {
            let spec = EtcdBackupSpec {
                cluster_ref: ClusterRef { name: of.clone() },
                destination,
                compression: Compression::default(),
                encryption: None,
                verification: Verification::default(),
                deletion_policy: Default::default(),
                job: Default::default(),
            };
            (EtcdBackup::new("", spec), of)
        }
        None => {
            let schedule = choose(&of, schedules, asked.schedule.as_deref())?;
            let made = schedule::by_hand(schedule, !asked.keep);
            (made, schedule.name_any())
        }
    };
    let spec = &mut backup.spec;
    if let Some(compression) = asked.compression {
        spec.compression = compression;
    }
    if let Some(verification) = asked.verification {
        spec.verification = verification;
    }
    if let Some(name) = &asked.encryption_secret {
        let key_secret_ref = SecretRef { name: name.clone() };
        spec.encryption = Some(EncryptionSpec { key_secret_ref });
    }
    wait::name(backup.meta_mut(), asked.name.as_deref(), &base);
    Ok(backup)
}

/// The schedule that is named, or the only one.
fn choose<'a>(
    cluster: &str,
    schedules: &'a [EtcdBackupSchedule],
    named: Option<&str>,
) -> Result<&'a EtcdBackupSchedule, PluginError> {
    let of: Vec<&EtcdBackupSchedule> = schedules
        .iter()
        .filter(|schedule| schedule.spec.cluster_ref.name == cluster)
        .collect();
    let names = || {
        let names: Vec<String> = of.iter().map(|schedule| schedule.name_any()).collect();
        names.join(", ")
    };
    let refused = |text: String| Err(PluginError::Backup(text));
    if let Some(named) = named {
        if let Some(found) = of.iter().find(|schedule| schedule.name_any() == named) {
            return Ok(found);
        }
        return match schedules.iter().find(|other| other.name_any() == named) {
            Some(other) => refused(format!(
                "the EtcdBackupSchedule {named} is of {}, not of {cluster}",
                other.spec.cluster_ref.name
            )),
            None if of.is_empty() => refused(format!(
                "there is no EtcdBackupSchedule {named}, and {cluster} has no other: say where to with --bucket or --claim"
            )),
            None => refused(format!(
                "there is no EtcdBackupSchedule {named}; {cluster} has {}",
                names()
            )),
        };
    }
    match of.as_slice() {
        [one] => Ok(one),
        [] => refused(format!(
            "no EtcdBackupSchedule is of {cluster}: say where to with --bucket or --claim"
        )),
        _ => refused(format!(
            "{cluster} has several schedules, {}: choose by --schedule, or say where to with --bucket or --claim",
            names()
        )),
    }
}

fn is_over(backup: &EtcdBackup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    matches!(phase, Some(BackupPhase::Completed | BackupPhase::Failed))
}

/// What it is at.
pub(super) fn told(backup: &EtcdBackup) -> String {
    let Some(status) = &backup.status else {
        return "Pending: the operator has not looked at it yet".to_owned();
    };
    let phase = status.phase.map(|phase| format!("{phase:?}"));
    let run = status.run.as_ref().filter(|run| run.ended_at.is_none());
    words(
        phase,
        run.and_then(|run| run.progress.as_ref()),
        &status.conditions,
    )
}

/// What came of it.
pub(super) fn outcome(backup: &EtcdBackup) -> Result<String, PluginError> {
    let name = backup.name_any();
    let status = backup.status.clone().unwrap_or_default();
    let Some(artifact) = status
        .artifact
        .filter(|_| status.phase != Some(BackupPhase::Failed))
    else {
        let why = status.failure.map_or_else(
            || "it does not say why".to_owned(),
            |failure| format!("{}: {}", failure.reason, failure.message),
        );
        return Err(PluginError::Backup(format!(
            "the EtcdBackup {name} has failed: {why}"
        )));
    };
    let proven = crate::jobs::worth(backup) == crate::jobs::Worth::Proven;
    if !proven {
        let verified = status.conditions.iter().find(|c| c.type_ == "Verified");
        let why = verified.map_or("", |condition| condition.message.as_str());
        return Err(PluginError::Backup(format!(
            "the EtcdBackup {name} is stored at {}, and is not proven to be good: {why}",
            artifact.uri
        )));
    }
    Ok(format!(
        "EtcdBackup {name} is stored and proven: {} ({} stored), revision {}, {} keys, from {}\n{}",
        bytes_text(artifact.size_bytes),
        bytes_text(artifact.stored_bytes),
        artifact.revision,
        artifact.total_keys,
        artifact.member,
        artifact.uri
    ))
}

//! From what a person names as a source to what runs are told of it.

use jiff::Timestamp;

use crate::{
    api::{BackupPhase, Destination, EtcdBackup, RestoreSource, RestoreTarget, StoredSource},
    backup::run::{BackupSource, FileSource, Source, Target},
};

use super::backup::folder;

/// Why a source cannot be used (yet), as reason and sentence.
pub(crate) type Hindrance = (&'static str, String);

/// The place a source stands for; `None` for one that is no place.
///
/// # Errors
/// The backup it names is not there, or not stored yet.
pub(crate) fn stored(
    source: &RestoreSource,
    backup: Option<&EtcdBackup>,
) -> Result<Option<StoredSource>, Hindrance> {
    if let Some(named) = &source.backup_ref {
        let name = &named.name;
        let Some(backup) = backup else {
            return Err(("BackupNotFound", format!("there is no EtcdBackup {name}")));
        };
        let status = backup.status.as_ref();
        if status.is_none_or(|status| status.artifact.is_none()) {
            let failed = status.and_then(|status| status.phase) == Some(BackupPhase::Failed);
            let why = if backup.metadata.deletion_timestamp.is_some() {
                "was deleted before it was stored"
            } else if failed {
                "has failed"
            } else {
                "is not stored yet"
            };
            return Err(("BackupNotStored", format!("the EtcdBackup {name} {why}")));
        }
        return Ok(Some(StoredSource {
            destination: backup.spec.destination.clone(),
            folder: Some(folder(backup)),
            file: None,
            encryption: backup.spec.encryption.clone(),
        }));
    }
    if source.survivor.is_some() {
        return Ok(None);
    }
    Ok(Some(StoredSource {
        destination: Destination {
            s3: source.s3.clone(),
            persistent_volume_claim: source.persistent_volume_claim.clone(),
        },
        folder: source.folder.clone(),
        file: source.file.clone(),
        encryption: source.encryption.clone(),
    }))
}

/// What a run is told of a place. `clusters`: IDs it may be of; empty allows any.
pub(crate) fn told(
    stored: &StoredSource,
    target: Option<&RestoreTarget>,
    clusters: Vec<String>,
) -> Source {
    if let Some(file) = &stored.file {
        return Source::File(FileSource {
            destination: stored.destination.clone(),
            key: file.clone(),
            sha256: None,
        });
    }
    Source::Backup(BackupSource {
        destination: stored.destination.clone(),
        folder: stored.folder.clone(),
        target: target.and_then(wanted),
        cluster_ids: clusters,
    })
}

fn wanted(target: &RestoreTarget) -> Option<Target> {
    let time = |time: Timestamp| Target::Time(time);
    target
        .revision
        .map(Target::Revision)
        .or_else(|| target.time.as_ref().map(|at| time(at.0)))
}

/// A source in words.
pub(crate) fn words(source: &RestoreSource, target: Option<&RestoreTarget>) -> String {
    let place = |what: &str| {
        let part = source.folder.as_ref().or(source.file.as_ref());
        part.map_or_else(
            || format!("the newest backup in {what}"),
            |part| format!("{what}/{part}"),
        )
    };
    let what = if let Some(backup) = &source.backup_ref {
        format!("EtcdBackup {}", backup.name)
    } else if let Some(s3) = &source.s3 {
        match &s3.prefix {
            Some(prefix) => place(&format!("s3://{}/{prefix}", s3.bucket)),
            None => place(&format!("s3://{}", s3.bucket)),
        }
    } else if let Some(claim) = &source.persistent_volume_claim {
        match &claim.sub_path {
            Some(path) => place(&format!("pvc://{}/{path}", claim.claim_name)),
            None => place(&format!("pvc://{}", claim.claim_name)),
        }
    } else {
        "the most advanced member that is left".to_owned()
    };
    match target.and_then(wanted) {
        Some(Target::Revision(revision)) => format!("{what} at revision {revision}"),
        Some(Target::Time(time)) => format!("{what} as of {time}"),
        Some(Target::Latest) | None => what,
    }
}

//! A plain image: what is in it, and that it can be restored.

use std::{path::Path, sync::Arc};

use etcd_mvcc::View;
use etcd_replica::{
    ApplierConfig, Boot, Change, ChangesError, LeaseConfig, Member, OpenError, RaftSettings,
    Restore, RestoreError, Restored, SnapshotFile, SnapshotFileError, member_id, open,
    restore_with,
};
use etcd_storage::{
    bolt::BoltError,
    disk::{Disk, DiskError, RealDisk},
};

use super::run::{Failure, Reason};

/// The newest schema that this program knows, as major and minor version.
const SCHEMA: (u64, u64) = (3, 7);
/// Peer URL of the member that exists only to be opened once.
const NOWHERE: &str = "http://verification.invalid:2380";

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Examined {
    /// Main revision of the last change.
    pub revision: i64,
    /// Revision up to which it was compacted; 0 if it was not.
    pub compact_revision: i64,
    /// Keys that are not deleted.
    pub total_keys: u64,
    /// HashKV at the revision.
    pub kv_hash: u32,
}

/// Changes after an image.
pub(crate) type Changes<'a> = &'a mut dyn Iterator<Item = Result<Change, ChangesError>>;

/// Checks every page of an image, and reads all of it. Its trailer, if it has one, is the
/// caller's to verify.
///
/// # Errors
/// [`Reason::NotASnapshot`], [`Reason::NewerFormat`], [`Reason::Corrupt`]; of the disk.
pub(crate) fn examine(path: &Path, place: &str) -> Result<Examined, Failure> {
    let fault = |error| file_fault(place, error);
    let file = SnapshotFile::open_file(&RealDisk, path).map_err(fault)?;
    let status = file.status().map_err(fault)?;
    let summary = file.summary().map_err(fault)?;
    check_schema(summary.storage_version.as_deref(), place)?;
    let hash = file.hash_kv(0).map_err(fault)?;
    Ok(Examined {
        revision: summary.revision,
        compact_revision: summary.compact_revision,
        total_keys: status.live_keys,
        kv_hash: hash.hash,
    })
}

/// Looks only whether an image is one, of a schema that is known: enough for one whose
/// SHA-256 is that of an image which was examined when it was made.
///
/// # Errors
/// As [`examine`].
pub(crate) fn glance(path: &Path, place: &str) -> Result<(), Failure> {
    let fault = |error| file_fault(place, error);
    let file = SnapshotFile::open_file(&RealDisk, path).map_err(fault)?;
    let summary = file.summary().map_err(fault)?;
    check_schema(summary.storage_version.as_deref(), place)
}

/// HashKV of an image as a member computes it that has compacted to `compact_revision`
/// since.
///
/// # Errors
/// As [`examine`].
pub(crate) fn hash_compacted(
    path: &Path,
    revision: i64,
    compact_revision: i64,
    place: &str,
) -> Result<u32, Failure> {
    let fault = |error| file_fault(place, error);
    let file = SnapshotFile::open_file(&RealDisk, path).map_err(fault)?;
    let hash = file
        .hash_kv_compacted(revision, compact_revision)
        .map_err(fault)?;
    Ok(hash.hash)
}

fn check_schema(version: Option<&str>, place: &str) -> Result<(), Failure> {
    let Some(version) = version else {
        return Ok(());
    };
    let mut parts = version.split('.').map(|part| part.parse::<u64>());
    let found = match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => {
            return Err(Failure::new(
                Reason::Corrupt,
                format!("{place} names {version:?} as the version of its schema"),
            ));
        }
    };
    if found > SCHEMA {
        return Err(Failure::new(
            Reason::NewerFormat,
            format!(
                "{place} was made by etcd {version}, and this program knows up to {}.{}: use a newer operator",
                SCHEMA.0, SCHEMA.1
            ),
        ));
    }
    Ok(())
}

/// What a restored store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    /// Its revision.
    pub revision: i64,
    /// Revision up to which it is compacted; 0 if it is not.
    pub compact_revision: i64,
    /// Keys that are not deleted.
    pub total_keys: u64,
    /// HashKV at the revision.
    pub kv_hash: u32,
}

/// Restores an image and what changed after it into `dir`, and opens the store there, as
/// a member would. The image at `path` is removed as soon as it is no longer needed.
///
/// # Errors
/// As [`restore_fault`] says; [`Reason::Corrupt`] if the store does not open.
pub(crate) fn prove(
    path: &Path,
    changes: Changes<'_>,
    revision: Option<i64>,
    dir: &Path,
    place: &str,
) -> Result<Proven, Failure> {
    let told = nobody(revision);
    let member = dir.join("member");
    let restored = make(path, changes, &member, &told, place)?;
    std::fs::remove_file(path).map_err(|error| Failure::disk("removes", path, &error))?;
    if restored.auth_enabled {
        // Our server would refuse it, stock etcd takes it: the file itself is read.
        let examined = examine(&member.join("snap").join("db"), place)?;
        return Ok(Proven {
            revision: examined.revision,
            compact_revision: restored.compact_revision,
            total_keys: examined.total_keys,
            kv_hash: examined.kv_hash,
        });
    }
    opened(&member, restored, place)
}

fn opened(member: &Path, restored: Restored, place: &str) -> Result<Proven, Failure> {
    let view = view(member, place)?;
    let unread = |error| unread(place, &error);
    let hash = view.hash_kv(0).map_err(unread)?;
    let count = view.count(everything(), 0).map_err(unread)?;
    Ok(Proven {
        revision: hash.revision,
        compact_revision: restored.compact_revision,
        total_keys: u64::try_from(count).unwrap_or_default(),
        kv_hash: hash.hash,
    })
}

/// Opens a member directory that a restore has made, as a member would.
///
/// # Errors
/// [`Reason::Corrupt`].
pub(crate) fn view(member: &Path, place: &str) -> Result<View, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let boot = Boot::Join {
        member_id: 0,
        cluster_id: 0,
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 0,
        force_new_cluster: false,
    };
    let recovered = open(&disk, member, &member.join("wal"), &boot, &settings, |id| {
        ApplierConfig {
            member_id: id,
            max_learners: 1,
            quota_bytes: None,
            lease: LeaseConfig::default(),
        }
    })
    .map_err(|error| open_fault(place, &error))?;
    Ok(recovered.applier.view().kv)
}

/// The failure that a store which cannot be read is.
pub(crate) fn unread(place: &str, error: &etcd_mvcc::ReadError) -> Failure {
    Failure::new(
        Reason::Corrupt,
        format!("{place}: the restored store cannot be read: {error}"),
    )
}

/// What a member is that exists only to be opened once.
pub(crate) fn nobody(revision: Option<i64>) -> Restore {
    let urls = vec![NOWHERE.to_owned()];
    let id = member_id(&urls, "verification", None);
    Restore {
        member_id: id,
        members: vec![Member {
            id,
            peer_urls: urls,
            name: "verification".to_owned(),
            ..Member::default()
        }],
        revision,
        bump_revision: 0,
        skip_hash_check: false,
    }
}

fn everything() -> etcd_mvcc::Span<'static> {
    etcd_mvcc::Span::new(b"\0", b"\0")
}

/// Makes the member directory at `member` of an image and what changed after it.
///
/// # Errors
/// As [`restore_fault`] says.
pub(crate) fn make(
    path: &Path,
    changes: Changes<'_>,
    member: &Path,
    told: &Restore,
    place: &str,
) -> Result<Restored, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    restore_with(&disk, path, changes, member, &member.join("wal"), told)
        .map_err(|error| restore_fault(place, error))
}

fn file_fault(place: &str, error: SnapshotFileError) -> Failure {
    let reason = match &error {
        SnapshotFileError::Disk(error) => return disk_fault(error),
        SnapshotFileError::NoKeys | SnapshotFileError::Bolt(BoltError::NoMeta { .. }) => {
            Reason::NotASnapshot
        }
        _ => Reason::Corrupt,
    };
    Failure::new(reason, format!("{place}: {error}"))
}

fn disk_fault(error: &DiskError) -> Failure {
    let reason = match error.is_no_space() {
        true => Reason::DiskFull,
        false => Reason::DiskFailed,
    };
    Failure::new(reason, error.to_string())
}

fn restore_fault(place: &str, error: RestoreError) -> Failure {
    let reason = match error {
        RestoreError::Snapshot(error) => return file_fault(place, error),
        RestoreError::Disk(error) => return disk_fault(&error),
        RestoreError::Changes(error) => match error.downcast::<Failure>() {
            Ok(failure) => return *failure,
            Err(error) => {
                return Failure::new(Reason::Corrupt, format!("{place}: increments: {error}"));
            }
        },
        RestoreError::Left { source, left } => {
            let mut failure = restore_fault(place, *source);
            failure.message = format!(
                "{}; what was written is still there: {left}",
                failure.message
            );
            return failure;
        }
        RestoreError::Trailer(_) | RestoreError::Change { .. } | RestoreError::Archive(_) => {
            Reason::Corrupt
        }
        RestoreError::NotEmpty(_) => Reason::DataDirNotEmpty,
        RestoreError::Gap { .. } => Reason::Gap,
        RestoreError::Target { .. } => Reason::TargetOutOfReach,
        RestoreError::Bump { .. } => Reason::InvalidRun,
        RestoreError::Store(_) | RestoreError::Wal(_) if error.is_no_space() => Reason::DiskFull,
        RestoreError::Store(_) | RestoreError::Wal(_) => Reason::DiskFailed,
    };
    Failure::new(reason, format!("{place}: {error}"))
}

fn open_fault(place: &str, error: &OpenError) -> Failure {
    Failure::new(
        Reason::Corrupt,
        format!("{place}: the restored store does not open: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_a_newer_etcd_is_refused_and_none_is_an_old_one() {
        for good in [None, Some("3.7.0"), Some("3.5.9"), Some("3.6.0")] {
            assert_eq!(check_schema(good, "x"), Ok(()), "{good:?}");
        }
        for (bad, reason) in [
            ("3.8.0", Reason::NewerFormat),
            ("4.0.0", Reason::NewerFormat),
            ("x", Reason::Corrupt),
        ] {
            assert_eq!(check_schema(Some(bad), "x").unwrap_err().reason, reason);
        }
    }

    #[test]
    fn x13_a_file_of_anything_else_is_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        for content in [Vec::new(), vec![0; 100_000], b"hello".repeat(5000)] {
            std::fs::write(&path, &content).unwrap();
            let failure = examine(&path, "x.db").unwrap_err();
            assert_eq!(failure.reason, Reason::NotASnapshot, "{failure}");
            assert!(!failure.transient);
        }
    }
}

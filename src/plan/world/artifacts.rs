//! A model of the store that backups are in, and of the programs that read and write it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::World;
use crate::{
    api::{Compression, DeletionPolicy, Verification},
    backup::run::{
        Answer, Artifact, DeleteReport, DeleteRun, Failure, Reach, Reason, SnapshotReport,
        SnapshotRun, Source, VerifyReport, VerifyRun,
    },
    identity,
};

/// What is stored, and how the store is.
#[derive(Clone, Default)]
pub(in crate::plan) struct Artifacts {
    /// Backups that have a manifest, by folder.
    pub(in crate::plan) folders: BTreeMap<String, Stored>,
    /// Folders that something lies in without one.
    pub(in crate::plan) partial: BTreeSet<String>,
    /// What every request is answered with, if the store is not well.
    pub(in crate::plan) trouble: Option<Reason>,
    /// Snapshots that were taken.
    pub(in crate::plan) taken: usize,
    /// Of these, by runs whose Jobs were gone.
    pub(in crate::plan) late: usize,
}

/// A backup in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Stored {
    pub(in crate::plan) cluster: u64,
    pub(in crate::plan) revision: u64,
    pub(in crate::plan) at: Timestamp,
    pub(in crate::plan) corrupt: bool,
}

impl World {
    fn store(&self) -> Result<(), Failure> {
        match self.artifacts.trouble {
            None => Ok(()),
            Some(reason) => Err(Failure::new(reason, format!("the store says {reason:?}"))),
        }
    }

    /// What `snapshot` does in the end.
    pub(super) fn snapshot_run(&mut self, run: &SnapshotRun) -> Answer {
        let now = self.now;
        if let Err(failure) = self.store() {
            return Answer::Failed(failure);
        }
        let id = identity::parse_hex(&run.cluster.cluster_id);
        if !self.artifacts.folders.contains_key(&run.folder) {
            let running = self.running();
            let log = running.iter().find(|(_, log)| {
                Some(log.cluster) == id && self.etcd.is_voter(log.member) && self.has_quorum()
            });
            let Some((_, log)) = log else {
                let why = "no voter is healthy";
                return Answer::Failed(Failure::new(Reason::NoHealthyMember, why));
            };
            let stored = Stored {
                cluster: log.cluster,
                revision: log.revision,
                at: now,
                corrupt: false,
            };
            self.artifacts.taken += 1;
            self.artifacts.partial.remove(&run.folder);
            self.artifacts.folders.insert(run.folder.clone(), stored);
        }
        let stored = &self.artifacts.folders[&run.folder];
        Answer::Snapshot(SnapshotReport {
            artifact: artifact(&run.folder, stored),
            verification: Verification::Restore,
            verified_at: now,
        })
    }

    /// What lies in the folder that a source means, if it is good.
    pub(super) fn source(&self, source: &Source) -> Result<(String, Stored), Failure> {
        self.store()?;
        let Source::Backup(backup) = source else {
            panic!("the model has no files: {source:?}");
        };
        let folder = backup.folder.clone().unwrap();
        let Some(stored) = self.artifacts.folders.get(&folder) else {
            return Err(Failure::new(
                Reason::NotFound,
                format!("no backup in {folder}"),
            ));
        };
        if stored.corrupt {
            return Err(Failure::new(
                Reason::Corrupt,
                format!("{folder} is corrupt"),
            ));
        }
        let of = identity::hex(stored.cluster);
        if !backup.cluster_ids.is_empty() && !backup.cluster_ids.contains(&of) {
            let why = format!("{folder} is of {of}");
            return Err(Failure::new(Reason::ForeignDestination, why));
        }
        Ok((folder, stored.clone()))
    }

    pub(super) fn verify_run(&mut self, run: &VerifyRun) -> Answer {
        match self.source(&run.source) {
            Err(failure) => Answer::Failed(failure),
            Ok((folder, stored)) => {
                let artifact = artifact(&folder, &stored);
                Answer::Verify(VerifyReport {
                    sha256: artifact.sha256.clone(),
                    folder: Some(folder),
                    artifact: Some(artifact),
                    reach: Reach {
                        revision: stored.revision as i64,
                        time: Some(stored.at),
                        increments: 0,
                    },
                    total_keys: 1,
                    verification: Verification::Restore,
                    verified_at: self.now,
                })
            }
        }
    }

    pub(super) fn delete_run(&mut self, run: &DeleteRun) -> Answer {
        if let Err(failure) = self.store() {
            return Answer::Failed(failure);
        }
        for folder in &run.folders {
            self.guard_folder(folder);
            self.artifacts.folders.remove(folder);
            self.artifacts.partial.remove(folder);
        }
        Answer::Delete(DeleteReport::default())
    }

    /// What is stored goes only with its object, if that says so, and never while it is
    /// being restored.
    fn guard_folder(&self, folder: &str) {
        let mut backups = self.api.backups.items.values();
        let backup = backups.find(|backup| crate::jobs::backup::folder(backup) == *folder);
        let backup = backup.unwrap_or_else(|| panic!("{folder} goes without its object"));
        let going = backup.metadata.deletion_timestamp.is_some();
        let asked = backup.spec.deletion_policy == DeletionPolicy::Delete;
        assert!(
            going && asked,
            "{folder} was not to be deleted{}",
            self.trace()
        );
        let used = self.api.restores.items.values().find(|restore| {
            let status = restore.status.as_ref();
            let stored = status.and_then(|status| status.stored.as_ref());
            stored.is_some_and(|stored| stored.folder.as_deref() == Some(folder))
                && !crate::jobs::restore::is_over(restore)
        });
        assert!(used.is_none(), "{folder} is being restored{}", self.trace());
    }
}

fn artifact(folder: &str, stored: &Stored) -> Artifact {
    Artifact {
        uri: format!("s3://b/{folder}/snapshot"),
        size_bytes: 1,
        stored_bytes: 1,
        sha256: format!("{folder} at {}", stored.revision),
        stored_sha256: String::new(),
        revision: stored.revision as i64,
        compact_revision: 0,
        total_keys: 1,
        kv_hash: 1,
        etcd_version: "3.7.3".to_owned(),
        cluster_id: identity::hex(stored.cluster),
        member_id: "1".to_owned(),
        compression: Compression::Zstd,
        encrypted_to: None,
        started_at: stored.at,
        completed_at: stored.at,
    }
}

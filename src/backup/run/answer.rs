//! What a run answers in its container's termination message.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::api::{Compression, Verification};

/// Bytes that the kubelet keeps of a termination message.
pub const MESSAGE_LIMIT: usize = 4096;

/// What a run answers, as JSON with one field: `{"snapshot": {...}}` or
/// `{"failed": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// Of `snapshot`.
    Snapshot(SnapshotReport),
    /// Of `verify`.
    Verify(VerifyReport),
    /// Of `restore`.
    Restore(RestoreReport),
    /// Of `follow`.
    Follow(FollowReport),
    /// Of `delete`.
    Delete(DeleteReport),
    /// Of `list`.
    List(Listing),
    /// Of `export`.
    Export(ExportReport),
    /// Of `import`.
    Import(ImportReport),
    /// Of any of them.
    Failed(Failure),
}

/// What a full backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// `s3://bucket/prefix/folder/object`, or the path below the claim as
    /// `pvc://claim/subPath/folder/object`.
    pub uri: String,
    /// Bytes of the plain image, its trailer included.
    pub size_bytes: u64,
    /// Bytes that are stored.
    pub stored_bytes: u64,
    /// SHA-256 of the plain image with its trailer, in hex.
    pub sha256: String,
    /// SHA-256 of what is stored, in hex.
    pub stored_sha256: String,
    /// Main revision of the last change in it.
    pub revision: i64,
    /// Revision up to which its history was compacted; 0 if it was not.
    pub compact_revision: i64,
    /// Keys that were not deleted.
    pub total_keys: u64,
    /// HashKV at `revision`, with the history from `compact_revision`.
    pub kv_hash: u32,
    /// Version of the etcd it was taken from.
    pub etcd_version: String,
    /// The cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// ID of the member it was taken from, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Public key it is encrypted to, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_to: Option<String>,
    /// When the member was asked for it.
    pub started_at: Timestamp,
    /// When it was stored.
    pub completed_at: Timestamp,
}

/// A full backup was made, and proven as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotReport {
    /// What was made.
    pub artifact: Artifact,
    /// How it was proven.
    pub verification: Verification,
    /// When.
    pub verified_at: Timestamp,
}

/// What a restore to the wanted target gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Revision of the restored content, before it is raised.
    pub revision: i64,
    /// When the cluster is known to have been there; the time of the backup, without
    /// increments. Absent for a bare file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Increments that are applied to get there.
    pub increments: u64,
}

/// A backup is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// Its folder; absent for a bare file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// SHA-256 of the plain image with its trailer, in hex.
    pub sha256: String,
    /// What its manifest says; absent for a bare file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// What a restore gives.
    pub reach: Reach,
    /// Keys that are not deleted there; of `Checksum`, those of the backup itself.
    pub total_keys: u64,
    /// How it was proven.
    pub verification: Verification,
    /// When.
    pub verified_at: Timestamp,
}

/// A data directory is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// The new cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// The member's ID, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// Cluster whose backup it is, in hex; absent for a bare file.
    #[serde(
        default,
        rename = "sourceClusterID",
        skip_serializing_if = "Option::is_none"
    )]
    pub source_cluster_id: Option<String>,
    /// Folder it was made of; absent for a bare file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// SHA-256 of the plain image it was made of, in hex.
    pub sha256: String,
    /// What was restored.
    pub reach: Reach,
    /// The store's revision, raised.
    pub revision: i64,
    /// Revision up to which it is compacted; 0 if it is not.
    pub compact_revision: i64,
    /// Keys that are not deleted.
    pub total_keys: u64,
}

/// `follow` ended when it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowReport {
    /// Revision up to which everything is stored; 0 if nothing is.
    pub stored_revision: i64,
    /// Increments stored since it started.
    pub increments: u64,
}

/// Backups are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteReport {
    /// Folders of which something was still there.
    pub folders: u64,
    /// Objects that were removed.
    pub objects: u64,
    /// Uploads that had been left unfinished and were ended.
    pub uploads: u64,
    /// Increments that were removed.
    pub increments: u64,
}

/// What a destination holds, newest first, as much as fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The cluster it belongs to, by its last ID in hex; absent if it is nobody's.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Full backups.
    pub backups: Vec<Listed>,
    /// Unbroken stretches of increments.
    pub increments: Vec<Span>,
    /// Folders whose manifest is damaged, or of a format that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// How many of all these were left off.
    #[serde(default)]
    pub left_off: u64,
}

/// A full backup in a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its folder.
    pub folder: String,
    /// The cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Its revision.
    pub revision: i64,
    /// When it was stored.
    pub completed_at: Timestamp,
    /// Bytes that are stored.
    pub stored_bytes: u64,
}

/// Increments without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// The cluster's ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Revision they continue: a backup with at least this one can be continued.
    pub after_revision: i64,
    /// Revision they lead to.
    pub revision: i64,
    /// When the cluster is known to have been there.
    pub time: Timestamp,
}

/// Keys were exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// Where they are, as [`Artifact::uri`].
    pub uri: String,
    /// At which revision.
    pub revision: i64,
    /// How many.
    pub keys: u64,
    /// Bytes that are stored.
    pub stored_bytes: u64,
    /// SHA-256 of what is stored, in hex.
    pub stored_sha256: String,
}

/// Keys were imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportReport {
    /// Keys that were written.
    pub written: u64,
    /// Keys that existed and were kept.
    pub kept: u64,
    /// Keys that were written without the lease they had.
    pub without_lease: u64,
    /// The cluster's revision after it.
    pub revision: i64,
}

impl Answer {
    /// The answer as it fits into a termination message: of a sentence or a listing that
    /// is too long, the end is left off.
    pub fn message(&self) -> String {
        let mut answer = self.clone();
        loop {
            let text = json(&answer);
            if text.len() <= MESSAGE_LIMIT {
                return text;
            }
            match &mut answer {
                // A character takes up to six bytes of JSON.
                Answer::Failed(failure) => {
                    cut(&mut failure.message, (text.len() - MESSAGE_LIMIT) / 6);
                }
                Answer::List(listing) => listing.leave_off(),
                // No other has a part without a bound.
                _ => return text,
            }
        }
    }
}

fn json(answer: &Answer) -> String {
    serde_json::to_string(answer).expect("plain data with string keys is JSON")
}

/// Shortens `text` by at least `bytes`, and by one character.
fn cut(text: &mut String, bytes: usize) {
    let mut end = text.len().saturating_sub(bytes.max(1) + '…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
}

impl Listing {
    fn leave_off(&mut self) {
        if self.backups.len() >= self.increments.len().max(self.unreadable.len()) {
            self.backups.pop();
        } else if self.increments.len() >= self.unreadable.len() {
            self.increments.pop();
        } else {
            self.unreadable.pop();
        }
        self.left_off += 1;
    }
}

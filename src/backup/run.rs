//! What a run is told, and what it answers: the contract between those who start runs
//! and the program in the pod.
//!
//! A run is `etcd-operator <command>` with its type here as JSON in [`RUN_VARIABLE`],
//! and secrets as files under the fixed places of [`files`]. While it lives it serves
//! [`Progress`] on [`PROGRESS_PORT`]; when it ends it leaves an [`Answer`] in the
//! container's termination message. The manifest in the store is the truth, the answer
//! what was true when it was given.
//!
//! Every run may be killed at any moment and started again with the same input: it
//! finishes what it began, or begins anew, and says so once it is done.

mod answer;
pub mod files;
mod progress;
mod reason;

pub use answer::{
    Answer, Artifact, DeleteReport, ExportReport, FollowReport, ImportReport, Listed, Listing,
    MESSAGE_LIMIT, Reach, RestoreReport, SnapshotReport, Span, VerifyReport,
};
pub use progress::{Following, Progress, Stage};
pub use reason::{Failure, Reason};

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{Compression, Destination, Verification};

/// Environment variable with the run as JSON. Nothing in it is secret.
pub const RUN_VARIABLE: &str = "ETCD_BACKUP_RUN";
/// Port where a run tells how far it is.
pub const PROGRESS_PORT: u16 = 8081;
/// Path on [`PROGRESS_PORT`] that answers with [`Progress`].
pub const PROGRESS_PATH: &str = "/progress";

/// Exit code of a run that succeeded.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a run that failed in a way that may pass: repeat it.
pub const EXIT_TRANSIENT: u8 = 75;
/// Exit code of a run that fails again if nothing is changed: do not repeat it.
pub const EXIT_PERMANENT: u8 = 78;

/// The cluster a run is about. IDs are hex as [`crate::identity::hex`] writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRef {
    /// Namespace of the `EtcdCluster`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// etcd's cluster ID. A member that answers with another is not backed up.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Cluster IDs this one was restored from, oldest first. A destination that belongs
    /// to one of them is taken over; any other is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
}

/// A member as a run reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Voter {
    /// Client URL, such as `http://10.1.2.3:2379`. With `https` the bundle in
    /// [`files::MEMBER_TLS`] is used.
    pub endpoint: String,
    /// Name its certificate must bear; the URL's host if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Member ID in hex. Left out, any member may answer, such as behind a Service.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
}

/// `etcd-operator snapshot`: one full backup. Answered by [`Answer::Snapshot`].
///
/// A run that finds its folder finished verifies it and answers with it. A run that
/// finds leftovers of one that died removes them first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRun {
    /// What is backed up.
    pub cluster: ClusterRef,
    /// Its voters, the most preferred first. The run takes the first that is healthy
    /// and up to date; a follower, if there is one.
    pub voters: Vec<Voter>,
    /// Where to.
    pub destination: Destination,
    /// Folder of this backup below the destination's prefix: one name of lower-case
    /// letters, digits, `-` and `.`, never used for another.
    pub folder: String,
    /// How it is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Encrypt with the key in [`files::ENCRYPTION_KEY`].
    #[serde(default)]
    pub encrypted: bool,
    /// How it is proven.
    #[serde(default)]
    pub verification: Verification,
}

/// Which state of a cluster is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The newest that is stored.
    Latest,
    /// At this revision.
    Revision(i64),
    /// At the last revision known to have been reached by then.
    Time(Timestamp),
}

/// What is verified or restored: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A backup that `snapshot` made.
    Backup(BackupSource),
    /// A snapshot file as `etcdctl snapshot save` writes it, of stock etcd or ours,
    /// possibly compressed by zstd or gzip.
    File(FileSource),
}

/// A backup in a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSource {
    /// Where it is.
    pub destination: Destination,
    /// Its folder. Left out, the newest that the target allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The state that is meant, by increments after the backup. Left out, the backup's
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Cluster IDs it may be of, in hex; empty allows any.
    #[serde(default, rename = "clusterIDs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ids: Vec<String>,
}

/// A bare snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSource {
    /// Bucket or volume. The prefix or sub-path is where `key` begins.
    pub destination: Destination,
    /// The object's name or the file's path below it.
    pub key: String,
    /// Its SHA-256 in hex, if it is known: it must have this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// `etcd-operator verify`: proves a backup that exists, and finds out what a restore of
/// it would give. Nothing is changed. Answered by [`Answer::Verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyRun {
    /// What is verified.
    pub source: Source,
    /// How thoroughly.
    #[serde(default)]
    pub verification: Verification,
}

/// A member of the cluster that a restore founds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FoundingMember {
    /// `--name`.
    pub name: String,
    /// `--initial-advertise-peer-urls`.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
}

/// `etcd-operator restore`: makes a member's data directory of a backup. Run in the
/// member's pod before it starts. Answered by [`Answer::Restore`].
///
/// Everything is verified before the directory is touched, and the directory appears at
/// once and whole. One that appeared is known again by `id`: the run then answers that
/// it is done. A directory that holds anything else is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreRun {
    /// What tells this restore from any other, such as the object's UID.
    pub id: String,
    /// What is restored.
    pub source: Source,
    /// SHA-256 of the plain image in hex, as a [`VerifyReport`] told it: what is
    /// restored is what was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_sha256: Option<String>,
    /// etcd's `--data-dir`. What it is made of is fetched into it too, so that its volume
    /// needs room for the store twice over, as it does when a member receives a snapshot.
    pub data_dir: PathBuf,
    /// Name of the member whose directory it is; one of `members`.
    pub member: String,
    /// All members of the new cluster. They replace those of the backup.
    pub members: Vec<FoundingMember>,
    /// `--initial-cluster-token`. With the members it gives the new cluster its ID, so it
    /// must never have been used before.
    pub token: String,
    /// How much the revision is raised beyond the restored one; everything before is
    /// then marked as compacted, so that no watch goes on as if nothing had happened.
    /// 0 leaves both as they were.
    #[serde(default = "default_bump")]
    pub bump_revision: u64,
}

/// A thousand million: more than any cluster writes between a backup and its restore.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;

fn default_bump() -> u64 {
    DEFAULT_BUMP
}

/// `etcd-operator follow`: stores what changes, for as long as it lives, so that a
/// restore can name a revision or a time between two backups. One per destination. It
/// begins behind the newest increment or full backup; where there is none, or changes are
/// missing, it says so in [`Following`] and waits for a new full backup. Answered by
/// [`Answer::Follow`] when it is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FollowRun {
    /// What is followed.
    pub cluster: ClusterRef,
    /// Its members, the most preferred first.
    pub voters: Vec<Voter>,
    /// Where to: the destination of the full backups.
    pub destination: Destination,
    /// Seconds after which a change is stored at the latest, while the store works.
    pub max_lag_seconds: u32,
    /// How increments are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Encrypt with the key in [`files::ENCRYPTION_KEY`].
    #[serde(default)]
    pub encrypted: bool,
    /// Bytes of changes that are held while the store does not take them. Beyond it no
    /// more are read until it does; only what the cluster compacts meanwhile is lost, and
    /// then a new full backup is needed.
    #[serde(default = "default_backlog")]
    pub max_backlog_bytes: u64,
}

fn default_backlog() -> u64 {
    64 << 20
}

/// `etcd-operator delete`: removes backups of one cluster, for retention and for
/// finalizers. What is gone already is no error. Answered by [`Answer::Delete`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteRun {
    /// Whose backups: a destination of another cluster is refused.
    pub cluster: ClusterRef,
    /// Where they are.
    pub destination: Destination,
    /// Their folders.
    pub folders: Vec<String>,
    /// Remove the increments too that no backup left behind can be continued by.
    #[serde(default)]
    pub prune_increments: bool,
}

/// `etcd-operator list`: what a destination holds. Answered by [`Answer::List`]; the
/// whole of it goes to standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListRun {
    /// Where.
    pub destination: Destination,
}

/// `etcd-operator export`: the keys below a prefix, at one revision, into a folder of
/// their own. Answered by [`Answer::Export`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRun {
    /// What is exported from.
    pub cluster: ClusterRef,
    /// Its voters, the most preferred first.
    pub voters: Vec<Voter>,
    /// What the keys begin with; empty means all.
    pub prefix: String,
    /// At this revision; now, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Where to.
    pub destination: Destination,
    /// Folder below the destination's prefix, as of a backup.
    pub folder: String,
    /// How it is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Encrypt with the key in [`files::ENCRYPTION_KEY`].
    #[serde(default)]
    pub encrypted: bool,
}

/// What becomes of a key that an import would write and that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// The import is refused before it writes anything.
    #[default]
    Refuse,
    /// It stays as it is.
    Keep,
    /// It is overwritten.
    Overwrite,
}

/// `etcd-operator import`: keys below a prefix, of a full backup or of an export, into a
/// running cluster. Leases are not restored: their keys are written without. Answered by
/// [`Answer::Import`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRun {
    /// Where the keys come from.
    pub source: Source,
    /// What the keys begin with.
    pub prefix: String,
    /// What takes the prefix's place; the prefix itself if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// What becomes of keys that exist already.
    #[serde(default)]
    pub existing: Existing,
    /// The cluster that is written to.
    pub cluster: ClusterRef,
    /// Its members, the most preferred first.
    pub voters: Vec<Voter>,
}

#[cfg(test)]
mod tests;

//! What makes a folder a backup: a small document, written last.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    layout,
    run::{Artifact, ClusterRef, Failure, Reason},
    store::{Put, Store},
};
use crate::api::Compression;

/// Version of the format this program writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// The document. Fields that a later version adds are ignored; what changes the meaning
/// of those here raises `format_version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Version of the format.
    pub format_version: u32,
    /// What the folder holds.
    pub kind: Kind,
    /// Name of the artifact in the folder.
    pub object: String,
    /// Namespace of the `EtcdCluster`.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
    /// etcd's cluster ID, in hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Member it was taken from, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    /// Version of the etcd it was taken from.
    pub etcd_version: String,
    /// Bytes unpacked.
    pub size_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// SHA-256 of what is unpacked, in hex.
    pub sha256: String,
    /// SHA-256 of what is stored, in hex.
    pub stored_sha256: String,
    /// Main revision of the last change.
    pub revision: i64,
    /// Revision up to which the history was compacted; 0 if it was not.
    pub compact_revision: i64,
    /// Keys that were not deleted.
    pub total_keys: u64,
    /// HashKV at the revision, of the history from the compact revision. 0 for an export.
    pub kv_hash: u32,
    /// HashKV as the member told it, if it had compacted further by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_hash: Option<MemberHash>,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is encrypted, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// When the member was asked.
    pub started_at: Timestamp,
    /// When it had answered: by then the revision had been reached.
    pub taken_at: Timestamp,
    /// When it was stored and proven.
    pub completed_at: Timestamp,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// An image of the whole store.
    Snapshot,
    /// Keys below a prefix.
    Export,
}

/// A HashKV of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberHash {
    /// The hash.
    pub hash: u32,
    /// Revision up to which the member had compacted; 0 if it had not.
    pub compact_revision: i64,
}

/// How an artifact is encrypted. Nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Encryption {
    /// The file format: `age-encryption.org/v1`.
    pub format: String,
    /// Public key it is encrypted to.
    pub recipient: String,
}

impl Manifest {
    /// The manifest of a folder, or `None` if the folder is no backup.
    ///
    /// # Errors
    /// Of the store; [`Reason::Corrupt`] if it cannot be read, [`Reason::NewerFormat`] if
    /// it is of a format this program does not know.
    pub(crate) async fn load(store: &dyn Store, folder: &str) -> Result<Option<Manifest>, Failure> {
        let key = layout::manifest(folder);
        let Some(text) = store.read(&key, layout::DOCUMENT_BYTES_MAX).await? else {
            return Ok(None);
        };
        Manifest::parse(&text, &store.uri(&key)).map(Some)
    }

    /// The snapshot of a folder.
    ///
    /// # Errors
    /// As [`Manifest::load`]; [`Reason::NotFound`] if there is none, or an export.
    pub(crate) async fn snapshot(store: &dyn Store, folder: &str) -> Result<Manifest, Failure> {
        let what = match Manifest::load(store, folder).await? {
            Some(manifest) if manifest.kind == Kind::Snapshot => return Ok(manifest),
            Some(_) => "it holds exported keys",
            None => "it has no manifest",
        };
        Err(Failure::new(
            Reason::NotFound,
            format!("{} is no full backup: {what}", store.uri(folder)),
        ))
    }

    fn parse(text: &[u8], place: &str) -> Result<Manifest, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: u32,
        }
        let corrupt = |error: serde_json::Error| {
            Failure::new(Reason::Corrupt, format!("{place} is damaged: {error}"))
        };
        let Version { format_version } = serde_json::from_slice(text).map_err(corrupt)?;
        if format_version > FORMAT {
            return Err(Failure::new(
                Reason::NewerFormat,
                format!(
                    "{place} is of format {format_version}, this program reads up to {FORMAT}: use a newer operator"
                ),
            ));
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(corrupt)?;
        if manifest.object.contains('/') || manifest.object.is_empty() {
            return Err(Failure::new(
                Reason::Corrupt,
                format!(
                    "{place} names {:?}, which is no object of its folder",
                    manifest.object
                ),
            ));
        }
        Ok(manifest)
    }

    /// Writes it, unless the folder has one.
    ///
    /// # Errors
    /// Of the store; [`Reason::Conflict`] if another run was first.
    pub(crate) async fn store(&self, store: &dyn Store, folder: &str) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).expect("plain data is JSON");
        let put = Put {
            exclusive: true,
            retained: true,
        };
        store.put(&layout::manifest(folder), text.into(), put).await
    }

    /// Key of the artifact.
    pub(crate) fn key(&self, folder: &str) -> String {
        format!("{folder}/{}", self.object)
    }

    /// Refuses a backup of a cluster that is none of `ids`; none allows any.
    ///
    /// # Errors
    /// [`Reason::WrongCluster`].
    pub(crate) fn check_cluster(&self, ids: &[String], place: &str) -> Result<(), Failure> {
        if ids.is_empty() || ids.contains(&self.cluster_id) {
            return Ok(());
        }
        Err(Failure::new(
            Reason::WrongCluster,
            format!(
                "{place} is a backup of cluster {}, and {} is wanted",
                self.cluster_id,
                ids.join(" or ")
            ),
        ))
    }

    /// As it is told.
    pub(crate) fn artifact(&self, store: &dyn Store, folder: &str) -> Artifact {
        Artifact {
            uri: store.uri(&self.key(folder)),
            size_bytes: self.size_bytes,
            stored_bytes: self.stored_bytes,
            sha256: self.sha256.clone(),
            stored_sha256: self.stored_sha256.clone(),
            revision: self.revision,
            compact_revision: self.compact_revision,
            total_keys: self.total_keys,
            kv_hash: self.kv_hash,
            etcd_version: self.etcd_version.clone(),
            cluster_id: self.cluster_id.clone(),
            member_id: self.member_id.clone(),
            compression: self.compression,
            encrypted_to: self.encryption.as_ref().map(|e| e.recipient.clone()),
            started_at: self.started_at,
            completed_at: self.completed_at,
        }
    }
}

/// All cluster IDs that a cluster's backups may bear.
pub(crate) fn ids(cluster: &ClusterRef) -> Vec<String> {
    let mut ids = cluster.lineage.clone();
    ids.push(cluster.cluster_id.clone());
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "formatVersion": 1, "kind": "Snapshot", "object": "snapshot-1.db", "namespace": "ns", "cluster": "demo",
            "clusterID": "1f", "memberID": "2a", "etcdVersion": "3.7.3", "sizeBytes": 20512, "storedBytes": 20512,
            "sha256": "00", "storedSha256": "00", "revision": 7, "compactRevision": 0, "totalKeys": 3, "kvHash": 5,
            "compression": "None", "startedAt": "2026-11-27T10:00:00Z", "takenAt": "2026-11-27T10:00:00Z", "completedAt": "2026-11-27T10:00:01Z",
        })
    }

    fn parse(value: &Value) -> Result<Manifest, Failure> {
        Manifest::parse(value.to_string().as_bytes(), "s3://b/f/manifest.json")
    }

    #[test]
    fn fields_of_later_versions_are_ignored_and_later_formats_refused() {
        let mut value = good();
        value["colour"] = json!("blue");
        assert_eq!(parse(&value).unwrap().revision, 7);
        value["formatVersion"] = json!(2);
        value["kind"] = json!("Something else");
        let failure = parse(&value).unwrap_err();
        assert_eq!(failure.reason, Reason::NewerFormat);
        assert!(failure.message.contains("format 2"), "{failure}");
    }

    #[test]
    fn o24_a_damaged_manifest_is_told_with_its_place() {
        let mut value = good();
        value["object"] = json!("../other/snapshot-1.db");
        for bad in [value.to_string(), "{".to_owned(), "{}".to_owned()] {
            let failure = Manifest::parse(bad.as_bytes(), "s3://b/f/manifest.json").unwrap_err();
            assert_eq!(failure.reason, Reason::Corrupt, "{bad}");
            assert!(failure.message.contains("s3://b/f/manifest.json"));
        }
    }

    #[test]
    fn o29_a_backup_of_another_cluster_is_refused() {
        let manifest = parse(&good()).unwrap();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(manifest.check_cluster(&[], "x"), Ok(()));
        assert_eq!(manifest.check_cluster(&ids(&["a", "1f"]), "x"), Ok(()));
        let failure = manifest.check_cluster(&ids(&["a"]), "x").unwrap_err();
        assert_eq!(failure.reason, Reason::WrongCluster);
    }
}

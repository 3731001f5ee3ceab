//! Where backups are kept, and how they are written there: what `EtcdBackup`,
//! `EtcdBackupSchedule` and restores have in common.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place that backups are written to and restored from.
///
/// It belongs to one cluster, and to those restored from its backups: a marker in it
/// says whose it is, and another cluster is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("has(self.s3) != has(self.persistentVolumeClaim)", "destination must be exactly one of s3 and persistentVolumeClaim"),
)]
pub struct Destination {
    /// A bucket of S3, or of any store that speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Destination>,
    /// A folder of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimDestination>,
}

/// A bucket, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("has(self.region) || has(self.endpoint)", "s3.region is needed where s3.endpoint is left out"),
    validation = (
        "!has(self.endpoint) || has(self.credentialsSecretRef)",
        "s3.endpoint needs s3.credentialsSecretRef: the pod's own identity is only shown to AWS"
    ),
    validation = (
        "!has(self.endpoint) || self.endpoint.startsWith('https://') || self.endpointNetwork == 'Private'",
        "s3.endpoint must begin with https://; http:// is allowed with s3.endpointNetwork Private"
    ),
    validation = ("!has(self.caSecretRef) || has(self.endpoint)", "s3.caSecretRef is of use with s3.endpoint only"),
)]
pub struct S3Destination {
    /// The bucket. It must exist.
    #[schemars(
        length(max = 63),
        regex(pattern = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    )]
    pub bucket: String,
    /// What the names of all objects begin with, without a slash at either end, such
    /// as `etcd/production`. Left out, the whole bucket is this cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub prefix: Option<String>,
    /// The region, such as `eu-central-1`; `us-east-1` if left out, which stores other
    /// than AWS take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// URL of a store other than AWS, such as `https://minio.example:9000`. It cannot
    /// redirect to another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?$|^https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?/?$"
        )
    )]
    pub endpoint: Option<String>,
    /// Which addresses the endpoint's name may resolve to.
    #[serde(default)]
    pub endpoint_network: EndpointNetwork,
    /// Name the bucket in the path, `https://host/bucket/key`, instead of in the
    /// host's name. Most stores other than AWS want it.
    #[serde(default)]
    pub force_path_style: bool,
    /// Secret with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if there is one,
    /// `AWS_SESSION_TOKEN`. It may change at any time. Left out, the identity of the
    /// run's service account or node is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Secret with `ca.crt`: the only authorities that the endpoint's certificate may
    /// come from. Left out, it is those that Mozilla trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// Encryption by the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Keep what was written from being deleted or changed for a while, by anyone. The
    /// bucket must have been made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

/// Which addresses an endpoint may resolve to. Loopback, link-local and metadata
/// addresses are refused either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointNetwork {
    /// Addresses of the internet only.
    #[default]
    Public,
    /// Private addresses too: a store in this Kubernetes or this company.
    Private,
}

/// Name of a Secret in the object's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Encryption by the store, with keys that the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "!has(self.kmsKeyID) || self.type == 'KMS'",
        "s3.serverSideEncryption.kmsKeyID is of use with type KMS only"
    ),
)]
pub struct ServerSideEncryption {
    /// Whose key.
    #[serde(rename = "type")]
    pub kind: ServerSideEncryptionType,
    /// The key's ID; left out, the bucket's default.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub kms_key_id: Option<String>,
}

/// Whose key a store encrypts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerSideEncryptionType {
    /// The store's own.
    #[default]
    AES256,
    /// One of a key management service.
    KMS,
}

/// How long objects cannot be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// Whom it binds.
    #[serde(default)]
    pub mode: ObjectLockMode,
    /// For how many days from the backup.
    #[schemars(range(min = 1, max = 36_500))]
    pub days: i32,
}

/// Whom a lock binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ObjectLockMode {
    /// All but those with a special right.
    #[default]
    Governance,
    /// All, the account's owner too.
    Compliance,
}

/// A folder of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimDestination {
    /// PersistentVolumeClaim in the object's own namespace.
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub claim_name: String,
    /// Folder of the volume, without a slash at either end. Left out, the whole volume
    /// is this cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub sub_path: Option<String>,
}

/// How a backup is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    /// By zstd: small and fast.
    #[default]
    Zstd,
    /// By gzip.
    Gzip,
    /// Not at all: the object is what `etcdctl snapshot save` writes.
    None,
}

/// How a backup is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verification {
    /// It is read back and restored into a throw-away store; keys are counted, and
    /// revision and hash compared with what the member said.
    #[default]
    Restore,
    /// Its checksums are compared with the store's; where the store has none, it is
    /// read back.
    Checksum,
}

/// Encryption before anything leaves the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionSpec {
    /// Secret with `age.key`: identities of age (`age-keygen` makes one), one a line.
    /// Backups are encrypted to the first, and read with any of them.
    pub key_secret_ref: SecretRef,
}

#[cfg(test)]
mod tests;

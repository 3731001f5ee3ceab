//! Where a run finds what is secret or large: fixed places, which whoever starts a run
//! mounts. They are below [`ROOT`], which `--files` moves for tests.

/// What all of them are below.
pub const ROOT: &str = "/run/etcd-backup";

/// Directory of the Secret with S3 credentials: the files [`S3_ACCESS_KEY_ID`],
/// [`S3_SECRET_ACCESS_KEY`] and possibly [`S3_SESSION_TOKEN`]. They are read anew for
/// every request. Mounted if the destination names a `credentialsSecretRef`.
pub const S3_CREDENTIALS: &str = "/run/etcd-backup/s3-credentials";
/// File in [`S3_CREDENTIALS`].
pub const S3_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// File in [`S3_CREDENTIALS`].
pub const S3_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// File in [`S3_CREDENTIALS`]; it may be missing.
pub const S3_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Directory of the Secret with the S3 endpoint's authorities, in the file [`CA`].
/// Mounted if the destination names a `caSecretRef`.
pub const S3_CA: &str = "/run/etcd-backup/s3-ca";
/// File with certificates of authorities, in PEM.
pub const CA: &str = "ca.crt";

/// Directory of the Secret with what TLS to members needs: the files [`CA`], [`CERT`] and
/// [`KEY`]. Mounted if members' URLs are `https`; without [`CERT`] no certificate is
/// shown.
pub const MEMBER_TLS: &str = "/run/etcd-backup/member-tls";
/// File with a certificate, in PEM.
pub const CERT: &str = "tls.crt";
/// File with a private key, in PEM.
pub const KEY: &str = "tls.key";

/// Directory of the Secret with the client-side encryption key, in the file
/// [`AGE_KEY`]. Mounted if a run encrypts, or reads what may be encrypted.
pub const ENCRYPTION_KEY: &str = "/run/etcd-backup/encryption-key";
/// File with identities of age, one a line.
pub const AGE_KEY: &str = "age.key";

/// Where the volume of a `persistentVolumeClaim` destination is mounted, already at its
/// `subPath`.
pub const CLAIM: &str = "/run/etcd-backup/claim";

/// A directory for as much as the plain image takes, twice over where a backup is proven
/// by restoring it. An emptyDir or an ephemeral volume. Not needed by `restore`, which
/// works beside the data directory.
pub const SCRATCH: &str = "/run/etcd-backup/scratch";

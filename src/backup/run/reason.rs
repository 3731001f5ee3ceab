//! Why a run failed: a closed set, a sentence, and whether repeating it may help.

use serde::{Deserialize, Serialize};

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Why, as a word for conditions.
    pub reason: Reason,
    /// Why, as a sentence that names the thing and what to do. Nothing in it is secret.
    pub message: String,
    /// Whether the same run may succeed later without anyone doing anything.
    pub transient: bool,
}

/// Why a run failed. Said to pass ([`Reason::transient`]) is what does so by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// What the run was told makes no sense, or a file it needs is not there.
    InvalidRun,
    /// The credentials are unknown to the store, or their signature is wrong.
    InvalidCredentials,
    /// The store knows the credentials and does not allow it.
    AccessDenied,
    /// There is no such bucket.
    NoSuchBucket,
    /// The bucket is in another region.
    WrongRegion,
    /// The store sends the run to another host, which is never followed.
    Redirected,
    /// The endpoint is, or resolves to, an address that is not allowed.
    EndpointRefused,
    /// The endpoint's certificate is not trusted, is not its own, or has expired.
    CertificateRefused,
    /// Clocks of store and node are too far apart.
    ClockSkewed,
    /// The store does not know something the destination asks for.
    Unsupported,
    /// The store cannot be reached, or does not answer in time.
    StoreUnreachable,
    /// The store asks to slow down.
    StoreBusy,
    /// The store, or the volume, has no room.
    StoreFull,
    /// The store failed.
    StoreFailed,
    /// Retention or a legal hold of the store forbids the deletion.
    ObjectLocked,
    /// The destination holds another cluster's backups.
    ForeignDestination,
    /// Another run wrote the same folder, or follows into the same destination.
    Conflict,
    /// No voter is healthy and up to date.
    NoHealthyMember,
    /// The member failed in the middle of it.
    MemberFailed,
    /// The member's certificate, or ours, is refused.
    MemberRefused,
    /// The member is of another cluster.
    WrongCluster,
    /// What was compared does not agree: the member's hash with the backup's.
    HashMismatch,
    /// There is no such backup: no manifest, no object.
    NotFound,
    /// It is not what was written: cut, flipped, swapped for another.
    Corrupt,
    /// It is no snapshot of etcd.
    NotASnapshot,
    /// It was made by a newer version, whose format is not known.
    NewerFormat,
    /// Unpacked, it is larger than it says or than anything sensible.
    TooLarge,
    /// It is encrypted, and there is no key.
    KeyMissing,
    /// It is encrypted with another key, or the key cannot be read.
    WrongKey,
    /// The target lies before the oldest backup or after the newest change.
    TargetOutOfReach,
    /// Changes between the backup and the target are missing.
    Gap,
    /// The data directory holds something that this restore did not make.
    DataDirNotEmpty,
    /// Keys exist that an import was told not to overwrite.
    KeysExist,
    /// The scratch volume or the data volume is full.
    DiskFull,
    /// A file of the pod could not be read or written.
    DiskFailed,
    /// The run was asked to end.
    Cancelled,
}

impl Reason {
    /// Whether it passes by itself, as a rule; [`Failure::transient`] is what counts.
    pub fn transient(self) -> bool {
        matches!(
            self,
            Reason::StoreUnreachable
                | Reason::StoreBusy
                | Reason::StoreFull
                | Reason::StoreFailed
                | Reason::NoHealthyMember
                | Reason::MemberFailed
                | Reason::DiskFailed
                | Reason::Cancelled
        )
    }
}

impl Failure {
    /// A failure that passes as its reason does.
    pub fn new(reason: Reason, message: impl Into<String>) -> Failure {
        Failure {
            reason,
            message: message.into(),
            transient: reason.transient(),
        }
    }
}

//! The kinds users write: types, defaults and the CEL rules the API server checks.
//! No client and no async code lives here.
#![allow(unreachable_pub)] // KubeSchema repeats each type in a private scope

mod backup;
mod cluster;
mod destination;
mod image;
mod job;
mod labels;
mod maintenance;
mod options;
mod pod_template;
mod quantity;
mod recovery;
mod restore;
mod restoring;
mod run;
mod schedule;
mod service;
mod sidecar;
mod status;
mod storage;
mod tls;

pub use backup::{
    Artifact, BackupPhase, ClusterRef, DeletionPolicy, EtcdBackup, EtcdBackupSpec, EtcdBackupStatus,
};
pub use cluster::{EtcdCluster, EtcdClusterSpec};
pub use destination::{
    ClaimDestination, Compression, Destination, EncryptionSpec, EndpointNetwork, ObjectLock,
    ObjectLockMode, S3Destination, SecretRef, ServerSideEncryption, ServerSideEncryptionType,
    Verification,
};
pub use image::{ImageSpec, PullPolicy, PullSecret};
pub use job::{JobScheduling, JobSpec, ScratchSpec};
pub use labels::*;
pub use maintenance::{MaintenanceSpec, MaintenanceWindow};
pub use options::{AutoCompactionMode, LogLevel, OptionsSpec};
pub use pod_template::{PodMetadata, PodSpec, PodTemplate, Resources};
pub use quantity::{Quantity, QuantityError};
pub use recovery::{QuorumLossPolicy, QuorumLossSpec, RecoverySpec, duration_seconds};
pub use restore::{
    BackupRef, BootstrapRestore, BootstrapSpec, EtcdRestore, EtcdRestoreSpec, EtcdRestoreStatus,
    RestorePhase, RestoreSource, RestoreTarget, RevisionsSpec, StoredSource, Survivor,
};
pub use restoring::{Ancestor, ClusterRestore, LastLeader, RestoreKind, RestoreStage};
pub use run::{FailureStatus, ProgressStatus, RunKind, RunStatus};
pub use schedule::{
    BackupTemplate, BackupTemplateSpec, ConcurrencyPolicy, DrillSpec, EtcdBackupSchedule,
    EtcdBackupScheduleSpec, EtcdBackupScheduleStatus, IncrementsSpec, IncrementsStatus,
    RetentionSpec,
};
pub use service::{ServiceSpec, ServiceType};
pub use sidecar::{ExtraVolume, ObjectName, Sidecar, SidecarMount, SidecarPort};
pub use status::{
    BlockedBy, Bootstrap, ConditionType, Departure, Engine, EtcdClusterStatus, HistoryMark,
    ImageEngine, MemberRole, MemberStatus, Phase, PlanStatus, RefusedResize, Ticket, TicketKind,
};
pub use storage::{ClaimSpec, EmptyDirSpec, RetentionPolicy, StorageMedium, StorageSpec};
pub use tls::{
    CertManager, ClientTls, ClientTransport, IssuerRef, OwnAuthority, PeerStage, PeerTls,
    PeerTransport, Plaintext, TlsMode, TlsSpec, TlsStatus, seconds,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;

/// The definitions of all kinds, each with the name of the file it is kept in, as
/// `etcd-operator crd` prints them and `crds/` holds them.
///
/// Derived from the types, plus what a derive cannot say: a new object gets
/// `status.observedGeneration: -1`, so no tool takes it for reconciled.
pub fn crds() -> [(&'static str, CustomResourceDefinition); 4] {
    [
        ("etcdclusters", EtcdCluster::crd()),
        ("etcdbackups", EtcdBackup::crd()),
        ("etcdbackupschedules", EtcdBackupSchedule::crd()),
        ("etcdrestores", EtcdRestore::crd()),
    ]
    .map(|(file, crd)| (file, not_reconciled(crd)))
}

fn not_reconciled(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|root| root.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// `observedGeneration` of an object that nobody has looked at.
pub(crate) fn never_observed() -> i64 {
    -1
}

#[cfg(test)]
mod tests;

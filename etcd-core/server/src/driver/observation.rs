//! What the driver and the services measure, for the metrics.

use std::sync::Arc;
use std::time::Duration;

/// The kind of a request, by etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A read.
    Range,
    /// A put.
    Put,
    /// A deletion.
    DeleteRange,
    /// A transaction.
    Txn,
    /// A compaction.
    Compaction,
    /// A new lease.
    LeaseGrant,
    /// The end of a lease.
    LeaseRevoke,
    /// What remains of leases.
    LeaseCheckpoint,
    /// An alarm, asked for or changed.
    Alarm,
    /// A member's name and URLs.
    ClusterMemberAttrSet,
    /// The cluster's version.
    ClusterVersionSet,
    /// Anything else.
    Other,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [RequestKind; 12] = [
        RequestKind::Range,
        RequestKind::Put,
        RequestKind::DeleteRange,
        RequestKind::Txn,
        RequestKind::Compaction,
        RequestKind::LeaseGrant,
        RequestKind::LeaseRevoke,
        RequestKind::LeaseCheckpoint,
        RequestKind::Alarm,
        RequestKind::ClusterMemberAttrSet,
        RequestKind::ClusterVersionSet,
        RequestKind::Other,
    ];

    /// etcd's name.
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Range => "Range",
            RequestKind::Put => "Put",
            RequestKind::DeleteRange => "DeleteRange",
            RequestKind::Txn => "Txn",
            RequestKind::Compaction => "Compaction",
            RequestKind::LeaseGrant => "LeaseGrant",
            RequestKind::LeaseRevoke => "LeaseRevoke",
            RequestKind::LeaseCheckpoint => "LeaseCheckpoint",
            RequestKind::Alarm => "Alarm",
            RequestKind::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            RequestKind::ClusterVersionSet => "ClusterVersionSet",
            RequestKind::Other => "Unknown",
        }
    }

    pub(crate) fn of(request: &etcd_proto::etcdserverpb::InternalRaftRequest) -> RequestKind {
        let kinds = [
            (request.put.is_some(), RequestKind::Put),
            (request.txn.is_some(), RequestKind::Txn),
            (request.delete_range.is_some(), RequestKind::DeleteRange),
            (request.range.is_some(), RequestKind::Range),
            (request.compaction.is_some(), RequestKind::Compaction),
            (request.lease_grant.is_some(), RequestKind::LeaseGrant),
            (request.lease_revoke.is_some(), RequestKind::LeaseRevoke),
            (
                request.lease_checkpoint.is_some(),
                RequestKind::LeaseCheckpoint,
            ),
            (request.alarm.is_some(), RequestKind::Alarm),
            (
                request.cluster_member_attr_set.is_some(),
                RequestKind::ClusterMemberAttrSet,
            ),
            (
                request.cluster_version_set.is_some(),
                RequestKind::ClusterVersionSet,
            ),
        ];
        let found = kinds.iter().find(|(given, _)| *given);
        found.map_or(RequestKind::Other, |(_, kind)| *kind)
    }
}

/// Something that was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A batch was written to the log, without the sync.
    WalWrite(Duration),
    /// The log was synced.
    WalFsync(Duration),
    /// A batch of entries was applied.
    Applied(Duration),
    /// A checkpoint was written.
    Checkpoint(Duration),
    /// A received image is being installed (true), or no more.
    Installing(bool),
    /// A request was answered.
    Request {
        /// Its kind.
        kind: RequestKind,
        /// Whether it was not refused.
        success: bool,
        /// From its arrival to its outcome.
        took: Duration,
    },
    /// A range was read, without the time that it waited for its read index.
    Range {
        /// Whether there was a result.
        success: bool,
        /// The time.
        took: Duration,
    },
    /// The keys were hashed up to a revision.
    HashRev(Duration),
    /// Everything was hashed.
    Hash(Duration),
    /// A defragmentation was asked for.
    DefragmentBegan,
    /// It ended.
    Defragmented(Duration),
    /// An image was streamed to a client.
    SnapshotStreamed(Duration),
    /// A slice of a compaction was done, while nothing else was applied.
    CompactionSlice {
        /// The time.
        took: Duration,
        /// Records that it dropped.
        dropped: usize,
    },
    /// A compaction was done, from its application to its last slice.
    Compacted(Duration),
    /// The state is being sent to this member.
    SnapshotSending(u64),
    /// That has ended.
    SnapshotSent {
        /// The receiver.
        to: u64,
        /// Whether it has it.
        success: bool,
    },
    /// The state has come whole from this member.
    SnapshotReceived(u64),
    /// A lease was granted for so many seconds.
    LeaseGranted(i64),
    /// A learner was promoted while this member led.
    Promoted,
    /// A learner was not promoted while this member led; the error's text.
    NotPromoted(String),
    /// A read index got no answer in time.
    SlowReadIndex,
    /// A read index was given up since the leader changed.
    FailedReadIndex,
}

/// Receives what is measured; the server's metrics implement it.
pub trait Observer: Send + Sync {
    /// Takes one. Called from every thread, so it must be quick.
    fn observe(&self, what: Observation);
}

/// The observer, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Observing(pub(crate) Option<Arc<dyn Observer>>);

impl Observing {
    pub(crate) fn tell(&self, what: Observation) {
        if let Some(observer) = &self.0 {
            observer.observe(what);
        }
    }
}

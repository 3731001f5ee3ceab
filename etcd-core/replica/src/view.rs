//! What readers see: the state at one applied index.

use std::sync::Arc;

use crate::alarms::Alarms;
use crate::damage::Damage;
use crate::membership::Membership;
use crate::schema::Downgrade;

/// An immutable state. Cheap to clone and to share between threads.
#[derive(Clone)]
pub struct View {
    /// Keys.
    pub kv: etcd_mvcc::View,
    /// Members.
    pub membership: Arc<Membership>,
    /// Raised alarms.
    pub alarms: Arc<Alarms>,
    /// Cluster version as `X.Y.0`; `None` until the leader has decided it.
    pub cluster_version: Option<Arc<str>>,
    /// Downgrade under way.
    pub downgrade: Downgrade,
    /// Index of the last entry applied.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Bytes of the store: segments and what is not in one yet.
    pub db_size: u64,
    /// The part of it that is not dead.
    pub db_size_in_use: u64,
    /// What was found damaged in the segments, by now.
    pub damage: Damage,
}

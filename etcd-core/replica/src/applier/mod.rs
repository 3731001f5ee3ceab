//! The second machine: what is agreed on becomes state. Deterministic: every
//! member that applies the same entries has the same state and gives the same
//! answers, whatever its clock says.

pub(crate) mod cluster;
mod kv;
mod lease;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_mvcc::{CompactError, CompactionHash, CompactionJob, Record, Store};
use etcd_proto::etcdserverpb::{
    AlarmMember, AlarmType, DeleteRangeResponse, InternalRaftRequest, PutResponse, RangeResponse,
    TxnResponse,
};
use etcd_proto::raftpb::{ConfChange, ConfState, Entry, EntryType};
use parking_lot::Mutex;
use prost::Message as _;

use crate::alarms::Alarms;
use crate::archive::SegmentArchive;
use crate::lease::{LeaseConfig, LeaseError, Lessor};
use crate::member::Member;
use crate::membership::{Membership, MembershipError};
use crate::schema::{Downgrade, Row, Rows};
use crate::view::View;

/// What the applier must know besides the log. Equal on every member, or without
/// influence on the state.
#[derive(Clone, Debug)]
pub struct ApplierConfig {
    /// This member.
    pub member_id: u64,
    /// Learners allowed at once.
    pub max_learners: usize,
    /// Size of the store at which writes are refused, in bytes; `None`: no limit.
    pub quota_bytes: Option<u64>,
    /// Of the lessor.
    pub lease: LeaseConfig,
}

/// Answer to an applied request, without its header.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Nothing but a header.
    Empty,
    /// A range that went through the log.
    Range(RangeResponse),
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// A compaction was begun.
    Compaction,
    /// A lease and the TTL it was given, in seconds.
    LeaseGrant {
        /// Its ID.
        id: i64,
        /// Its TTL.
        ttl: i64,
    },
    /// A lease was ended.
    LeaseRevoke,
    /// Alarms that the request concerned.
    Alarm(Vec<AlarmMember>),
    /// Members after a conf change.
    Members(Vec<Member>),
}

/// Why an agreed request was refused; it left no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// By the store.
    #[error(transparent)]
    Kv(#[from] etcd_mvcc::ApplyError),
    /// Of a compaction.
    #[error(transparent)]
    Compaction(CompactError),
    /// A lease of this ID exists.
    #[error("lease already exists")]
    LeaseExists,
    /// No lease of this ID.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The TTL is beyond 9,000,000,000 s.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// The alarm NOSPACE is raised, or the quota has just been passed.
    #[error("database space exceeded")]
    NoSpace,
    /// The alarm CORRUPT is raised.
    #[error("corrupt cluster")]
    Corrupt,
    /// By the membership.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// An entry that this version cannot apply. The member must stop: going on would
/// let its state differ from the others'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyFault {
    /// Not an `InternalRaftRequest`.
    #[error("entry {index} cannot be decoded: {reason}")]
    Undecodable {
        /// Raft index.
        index: u64,
        /// Of the decoder.
        reason: String,
    },
    /// A request of a kind that is not supported here.
    #[error("entry {index} holds a request that this version does not know: {kind}")]
    Unknown {
        /// Raft index.
        index: u64,
        /// Field of `InternalRaftRequest`.
        kind: &'static str,
    },
    /// The store could not be read.
    #[error("entry {index}: {reason}")]
    Store {
        /// Raft index.
        index: u64,
        /// What failed.
        reason: String,
    },
}

/// Outcome of one request, for whoever waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Request ID.
    pub id: u64,
    /// The store's revision right after the request.
    pub revision: i64,
    /// Its answer.
    pub result: Result<Response, ApplyError>,
}

/// What a batch of entries did. The view is to be published before any outcome,
/// record or answer leaves.
#[derive(Clone)]
pub struct Applied {
    /// Index of the last entry.
    pub index: u64,
    /// Conf changes to hand to consensus; a refused one has `node_id` 0.
    pub conf_changes: Vec<ConfChange>,
    /// One for each request.
    pub outcomes: Vec<Outcome>,
    /// What changed, in revision order, for the watchers.
    pub records: Vec<Record>,
    /// Terms whose first, empty entry was among the entries.
    pub terms_begun: Vec<u64>,
    /// Of each compaction, what members compare. It reads the whole history: to be
    /// computed elsewhere and given to [`Applier::cache_hash`], or dropped.
    pub compactions: Vec<CompactionHash>,
    /// The membership has changed.
    pub members_changed: bool,
    /// The state after the last entry.
    pub view: Arc<View>,
}

/// State machine of one member.
pub struct Applier {
    config: ApplierConfig,
    store: Store,
    lessor: Arc<Mutex<Lessor>>,
    membership: Arc<Membership>,
    alarms: Arc<Alarms>,
    cluster_version: Option<Arc<str>>,
    downgrade: Downgrade,
    auth: Vec<Row>,
    index: u64,
    term: u64,
    archive: Arc<SegmentArchive>,
    dead_bytes: u64,
    compactions: VecDeque<CompactionJob>,
}

impl Applier {
    /// From what a start, or the import of an image, has read.
    pub fn new(
        config: ApplierConfig,
        store: Store,
        rows: Rows,
        lessor: Lessor,
        archive: Arc<SegmentArchive>,
    ) -> Self {
        Applier {
            config,
            store,
            lessor: Arc::new(Mutex::new(lessor)),
            membership: Arc::new(rows.membership),
            alarms: Arc::new(rows.alarms),
            cluster_version: rows.cluster_version.map(Into::into),
            downgrade: rows.downgrade,
            auth: rows.auth,
            index: rows.consistent_index,
            term: rows.term,
            archive,
            dead_bytes: 0,
            compactions: VecDeque::new(),
        }
    }

    /// Takes over the state of another one, as the import of a snapshot made it.
    /// Whoever shares the lessor keeps sharing it.
    pub fn replace(&mut self, other: Applier) {
        let lessor = self.lessor.clone();
        std::mem::swap(&mut *lessor.lock(), &mut *other.lessor.lock());
        *self = Applier { lessor, ..other };
    }

    /// Index of the last entry applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Leases, shared with whoever ends them and keeps them alive.
    pub fn lessor(&self) -> Arc<Mutex<Lessor>> {
        self.lessor.clone()
    }

    /// Membership as raft wants it.
    pub fn conf_state(&self) -> ConfState {
        self.membership.conf_state()
    }

    /// The state now.
    pub fn view(&self) -> View {
        let size = self.archive.bytes() + self.store.ring_bytes() as u64;
        View {
            kv: self.store.view(),
            membership: self.membership.clone(),
            alarms: self.alarms.clone(),
            cluster_version: self.cluster_version.clone(),
            downgrade: self.downgrade.clone(),
            index: self.index,
            term: self.term,
            db_size: size,
            db_size_in_use: size.saturating_sub(self.dead_bytes),
            damage: self.archive.damage().clone(),
        }
    }

    /// Applies a batch. Entries at or below the applied index are passed over, as a
    /// start may hand them out again.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Applied, ApplyFault> {
        let mut batch = BatchOut::default();
        for entry in entries {
            if entry.index <= self.index {
                continue;
            }
            self.apply_entry(entry, &mut batch)?;
            self.index = entry.index;
            self.term = entry.term;
        }
        Ok(Applied {
            index: self.index,
            conf_changes: batch.conf_changes,
            outcomes: batch.outcomes,
            records: batch.records,
            terms_begun: batch.terms_begun,
            compactions: batch.compactions,
            members_changed: batch.members_changed,
            view: Arc::new(self.view()),
        })
    }

    fn apply_entry(&mut self, entry: &Entry, out: &mut BatchOut) -> Result<(), ApplyFault> {
        match entry.r#type() {
            EntryType::EntryNormal if entry.data.is_empty() => out.terms_begun.push(entry.term),
            EntryType::EntryNormal => {
                let request = InternalRaftRequest::decode(entry.data.clone()).map_err(|e| {
                    ApplyFault::Undecodable {
                        index: entry.index,
                        reason: e.to_string(),
                    }
                })?;
                self.apply_request(entry.index, request, out)?;
            }
            EntryType::EntryConfChange => {
                let change = ConfChange::decode(entry.data.clone()).map_err(|e| {
                    ApplyFault::Undecodable {
                        index: entry.index,
                        reason: e.to_string(),
                    }
                })?;
                self.apply_conf_change(change, out);
            }
            EntryType::EntryConfChangeV2 => {
                return Err(ApplyFault::Unknown {
                    index: entry.index,
                    kind: "ConfChangeV2",
                });
            }
        }
        Ok(())
    }

    fn apply_request(
        &mut self,
        index: u64,
        request: InternalRaftRequest,
        out: &mut BatchOut,
    ) -> Result<(), ApplyFault> {
        let id = request
            .header
            .as_ref()
            .map_or(request.id, |h| if h.id != 0 { h.id } else { request.id });
        let result = match self.dispatch(request, out) {
            Ok(response) => Ok(response),
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::Unknown(kind)) => return Err(ApplyFault::Unknown { index, kind }),
            Err(Refusal::Store(reason)) => return Err(ApplyFault::Store { index, reason }),
        };
        out.outcomes.push(Outcome {
            id,
            revision: self.store.revision(),
            result,
        });
        Ok(())
    }

    /// The order of checks is etcd's: corrupt, no space, then the request itself.
    fn dispatch(
        &mut self,
        r: InternalRaftRequest,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let corrupt = self.alarms.is_raised(AlarmType::Corrupt);
        let full = self.alarms.is_raised(AlarmType::Nospace);
        let guard = |blocked: bool, error: ApplyError| {
            if blocked {
                Err(Refusal::Error(error))
            } else {
                Ok(())
            }
        };
        if let Some(r) = r.put {
            guard(corrupt, ApplyError::Corrupt)?;
            guard(full, ApplyError::NoSpace)?;
            self.put(&r, out)
        } else if let Some(r) = r.txn {
            guard(corrupt, ApplyError::Corrupt)?;
            guard(full && etcd_mvcc::txn_cost(&r) > 0, ApplyError::NoSpace)?;
            self.txn(&r, out)
        } else if let Some(r) = r.delete_range {
            guard(corrupt, ApplyError::Corrupt)?;
            self.delete_range(&r, out)
        } else if let Some(r) = r.range {
            guard(corrupt, ApplyError::Corrupt)?;
            self.range(&r)
        } else if let Some(r) = r.compaction {
            guard(corrupt, ApplyError::Corrupt)?;
            self.compaction(&r, out)
        } else if let Some(r) = r.lease_grant {
            guard(corrupt, ApplyError::Corrupt)?;
            guard(full, ApplyError::NoSpace)?;
            self.lease_grant(&r)
        } else if let Some(r) = r.lease_revoke {
            guard(corrupt, ApplyError::Corrupt)?;
            self.lease_revoke(r.id, out)
        } else if let Some(r) = r.lease_checkpoint {
            self.lease_checkpoint(&r)
        } else if let Some(r) = r.alarm {
            self.alarm(&r)
        } else if let Some(r) = r.cluster_version_set {
            self.set_cluster_version(&r.ver);
            Ok(Response::Empty)
        } else if let Some(r) = r.cluster_member_attr_set {
            self.set_member_attributes(r, out);
            Ok(Response::Empty)
        } else if let Some(r) = r.downgrade_info_set {
            self.downgrade = Downgrade {
                target: r.ver,
                enabled: r.enabled,
            };
            Ok(Response::Empty)
        } else {
            Err(Refusal::Unknown(cluster::kind_of(&r)))
        }
    }
}

#[derive(Default)]
struct BatchOut {
    conf_changes: Vec<ConfChange>,
    outcomes: Vec<Outcome>,
    records: Vec<Record>,
    terms_begun: Vec<u64>,
    compactions: Vec<CompactionHash>,
    members_changed: bool,
}

enum Refusal {
    Error(ApplyError),
    Unknown(&'static str),
    Store(String),
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        Refusal::Error(error)
    }
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Self {
        Refusal::Error(match error {
            LeaseError::NotFound => ApplyError::LeaseNotFound,
            LeaseError::Exists => ApplyError::LeaseExists,
            LeaseError::TtlTooLarge => ApplyError::LeaseTtlTooLarge,
        })
    }
}

impl From<etcd_mvcc::ApplyError> for Refusal {
    fn from(error: etcd_mvcc::ApplyError) -> Self {
        match error {
            etcd_mvcc::ApplyError::Archive(e) => Refusal::Store(e.to_string()),
            other => Refusal::Error(ApplyError::Kv(other)),
        }
    }
}

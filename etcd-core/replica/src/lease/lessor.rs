//! The leases that all members agree on, and the keys attached to them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_mvcc::Record;
use etcd_proto::etcdserverpb::LeaseCheckpoint;

use super::primary::{Primary, Renewal};

/// The longest TTL that is granted, in seconds.
pub const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// The shortest TTL that is granted under an election timeout, both sides in their
/// own unit: one and a half timeouts, rounded up to seconds. A shorter lease could
/// end before a new leader is found.
pub fn min_ttl_seconds(election_timeout_ms: u64) -> i64 {
    let seconds = election_timeout_ms.saturating_mul(3).div_ceil(2000);
    i64::try_from(seconds).map_or(MAX_TTL_SECONDS, |seconds| seconds.min(MAX_TTL_SECONDS))
}

/// What a lessor goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Shorter grants are raised to this, in seconds. It takes part in applying
    /// entries, so it must be the same on all members, as the election timeout is.
    pub min_ttl: i64,
    /// How often what remains of a long lease is to be agreed on, in milliseconds;
    /// `None`: never.
    pub checkpoint_interval_ms: Option<u64>,
    /// When a revocation that was named but has not been applied is named again, in
    /// milliseconds.
    pub revoke_interval_ms: u64,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        LeaseConfig {
            min_ttl: min_ttl_seconds(1000),
            checkpoint_interval_ms: None,
            revoke_interval_ms: 3000,
        }
    }
}

/// Why a request about a lease has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no lease of this ID.
    #[error("requested lease not found")]
    NotFound,
    /// There is one already.
    #[error("lease already exists")]
    Exists,
    /// The TTL exceeds [`MAX_TTL_SECONDS`].
    #[error("too large lease TTL")]
    TtlTooLarge,
}

/// A lease as all members know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// Granted, in seconds.
    pub(super) ttl: i64,
    /// What was left of it at the last checkpoint, in seconds; 0 if there was none
    /// since it was renewed.
    pub(super) remaining_ttl: i64,
    pub(super) keys: BTreeSet<Bytes>,
}

impl Lease {
    /// How long the lease has at most, in milliseconds, when a leader takes over.
    pub(super) fn term_ms(&self) -> u64 {
        milliseconds(if self.remaining_ttl > 0 {
            self.remaining_ttl
        } else {
            self.ttl
        })
    }
}

/// Answer to a question for a lease's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds left, at least 0; on a member that is not primary, the TTL.
    pub ttl: i64,
    /// Seconds granted.
    pub granted_ttl: i64,
    /// The attached keys, ascending.
    pub keys: Vec<Bytes>,
}

/// All leases of a member. The methods without a time apply what was agreed on and
/// are deterministic; those with one are the leader's.
#[derive(Clone, Debug, Default)]
pub struct Lessor {
    pub(super) config: LeaseConfig,
    pub(super) leases: BTreeMap<i64, Lease>,
    /// The lease of every attached key.
    owners: BTreeMap<Bytes, i64>,
    primary: Option<Primary>,
}

impl Lessor {
    /// A lessor without leases.
    pub fn new(config: LeaseConfig) -> Lessor {
        Lessor {
            config,
            ..Lessor::default()
        }
    }

    /// Grants a lease of `ttl` seconds; returns the TTL it has, which is at least
    /// the minimum. The ID was chosen by the proposer.
    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, LeaseError> {
        if id == 0 {
            return Err(LeaseError::NotFound);
        }
        if ttl > MAX_TTL_SECONDS {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(LeaseError::Exists);
        }
        let ttl = ttl.max(self.config.min_ttl);
        let lease = Lease {
            ttl,
            ..Lease::default()
        };
        self.leases.insert(id, lease);
        if let Some(primary) = &mut self.primary {
            primary.granted(id);
        }
        Ok(ttl)
    }

    /// Ends a lease. Returns its keys, ascending; they are to be deleted in one
    /// revision and are attached to nothing any more.
    pub fn revoke(&mut self, id: i64) -> Result<Vec<Bytes>, LeaseError> {
        let lease = self.leases.remove(&id).ok_or(LeaseError::NotFound)?;
        for key in &lease.keys {
            self.owners.remove(key);
        }
        if let Some(primary) = &mut self.primary {
            primary.forget(id);
        }
        Ok(lease.keys.into_iter().collect())
    }

    /// Notes what remains of a lease, in seconds, for whoever is leader next; 0
    /// takes the note back. An unknown lease is passed over, as it may have ended
    /// since.
    pub fn checkpoint(&mut self, id: i64, remaining_ttl: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.remaining_ttl = remaining_ttl.max(0);
        }
    }

    /// Attaches a key, and detaches it from the lease it was on.
    pub fn attach(&mut self, id: i64, key: Bytes) -> Result<(), LeaseError> {
        if self.owners.get(&key) == Some(&id) {
            return Ok(());
        }
        if !self.leases.contains_key(&id) {
            return Err(LeaseError::NotFound);
        }
        self.detach(&key);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
            self.owners.insert(key, id);
        }
        Ok(())
    }

    /// Detaches a key from the lease it is on, if any.
    pub fn detach(&mut self, key: &[u8]) {
        if let Some(id) = self.owners.remove(key)
            && let Some(lease) = self.leases.get_mut(&id)
        {
            lease.keys.remove(key);
        }
    }

    /// Follows a change of the store: a put attaches its key to the lease it names
    /// or detaches it, a deletion detaches it.
    pub fn follow(&mut self, record: &Record) -> Result<(), LeaseError> {
        if record.tombstone || record.lease == 0 {
            self.detach(&record.key);
            Ok(())
        } else {
            self.attach(record.lease, record.key.clone())
        }
    }

    /// Whether there is a lease of this ID.
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// The number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are no leases.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The lease that a key is attached to.
    pub fn lease_of(&self, key: &[u8]) -> Option<i64> {
        self.owners.get(key).copied()
    }

    /// The keys attached to a lease, ascending; `None` if there is no such lease.
    pub fn keys(&self, id: i64) -> Option<impl Iterator<Item = &Bytes>> {
        self.leases.get(&id).map(|lease| lease.keys.iter())
    }

    /// All leases: those of a primary by their end, else by ID.
    pub fn leases(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.leases.keys().copied().collect();
        if let Some(primary) = &self.primary {
            ids.sort_by_key(|id| (primary.expiry(*id).unwrap_or(u64::MAX), *id));
        }
        ids
    }

    /// The state of a lease, `None` if there is none.
    pub fn time_to_live(&self, id: i64, now_ms: u64) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        let expiry = self.primary.as_ref().and_then(|primary| primary.expiry(id));
        Some(TimeToLive {
            ttl: match expiry {
                Some(expiry) => seconds(expiry.saturating_sub(now_ms)),
                None => lease.ttl,
            },
            granted_ttl: lease.ttl,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// Takes up the office of the primary, on applying the empty entry of its own
    /// term: every lease gets its full or checkpointed TTL and `extend_ms` (one
    /// election timeout) more, later if too many would end at once.
    pub fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.primary = Some(Primary::new(&self.config, &self.leases, now_ms, extend_ms));
    }

    /// Lays it down: nothing expires any more.
    pub fn demote(&mut self) {
        self.primary = None;
    }

    /// Whether this member ends leases.
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Lets the TTL of leases granted meanwhile begin, on a primary.
    pub fn schedule(&mut self, now_ms: u64) {
        if let Some(primary) = &mut self.primary {
            primary.schedule(&self.leases, now_ms);
        }
    }

    /// Keeps a lease alive for another TTL.
    pub fn renew(&mut self, id: i64, now_ms: u64) -> Renewal {
        let Some(primary) = &mut self.primary else {
            return Renewal::NotPrimary;
        };
        primary.schedule(&self.leases, now_ms);
        match self.leases.get(&id) {
            Some(lease) => primary.renew(id, lease, now_ms),
            None => Renewal::NotFound,
        }
    }

    /// Up to `limit` leases whose time is up, for each of which a revocation is to
    /// be proposed now; a lease is named again only after the revoke interval.
    /// None on a member that is not primary.
    pub fn expired(&mut self, now_ms: u64, limit: usize) -> Vec<i64> {
        match &mut self.primary {
            Some(primary) => {
                primary.schedule(&self.leases, now_ms);
                primary.expired(now_ms, limit)
            }
            None => Vec::new(),
        }
    }

    /// Up to `limit` checkpoints to propose now. None without a checkpoint
    /// interval.
    pub fn due_checkpoints(&mut self, now_ms: u64, limit: usize) -> Vec<LeaseCheckpoint> {
        match &mut self.primary {
            Some(primary) => {
                primary.schedule(&self.leases, now_ms);
                primary.due_checkpoints(&self.leases, now_ms, limit)
            }
            None => Vec::new(),
        }
    }
}

/// Seconds as milliseconds; what is negative counts as nothing.
pub(super) fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// Whole seconds in milliseconds.
fn seconds(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX)
}

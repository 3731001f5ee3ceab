//! What happened so far, for the metrics. Counted where it happens, read when
//! somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use etcd_replica::{Applied, Response};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers of one member since its start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Keys put.
    pub puts: Count,
    /// Deletions applied.
    pub deletes: Count,
    /// Ranges served.
    pub ranges: Count,
    /// Transactions applied or served.
    pub txns: Count,
    /// Leases granted.
    pub leases_granted: Count,
    /// Leases revoked.
    pub leases_revoked: Count,
    /// Leases renewed here, as the leader.
    pub leases_renewed: Count,
    /// Revocations proposed because a lease had run out.
    pub leases_expired: Count,
    /// Proposals that were given up or refused before they were applied.
    pub proposals_failed: Count,
    /// Applications that took longer than `--warning-apply-duration`.
    pub slow_applies: Count,
}

impl Counts {
    pub(super) fn applied(&self, applied: &Applied) {
        self.puts
            .add(applied.records.iter().filter(|r| !r.tombstone).count());
        for outcome in &applied.outcomes {
            match &outcome.result {
                Ok(Response::DeleteRange(_)) => self.deletes.add(1),
                Ok(Response::Txn(_)) => self.txns.add(1),
                Ok(Response::LeaseGrant { .. }) => self.leases_granted.add(1),
                Ok(Response::LeaseRevoke) => self.leases_revoked.add(1),
                _ => {}
            }
        }
    }
}

//! The leader's side of leases: when each one ends.

use std::collections::{BTreeMap, BTreeSet};

use etcd_proto::etcdserverpb::LeaseCheckpoint;

use super::lessor::{Lease, LeaseConfig};

/// After a change of leader at most so many leases end within any second, so that
/// their revocations, of which a primary proposes more than that, do not pile up.
const EXPIRIES_PER_SECOND: usize = 750;

/// What became of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for another `ttl` seconds.
    Renewed {
        /// Its full TTL.
        ttl: i64,
    },
    /// There is no such lease.
    NotFound,
    /// Its time was up before: its revocation is to be waited for, after which it
    /// is not found, or for the end of this member's office.
    Expired,
    /// Less than its TTL is on record for it. A checkpoint of 0 has to be agreed on
    /// before it is renewed, else the next leader would end it too early.
    Checkpointed,
    /// Only the primary renews.
    NotPrimary,
}

/// One lease's times, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    /// When the lease ends.
    expiry: u64,
    /// When it has to be looked at: its end, or a later time at which its
    /// revocation is named again.
    due: u64,
    /// When what remains of it is to be agreed on.
    checkpoint: Option<u64>,
}

/// When leases end, as far as this member, being leader, decides it.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    checkpoint_interval_ms: Option<u64>,
    revoke_interval_ms: u64,
    deadlines: BTreeMap<i64, Deadline>,
    due: BTreeSet<(u64, i64)>,
    checkpoints: BTreeSet<(u64, i64)>,
    /// Granted since a time was last told. Their TTL counts from the next one:
    /// rather a moment too long than too short.
    unscheduled: Vec<i64>,
}

impl Primary {
    pub(super) fn new(
        config: &LeaseConfig,
        leases: &BTreeMap<i64, Lease>,
        now_ms: u64,
        extend_ms: u64,
    ) -> Primary {
        let mut primary = Primary {
            checkpoint_interval_ms: config.checkpoint_interval_ms,
            revoke_interval_ms: config.revoke_interval_ms,
            deadlines: BTreeMap::new(),
            due: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            unscheduled: Vec::new(),
        };
        let from = now_ms.saturating_add(extend_ms);
        let mut ends: Vec<(u64, i64)> = leases
            .iter()
            .map(|(id, lease)| (from.saturating_add(lease.term_ms()), *id))
            .collect();
        ends.sort_unstable();
        for place in EXPIRIES_PER_SECOND..ends.len() {
            let earliest = ends[place - EXPIRIES_PER_SECOND].0.saturating_add(1000);
            ends[place].0 = ends[place].0.max(earliest);
        }
        for (expiry, id) in ends {
            primary.set(id, expiry, now_ms);
        }
        primary
    }

    pub(super) fn granted(&mut self, id: i64) {
        self.unscheduled.push(id);
    }

    pub(super) fn forget(&mut self, id: i64) {
        if let Some(deadline) = self.deadlines.remove(&id) {
            self.due.remove(&(deadline.due, id));
            if let Some(checkpoint) = deadline.checkpoint {
                self.checkpoints.remove(&(checkpoint, id));
            }
        }
    }

    pub(super) fn expiry(&self, id: i64) -> Option<u64> {
        self.deadlines.get(&id).map(|deadline| deadline.expiry)
    }

    /// Lets the TTL of leases granted meanwhile begin.
    pub(super) fn schedule(&mut self, leases: &BTreeMap<i64, Lease>, now_ms: u64) {
        for id in std::mem::take(&mut self.unscheduled) {
            // Revoked and granted again it may be here twice: begin once.
            if let Some(lease) = leases.get(&id)
                && !self.deadlines.contains_key(&id)
            {
                self.set(id, now_ms.saturating_add(lease.term_ms()), now_ms);
            }
        }
    }

    pub(super) fn renew(&mut self, id: i64, lease: &Lease, now_ms: u64) -> Renewal {
        if self.expiry(id).is_some_and(|expiry| expiry <= now_ms) {
            return Renewal::Expired;
        }
        if lease.remaining_ttl > 0 {
            return Renewal::Checkpointed;
        }
        self.set(id, now_ms.saturating_add(lease.term_ms()), now_ms);
        Renewal::Renewed { ttl: lease.ttl }
    }

    pub(super) fn expired(&mut self, now_ms: u64, limit: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some(&(due, id)) = self.due.first()
            && due <= now_ms
        {
            self.due.pop_first();
            let again = now_ms.saturating_add(self.revoke_interval_ms.max(1));
            if let Some(deadline) = self.deadlines.get_mut(&id) {
                deadline.due = again;
                self.due.insert((again, id));
                ids.push(id);
            }
        }
        ids
    }

    pub(super) fn due_checkpoints(
        &mut self,
        leases: &BTreeMap<i64, Lease>,
        now_ms: u64,
        limit: usize,
    ) -> Vec<LeaseCheckpoint> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(&(at, id)) = self.checkpoints.first()
            && at <= now_ms
        {
            self.checkpoints.pop_first();
            let Some(deadline) = self.deadlines.get_mut(&id) else {
                continue;
            };
            let left_ms = deadline.expiry.saturating_sub(now_ms);
            deadline.checkpoint = next_checkpoint(self.checkpoint_interval_ms, left_ms, now_ms);
            if let Some(next) = deadline.checkpoint {
                self.checkpoints.insert((next, id));
            }
            let remaining_ttl = i64::try_from(left_ms.div_ceil(1000)).unwrap_or(i64::MAX);
            let granted = leases.get(&id).map_or(0, |lease| lease.ttl);
            if remaining_ttl > 0 && remaining_ttl < granted {
                due.push(LeaseCheckpoint { id, remaining_ttl });
            }
        }
        due
    }

    /// Sets when a lease ends, and with it when it is looked at next.
    fn set(&mut self, id: i64, expiry: u64, now_ms: u64) {
        self.forget(id);
        let left_ms = expiry.saturating_sub(now_ms);
        let checkpoint = next_checkpoint(self.checkpoint_interval_ms, left_ms, now_ms);
        self.deadlines.insert(
            id,
            Deadline {
                expiry,
                due: expiry,
                checkpoint,
            },
        );
        self.due.insert((expiry, id));
        if let Some(at) = checkpoint {
            self.checkpoints.insert((at, id));
        }
    }
}

/// When a lease with so much left is to be checkpointed: after an interval, if it
/// lasts longer than that.
fn next_checkpoint(interval_ms: Option<u64>, left_ms: u64, now_ms: u64) -> Option<u64> {
    let interval_ms = interval_ms?;
    (left_ms > interval_ms).then(|| now_ms.saturating_add(interval_ms))
}

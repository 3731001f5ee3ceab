//! Leases against the clock: the leader keeps them alive and ends them.

use std::time::Duration;

use etcd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};
use etcd_replica::{ApplyError, Renewal};

use super::error::RequestError;
use super::node::Node;

/// How often the leader looks for leases that have run out.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
/// Leases checkpointed at one look.
const CHECKPOINTS_MAX: usize = 1000;
/// Leases ended at one look.
const EXPIRED_MAX: usize = 500;
/// How long a keep-alive on an expired lease waits between two looks.
const REVOCATION_POLL: Duration = Duration::from_millis(50);

/// Outcome of a keep-alive at this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Renewed for so many seconds.
    Renewed(i64),
    /// There is no such lease.
    NotFound,
}

impl Node {
    /// Renews a lease at the leader. A lease that has run out is not renewed: the
    /// answer waits for its revocation.
    pub async fn renew_lease(&self, id: i64) -> Result<KeepAlive, RequestError> {
        let deadline = tokio::time::Instant::now() + self.request_timeout();
        loop {
            self.confirm_leadership().await?;
            let renewal = self.shared.lessor.lock().renew(id, self.shared.now_ms());
            match renewal {
                Renewal::Renewed { ttl } => {
                    self.shared.counts.leases_renewed.add(1);
                    return Ok(KeepAlive::Renewed(ttl));
                }
                Renewal::NotFound => return Ok(KeepAlive::NotFound),
                Renewal::NotPrimary => return Err(RequestError::NotLeader),
                Renewal::Expired => {}
                Renewal::Checkpointed => self.reset_checkpoint(id).await?,
            }
            if tokio::time::Instant::now() > deadline {
                return Err(RequestError::Timeout);
            }
            tokio::time::sleep(REVOCATION_POLL).await;
        }
    }

    /// Forgets what remained of a lease: from its renewal on it has its full time again,
    /// under the next leader too.
    async fn reset_checkpoint(&self, id: i64) -> Result<(), RequestError> {
        let request = InternalRaftRequest {
            lease_checkpoint: Some(LeaseCheckpointRequest {
                checkpoints: vec![LeaseCheckpoint {
                    id,
                    remaining_ttl: 0,
                }],
            }),
            ..InternalRaftRequest::default()
        };
        self.propose(request).await?;
        Ok(())
    }

    /// A leader that was deposed without knowing must not keep a lease alive that its
    /// successor lets end, nor tell of one. A read index alone does not show it: a
    /// follower gets one too, from that successor.
    async fn confirm_leadership(&self) -> Result<(), RequestError> {
        let before = self.leadership();
        if !before.is_leader {
            return Err(RequestError::NotLeader);
        }
        self.read_index().await?;
        if self.leadership() != before {
            return Err(RequestError::NotLeader);
        }
        Ok(())
    }

    /// Granted TTL, remaining seconds and attached keys of a lease, at the leader;
    /// `None` if there is no such lease.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
    ) -> Result<Option<(i64, i64, Vec<bytes::Bytes>)>, RequestError> {
        self.confirm_leadership().await?;
        let lessor = self.shared.lessor.lock();
        let status = lessor.time_to_live(id, self.shared.now_ms());
        Ok(status.map(|s| (s.granted_ttl, s.ttl, s.keys)))
    }

    /// IDs of all leases.
    pub fn leases(&self) -> Vec<i64> {
        self.shared.lessor.lock().leases()
    }

    /// Whether this lease exists.
    pub fn has_lease(&self, id: i64) -> bool {
        self.shared.lessor.lock().contains(id)
    }

    /// Ends leases that have run out, for as long as the member runs.
    pub(super) async fn expire_leases(self) {
        let mut looks = tokio::time::interval(EXPIRY_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut led = false;
        loop {
            looks.tick().await;
            if self.shared.is_stopping() {
                return;
            }
            let role = self.leadership();
            if !role.is_leader {
                if led {
                    self.shared.lessor.lock().demote();
                }
                led = false;
                continue;
            }
            led = true;
            let expired = self
                .shared
                .lessor
                .lock()
                .expired(self.shared.now_ms(), EXPIRED_MAX);
            self.checkpoint_leases(role.term);
            self.shared.counts.leases_expired.add(expired.len());
            for id in expired {
                let node = self.clone();
                tokio::spawn(async move { node.revoke_expired(id, role.term).await });
            }
        }
    }

    /// Has the members agree on what is left of long leases, so that a new leader
    /// does not give them their full time again.
    fn checkpoint_leases(&self, term: u64) {
        let checkpoints = self
            .shared
            .lessor
            .lock()
            .due_checkpoints(self.shared.now_ms(), CHECKPOINTS_MAX);
        if checkpoints.is_empty() {
            return;
        }
        let request = InternalRaftRequest {
            lease_checkpoint: Some(LeaseCheckpointRequest { checkpoints }),
            ..InternalRaftRequest::default()
        };
        let node = self.clone();
        tokio::spawn(async move {
            if let Err(error) = node.propose_in(request, Some(term)).await {
                // They are due again at the next interval.
                tracing::warn!(%error, "failed to checkpoint leases");
            }
        });
    }

    async fn revoke_expired(&self, id: i64, term: u64) {
        let request = InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id }),
            ..InternalRaftRequest::default()
        };
        match self.propose_in(request, Some(term)).await {
            Ok(reply) => match reply.result {
                // Somebody revoked it meanwhile.
                Ok(_) | Err(ApplyError::LeaseNotFound) => {}
                Err(error) => tracing::warn!(id, %error, "failed to revoke an expired lease"),
            },
            // It is looked at again, by whoever leads then.
            Err(error) => tracing::warn!(id, %error, "failed to revoke an expired lease"),
        }
    }
}

//! Requests about leases.

use etcd_proto::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest};

use super::{Applier, BatchOut, Refusal, Response};

impl Applier {
    pub(super) fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<Response, Refusal> {
        let ttl = self.lessor.lock().grant(request.id, request.ttl)?;
        Ok(Response::LeaseGrant {
            id: request.id,
            ttl,
        })
    }

    /// Ends a lease: its keys are deleted in ascending order, in one revision.
    pub(super) fn lease_revoke(
        &mut self,
        id: i64,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let keys = self.lessor.lock().revoke(id)?;
        let applied = self.store.delete_keys(keys.iter().map(AsRef::as_ref));
        self.take(applied, out);
        Ok(Response::LeaseRevoke)
    }

    pub(super) fn lease_checkpoint(
        &mut self,
        request: &LeaseCheckpointRequest,
    ) -> Result<Response, Refusal> {
        let mut lessor = self.lessor.lock();
        for checkpoint in &request.checkpoints {
            lessor.checkpoint(checkpoint.id, checkpoint.remaining_ttl);
        }
        Ok(Response::Empty)
    }
}

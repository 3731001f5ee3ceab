//! Requests about keys.

use etcd_mvcc::{Applied as KvApplied, LeaseChange, put_cost, txn_cost};
use etcd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};

use super::{Applier, ApplyError, BatchOut, Refusal, Response};

impl Applier {
    /// A put that passes the quota is kept and reported as refused: whether a member
    /// has space must not decide what its state is.
    pub(super) fn put(
        &mut self,
        request: &PutRequest,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let space = self.has_space_for(put_cost(request));
        let lessor = self.lessor.clone();
        let applied = self.store.put(request, &|id| lessor.lock().contains(id))?;
        let response = self.take(applied, out);
        if space {
            Ok(Response::Put(response))
        } else {
            Err(ApplyError::NoSpace.into())
        }
    }

    pub(super) fn txn(
        &mut self,
        request: &TxnRequest,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let cost = txn_cost(request);
        let space = cost == 0 || self.has_space_for(cost);
        let lessor = self.lessor.clone();
        let applied = self.store.txn(request, &|id| lessor.lock().contains(id))?;
        let response = self.take(applied, out);
        if space {
            Ok(Response::Txn(response))
        } else {
            Err(ApplyError::NoSpace.into())
        }
    }

    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let applied = self.store.delete_range(request)?;
        Ok(Response::DeleteRange(self.take(applied, out)))
    }

    pub(super) fn range(&mut self, request: &RangeRequest) -> Result<Response, Refusal> {
        let response = self
            .store
            .range(request)
            .map_err(etcd_mvcc::ApplyError::from)?;
        Ok(Response::Range(response))
    }

    pub(super) fn compaction(
        &mut self,
        request: &CompactionRequest,
        out: &mut BatchOut,
    ) -> Result<Response, Refusal> {
        let compaction = self
            .store
            .compact(request.revision)
            .map_err(ApplyError::Compaction)?;
        self.compactions.push_back(compaction.job);
        out.compactions.push(compaction.hash);
        Ok(Response::Compaction)
    }

    /// Keeps what a write did: leases follow their keys, watchers get the records.
    pub(super) fn take<R>(&mut self, applied: KvApplied<R>, out: &mut BatchOut) -> R {
        if !applied.leases.is_empty() {
            let mut lessor = self.lessor.lock();
            for LeaseChange { key, new, .. } in &applied.leases {
                lessor.detach(key);
                if *new != 0 {
                    // The store was asked to attach to no lease that does not exist.
                    let attached = lessor.attach(*new, key.clone());
                    debug_assert_eq!(attached, Ok(()));
                }
            }
        }
        out.records.extend(applied.records);
        applied.response
    }

    pub(super) fn has_space_for(&self, cost: u64) -> bool {
        match self.config.quota_bytes {
            Some(quota) => self.archive.bytes() + self.store.ring_bytes() as u64 + cost < quota,
            None => true,
        }
    }
}

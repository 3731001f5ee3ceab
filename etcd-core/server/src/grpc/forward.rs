//! Requests that only the leader can answer, passed on over the peer listeners.

use std::future::Future;
use std::pin::Pin;

use etcd_replica::Member;

use crate::driver::RequestError;

/// A future of a forwarded request.
pub type Forwarded<'a, T> = Pin<Box<dyn Future<Output = Result<T, RequestError>> + Send + 'a>>;

/// Passes requests to the leader.
pub trait LeaderForward: Send + Sync {
    /// Renews a lease; its TTL in seconds, `None` if there is no such lease.
    fn renew_lease(&self, id: i64) -> Forwarded<'_, Option<i64>>;
    /// Remaining and granted TTL and, if asked for, the keys; `None` if there is no
    /// such lease.
    fn lease_time_to_live(&self, id: i64, keys: bool) -> Forwarded<'_, Option<TimeToLive>>;
    /// Gives a learner its vote.
    fn promote(&self, id: u64) -> Forwarded<'_, Vec<Member>>;
}

/// What the leader knows of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeToLive {
    /// Seconds left.
    pub remaining: i64,
    /// Seconds granted.
    pub granted: i64,
    /// Attached keys, ascending.
    pub keys: Vec<bytes::Bytes>,
}

/// A member that has no peers has nobody to ask.
pub struct NoForward;

impl LeaderForward for NoForward {
    fn renew_lease(&self, _id: i64) -> Forwarded<'_, Option<i64>> {
        Box::pin(async { Err(RequestError::NoLeader) })
    }

    fn lease_time_to_live(&self, _id: i64, _keys: bool) -> Forwarded<'_, Option<TimeToLive>> {
        Box::pin(async { Err(RequestError::NoLeader) })
    }

    fn promote(&self, _id: u64) -> Forwarded<'_, Vec<Member>> {
        Box::pin(async { Err(RequestError::NoLeader) })
    }
}

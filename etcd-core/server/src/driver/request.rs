//! IDs of requests and who waits for their outcome.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use etcd_replica::{ApplyError, Response};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::error::RequestError;

/// Makes IDs that no member makes twice: 16 bits of the member, 40 of milliseconds
/// at the start, 8 of a counter that overflows into the milliseconds.
pub(crate) struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

impl RequestIds {
    /// `now_unix_ms`: milliseconds since the Unix epoch, at the start.
    pub(crate) fn new(member_id: u64, now_unix_ms: u64) -> Self {
        RequestIds {
            prefix: (member_id & 0xffff) << 48,
            suffix: AtomicU64::new((now_unix_ms & ((1 << 40) - 1)) << 8),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed) + 1;
        self.prefix | (suffix & ((1 << 48) - 1))
    }
}

/// What became of a request when it was applied.
#[derive(Debug)]
pub struct Reply {
    /// The store's revision right after it.
    pub revision: i64,
    /// Its answer, or why it was refused.
    pub result: Result<Response, ApplyError>,
}

type Outcome = Result<Reply, RequestError>;

const SHARDS: usize = 16;

/// Requests under way, by ID.
pub(crate) struct Waiters {
    shards: [Mutex<HashMap<u64, oneshot::Sender<Outcome>>>; SHARDS],
}

impl Default for Waiters {
    fn default() -> Self {
        Waiters {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Waiters {
    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, oneshot::Sender<Outcome>>> {
        &self.shards[id as usize % SHARDS]
    }

    pub(crate) fn register(&self, id: u64) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.shard(id).lock().insert(id, sender);
        receiver
    }

    /// Requests under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether somebody still waits for it.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        self.shard(id)
            .lock()
            .get(&id)
            .is_some_and(|s| !s.is_closed())
    }

    pub(crate) fn forget(&self, id: u64) {
        self.shard(id).lock().remove(&id);
    }

    /// Hands over the outcome. Nobody may wait: the request was another member's,
    /// or its caller has gone.
    pub(crate) fn complete(&self, id: u64, outcome: Outcome) {
        if let Some(sender) = self.shard(id).lock().remove(&id) {
            let _nobody_waits = sender.send(outcome);
        }
    }

    /// Ends all of them.
    pub(crate) fn fail_all(&self, error: &RequestError) {
        for shard in &self.shards {
            for (_, sender) in shard.lock().drain() {
                let _nobody_waits = sender.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_carry_the_member() {
        let ids = RequestIds::new(0xabcd_1234, 1_700_000_000_000);
        let a = ids.next();
        assert_eq!(a >> 48, 0x1234);
        assert_ne!(a, ids.next());
    }
}

//! Who waits for an index to be applied.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::inbox::ReadWaiter;

/// Waiters by the index they wait for.
#[derive(Default)]
pub(crate) struct AppliedWaits {
    waiting: Mutex<BTreeMap<u64, Vec<ReadWaiter>>>,
}

impl AppliedWaits {
    /// Wakes all once `index` is applied. `applied` is asked under the lock, so that
    /// an application between the question and the waiting is not missed.
    pub(crate) fn wait_all(
        &self,
        index: u64,
        waiters: Vec<ReadWaiter>,
        applied: impl FnOnce() -> u64,
    ) {
        let mut waiting = self.waiting.lock();
        if applied() < index {
            waiting.entry(index).or_default().extend(waiters);
            return;
        }
        drop(waiting);
        wake(waiters);
    }

    /// Everything up to `index` is applied and published.
    pub(crate) fn applied(&self, index: u64) {
        let mut waiting = self.waiting.lock();
        if waiting
            .first_key_value()
            .is_none_or(|(first, _)| *first > index)
        {
            return;
        }
        let later = waiting.split_off(&(index + 1));
        let ready = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        for (_, waiters) in ready {
            wake(waiters);
        }
    }
}

fn wake(waiters: Vec<ReadWaiter>) {
    for waiter in waiters {
        let _gone = waiter.send(Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_in_order_of_their_index() {
        let waits = AppliedWaits::default();
        let (a, mut ra) = tokio::sync::oneshot::channel();
        let (b, mut rb) = tokio::sync::oneshot::channel();
        waits.wait_all(5, vec![a], || 3);
        waits.wait_all(7, vec![b], || 3);
        waits.applied(6);
        assert!(ra.try_recv().is_ok());
        assert!(rb.try_recv().is_err());
        waits.applied(7);
        assert!(rb.try_recv().is_ok());
    }
}

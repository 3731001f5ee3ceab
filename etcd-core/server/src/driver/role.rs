//! What this member knows of leadership, readable from any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's ID; 0 if none is known.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// Whether this member leads.
    pub is_leader: bool,
}

/// Published by the consensus thread.
pub(crate) struct Role {
    leadership: watch::Sender<Leadership>,
    /// Leads alone and has committed in its term: its applied state is current.
    reads_alone: AtomicBool,
    commit: AtomicU64,
    last_index: AtomicU64,
    changes: AtomicU64,
}

impl Default for Role {
    fn default() -> Self {
        Role {
            leadership: watch::channel(Leadership::default()).0,
            reads_alone: AtomicBool::new(false),
            commit: AtomicU64::new(0),
            last_index: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }
}

impl Role {
    pub(crate) fn now(&self) -> Leadership {
        *self.leadership.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Stores what the last step left; whether the leader is another one now.
    pub(crate) fn publish(&self, now: Leadership) -> bool {
        let before = *self.leadership.borrow();
        if before == now {
            return false;
        }
        self.leadership.send_replace(now);
        let changed = before.leader != now.leader;
        if changed && now.leader != 0 {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    /// Leaders seen so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_progress(&self, commit: u64, last_index: u64) {
        self.commit.store(commit, Ordering::Relaxed);
        self.last_index.store(last_index, Ordering::Relaxed);
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::Relaxed)
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.last_index.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reads_alone(&self, alone: bool) {
        self.reads_alone.store(alone, Ordering::Release);
    }

    pub(crate) fn reads_alone(&self) -> bool {
        self.reads_alone.load(Ordering::Acquire)
    }
}

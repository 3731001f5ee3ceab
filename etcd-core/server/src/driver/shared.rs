//! What the driver's threads and the callers of [`super::Node`] share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use etcd_raft::Progress;
use etcd_replica::{Applier, Input, Lessor, Membership, View};
use etcd_storage::disk::Disk;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::counts::Counts;
use super::inbox::Inbox;
use super::observation::{Observation, Observing};
use super::peers::Peers;
use super::request::{RequestIds, Waiters};
use super::role::Role;
use super::waits::AppliedWaits;
use super::watches::Watches;

/// Ends the process with a line; never returns control to the caller's thread in
/// the real server.
pub type Die = Box<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) member_id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) view: ArcSwap<View>,
    pub(crate) inbox: Inbox,
    pub(crate) waiters: Waiters,
    pub(crate) applied_waits: AppliedWaits,
    pub(crate) request_ids: RequestIds,
    pub(crate) role: Role,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) watches: Watches,
    pub(crate) lessor: Arc<Mutex<Lessor>>,
    pub(crate) observer: Observing,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) applier_config: etcd_replica::ApplierConfig,
    pub(crate) snapshot_count: u64,
    pub(crate) ring_checkpoint_bytes: usize,
    pub(crate) ring_max_bytes: usize,
    pub(crate) warning_apply_duration: Duration,
    pub(crate) unsafe_no_fsync: bool,
    pub(crate) election_timeout: Duration,
    pub(crate) started: Instant,
    pub(crate) die: Die,
    /// Held by the thread that ends the process: what it notes before is noted whole.
    pub(crate) dying: Mutex<()>,
    pub(crate) progress: Mutex<BTreeMap<u64, Progress>>,
    /// True once streams of clients are to end.
    pub(crate) closing: watch::Sender<bool>,
    /// True once this member was removed from the cluster.
    pub(crate) removed: watch::Sender<bool>,
    pub(crate) counts: Counts,
    pub(crate) stopping: AtomicBool,
    /// Newest term whose first entry was applied here.
    pub(crate) begun: AtomicU64,
}

impl Shared {
    /// Milliseconds since the start; the only clock that leases know.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Time after which a request is given up.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Hands a completion to consensus. It is refused only when that has ended.
    pub(crate) fn complete(&self, input: Input) {
        let _ended = self.inbox.push(input);
    }

    /// Measured something.
    pub(crate) fn tell(&self, what: Observation) {
        self.observer.tell(what);
    }

    /// Ends the process. If a segment was found damaged, the next start is to know.
    pub(crate) fn die(&self, line: &str) {
        let _first = self.dying.lock();
        if let Some(damaged) = self.view.load().damage.found()
            && let Err(error) = etcd_replica::quarantine(&*self.disk, &self.directory, damaged)
        {
            tracing::error!(%error, "failed to note that a segment is damaged");
        }
        (self.die)(line);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_progress(&self, progress: BTreeMap<u64, Progress>) {
        *self.progress.lock() = progress;
    }

    /// The first entry of a term was applied. A leader that sees its own knows all
    /// leases now, and gives every one its full time.
    pub(crate) fn term_began(&self, term: u64) {
        self.begun.store(term, Ordering::Release);
        let role = self.role.now();
        if role.is_leader && role.term == term {
            let extend = u64::try_from(self.election_timeout.as_millis()).unwrap_or(u64::MAX);
            self.lessor.lock().promote(self.now_ms(), extend);
        }
    }

    /// Whether the first entry of this term was applied here.
    pub(crate) fn has_begun(&self, term: u64) -> bool {
        self.begun.load(Ordering::Acquire) == term
    }

    pub(crate) fn members_changed(&self, membership: &Membership) {
        self.peers.set_members(membership);
        if membership.is_removed(self.member_id) {
            self.removed.send_replace(true);
        }
    }

    /// Turns the received image of this index into the store.
    pub(crate) fn install_image(&self, index: u64) -> Result<Applier, etcd_replica::StoreError> {
        etcd_replica::install(
            &self.disk,
            &self.directory,
            self.applier_config.clone(),
            index,
        )
    }
}

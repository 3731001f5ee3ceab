//! From a data directory to a running member.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{channel, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etcd_replica::lease::{LeaseConfig, min_ttl_seconds};
use etcd_replica::{ApplierConfig, Boot, Input, OpenError, RaftSettings, Recovered};
use etcd_storage::disk::Disk;
use tokio::sync::watch;

use super::apply::{ApplyTask, ApplyThread};
use super::checkpoint::{CheckpointTask, CheckpointThread};
use super::consensus::{ConsensusThread, Outlets};
use super::corruption::{CorruptionChecks, PeerHashes};
use super::counts::Counts;
use super::disk::DiskTask;
use super::inbox::Inbox;
use super::node::Node;
use super::observation::{Observer, Observing};
use super::peers::Peers;
use super::request::{RequestIds, Waiters};
use super::role::Role;
use super::shared::{Die, Shared};
use super::waits::AppliedWaits;
use super::watches::Watches;

/// What a member needs to know to run.
pub struct NodeConfig {
    /// Directory that holds `snap`, `store` and, unless `wal_directory` is set, `wal`.
    pub directory: PathBuf,
    /// Directory of the log.
    pub wal_directory: PathBuf,
    /// Length of a tick.
    pub heartbeat: Duration,
    /// Election timeout; a multiple of the heartbeat.
    pub election_timeout: Duration,
    /// Whether a first election may come early.
    pub initial_election_tick_advance: bool,
    /// Raft's PreVote.
    pub pre_vote: bool,
    /// Entries between checkpoints.
    pub snapshot_count: u64,
    /// Entries kept behind a checkpoint for followers.
    pub snapshot_catchup_entries: u64,
    /// Log files kept; 0: all.
    pub max_wals: usize,
    /// Size of the store at which writes are refused; `None`: unlimited.
    pub quota_bytes: Option<u64>,
    /// Largest request.
    pub max_request_bytes: usize,
    /// Learners allowed at once.
    pub max_learners: usize,
    /// Applications that take longer are logged.
    pub warning_apply_duration: Duration,
    /// Agree on what is left of long leases every five minutes.
    pub lease_checkpoint: bool,
    /// Go on alone, whatever other members there were.
    pub force_new_cluster: bool,
    /// Never sync the log.
    pub unsafe_no_fsync: bool,
    /// Told of durations.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory does not yield a member.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system gave no thread.
    #[error("failed to start thread {name}: {source}")]
    Thread {
        /// The thread.
        name: &'static str,
        /// Of the operating system.
        source: std::io::Error,
    },
}

/// etcd's interval between checkpoints of a lease.
const LEASE_CHECKPOINT_MS: u64 = 5 * 60 * 1000;
/// Bytes of the ring at which a checkpoint begins.
const RING_CHECKPOINT_BYTES: usize = 16 << 20;
/// Bytes of the ring at which the applier waits for the checkpoint.
const RING_MAX_BYTES: usize = 64 << 20;

impl Node {
    /// Reads the data directory, or makes it as `boot` says. Blocking.
    pub fn open(
        disk: &Arc<dyn Disk>,
        config: &NodeConfig,
        boot: &Boot,
    ) -> Result<Recovered, StartError> {
        let seed = unix_ms() ^ (u64::from(std::process::id()) << 32);
        let raft = RaftSettings {
            election_tick: (config.election_timeout.as_millis()
                / config.heartbeat.as_millis().max(1)) as u32,
            heartbeat_tick: 1,
            pre_vote: config.pre_vote,
            check_quorum: true,
            force_new_cluster: config.force_new_cluster,
            seed,
        };
        let recovered = etcd_replica::open(
            disk,
            &config.directory,
            &config.wal_directory,
            boot,
            &raft,
            |member_id| applier_config(config, member_id),
        )?;
        Ok(recovered)
    }

    /// Starts the threads of an opened member.
    pub fn start(
        disk: Arc<dyn Disk>,
        config: &NodeConfig,
        recovered: Recovered,
        peers: Arc<dyn Peers>,
        die: Die,
    ) -> Result<Node, StartError> {
        let Recovered {
            consensus,
            applier,
            wal,
            member_id,
            cluster_id,
            checkpointed_index,
            ..
        } = recovered;
        let view = Arc::new(applier.view());
        let shared = Arc::new(Shared {
            member_id,
            cluster_id,
            watches: Watches::new(view.clone(), config.max_request_bytes),
            view: arc_swap::ArcSwap::new(view.clone()),
            inbox: Inbox::default(),
            waiters: Waiters::default(),
            applied_waits: AppliedWaits::default(),
            request_ids: RequestIds::new(member_id, unix_ms()),
            role: Role::default(),
            peers,
            lessor: applier.lessor(),
            observer: Observing(config.observer.clone()),
            disk,
            directory: config.directory.clone(),
            applier_config: applier_config(config, member_id),
            snapshot_count: config.snapshot_count.max(1),
            ring_checkpoint_bytes: RING_CHECKPOINT_BYTES,
            ring_max_bytes: RING_MAX_BYTES,
            warning_apply_duration: config.warning_apply_duration,
            unsafe_no_fsync: config.unsafe_no_fsync,
            election_timeout: config.election_timeout,
            started: Instant::now(),
            die,
            dying: parking_lot::Mutex::default(),
            progress: parking_lot::Mutex::default(),
            closing: watch::channel(false).0,
            removed: watch::channel(view.membership.is_removed(member_id)).0,
            counts: Counts::default(),
            stopping: false.into(),
            begun: 0.into(),
        });
        shared.peers.set_members(&view.membership);

        let (disk_tx, disk_rx) = channel();
        let (apply_tx, apply_rx) = channel();
        let (checkpoint_tx, checkpoint_rx) = channel();
        let node = Node {
            shared: shared.clone(),
            apply: apply_tx.clone(),
            max_request_bytes: config.max_request_bytes,
            threads: Arc::default(),
            disk: disk_tx.clone(),
            checkpoints: checkpoint_tx.clone(),
        };
        let max_wals = config.max_wals;
        node.spawn("wal", {
            let shared = shared.clone();
            move || super::disk::run(wal, max_wals, &shared, &disk_rx)
        })?;
        let (hash_tx, hash_rx) = sync_channel(super::hash::WAITING_MAX);
        node.spawn("hash", {
            let (shared, apply) = (shared.clone(), apply_tx.clone());
            move || super::hash::run(&shared, &hash_rx, &apply)
        })?;
        let apply = ApplyThread {
            applier,
            shared: shared.clone(),
            tasks: apply_rx,
            checkpoints: checkpoint_tx,
            hashes: hash_tx,
            checkpoint_running: false,
            checkpointed_index,
            dead_at_capture: 0,
            defragment_waiters: Vec::new(),
            defragmenting: Vec::new(),
            defragmenting_since: None,
            compaction_waiters: Vec::new(),
            compacting_since: None,
            pending: std::collections::VecDeque::new(),
        };
        node.spawn("apply", move || apply.run())?;
        let checkpoint = CheckpointThread {
            shared: shared.clone(),
            tasks: checkpoint_rx,
            apply: apply_tx.clone(),
            disk: disk_tx.clone(),
            catchup_entries: config.snapshot_catchup_entries,
        };
        node.spawn("checkpoint", move || checkpoint.run())?;
        node.spawn("watch", {
            let shared = shared.clone();
            move || shared.watches.run()
        })?;

        let ticks = config.election_timeout.as_millis() / config.heartbeat.as_millis().max(1);
        let mut first = Vec::new();
        if config.initial_election_tick_advance {
            // Nobody can be disturbed by a member that has heard of nobody yet.
            first.extend((1..ticks).map(|_| Input::Tick));
        }
        let thread = ConsensusThread::new(
            consensus,
            shared,
            Outlets {
                disk: disk_tx,
                apply: apply_tx,
            },
            config.heartbeat,
        );
        node.spawn("raft", move || thread.run(first))?;
        Ok(node)
    }

    /// Begins the work that needs the runtime: the expiry of leases.
    pub fn begin(&self) {
        tokio::spawn(self.clone().expire_leases());
    }

    /// Compares this member's data with the others' whenever it leads, as `checks` says.
    pub fn watch_for_corruption(&self, peers: Arc<dyn PeerHashes>, checks: CorruptionChecks) {
        tokio::spawn(super::corruption::run(self.clone(), peers, checks));
    }

    /// Ends the threads: nothing is accepted any more, what is written is synced.
    /// Blocking.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.inbox.stop();
        self.shared.watches.stop();
        // A thread that has ended already needs no telling.
        let _ended = self.apply.send(ApplyTask::Stop);
        let _ended = self.checkpoints.send(CheckpointTask::Stop);
        let _ended = self.disk.send(DiskTask::Stop);
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::warn!("a thread had panicked");
            }
        }
    }

    fn spawn(
        &self,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|source| StartError::Thread { name, source })?;
        self.threads.lock().push(handle);
        Ok(())
    }
}

fn applier_config(config: &NodeConfig, member_id: u64) -> ApplierConfig {
    ApplierConfig {
        member_id,
        max_learners: config.max_learners,
        quota_bytes: config.quota_bytes,
        lease: LeaseConfig {
            min_ttl: min_ttl_seconds(config.election_timeout.as_millis() as u64),
            checkpoint_interval_ms: config.lease_checkpoint.then_some(LEASE_CHECKPOINT_MS),
            ..LeaseConfig::default()
        },
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

//! What the driver measures, as metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::driver::{Observation, Observer, RequestKind};
use crate::metrics::{Histogram, Metrics};

/// Fills the metrics. Keeps the handles of what is observed with every request.
pub(super) struct MetricsObserver {
    metrics: Arc<Metrics>,
    ranges: [Histogram; 2],
    /// By kind, then failed and successful. Made when a kind is first seen, since stock
    /// etcd has no lines of kinds that nobody asked for.
    requests: Vec<[std::sync::OnceLock<Histogram>; 2]>,
    applied: Histogram,
    /// Images on their way, and since when.
    sending: parking_lot::Mutex<std::collections::BTreeMap<u64, std::time::Instant>>,
}

impl MetricsObserver {
    pub(super) fn new(metrics: Arc<Metrics>) -> MetricsObserver {
        let server = &metrics.server;
        MetricsObserver {
            ranges: ["false", "true"].map(|success| server.range_duration.with(&[success])),
            requests: RequestKind::ALL.map(|_| Default::default()).into(),
            sending: parking_lot::Mutex::default(),
            applied: server.apply_duration.with(&["Batch", "true", "v3"]),
            metrics,
        }
    }

    fn sent(&self, to: u64, success: bool) {
        let remote = format!("{to:x}");
        let transfers = &self.metrics.network.snapshot_send;
        let outcomes = match success {
            true => &transfers.success,
            false => &transfers.failures,
        };
        outcomes.with(&[&remote]).inc();
        if let Some(since) = self.sending.lock().remove(&to) {
            transfers.inflights.with(&[&remote]).dec();
            let durations = transfers.duration.with(&[&remote]);
            durations.observe_seconds(since.elapsed());
        }
    }

    fn request(&self, kind: RequestKind, success: bool, took: Duration) {
        let durations = &self.metrics.server.request_duration;
        let known = &self.requests[kind as usize][usize::from(success)];
        let text = if success { "true" } else { "false" };
        known
            .get_or_init(|| durations.with(&[text, kind.name()]))
            .observe_seconds(took);
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, what: Observation) {
        let (server, disk, mvcc) = (&self.metrics.server, &self.metrics.disk, &self.metrics.mvcc);
        let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
        match what {
            Observation::WalWrite(took) => disk.wal_write_duration.observe_seconds(took),
            Observation::WalFsync(took) => disk.wal_fsync_duration.observe_seconds(took),
            Observation::Applied(took) => self.applied.observe_seconds(took),
            Observation::Checkpoint(took) => disk.backend_commit_duration.observe_seconds(took),
            Observation::Installing(under_way) => {
                server.snapshot_apply_in_progress.set_bool(under_way);
            }
            Observation::Request {
                kind,
                success,
                took,
            } => self.request(kind, success, took),
            Observation::Range { success, took } => {
                self.ranges[usize::from(success)].observe_seconds(took);
            }
            Observation::HashRev(took) => mvcc.hash_rev_duration.observe_seconds(took),
            Observation::Hash(took) => mvcc.hash_duration.observe_seconds(took),
            Observation::DefragmentBegan => disk.defrag_inflight.inc(),
            Observation::Defragmented(took) => {
                disk.defrag_inflight.dec();
                disk.backend_defrag_duration.observe_seconds(took);
            }
            Observation::SnapshotStreamed(took) => {
                disk.backend_snapshot_duration.observe_seconds(took);
            }
            Observation::CompactionSlice { took, dropped } => {
                mvcc.db_compaction_keys.add(dropped as u64);
                mvcc.db_compaction_pause.observe(milliseconds(took));
                // The index is compacted in the same slices.
                mvcc.index_compaction_pause.observe(milliseconds(took));
            }
            Observation::Compacted(took) => {
                mvcc.db_compaction_total.observe(milliseconds(took));
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                mvcc.db_compaction_last
                    .set_u64(now.map_or(0, |since| since.as_secs()));
            }
            Observation::SnapshotSending(to) => {
                let sending = &self.metrics.network.snapshot_send.inflights;
                // Raft sends one at a time to each.
                if self
                    .sending
                    .lock()
                    .insert(to, std::time::Instant::now())
                    .is_none()
                {
                    sending.with(&[&format!("{to:x}")]).inc();
                }
            }
            Observation::SnapshotSent { to, success } => self.sent(to, success),
            Observation::SnapshotReceived(from) => {
                let received = &self.metrics.network.snapshot_receive.success;
                received.with(&[&format!("{from:x}")]).inc();
            }
            Observation::LeaseGranted(ttl) => self.metrics.lease.ttl.observe(ttl as f64),
            Observation::Promoted => server.learner_promote_successes.inc(),
            Observation::NotPromoted(reason) => {
                server.learner_promote_failures.with(&[&reason]).inc();
            }
            Observation::SlowReadIndex => server.slow_read_indexes.inc(),
            Observation::FailedReadIndex => server.read_indexes_failed.inc(),
        }
    }
}

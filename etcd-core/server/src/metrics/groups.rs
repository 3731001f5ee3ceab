//! etcd's metrics by part of the server. Names, types, labels and bounds are
//! etcd's: dashboards and alerts depend on every letter.

use super::instrument::{Counter, Family, Gauge, Histogram, exponential};
use super::registry::Registry;

/// `etcd_server_*`, `etcd_cluster_*` and `etcd_debugging_server_*`.
pub struct ServerMetrics {
    /// A leader is known.
    pub has_leader: Gauge,
    /// This member leads.
    pub is_leader: Gauge,
    /// This member has no vote.
    pub is_learner: Gauge,
    /// 1 under this member's ID.
    pub id: Family<Gauge>,
    /// 1 under the version that runs.
    pub version: Family<Gauge>,
    /// Leaders seen.
    pub leader_changes_seen: Counter,
    /// Heartbeats that went out late.
    pub heartbeat_send_failures: Counter,
    /// Entries that took long to apply.
    pub slow_apply: Counter,
    /// ReadIndex rounds that took long.
    pub slow_read_indexes: Counter,
    /// ReadIndex rounds that failed.
    pub read_indexes_failed: Counter,
    /// Commit index.
    pub proposals_committed: Gauge,
    /// Applied index.
    pub proposals_applied: Gauge,
    /// Proposals under way.
    pub proposals_pending: Gauge,
    /// Proposals that failed.
    pub proposals_failed: Counter,
    /// Size that raises NOSPACE, in bytes.
    pub quota_backend_bytes: Gauge,
    /// A received snapshot is being applied.
    pub snapshot_apply_in_progress: Gauge,
    /// Learners promoted.
    pub learner_promote_successes: Counter,
    /// Learners not promoted, by Reason.
    pub learner_promote_failures: Family<Counter>,
    /// Good answers of /health.
    pub health_success: Counter,
    /// Bad answers of /health.
    pub health_failures: Counter,
    /// Last outcome of a check, by name and type.
    pub healthcheck: Family<Gauge>,
    /// Outcomes of checks, by name, status and type.
    pub healthchecks: Family<Counter>,
    /// Seconds to apply, by op, success and version.
    pub apply_duration: Family<Histogram>,
    /// Seconds of a range, by success.
    pub range_duration: Family<Histogram>,
    /// Seconds from proposal to reply, by success and type.
    pub request_duration: Family<Histogram>,
    /// Feature gates, by name and stage.
    pub feature_enabled: Family<Gauge>,
    /// 1 under the cluster's version.
    pub cluster_version: Family<Gauge>,
    /// Leases that expired.
    pub lease_expired: Counter,
    /// Alarms, by alarm_type and server_id.
    pub alarms: Family<Gauge>,
}

/// `etcd_disk_*`, `etcd_snap_*` and what of `etcd_debugging_*` is about them.
pub struct DiskMetrics {
    /// Seconds of an fdatasync of the log.
    pub wal_fsync_duration: Histogram,
    /// Seconds of a write to the log.
    pub wal_write_duration: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: Gauge,
    /// Seconds of a checkpoint, which is what a commit of the backend is here.
    pub backend_commit_duration: Histogram,
    /// Seconds of a defragmentation.
    pub backend_defrag_duration: Histogram,
    /// Seconds of making an image.
    pub backend_snapshot_duration: Histogram,
    /// A defragmentation is under way.
    pub defrag_inflight: Gauge,
    /// Seconds of syncing a received image.
    pub snap_db_fsync_duration: Histogram,
    /// Seconds of receiving an image.
    pub snap_db_save_total_duration: Histogram,
    /// Seconds of syncing a snapshot's metadata.
    pub snap_fsync_duration: Histogram,
}

/// `etcd_mvcc_*` and `etcd_debugging_mvcc_*`.
pub struct MvccMetrics {
    /// Size of the store, in bytes.
    pub db_total_size: Gauge,
    /// Of which live, in bytes.
    pub db_total_size_in_use: Gauge,
    /// Reads under way.
    pub db_open_read_transactions: Gauge,
    /// Puts.
    pub put: Counter,
    /// Deletes.
    pub delete: Counter,
    /// Ranges.
    pub range: Counter,
    /// Transactions.
    pub txn: Counter,
    /// Seconds of a hash of everything.
    pub hash_duration: Histogram,
    /// Seconds of a hash of the keys.
    pub hash_rev_duration: Histogram,
    /// Current revision.
    pub current_revision: Gauge,
    /// Compacted revision.
    pub compact_revision: Gauge,
    /// Keys.
    pub keys: Gauge,
    /// Bytes of keys and values put.
    pub total_put_size: Gauge,
    /// Watches.
    pub watchers: Gauge,
    /// Streams of watches.
    pub watch_streams: Gauge,
    /// Watches that lag behind.
    pub slow_watchers: Gauge,
    /// Events not yet sent.
    pub pending_events: Gauge,
    /// Events sent.
    pub events: Counter,
    /// Keys that compactions removed.
    pub db_compaction_keys: Counter,
    /// End of the last compaction, in seconds since 1970.
    pub db_compaction_last: Gauge,
    /// Milliseconds of a slice of compaction.
    pub db_compaction_pause: Histogram,
    /// Milliseconds of a whole compaction.
    pub db_compaction_total: Histogram,
    /// Milliseconds that compaction held the index.
    pub index_compaction_pause: Histogram,
}

/// `etcd_network_*`.
pub struct NetworkMetrics {
    /// Connected members, by Local and Remote.
    pub active_peers: Family<Gauge>,
    /// Known members, by Local and Remote.
    pub known_peers: Family<Gauge>,
    /// Connections lost, by Local and Remote.
    pub disconnected_peers: Family<Counter>,
    /// Bytes of clients' messages.
    pub client_grpc_received_bytes: Counter,
    /// Bytes of messages to clients.
    pub client_grpc_sent_bytes: Counter,
    /// Bytes sent, by To.
    pub peer_sent_bytes: Family<Counter>,
    /// Bytes received, by From.
    pub peer_received_bytes: Family<Counter>,
    /// Sends that failed, by To.
    pub peer_sent_failures: Family<Counter>,
    /// Receives that failed, by From.
    pub peer_received_failures: Family<Counter>,
    /// Round trips, by To.
    pub peer_round_trip_time: Family<Histogram>,
    /// Streams that failed, by API and Type.
    pub server_stream_failures: Family<Counter>,
    /// Snapshots sent, by To.
    pub snapshot_send: TransferMetrics,
    /// Snapshots received, by From.
    pub snapshot_receive: TransferMetrics,
}

/// Snapshots in one direction.
pub struct TransferMetrics {
    /// Done.
    pub success: Family<Counter>,
    /// Failed.
    pub failures: Family<Counter>,
    /// Under way.
    pub inflights: Family<Gauge>,
    /// Seconds of one.
    pub duration: Family<Histogram>,
}

/// `etcd_debugging_lease_*` and `etcd_debugging_auth_*`.
pub struct LeaseMetrics {
    /// Leases granted.
    pub granted: Counter,
    /// Leases revoked.
    pub revoked: Counter,
    /// Leases renewed.
    pub renewed: Counter,
    /// TTLs, in seconds.
    pub ttl: Histogram,
    /// Revision of users and roles.
    pub auth_revision: Gauge,
}

fn usual() -> Vec<f64> {
    exponential(0.001, 2.0, 14)
}

impl ServerMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> ServerMetrics {
        let fine = exponential(0.0001, 2.0, 20);
        ServerMetrics {
            has_leader: r.gauge("etcd_server_has_leader", "1 if a leader is known, else 0."),
            is_leader: r.gauge("etcd_server_is_leader", "1 if this member leads, else 0."),
            is_learner: r.gauge("etcd_server_is_learner", "1 if this member is a learner, else 0."),
            id: r.gauges("etcd_server_id", "1 under this member's ID in hexadecimal.", &["server_id"]),
            version: r.gauges("etcd_server_version", "1 under the version that runs.", &["server_version"]),
            leader_changes_seen: r.counter("etcd_server_leader_changes_seen_total", "Changes of leader seen."),
            heartbeat_send_failures: r.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that a leader sent too late, for want of a fast disk or processor."),
            slow_apply: r.counter("etcd_server_slow_apply_total", "Requests that took too long to apply."),
            slow_read_indexes: r.counter("etcd_server_slow_read_indexes_total", "Read indexes that the leader has not answered within their time."),
            read_indexes_failed: r.counter("etcd_server_read_indexes_failed_total", "Read indexes that failed."),
            proposals_committed: r.gauge("etcd_server_proposals_committed_total", "Index of the last committed entry."),
            proposals_applied: r.gauge("etcd_server_proposals_applied_total", "Index of the last applied entry."),
            proposals_pending: r.gauge("etcd_server_proposals_pending", "Proposals that wait to be committed."),
            proposals_failed: r.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            quota_backend_bytes: r.gauge("etcd_server_quota_backend_bytes", "Size of the store that raises NOSPACE, in bytes."),
            snapshot_apply_in_progress: r.gauge("etcd_server_snapshot_apply_in_progress_total", "1 while a received snapshot is applied, else 0."),
            learner_promote_successes: r.counter("etcd_server_learner_promote_successes", "Learners promoted while this member led."),
            learner_promote_failures: r.counters("etcd_server_learner_promote_failures", "Learners not promoted while this member led.", &["Reason"]),
            health_success: r.counter("etcd_server_health_success", "Good answers of /health."),
            health_failures: r.counter("etcd_server_health_failures", "Bad answers of /health."),
            healthcheck: r.gauges("etcd_server_healthcheck", "1 if the check was good the last time, else 0.", &["name", "type"]),
            healthchecks: r.counters("etcd_server_healthchecks_total", "Outcomes of checks.", &["name", "status", "type"]),
            apply_duration: r.histograms("etcd_server_apply_duration_seconds", "Seconds to apply a request.", &["op", "success", "version"], &fine),
            range_duration: r.histograms("etcd_server_range_duration_seconds", "Seconds of a range.", &["success"], &fine),
            request_duration: r.histograms("etcd_server_request_duration_seconds", "Seconds from a proposal to its reply.", &["success", "type"], &usual()),
            feature_enabled: r.gauges("etcd_server_feature_enabled", "1 if the feature gate is on, else 0.", &["name", "stage"]),
            cluster_version: r.gauges("etcd_cluster_version", "1 under the cluster's version.", &["cluster_version"]),
            lease_expired: r.counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            alarms: r.gauges("etcd_debugging_server_alarms", "1 under each alarm that is raised.", &["alarm_type", "server_id"]),
        }
    }
}

impl DiskMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> DiskMetrics {
        let save = exponential(0.1, 2.0, 10);
        for (name, help) in [
            ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Always empty: this store does not rebalance pages."),
            ("etcd_debugging_disk_backend_commit_spill_duration_seconds", "Always empty: this store does not spill pages."),
            ("etcd_debugging_disk_backend_commit_write_duration_seconds", "Always empty: see etcd_disk_backend_commit_duration_seconds."),
            ("etcd_debugging_snap_save_marshalling_duration_seconds", "Always empty: checkpoints are not marshalled."),
            ("etcd_debugging_snap_save_total_duration_seconds", "Always empty: see etcd_disk_backend_commit_duration_seconds."),
        ] {
            r.histogram(name, help, &usual());
        }
        DiskMetrics {
            wal_fsync_duration: r.histogram("etcd_disk_wal_fsync_duration_seconds", "Seconds of a sync of the log.", &usual()),
            wal_write_duration: r.histogram("etcd_disk_wal_write_duration_seconds", "Seconds of a write to the log.", &usual()),
            wal_write_bytes: r.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            backend_commit_duration: r.histogram("etcd_disk_backend_commit_duration_seconds", "Seconds of a checkpoint of the store.", &usual()),
            backend_defrag_duration: r.histogram("etcd_disk_backend_defrag_duration_seconds", "Seconds of a defragmentation.", &exponential(0.1, 2.0, 13)),
            backend_snapshot_duration: r.histogram("etcd_disk_backend_snapshot_duration_seconds", "Seconds of streaming an image of the store.", &exponential(0.01, 2.0, 17)),
            defrag_inflight: r.gauge("etcd_disk_defrag_inflight", "1 while a defragmentation is under way, else 0."),
            snap_db_fsync_duration: r.histogram("etcd_snap_db_fsync_duration_seconds", "Seconds of a sync of a received image.", &usual()),
            snap_db_save_total_duration: r.histogram("etcd_snap_db_save_total_duration_seconds", "Seconds of receiving an image.", &save),
            snap_fsync_duration: r.histogram("etcd_snap_fsync_duration_seconds", "Seconds of a sync of a snapshot's metadata.", &usual()),
        }
    }
}

impl MvccMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> MvccMetrics {
        let hash = exponential(0.01, 2.0, 15);
        MvccMetrics {
            db_total_size: r.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the store, in bytes."),
            db_total_size_in_use: r.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Size of what is live in the store, in bytes."),
            db_open_read_transactions: r.gauge("etcd_mvcc_db_open_read_transactions", "Reads under way."),
            put: r.counter("etcd_mvcc_put_total", "Puts seen by this member."),
            delete: r.counter("etcd_mvcc_delete_total", "Deletes seen by this member."),
            range: r.counter("etcd_mvcc_range_total", "Ranges seen by this member."),
            txn: r.counter("etcd_mvcc_txn_total", "Transactions seen by this member."),
            hash_duration: r.histogram("etcd_mvcc_hash_duration_seconds", "Seconds of a hash of the store.", &hash),
            hash_rev_duration: r.histogram("etcd_mvcc_hash_rev_duration_seconds", "Seconds of a hash of the keys.", &hash),
            current_revision: r.gauge("etcd_debugging_mvcc_current_revision", "Current revision."),
            compact_revision: r.gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction."),
            keys: r.gauge("etcd_debugging_mvcc_keys_total", "Keys."),
            total_put_size: r.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put, as seen by this member."),
            watchers: r.gauge("etcd_debugging_mvcc_watcher_total", "Watches."),
            watch_streams: r.gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches."),
            slow_watchers: r.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that lag behind."),
            pending_events: r.gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent."),
            events: r.counter("etcd_debugging_mvcc_events_total", "Events sent."),
            db_compaction_keys: r.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Keys that compactions removed."),
            db_compaction_last: r.gauge("etcd_debugging_mvcc_db_compaction_last", "End of the last compaction, in seconds since 1970; 0 if there was none."),
            db_compaction_pause: r.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Milliseconds of a slice of compaction.", &exponential(1.0, 2.0, 13)),
            db_compaction_total: r.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Milliseconds of a compaction.", &exponential(100.0, 2.0, 14)),
            index_compaction_pause: r.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Milliseconds that compaction held the index.", &exponential(0.5, 2.0, 14)),
        }
    }
}

impl NetworkMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> NetworkMetrics {
        const BOTH: &[&str] = &["Local", "Remote"];
        let slow = exponential(0.1, 2.0, 10);
        NetworkMetrics {
            active_peers: r.gauges("etcd_network_active_peers", "Connections with other members.", BOTH),
            known_peers: r.gauges("etcd_network_known_peers", "Other members that are known.", BOTH),
            disconnected_peers: r.counters("etcd_network_disconnected_peers_total", "Connections with other members that were lost.", BOTH),
            client_grpc_received_bytes: r.counter("etcd_network_client_grpc_received_bytes_total", "Bytes of clients' messages."),
            client_grpc_sent_bytes: r.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of messages to clients."),
            peer_sent_bytes: r.counters("etcd_network_peer_sent_bytes_total", "Bytes sent to other members.", &["To"]),
            peer_received_bytes: r.counters("etcd_network_peer_received_bytes_total", "Bytes received from other members.", &["From"]),
            peer_sent_failures: r.counters("etcd_network_peer_sent_failures_total", "Sends to other members that failed.", &["To"]),
            peer_received_failures: r.counters("etcd_network_peer_received_failures_total", "Receives from other members that failed.", &["From"]),
            peer_round_trip_time: r.histograms("etcd_network_peer_round_trip_time_seconds", "Seconds of a round trip to another member.", &["To"], &exponential(0.0001, 2.0, 16)),
            server_stream_failures: r.counters("etcd_network_server_stream_failures_total", "Streams to clients that failed.", &["API", "Type"]),
            snapshot_send: TransferMetrics {
                success: r.counters("etcd_network_snapshot_send_success", "Snapshots sent.", &["To"]),
                failures: r.counters("etcd_network_snapshot_send_failures", "Snapshots not sent.", &["To"]),
                inflights: r.gauges("etcd_network_snapshot_send_inflights_total", "Snapshots being sent.", &["To"]),
                duration: r.histograms("etcd_network_snapshot_send_total_duration_seconds", "Seconds of sending a snapshot.", &["To"], &slow),
            },
            snapshot_receive: TransferMetrics {
                success: r.counters("etcd_network_snapshot_receive_success", "Snapshots received.", &["From"]),
                failures: r.counters("etcd_network_snapshot_receive_failures", "Snapshots not received.", &["From"]),
                inflights: r.gauges("etcd_network_snapshot_receive_inflights_total", "Snapshots being received.", &["From"]),
                duration: r.histograms("etcd_network_snapshot_receive_total_duration_seconds", "Seconds of receiving a snapshot.", &["From"], &slow),
            },
        }
    }
}

impl LeaseMetrics {
    #[rustfmt::skip]
    pub(super) fn new(r: &mut Registry) -> LeaseMetrics {
        LeaseMetrics {
            granted: r.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: r.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            renewed: r.counter("etcd_debugging_lease_renewed_total", "Renewals of leases that this member led."),
            ttl: r.histogram("etcd_debugging_lease_ttl_total", "Times to live of leases granted, in seconds.", &exponential(1.0, 2.0, 24)),
            auth_revision: r.gauge("etcd_debugging_auth_revision", "Revision of users and roles."),
        }
    }
}

use super::*;

/// Names and types that stock etcd 3.7.3 shows right after its start with
/// `--metrics=extensive`, less those about Go. Some appear only with a member
/// behind them; `shown` makes those.
#[rustfmt::skip]
const STOCK: &[(&str, &str)] = &[
    ("etcd_cluster_version", "gauge"),
    ("etcd_debugging_auth_revision", "gauge"),
    ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "histogram"),
    ("etcd_debugging_disk_backend_commit_spill_duration_seconds", "histogram"),
    ("etcd_debugging_disk_backend_commit_write_duration_seconds", "histogram"),
    ("etcd_debugging_lease_granted_total", "counter"),
    ("etcd_debugging_lease_renewed_total", "counter"),
    ("etcd_debugging_lease_revoked_total", "counter"),
    ("etcd_debugging_lease_ttl_total", "histogram"),
    ("etcd_debugging_mvcc_compact_revision", "gauge"),
    ("etcd_debugging_mvcc_current_revision", "gauge"),
    ("etcd_debugging_mvcc_db_compaction_keys_total", "counter"),
    ("etcd_debugging_mvcc_db_compaction_last", "gauge"),
    ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "histogram"),
    ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "histogram"),
    ("etcd_debugging_mvcc_events_total", "counter"),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "histogram"),
    ("etcd_debugging_mvcc_keys_total", "gauge"),
    ("etcd_debugging_mvcc_pending_events_total", "gauge"),
    ("etcd_debugging_mvcc_slow_watcher_total", "gauge"),
    ("etcd_debugging_mvcc_total_put_size_in_bytes", "gauge"),
    ("etcd_debugging_mvcc_watch_stream_total", "gauge"),
    ("etcd_debugging_mvcc_watcher_total", "gauge"),
    ("etcd_debugging_server_lease_expired_total", "counter"),
    ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "histogram"),
    ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", "histogram"),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "histogram"),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "histogram"),
    ("etcd_debugging_snap_save_marshalling_duration_seconds", "histogram"),
    ("etcd_debugging_snap_save_total_duration_seconds", "histogram"),
    ("etcd_debugging_store_expires_total", "counter"),
    ("etcd_debugging_store_watch_requests_total", "counter"),
    ("etcd_debugging_store_watchers", "gauge"),
    ("etcd_disk_backend_commit_duration_seconds", "histogram"),
    ("etcd_disk_backend_defrag_duration_seconds", "histogram"),
    ("etcd_disk_backend_snapshot_duration_seconds", "histogram"),
    ("etcd_disk_defrag_inflight", "gauge"),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
    ("etcd_disk_wal_write_bytes_total", "gauge"),
    ("etcd_disk_wal_write_duration_seconds", "histogram"),
    ("etcd_grpc_proxy_cache_hits_total", "gauge"),
    ("etcd_grpc_proxy_cache_keys_total", "gauge"),
    ("etcd_grpc_proxy_cache_misses_total", "gauge"),
    ("etcd_grpc_proxy_events_coalescing_total", "counter"),
    ("etcd_grpc_proxy_watchers_coalescing_total", "gauge"),
    ("etcd_mvcc_db_open_read_transactions", "gauge"),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
    ("etcd_mvcc_delete_total", "counter"),
    ("etcd_mvcc_hash_duration_seconds", "histogram"),
    ("etcd_mvcc_hash_rev_duration_seconds", "histogram"),
    ("etcd_mvcc_put_total", "counter"),
    ("etcd_mvcc_range_total", "counter"),
    ("etcd_mvcc_txn_total", "counter"),
    ("etcd_network_client_grpc_received_bytes_total", "counter"),
    ("etcd_network_client_grpc_sent_bytes_total", "counter"),
    ("etcd_network_known_peers", "gauge"),
    ("etcd_server_apply_duration_seconds", "histogram"),
    ("etcd_server_feature_enabled", "gauge"),
    ("etcd_server_has_leader", "gauge"),
    ("etcd_server_health_failures", "counter"),
    ("etcd_server_health_success", "counter"),
    ("etcd_server_heartbeat_send_failures_total", "counter"),
    ("etcd_server_id", "gauge"),
    ("etcd_server_is_leader", "gauge"),
    ("etcd_server_is_learner", "gauge"),
    ("etcd_server_leader_changes_seen_total", "counter"),
    ("etcd_server_learner_promote_successes", "counter"),
    ("etcd_server_proposals_applied_total", "gauge"),
    ("etcd_server_proposals_committed_total", "gauge"),
    ("etcd_server_proposals_failed_total", "counter"),
    ("etcd_server_proposals_pending", "gauge"),
    ("etcd_server_quota_backend_bytes", "gauge"),
    ("etcd_server_read_indexes_failed_total", "counter"),
    ("etcd_server_request_duration_seconds", "histogram"),
    ("etcd_server_slow_apply_total", "counter"),
    ("etcd_server_slow_read_indexes_total", "counter"),
    ("etcd_server_snapshot_apply_in_progress_total", "gauge"),
    ("etcd_server_version", "gauge"),
    ("etcd_snap_db_fsync_duration_seconds", "histogram"),
    ("etcd_snap_db_save_total_duration_seconds", "histogram"),
    ("etcd_snap_fsync_duration_seconds", "histogram"),
    ("grpc_server_handled_total", "counter"),
    ("grpc_server_handling_seconds", "histogram"),
    ("grpc_server_msg_received_total", "counter"),
    ("grpc_server_msg_sent_total", "counter"),
    ("grpc_server_started_total", "counter"),
    ("os_fd_limit", "gauge"),
    ("os_fd_used", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_network_receive_bytes_total", "counter"),
    ("process_network_transmit_bytes_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("process_virtual_memory_max_bytes", "gauge"),
    ("promhttp_metric_handler_requests_total", "counter"),
];

fn shown() -> Metrics {
    let metrics = Metrics::new(true, &FeatureGates::default());
    metrics.server.id.with(&["1"]).set(1);
    metrics.server.cluster_version.with(&["3.7"]).set(1);
    metrics
        .server
        .apply_duration
        .with(&["Put", "true", "v3"])
        .observe(0.1);
    metrics
        .server
        .request_duration
        .with(&["true", "Put"])
        .observe(0.1);
    metrics.network.known_peers.with(&["1", "2"]).set(1);
    metrics
}

#[test]
fn every_name_of_stock_etcd_is_there() {
    let text = shown().render();
    for (name, kind) in STOCK {
        let line = format!("# TYPE {name} {kind}\n");
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn names_are_in_order_and_once() {
    let text = shown().registry.render();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.is_sorted_by(|a, b| a < b));
}

#[test]
fn methods_count_from_zero() {
    let metrics = Metrics::new(false, &FeatureGates::default());
    let zero = "grpc_server_handled_total{grpc_code=\"Unavailable\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0\n";
    assert!(metrics.render().contains(zero));
    assert!(!metrics.render().contains("grpc_server_handling_seconds"));
    let place = metrics.grpc.find("/etcdserverpb.KV/Put");
    let put = place.and_then(|place| metrics.grpc.at(place));
    let put = put.expect("a method");
    put.started();
    put.handled(0, Duration::from_millis(1));
    let text = metrics.render();
    assert!(text.contains("grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n"));
    assert!(text.contains(&zero.replace("Unavailable", "OK").replace(" 0\n", " 1\n")));
}

#[test]
fn a_clients_word_does_not_fill_memory() {
    let metrics = Metrics::new(false, &FeatureGates::default());
    for version in 0..1000 {
        metrics
            .grpc
            .client_request(CallType::Unary, &format!("v{version}"));
    }
    let text = metrics.render();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("etcd_server_client_requests_total{"));
    assert!(lines.count() <= 65);
}

#[test]
fn a_scrape_asks_for_fresh_figures() {
    let metrics = Metrics::new(false, &FeatureGates::default());
    metrics.on_scrape(|metrics| metrics.mvcc.keys.set(7));
    assert!(
        metrics
            .render()
            .contains("etcd_debugging_mvcc_keys_total 7\n")
    );
}

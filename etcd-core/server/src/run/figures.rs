//! What the metrics show of a member without anybody counting: read when
//! somebody asks.

use std::time::Duration;

use etcd_proto::etcdserverpb::AlarmType;

use crate::driver::Node;
use crate::metrics::Metrics;
use crate::peer::PeerTransport;

/// Sets the figures of a member.
pub(super) fn refresh(metrics: &Metrics, node: &Node, transport: &PeerTransport) {
    let view = node.view();
    let leadership = node.leadership();
    let server = &metrics.server;
    server.has_leader.set_bool(leadership.leader != 0);
    server.is_leader.set_bool(leadership.is_leader);
    server.is_learner.set_bool(node.is_learner());
    server.leader_changes_seen.set(node.leader_changes());
    server.proposals_committed.set_u64(node.commit_index());
    server.proposals_applied.set_u64(view.index);
    let counts = node.counts();
    server
        .proposals_pending
        .set_u64(node.proposals_pending() as u64);
    server.proposals_failed.set(counts.proposals_failed.get());
    server.slow_apply.set(counts.slow_applies.get());
    server.lease_expired.set(counts.leases_expired.get());
    metrics.lease.granted.set(counts.leases_granted.get());
    metrics.lease.revoked.set(counts.leases_revoked.get());
    metrics.lease.renewed.set(counts.leases_renewed.get());
    server
        .quota_backend_bytes
        .set_u64(node.quota_bytes().unwrap_or(0));
    server.cluster_version.clear();
    if let Some(version) = &view.cluster_version {
        // The patch level is not part of it.
        let minor = version
            .rsplit_once('.')
            .map_or(version.as_ref(), |(minor, _)| minor);
        server.cluster_version.with(&[minor]).set(1);
    }
    server.alarms.clear();
    for alarm in view.alarms.of(AlarmType::None) {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        server
            .alarms
            .with(&[kind, &format!("{:x}", alarm.member_id)])
            .set(1);
    }

    let mvcc = &metrics.mvcc;
    mvcc.put.set(counts.puts.get());
    mvcc.total_put_size.set_u64(counts.put_bytes.get());
    mvcc.delete.set(counts.deletes.get());
    mvcc.range.set(counts.ranges.get());
    mvcc.txn.set(counts.txns.get());
    mvcc.db_total_size.set_u64(view.db_size);
    mvcc.db_total_size_in_use.set_u64(view.db_size_in_use);
    mvcc.current_revision.set(view.kv.revision());
    mvcc.compact_revision.set(view.kv.compact_revision());
    let everything = etcd_mvcc::Span::new(b"\0", b"\0");
    // The current revision is never compacted.
    mvcc.keys.set(view.kv.count(everything, 0).unwrap_or(0));
    let watches = node.watches().stats();
    let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    mvcc.watch_streams.set(size(watches.streams));
    mvcc.watchers.set(size(watches.watchers));
    mvcc.slow_watchers.set(size(watches.slow_watchers));
    mvcc.events.set(watches.events);

    let network = &metrics.network;
    let local = format!("{:x}", node.member_id());
    network.known_peers.clear();
    network.active_peers.clear();
    for member in view.membership.iter() {
        network
            .known_peers
            .with(&[&local, &format!("{:x}", member.id)])
            .set(1);
    }
    for (id, status) in transport.peer_statuses() {
        let remote = format!("{id:x}");
        let active = network.active_peers.with(&[&local, &remote]);
        active.set_bool(status.active_since.is_some());
        network
            .disconnected_peers
            .with(&[&local, &remote])
            .set(status.disconnects);
        network
            .peer_sent_bytes
            .with(&[&remote])
            .set(status.sent_bytes);
        network
            .peer_received_bytes
            .with(&[&remote])
            .set(status.received_bytes);
        network
            .peer_sent_failures
            .with(&[&remote])
            .set(status.sent_failures);
    }
}

/// Counts the round trips to other members, as often as they are probed.
pub(super) async fn round_trips(metrics: std::sync::Arc<Metrics>, transport: PeerTransport) {
    const PROBES: Duration = Duration::from_secs(4);
    let mut ticks = tokio::time::interval(PROBES);
    loop {
        ticks.tick().await;
        for (id, status) in transport.peer_statuses() {
            if let Some(took) = status.round_trip {
                let remote = format!("{id:x}");
                metrics
                    .network
                    .peer_round_trip_time
                    .with(&[&remote])
                    .observe_seconds(took);
            }
        }
    }
}

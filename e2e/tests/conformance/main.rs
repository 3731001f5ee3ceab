//! The server's contract over a real socket, the same for ours and for stock etcd.
//!
//! `TARGET=stock cargo test -p etcd-e2e --test conformance` runs it against stock
//! etcd, `TARGET=ours` (the default) against this workspace's server. A test's
//! name begins with the number of the behaviour it shows.
//!
//! A test has its server for itself while it runs; servers that were not bent go
//! back to a pool, so that only few are started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod election;
mod gateway;
mod kv_delete_compact;
mod kv_faults;
mod kv_put;
mod kv_range;
mod kv_stream;
mod lease;
mod lease_cluster;
mod lock;
mod maintenance;
mod maintenance_compaction;
mod membership;
mod pool;
mod tls;
mod txn;
mod txn_limits;
mod watch;
mod watch_cancel;
mod watch_cluster;
mod watch_history;

//! Real processes that are killed, paused, damaged, misled and stopped, and stock
//! etcdctl against them.
//!
//! `TARGET` chooses the server as in the conformance suite. `E2E_SECONDS` is how
//! long members are killed under load (default 20).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod corruption;
mod crash;
mod elections;
mod etcdctl;
mod etcdctl_cluster;
mod etcdutl;
mod flags;
mod frames;
mod huge_ranges;
mod interop;
mod listeners;
mod lost_page;
mod membership;
mod memory;
mod partition;
mod quota;
mod refused;
mod stock_directory;
mod stop;
mod tls;
mod tls_reload;
mod tls_world;

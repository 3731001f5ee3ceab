//! Starts real things and tests against them.
//!
//! ```text
//!  Target (ours | stock)      Ports, Scratch
//!        \                     /
//!         Process  ── n of ── Cluster
//!            ^                  ^
//!   Client, Watch, Etcdctl      Load (writers with a ledger, watchers that check)
//!            ^                  ^
//!  tests/conformance        tests/process        bin/bench
//!
//!  Minio, Gate ── Bucket      Pod (a run of a backup)      tests/backup
//! ```
//!
//! A [`Process`] is one etcd, ours or stock, in a directory and on ports of its
//! own; nothing it starts outlives the program that started it. Everything above
//! it speaks only etcd's wire, so the same test runs against both targets.

pub mod authority;
pub mod bucket;
pub mod client;
pub mod cluster;
pub mod compare;
pub mod errors;
pub mod etcdctl;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod https;
pub mod kubernetes;
pub mod load;
pub mod minio;
pub mod pod;
pub mod ports;
pub mod process;
pub mod saved;
pub mod scratch;
mod signal;
mod spawner;
pub mod stock;
pub mod store;
pub mod target;
pub mod wait;
pub mod wal;
pub mod watch;

pub use authority::{Authority, Leaf, Pair};
pub use bucket::Bucket;
pub use client::Client;
pub use cluster::Cluster;
pub use etcdctl::{Etcdctl, Etcdutl};
pub use gate::{Gate, Way};
pub use https::Secure;
pub use minio::Minio;
pub use pod::Pod;
pub use process::{Options, Process};
pub use store::Store;
pub use target::Target;
pub use wait::eventually;
pub use watch::Watch;

//! Backups as real processes: the operator's runs against MinIO and a volume, of our server and of stock etcd.
//!
//! Needs MinIO and stock etcd (`make minio stock`), our server and the operator. Where a disk is to be full, the right
//! to mount in a namespace of one's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod delete;
mod faults;
mod follow;
mod killed;
mod prefixes;
mod refused;
mod restore;
mod snapshot;
mod tls;
mod world;

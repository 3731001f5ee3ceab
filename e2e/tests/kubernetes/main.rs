//! The operator on a whole Kubernetes of three nodes, whose storage is our own etcd.
//!
//! It is installed by its chart, from an image packed here, in a namespace and for
//! namespaces that enforce the `restricted` Pod Security Standard. What is applied
//! are `config/samples/`. Needs root, and what `make e2e` builds; `STORAGE=stock`
//! swaps the API server's storage. One test at a time: they share the Kubernetes.

#![allow(clippy::unwrap_used)] // a test ends where something fails

mod backups;
mod change;
mod chart;
mod client;
mod ephemeral;
mod guest;
mod late;
mod life;
mod lost;
mod members;
mod nodes;
mod operator;
mod plugin;
mod policy;
mod quorum;
mod refused;
mod scale;
mod schedules;
mod secrets;
mod steady;
mod stock;
mod storage;
mod store;
mod times;
mod tls;
mod traffic;
mod trouble;
mod upgrade;
mod world;

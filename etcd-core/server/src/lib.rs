//! The server: the only crate with sockets, threads and clocks.
//!
//! ```text
//! config ──> run ──> listen (accept, TLS) ──> grpc ─┐
//!             │                           └─> http ─┼─> driver ──> replica, raft, mvcc, storage
//!             │                     peer <──────────┘
//!             └─ log, metrics: everywhere
//!
//! gateway: JSON, under http, in front of grpc
//! ```

pub mod config;
pub mod directory;
pub mod driver;
pub mod gateway;
pub mod go;
pub mod grpc;
pub mod http;
pub mod listen;
pub mod log;
pub mod member;
pub mod members_http;
pub mod metrics;
pub mod network;
pub mod peer;
pub mod run;
pub mod tls;
pub mod version;

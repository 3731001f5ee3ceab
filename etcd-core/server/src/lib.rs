//! The server: the only crate with sockets, threads and clocks.
//!
//! ```text
//! config ──> run ──> listen (accept, TLS) ──> grpc ─┐
//!             │                           └─> http ─┼─> driver ──> replica, raft, mvcc, storage
//!             │                     peer <──────────┘
//!             └─ log, metrics: everywhere
//! ```

pub mod config;
pub mod driver;
pub mod go;
pub mod grpc;
pub mod log;
pub mod tls;
pub mod version;

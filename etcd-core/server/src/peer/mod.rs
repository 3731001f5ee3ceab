//! The network between members: etcd's rafthttp protocol.
//!
//! ```text
//!            send(messages)                                 PeerEvents::deliver
//!                  │                                                ▲
//!        transport::PeerTransport ─ one Link per member ─┐          │
//!                  │                                     │       inbound (checks)
//!   MsgApp ──> queue ──> stream_body ─┐                  │          ▲
//!   others ──> queue ──> stream_body ─┼─ GET by the      │          │
//!   no stream ──> pipeline ── POST    │  receiver        └──> reader (codec)
//!   MsgSnap ──> snapshot_send ── POST ┴──────> handler ──> snapshot_receive
//! ```
//!
//! A stream is opened by whoever receives on it: `reader` dials the other member and
//! reads what its `stream_body` writes. Everything is HTTP/1.1 over connections that
//! a [`Dialer`] makes, so TLS is somebody else's business on both sides.
//!
//! Nothing here blocks a caller. A queue that is full drops, and says that the member
//! is unreachable; Raft sends again. What arrives and finds no room at its receiver
//! waits, and with it the one connection that brought it.

mod codec;
mod config;
mod dial;
mod error;
mod event;
mod handler;
mod headers;
mod inbound;
mod link;
mod pipeline;
mod probe;
mod queue;
mod reader;
mod request;
mod snapshot_receive;
mod snapshot_send;
mod status;
mod stream_body;
mod transport;
mod urls;

#[cfg(test)]
mod tests;

pub use config::PeerConfig;
pub use dial::{Connection, Dialer, TcpDialer};
pub use event::{PeerEvent, PeerEvents};
pub use snapshot_send::SnapshotSource;
pub use status::PeerStatus;
pub use transport::PeerTransport;

use std::time::Duration;

/// Silence on a stream after which it counts as broken.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a stream without traffic gets a link heartbeat.
const LINK_HEARTBEAT: Duration = Duration::from_nanos(5_000_000_000 / 3);

/// Shortest time between two attempts to open the same stream.
const REDIAL: Duration = Duration::from_millis(100);

/// Largest message in bytes that any stream or request may carry.
const MESSAGE_LIMIT: u64 = 512 << 20;

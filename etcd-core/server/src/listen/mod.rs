//! From sockets to requests.
//!
//! ```text
//! bind -> accept (a task each; TLS handshake, certificate) -> HTTP/1.1 or h2
//!                                   application/grpc -> gRPC routes, counted
//!                                   anything else    -> HTTP router
//! ```

mod accept;
mod bind;
mod body;
mod frames;
mod pings;
mod serve;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use accept::{Limits, Patience, Security};
pub use bind::{BindError, Listener, bind};
pub use body::{RequestBody, ResponseBody};
pub use pings::PingPolicy;
pub use serve::{ClientService, serve_client, serve_metrics, serve_peer};
pub use stream::{ConnectionInfo, keep_alive};

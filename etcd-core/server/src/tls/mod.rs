//! TLS of listeners and of connections to peers, in etcd's way: certificate
//! and key follow their files, the other side's certificate must come from the
//! CA and bear an allowed name, and no revoked serial.
//!
//! ```text
//! TlsInfo -> auto (make a certificate) -> server_config -> listener
//!                                     └-> client_config -> PeerDialer
//! ```

pub mod auto;
pub mod cipher;
mod client;
mod dial;
mod files;
mod reverse;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

pub use client::client_config;
pub use dial::PeerDialer;
pub use files::{FilesError, KeyPairFiles};
pub use server::{TlsError, server_config};
pub use verify::{check_address, common_name};

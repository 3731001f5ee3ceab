//! TLS of listeners and of connections to peers, in etcd's way: the other side's
//! certificate must come from the CA and bear an allowed name, and no revoked
//! serial. Certificates, keys, CAs and revocation lists follow their files.
//!
//! ```text
//! TlsInfo -> auto (make a certificate) -> Material -> ServerTls -> a handshake
//!                                        (Followed)└-> ClientTls -> PeerDialer
//! ```

pub mod auto;
pub mod cipher;
mod client;
mod dial;
mod files;
mod followed;
mod material;
mod reverse;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod words;

pub use client::ClientTls;
pub use dial::PeerDialer;
pub use files::FilesError;
pub use material::Material;
pub use server::{ServerTls, TlsError};
pub use verify::{check_address, common_name};
pub use words::in_gos_words;

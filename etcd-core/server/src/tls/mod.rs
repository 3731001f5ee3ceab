//! TLS of listeners and of connections to peers.

pub mod cipher;

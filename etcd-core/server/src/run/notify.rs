//! Tells systemd that the server serves.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `READY=1` to whoever `NOTIFY_SOCKET` names; nobody is no error.
pub(super) fn ready() {
    tracing::info!("notifying init daemon");
    match send(b"READY=1") {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => {
            tracing::warn!(error = %crate::go::io_error(&error), "failed to notify systemd for readiness");
        }
    }
}

fn send(state: &[u8]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &address)?;
    Ok(())
}

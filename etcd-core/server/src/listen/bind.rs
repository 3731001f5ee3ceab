//! Listening sockets, as Go would open them: 0.0.0.0 takes IPv6 too where
//! there is any, a stale unix socket is replaced.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::{SocketOptions, Url};

/// Why an address cannot be listened on. The messages are Go's.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not a port.
    #[error("listen tcp: address {0}: invalid port")]
    Port(String),
    /// Not a host.
    #[error("listen tcp: lookup {host}: {reason}")]
    Host {
        /// The host.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// Taken, or not this machine's.
    #[error("listen {network} {address}: bind: {reason}")]
    Bind {
        /// tcp or unix.
        network: &'static str,
        /// The address.
        address: String,
        /// What the operating system says.
        reason: String,
    },
}

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix; the file goes when the listener does.
    Unix(UnixListener, SocketFile),
}

/// Removes a socket's file in the end.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Connections that wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 4096;

/// Listens on a URL's address. Must be called within a runtime.
pub fn bind(url: &Url, options: SocketOptions) -> Result<Listener, BindError> {
    if url.scheme.is_unix() {
        return bind_unix(url);
    }
    let port: u16 = match url.port() {
        "" => 0,
        text => text.parse().map_err(|_| BindError::Port(text.to_owned()))?,
    };
    let failed = |error: &io::Error| BindError::Bind {
        network: "tcp",
        address: url.authority.clone(),
        reason: crate::go::io_error(error),
    };
    let host = url.host();
    let address: IpAddr = match host {
        "" => IpAddr::from([0, 0, 0, 0]),
        _ => match host.parse() {
            Ok(address) => address,
            Err(_) => lookup(host)?,
        },
    };
    let wildcard = address == IpAddr::from([0, 0, 0, 0]);
    if wildcard {
        // One socket for both families; without IPv6 there is none.
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match listen(both, false, options) {
            Ok(listener) => return Ok(Listener::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(&error)),
            Err(_) => {}
        }
    }
    let listener = listen(SocketAddr::from((address, port)), true, options);
    listener.map(Listener::Tcp).map_err(|error| failed(&error))
}

fn lookup(host: &str) -> Result<IpAddr, BindError> {
    use std::net::ToSocketAddrs;
    let failed = |reason: String| BindError::Host {
        host: host.to_owned(),
        reason,
    };
    let found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map_err(|error| failed(crate::go::io_error(&error)))?
        .map(|address| address.ip())
        .collect();
    let chosen = found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first());
    chosen
        .copied()
        .ok_or_else(|| failed("no such host".to_owned()))
}

fn listen(address: SocketAddr, v6_only: bool, options: SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    // Go sets it on every listener; the flag asks for what is there already.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(url: &Url) -> Result<Listener, BindError> {
    let path = PathBuf::from(url.address());
    let failed = |error: io::Error| BindError::Bind {
        network: "unix",
        address: path.display().to_string(),
        reason: crate::go::io_error(&error),
    };
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    Ok(Listener::Unix(listener, SocketFile(path.clone())))
}

impl Listener {
    /// The address that is listened on, for the log.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| String::new(), |a| a.to_string()),
            Listener::Unix(_, file) => file.0.display().to_string(),
        }
    }
}

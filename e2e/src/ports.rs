//! Loopback ports that nobody else takes.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Below the range from which the kernel draws ports of outgoing connections, so
/// that a member that is down for a moment finds its port free again.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

/// A TCP port on 127.0.0.1, reserved for this value's lifetime among all programs
/// that use this library (by a lock on a file).
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port on which nothing listens.
    ///
    /// # Errors
    /// If the folder of locks cannot be written, or no port is free.
    pub fn reserve() -> Result<Port> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join("etcd-e2e-ports");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        let span = LAST - FIRST + 1;
        // Programs start at different places, so they rarely try each other's ports.
        let start =
            u16::try_from(std::process::id().wrapping_mul(97) % u32::from(span)).unwrap_or(0);
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
            let number = FIRST + (start + step) % span;
            let path = folder.join(number.to_string());
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Port {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("no loopback port is free between {FIRST} and {LAST}")
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }
}

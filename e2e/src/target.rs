//! Which etcd a test runs against.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::stock;

/// Where below the target folder builds of our server may be.
const PROFILES: [&str; 4] = [
    "release",
    "debug",
    "x86_64-unknown-linux-gnu/release",
    "aarch64-unknown-linux-gnu/release",
];

/// Our server or the stock one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The server of this workspace.
    Ours,
    /// Stock etcd of [`stock::VERSION`].
    Stock,
}

impl Target {
    /// The target that the environment variable `TARGET` names: `ours` (also if unset) or `stock`.
    ///
    /// # Panics
    /// On any other value, so that a typing error never tests the wrong server.
    pub fn from_env() -> Target {
        match std::env::var("TARGET").as_deref() {
            Err(_) | Ok("" | "ours") => Target::Ours,
            Ok("stock") => Target::Stock,
            Ok(other) => panic!("TARGET={other}: it is `ours` or `stock`"),
        }
    }

    /// The path of the server's binary.
    ///
    /// Ours is `$ETCD_BIN`, else the newest `etcd` in the target folder of a profile.
    ///
    /// # Errors
    /// If there is none; the text says what builds it.
    pub fn etcd(self) -> Result<PathBuf> {
        match self {
            Target::Stock => Ok(stock::binaries()?.etcd),
            Target::Ours => ours(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Target::Ours => "ours",
            Target::Stock => "stock",
        })
    }
}

fn ours() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "ETCD_BIN={} is no file", path.display());
        return Ok(path);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![workspace.join("target")];
    folders.extend(std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    let newest = folders
        .iter()
        .flat_map(|dir| PROFILES.map(|profile| dir.join(profile).join("etcd")))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max();
    match newest {
        Some((_, path)) => Ok(path),
        None => bail!(
            "our etcd is not built: `cargo build --release -p etcd-server`, or name a binary in ETCD_BIN"
        ),
    }
}

//! Where stock etcd, etcdctl and etcdutl are.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The version of stock etcd that everything is compared with.
pub const VERSION: &str = "3.7.3";

/// The three stock programs, built by `e2e/stock/build.sh`.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The server.
    pub etcd: PathBuf,
    /// The client tool.
    pub etcdctl: PathBuf,
    /// The offline tool.
    pub etcdutl: PathBuf,
}

/// Locates the stock programs in the cache folder.
///
/// # Errors
/// If one is missing; the text says which command builds it.
pub fn binaries() -> Result<Binaries> {
    let dir = folder()?;
    let found = Binaries {
        etcd: dir.join("etcd"),
        etcdctl: dir.join("etcdctl"),
        etcdutl: dir.join("etcdutl"),
    };
    for path in [&found.etcd, &found.etcdctl, &found.etcdutl] {
        ensure!(
            path.is_file(),
            "{} is missing: build stock etcd {VERSION} with `make stock` (e2e/stock/build.sh, needs Go)",
            path.display()
        );
    }
    Ok(found)
}

fn folder() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    Ok(cache.join("etcd-core-e2e").join(format!("stock-{VERSION}")))
}

//! Temporary folders that do not pile up.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// A folder below `$E2E_DIR` (default: the system's temporary folder), removed on
/// drop unless `E2E_KEEP` is set.
///
/// Values that live in statics are never dropped; the next program that uses
/// this library removes what a dead one left.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn new() -> Result<Scratch> {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = match std::env::var_os("E2E_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::temp_dir(),
        }
        .join("etcd-e2e");
        SWEEP.call_once(|| sweep(&base));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Scratch { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("E2E_KEEP").is_none()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("leaving {}: {error}", self.path.display());
        }
    }
}

/// Removes the folders of programs that no longer run.
fn sweep(base: &Path) {
    if std::env::var_os("E2E_KEEP").is_some() {
        return;
    }
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if let Some(pid) = owner
            && !Path::new("/proc").join(pid.to_string()).exists()
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            // Another program may sweep at the same time.
            eprintln!("leaving {}: {error}", entry.path().display());
        }
    }
}

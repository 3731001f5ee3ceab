//! A program that runs to its end, and what it used.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Resident memory at most, pages of files included.
    pub(crate) rss: u64,
    /// That which no file backs, at most.
    pub(crate) anon: u64,
}

/// Runs a program, looking at its memory every millisecond.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<Cost> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let (mut rss, mut anon) = (0, 0);
    let status = loop {
        if let Some((all, own)) = memory(child.id()) {
            rss = rss.max(all);
            anon = anon.max(own);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let wall = began.elapsed();
    ensure!(
        status.success(),
        "{} {arguments:?}: {status}",
        program.display()
    );
    Ok(Cost { wall, rss, anon })
}

/// Resident memory of a process, and that which no file backs, in bytes.
pub(crate) fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((kib("VmRSS:")? << 10, kib("RssAnon:")? << 10))
}

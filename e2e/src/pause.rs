//! Processes that stand still.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// A thread that cannot be interrupted, for a disk, stops when it can be.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until every thread of a process that was sent SIGSTOP has stopped. The signal is
/// one thread's to act on: until that has been given a processor, which takes a while on
/// a busy machine, the others go on.
///
/// # Errors
/// If the process is gone, or a thread runs on.
pub(crate) fn stopped(pid: u32) -> Result<()> {
    let since = Instant::now();
    loop {
        let running = running(pid)?;
        if running.is_empty() {
            return Ok(());
        }
        ensure!(
            since.elapsed() < LIMIT,
            "after SIGSTOP threads of {pid} run on: {running:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What `/proc` says of threads that have not stopped.
fn running(pid: u32) -> Result<Vec<String>> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let mut running = Vec::new();
    for task in std::fs::read_dir(&tasks).with_context(|| format!("{} is gone", tasks.display()))? {
        // One that has ended meanwhile does not run.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
            continue;
        };
        // `1234 (name, which may hold anything) S …`
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        if !state.starts_with(['T', 'Z', 'X']) {
            running.push(stat);
        }
    }
    Ok(running)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn a_process_runs_until_it_has_stopped() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        assert_eq!(running(pid).unwrap().len(), 1);
        let target = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        kill_process(target, Signal::STOP).unwrap();
        stopped(pid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(stopped(pid).is_err(), "it is gone");
    }
}

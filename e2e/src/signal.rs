//! Signals to children of this program.

use std::process::Child;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Sends `signal`.
///
/// # Errors
/// If the child is gone.
pub(crate) fn send(child: &Child, signal: Signal) -> Result<()> {
    kill_process(pid(child)?, signal).with_context(|| format!("signalling {}", child.id()))
}

/// Sends SIGSTOP and waits until every thread stands still. The signal is one thread's to
/// act on: until that has been given a processor, which takes a while on a busy machine,
/// the others go on.
///
/// # Errors
/// If the child is gone, or ends instead.
pub(crate) fn pause(child: &Child) -> Result<()> {
    send(child, Signal::STOP)?;
    // The kernel tells the parent of it when the last thread has stopped. It may be asked
    // again, and an end is left to whoever waits for that.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let wait = || waitid(WaitId::Pid(pid(child)?), options).context("waiting for the stop");
    let status = wait()?.context("waiting for the stop told nothing")?;
    ensure!(status.stopped(), "{} has ended", child.id());
    Ok(())
}

fn pid(child: &Child) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.context("a process id")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// `T`, if the process has stopped.
    fn state(pid: u32) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit(") ").next().unwrap();
        after.chars().take(1).collect()
    }

    #[test]
    fn a_process_has_stopped_when_it_was_paused_as_often_as_one_likes() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").stdin(Stdio::null()).spawn().unwrap();
        for _ in 0..20 {
            pause(&child).unwrap();
            pause(&child).unwrap();
            assert_eq!(state(child.id()), "T");
            send(&child, Signal::CONT).unwrap();
            assert_ne!(state(child.id()), "T");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(pause(&child).is_err(), "it is gone");
    }
}

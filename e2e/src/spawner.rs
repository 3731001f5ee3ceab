//! Starts children that die with this program.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc;

use anyhow::{Context, Result};

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns `program` with what `prepare` adds, such that the kernel kills it when this program ends, however it ends.
///
/// The kernel ties that signal to the *thread* that spawned the child; one thread
/// that lives as long as the program does all the spawning.
pub(crate) fn spawn(
    program: &std::path::Path,
    prepare: impl FnOnce(&mut Command),
) -> Result<Child> {
    static THREAD: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in receive {
                    // A requester that is gone needs no child: dropping it is harmless, the signal still holds.
                    drop(reply.send(command.spawn()));
                }
            })
            .expect("a thread can be started");
        send
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    prepare(&mut command);
    let (reply, answer) = mpsc::channel();
    thread
        .send((command, reply))
        .context("the spawner thread ended")?;
    answer
        .recv()
        .context("the spawner thread ended")?
        .with_context(|| {
            format!(
                "starting {} through setpriv (Debian package util-linux)",
                program.display()
            )
        })
}

/// The file of the network that the calling thread has entered, for `nsenter`: children are
/// started by another thread, which stays in the network it began in.
pub(crate) fn network() -> String {
    let thread = rustix::thread::gettid().as_raw_nonzero();
    format!("/proc/{}/task/{thread}/ns/net", std::process::id())
}

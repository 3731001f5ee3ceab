//! kubectl and helm, run as a person would.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No command of the tools may take longer.
const LIMIT: Duration = Duration::from_secs(300);

/// What a command printed, and whether it succeeded.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether the exit code is 0.
    pub success: bool,
}

/// A program and its environment.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Tool {
    /// The program at that path.
    pub fn new(program: PathBuf) -> Tool {
        Tool {
            program,
            env: Vec::new(),
        }
    }

    /// With that environment variable too.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Tool {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it with `input` on standard input, whatever comes of it.
    ///
    /// # Errors
    /// If it cannot be run or does not end.
    pub async fn try_run<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(args).envs(self.env.iter().cloned());
        let name = format!("{:?}", command.as_std());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        // A program that does not read what it is given says itself why.
        let written = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .with_context(|| format!("{name} did not end within {LIMIT:?}"))?
            .with_context(|| format!("waiting for {name}"))?;
        if output.status.success() {
            written.with_context(|| format!("writing to {name}"))?;
        }
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            success: output.status.success(),
        })
    }

    /// Runs it; it must succeed. Its standard output.
    ///
    /// # Errors
    /// If it fails; the text holds what it printed.
    pub async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        self.run_with(args, "").await
    }

    /// As [`Tool::run`], with `input` on standard input.
    ///
    /// # Errors
    /// If it fails; the text holds what it printed.
    pub async fn run_with<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        let output = self.try_run(args, input).await?;
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        ensure!(
            output.success,
            "{} {args:?}: {}{}",
            self.program.display(),
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }
}

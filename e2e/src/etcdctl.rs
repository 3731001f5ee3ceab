//! Stock etcdctl and etcdutl, run as a person would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::load::Bundle;
use crate::scratch::Scratch;
use crate::stock;
use crate::target::Target;

/// No command of the tools may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
}

/// Stock etcdctl with its endpoints.
#[derive(Debug, Clone)]
pub struct Etcdctl {
    program: PathBuf,
    endpoints: String,
    flags: Vec<String>,
    /// Where its certificates are, as long as it is used.
    certificates: Option<Arc<Scratch>>,
}

impl Etcdctl {
    /// An etcdctl that talks to `endpoints`.
    ///
    /// # Errors
    /// If stock etcdctl is not built.
    pub fn new(endpoints: &[String]) -> Result<Etcdctl> {
        Ok(Etcdctl {
            program: stock::binaries()?.etcdctl,
            endpoints: endpoints.join(","),
            flags: Vec::new(),
            certificates: None,
        })
    }

    /// Shows a client's certificate. Members are reached by addresses that theirs do not
    /// name, so whom it talks to is not verified.
    ///
    /// # Errors
    /// If there is no place for the files, or the bundle has no certificate.
    pub fn showing(mut self, bundle: &Bundle) -> Result<Etcdctl> {
        let (certificate, key) = bundle.identity.as_ref().context("a certificate")?;
        let folder = Scratch::new()?;
        let write = |name: &str, content: &[u8]| -> Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, content)
                .with_context(|| format!("writing {}", path.display()))?;
            Ok(path.display().to_string())
        };
        let flags = [
            format!("--cert={}", write("tls.crt", certificate)?),
            format!("--key={}", write("tls.key", key)?),
            "--insecure-skip-tls-verify=true".to_owned(),
        ];
        self.flags.extend(flags);
        self.certificates = Some(Arc::new(folder));
        Ok(self)
    }

    /// Adds flags to every command, such as `--cacert`.
    pub fn flags<I: IntoIterator<Item = S>, S: Into<String>>(mut self, flags: I) -> Etcdctl {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.flags)
            .args(args)
            .env("ETCDCTL_ENDPOINTS", &self.endpoints);
        command
    }

    /// Runs a command to its end, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be run or takes longer than a minute.
    pub async fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        finish(self.command(args), "").await
    }

    /// Runs a command that must succeed; its standard output.
    ///
    /// # Errors
    /// If it fails; the text holds what it printed.
    pub async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        self.run_with(args, "").await
    }

    /// As [`Etcdctl::run`], with `input` on standard input.
    ///
    /// # Errors
    /// If it fails; the text holds what it printed.
    pub async fn run_with<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        succeeded(finish(self.command(args), input).await?)
    }

    /// Starts a command that goes on, such as `watch`; it is killed when the child is dropped.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Child> {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("starting etcdctl")
    }
}

/// An etcdutl: the stock one, or ours.
#[derive(Debug, Clone)]
pub struct Etcdutl {
    program: PathBuf,
}

impl Etcdutl {
    /// The stock etcdutl.
    ///
    /// # Errors
    /// If it is not built.
    pub fn new() -> Result<Etcdutl> {
        Ok(Etcdutl {
            program: stock::binaries()?.etcdutl,
        })
    }

    /// Ours, beside our server.
    ///
    /// # Errors
    /// If it is not built.
    pub fn ours() -> Result<Etcdutl> {
        let program = Target::Ours.etcd()?.with_file_name("etcdutl");
        ensure!(
            program.is_file(),
            "{} is missing: build it with the server (`make build`, or `cargo build -p etcd-server -p etcd-etcdutl`)",
            program.display()
        );
        Ok(Etcdutl { program })
    }

    /// Runs a command that must succeed; its standard output.
    ///
    /// # Errors
    /// If it fails; the text holds what it printed.
    pub async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        succeeded(self.try_run(args).await?)
    }

    /// Runs a command that may fail.
    ///
    /// # Errors
    /// If it cannot be run, or does not end.
    pub async fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(args);
        finish(command, "").await
    }
}

/// Runs any program to its end in `folder`, with nothing on standard input.
///
/// # Errors
/// If it cannot be run or takes longer than a minute.
pub async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    env: &[(&str, &str)],
    folder: &Path,
) -> Result<Output> {
    let mut command = Command::new(program);
    command
        .env_remove("ETCD_BIN")
        .args(args)
        .envs(env.iter().copied())
        .current_dir(folder);
    finish(command, "").await
}

async fn finish(mut command: Command, input: &str) -> Result<Output> {
    let name = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let mut stdin = child.stdin.take().context("standard input is a pipe")?;
    stdin
        .write_all(input.as_bytes())
        .await
        .with_context(|| format!("writing to {name}"))?;
    drop(stdin);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("{name} did not end within {LIMIT:?}"))?
        .with_context(|| format!("waiting for {name}"))?;
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    })
}

fn succeeded(output: Output) -> Result<String> {
    ensure!(
        output.code == Some(0),
        "it ended with {:?}: {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(output.stdout)
}

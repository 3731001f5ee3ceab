//! Snapshots, taken and restored as a person does it: by etcdctl and etcdutl.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{Etcdctl, Etcdutl, Options, Process, Target};

/// `etcdctl snapshot save` of a member, into `folder`.
///
/// # Errors
/// What etcdctl says.
pub async fn saved(member: &Process, folder: &Path, name: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    let tool = Etcdctl::new(&[member.client_url()])?;
    let args = ["snapshot", "save"].map(AsRef::as_ref);
    tool.run(&[args[0], args[1], file.as_os_str()]).await?;
    Ok(file)
}

/// A member of its own, of `target`, on a directory that `tool` has made of a copy of
/// `file`. It serves.
///
/// # Errors
/// What the tool says, or why the member does not start.
pub async fn restored(target: Target, tool: &Etcdutl, file: &Path) -> Result<Process> {
    let mut member = Process::prepare(Options {
        target,
        ..Options::single()
    })?;
    let own = member.folder().join("own.db");
    std::fs::copy(file, &own)?;
    let (data, peer) = (member.data_dir(), member.peer_url());
    let cluster = format!("--initial-cluster={}={peer}", member.name());
    let name = format!("--name={}", member.name());
    let peer = format!("--initial-advertise-peer-urls={peer}");
    let data = format!("--data-dir={}", data.display());
    let own = own.display().to_string();
    let args = ["snapshot", "restore", &own, &data, &name, &cluster, &peer];
    tool.run(&args).await?;
    member.spawn()?;
    member.ready().await?;
    Ok(member)
}

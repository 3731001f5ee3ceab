//! Which server an image holds, and which one wrote a data directory.

use std::{path::Path, process::Command};

use crate::api::Engine;

/// What an image's `etcd --version` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Version of etcd.
    pub(super) version: String,
    /// Which server it is.
    pub(super) engine: Engine,
}

/// Asks the program itself.
pub(super) fn held(program: &str) -> Result<Held, String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| format!("the image has no {program} that runs: {error}"))?;
    read(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("`{program} --version` names no etcd version"))
}

fn read(text: &str) -> Option<Held> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let ours = line("etcd-core Version:").is_some();
    Some(Held {
        version: line("etcd Version:")?.trim().to_owned(),
        engine: if ours { Engine::EtcdCore } else { Engine::Etcd },
    })
}

/// Whose store lies in a data directory; `None` where there is none yet, so that any
/// server may go on with the log. Both make their store before their log. etcd-core
/// takes stock etcd's store over, and sets it aside only when that has succeeded.
pub(super) fn wrote(data_dir: &Path) -> Option<Engine> {
    let member = data_dir.join("member");
    if member.join("snap").join("db").is_file() {
        Some(Engine::Etcd)
    } else if member.join("store").is_dir() {
        Some(Engine::EtcdCore)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_line_tells_ours_from_stock() {
        let stock = "etcd Version: 3.7.3\nGit SHA: 1\nGo Version: go1.26\n";
        let ours = "etcd Version: 3.7.3\netcd-core Version: 0.1.0\nGit SHA: 1\n";
        let of = |engine| {
            Some(Held {
                version: "3.7.3".to_owned(),
                engine,
            })
        };
        assert_eq!(read(stock), of(Engine::Etcd));
        assert_eq!(read(ours), of(Engine::EtcdCore));
        assert_eq!(read("something else"), None);
    }
}

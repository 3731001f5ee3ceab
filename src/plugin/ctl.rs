//! `kubectl etcd ctl`: etcdctl with the cluster's endpoint and certificates.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::{ResourceExt, api::AttachParams};
use tokio::io::{AsyncWriteExt, copy};

use crate::{
    api::{EtcdCluster, MemberRole},
    identity,
    render::CERTIFICATES,
};

use super::{
    PluginError,
    bundle::{self, Bundle},
    error,
    forward::Local,
    target::Target,
};

/// Names the etcdctl to run.
const ETCDCTL: &str = "ETCDCTL";

/// Runs etcdctl; its exit code.
pub(super) async fn run(
    target: &Target,
    cluster: &EtcdCluster,
    args: &[String],
) -> Result<u8, PluginError> {
    let member = serving(cluster)?;
    let bundle = bundle::read(target, cluster).await?;
    let Some(etcdctl) = find(std::env::var_os(ETCDCTL), std::env::var_os("PATH")) else {
        return in_pod(target, &member, bundle.is_some(), args).await;
    };
    let local = Local::open(target, &member).await?;
    let scheme = if bundle.is_some() { "https" } else { "http" };
    let mut command = tokio::process::Command::new(&etcdctl);
    command
        .args(args)
        // What the shell around us set for another cluster must not mix with this one.
        .env_remove("ETCDCTL_CACERT")
        .env_remove("ETCDCTL_CERT")
        .env_remove("ETCDCTL_KEY")
        .env_remove("ETCDCTL_DISCOVERY_SRV")
        .env(
            "ETCDCTL_ENDPOINTS",
            format!("{scheme}://{}", local.address()),
        );
    // Removed with the folder, when the command has ended.
    let folder = match &bundle {
        Some(bundle) => {
            let folder = Folder::new(bundle).map_err(|error| {
                PluginError::Ctl(format!("no place for the certificates: {error}"))
            })?;
            for (variable, file) in [
                ("ETCDCTL_CACERT", CA),
                ("ETCDCTL_CERT", CERTIFICATE),
                ("ETCDCTL_KEY", KEY),
            ] {
                command.env(variable, folder.0.join(file));
            }
            Some(folder)
        }
        None => None,
    };
    let status = command.status().await;
    drop(folder);
    let status = status.map_err(|error| {
        PluginError::Ctl(format!(
            "{} cannot be run: {error}",
            Path::new(&etcdctl).display()
        ))
    })?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// A member that serves, the leader if it does.
fn serving(cluster: &EtcdCluster) -> Result<String, PluginError> {
    let name = cluster.name_any();
    let status = cluster.status.as_ref();
    let leader = status.and_then(|status| status.leader.as_deref());
    let healthy = status
        .iter()
        .flat_map(|status| &status.members)
        .filter(|member| member.role == MemberRole::Voter && member.healthy);
    healthy
        .max_by_key(|member| Some(member.name.as_str()) == leader)
        .map(|member| member.name.clone())
        .ok_or_else(|| {
            PluginError::Ctl(format!(
                "no member of {name} serves; `kubectl etcd status {name}` says why"
            ))
        })
}

/// The etcdctl to run: what the variable names, else the one on the PATH.
fn find(
    named: Option<std::ffi::OsString>,
    path: Option<std::ffi::OsString>,
) -> Option<std::ffi::OsString> {
    named.filter(|named| !named.is_empty()).or_else(|| {
        std::env::split_paths(&path?)
            .map(|folder| folder.join("etcdctl"))
            .find(|file| file.is_file())
            .map(Into::into)
    })
}

/// Runs the etcdctl of the member's image in its pod; where clients need certificates,
/// with the member's own.
async fn in_pod(
    target: &Target,
    member: &str,
    secure: bool,
    args: &[String],
) -> Result<u8, PluginError> {
    let pod = identity::pod_name(member);
    let flags = secure.then(|| {
        let file = |flag: &str, file: &str| format!("--{flag}={CERTIFICATES}/client/{file}");
        [
            format!("--endpoints=https://localhost:{}", identity::CLIENT_PORT),
            file("cacert", CA),
            file("cert", CERTIFICATE),
            file("key", KEY),
        ]
    });
    let command = ["etcdctl".to_owned()]
        .into_iter()
        .chain(flags.into_iter().flatten())
        .chain(args.iter().cloned());
    let command: Vec<String> = command.collect();
    let params = AttachParams::default().container("etcd").stdin(true);
    let attached = target.pods().exec(&pod, command, &params).await;
    let mut process =
        attached.map_err(|error| error::kube(&format!("run etcdctl in the pod {pod}"), error))?;
    let ended = process.take_status();
    let (mut out, mut err) = (process.stdout(), process.stderr());
    if let Some(mut stdin) = process.stdin() {
        // Ends with the process: what is typed after that is nobody's.
        tokio::spawn(async move {
            if copy(&mut tokio::io::stdin(), &mut stdin).await.is_ok() {
                drop(stdin.shutdown().await);
            }
        });
    }
    let output = async {
        if let Some(out) = &mut out {
            copy(out, &mut tokio::io::stdout()).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let errors = async {
        if let Some(err) = &mut err {
            copy(err, &mut tokio::io::stderr()).await?;
        }
        Ok(())
    };
    tokio::try_join!(output, errors)
        .map_err(|error| PluginError::Ctl(format!("the output of etcdctl is lost: {error}")))?;
    let status = match ended {
        Some(ended) => ended.await,
        None => None,
    };
    exit_code(status.as_ref(), &pod)
}

/// How a command in a pod ended.
fn exit_code(status: Option<&Status>, pod: &str) -> Result<u8, PluginError> {
    let Some(status) = status else {
        return Err(PluginError::Ctl(format!(
            "the pod {pod} does not say how etcdctl ended"
        )));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let code = causes
        .flatten()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_ref()?.parse::<u8>().ok());
    if let Some(code) = code {
        return Ok(code);
    }
    Err(PluginError::Ctl(format!(
        "there is no etcdctl on the PATH ({ETCDCTL} may name one), and the pod {pod} has none either: {}",
        status.message.as_deref().unwrap_or_default()
    )))
}

const CA: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A folder that only its owner can enter, with the certificate of the cluster.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(bundle: &Bundle) -> std::io::Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        let base = std::env::temp_dir();
        let id = std::process::id();
        let mut number = 0;
        let folder = loop {
            let path = base.join(format!("kubectl-etcd-{id}-{number}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break Folder(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        for (name, content) in [
            (CA, &bundle.ca),
            (CERTIFICATE, &bundle.certificate),
            (KEY, &bundle.key),
        ] {
            let mut options = std::fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o600);
            options.open(folder.0.join(name))?.write_all(content)?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!(
                "kubectl etcd: {} holds a key and cannot be removed: {error}",
                self.0.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcdctl_is_what_is_named_or_what_is_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str().to_owned());
        assert_eq!(find(None, path.clone()), None);
        assert_eq!(find(None, None), None);
        let file = folder.path().join("etcdctl");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(None, path.clone()), Some(file.into()));
        assert_eq!(find(Some("/x/y".into()), path), Some("/x/y".into()));
    }

    #[test]
    fn keys_are_readable_by_their_owner_only_and_do_not_stay() {
        use std::os::unix::fs::PermissionsExt;
        let bundle = Bundle {
            ca: b"a".to_vec(),
            certificate: b"b".to_vec(),
            key: b"c".to_vec(),
        };
        let folder = Folder::new(&bundle).unwrap();
        let path = folder.0.clone();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(KEY)), 0o600);
        assert_eq!(std::fs::read(path.join(KEY)).unwrap(), b"c");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn the_exit_code_is_etcdctls_own() {
        let status = |value| serde_json::from_value::<Status>(value).unwrap();
        let ended = status(serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "exit code 5",
            "details": {"causes": [{"reason": "ExitCode", "message": "5"}]}
        }));
        assert_eq!(exit_code(Some(&ended), "x-0-0").unwrap(), 5);
        let success = status(serde_json::json!({"status": "Success"}));
        assert_eq!(exit_code(Some(&success), "x-0-0").unwrap(), 0);
        let missing = status(serde_json::json!({
            "status": "Failure", "reason": "InternalError",
            "message": "exec: \"etcdctl\": executable file not found in $PATH"
        }));
        let said = exit_code(Some(&missing), "x-0-0").unwrap_err().to_string();
        assert!(said.contains("x-0-0 has none either"), "{said}");
    }
}

//! What the tests of TLS have in common.

use std::path::Path;
use std::time::Duration;

use etcd_e2e::process::READY_WITHIN;
use etcd_e2e::{Authority, Etcdctl, Options, Pair, Process, Target};

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// A flag that names a file.
pub(crate) fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// An etcdctl of the member's client listener, which believes the authority.
pub(crate) fn etcdctl(member: &Process, authority: &Authority) -> Etcdctl {
    Etcdctl::new(&[member.https_client_url()]).unwrap().flags([
        "--command-timeout=3s".to_owned(),
        flag("--cacert", &authority.ca()),
    ])
}

/// The same, presenting a certificate.
pub(crate) fn presenting(etcdctl: Etcdctl, pair: &Pair) -> Etcdctl {
    etcdctl.flags([flag("--cert", &pair.cert), flag("--key", &pair.key)])
}

pub(crate) async fn refused(etcdctl: &Etcdctl) {
    let output = etcdctl.try_run(&["put", "a", "refused"]).await.unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
}

pub(crate) async fn served(etcdctl: &Etcdctl) {
    assert_eq!(etcdctl.run(&["put", "a", "1"]).await.unwrap(), "OK\n");
    assert_eq!(etcdctl.run(&["get", "a"]).await.unwrap(), "a\n1\n");
}

/// Members that speak TLS among each other, all with these flags; clients over TLS too if `clients`.
pub(crate) async fn secure_cluster(
    targets: &[Target],
    flags: impl IntoIterator<Item = String>,
    clients: bool,
) -> Vec<Process> {
    let mut members = prepare_cluster(targets, flags, clients);
    start_cluster(&mut members, clients).await;
    members
}

/// The same, not yet started.
pub(crate) fn prepare_cluster(
    targets: &[Target],
    flags: impl IntoIterator<Item = String>,
    clients: bool,
) -> Vec<Process> {
    let flags: Vec<String> = flags.into_iter().collect();
    let mut members = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let options = Options {
            target: *target,
            name: format!("m{number}"),
            ..Options::single()
        };
        members.push(Process::prepare(options).unwrap());
    }
    let list: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}", member.name(), member.https_peer_url()))
        .collect();
    for member in &mut members {
        let peer = member.https_peer_url();
        let client = member.https_client_url();
        let options = member.options();
        options.initial_cluster = Some(list.join(","));
        options.args.extend([
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ]);
        if clients {
            options.args.extend([
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
            ]);
        }
        options.args.extend(flags.iter().cloned());
    }
    members
}

/// Starts prepared members, and waits until all serve.
pub(crate) async fn start_cluster(members: &mut [Process], clients: bool) {
    for member in members.iter_mut() {
        member.spawn().unwrap();
    }
    for member in members {
        if clients {
            member
                .logged("ready to serve client requests", READY_WITHIN)
                .await;
        } else {
            member.ready().await.unwrap();
        }
    }
}

//! TLS in a member's pod: flags, the volume with its certificates, and the
//! annotation that says what its etcd listens with. All of it follows from the TLS
//! that status records as in effect; without any, nothing is added.

use k8s_openapi::api::core::v1::{
    KeyToPath, ProjectedVolumeSource, SecretProjection, Volume, VolumeProjection,
};

use crate::{
    api::{ClientTransport, EtcdCluster, PeerStage, PeerTransport, Plaintext, TlsMode, TlsStatus},
    certificates::{Purpose, member_secret},
    identity,
};

/// Where a pod finds its certificates: `client/` and `peer/`, each with `tls.crt`,
/// `tls.key` and `ca.crt`. One volume, so all of it changes at once.
pub(super) const DIRECTORY: &str = "/etc/etcd-tls";
/// Name of the volume.
pub(super) const VOLUME: &str = "certificates";
/// Readable for the group that the volume is given to.
const MODE: i32 = 0o440;

static PLAIN: TlsStatus = TlsStatus {
    client: None,
    peer: None,
    restarts: 0,
};

/// The TLS in effect.
pub(crate) fn in_effect(cluster: &EtcdCluster) -> &TlsStatus {
    let status = cluster.status.as_ref();
    status
        .and_then(|status| status.tls.as_ref())
        .unwrap_or(&PLAIN)
}

/// Where the certificates for `purpose` come from, while they are mounted.
pub(crate) fn source(tls: &TlsStatus, purpose: Purpose) -> Option<(TlsMode, Option<&str>)> {
    match purpose {
        Purpose::Client => tls
            .client
            .as_ref()
            .map(|client| (client.mode, client.secret.as_deref())),
        Purpose::Peer => tls
            .peer
            .as_ref()
            .map(|peer| (peer.mode, peer.secret.as_deref())),
    }
}

/// Secret that holds a member's certificate, and the names of its keys there for
/// `tls.crt`, `tls.key` and `ca.crt`.
pub(crate) fn secret(
    member: &str,
    purpose: Purpose,
    mode: TlsMode,
    users: Option<&str>,
) -> (String, [String; 3]) {
    const PLAIN_KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
    match mode {
        TlsMode::Operator | TlsMode::Disabled => (
            member_secret(member),
            PLAIN_KEYS.map(|key| format!("{}-{key}", purpose.as_str())),
        ),
        TlsMode::Secret => (
            users.unwrap_or_default().to_owned(),
            PLAIN_KEYS.map(str::to_owned),
        ),
    }
}

/// The volume with the certificates; `None` if there are none.
pub(super) fn volume(cluster: &EtcdCluster, member: &str) -> Option<Volume> {
    let tls = in_effect(cluster);
    let sources: Vec<VolumeProjection> = Purpose::ALL
        .into_iter()
        .filter_map(|purpose| {
            let (mode, users) = source(tls, purpose)?;
            let (name, keys) = secret(member, purpose, mode, users);
            let path = |file: &str| format!("{}/{file}", purpose.as_str());
            let items = keys
                .into_iter()
                .zip(["tls.crt", "tls.key", "ca.crt"])
                .map(|(key, file)| KeyToPath {
                    key,
                    path: path(file),
                    mode: None,
                })
                .collect();
            Some(VolumeProjection {
                secret: Some(SecretProjection {
                    name,
                    items: Some(items),
                    optional: None,
                }),
                ..VolumeProjection::default()
            })
        })
        .collect();
    (!sources.is_empty()).then(|| Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(sources),
        }),
        ..Volume::default()
    })
}

/// What etcd listens with, as the pod's annotation says it; `None`: all plain.
pub(super) fn schemes(cluster: &EtcdCluster) -> Option<String> {
    let tls = in_effect(cluster);
    if tls.is_plain() {
        return None;
    }
    let client = match &tls.client {
        None => "http",
        Some(client) if client.plaintext == Plaintext::Allowed => "both",
        Some(_) => "https",
    };
    let peer = identity::scheme(tls.secures_peers());
    // A round of restarts is a change of the template: nothing else would restart a pod.
    let round = match tls.restarts {
        0 => String::new(),
        round => format!(",restarts={round}"),
    };
    Some(format!("client={client},peer={peer}{round}"))
}

/// Flags about listening and certificates.
pub(super) fn flags(cluster: &EtcdCluster, member: &str) -> Vec<String> {
    let tls = in_effect(cluster);
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let secure_peers = tls.secures_peers();
    let listen = |secure: bool, port: u16| format!("{}://0.0.0.0:{port}", identity::scheme(secure));
    // With plaintext allowed both schemes share the port: etcd tells them apart.
    let schemes: &[bool] = match &tls.client {
        None => &[false],
        Some(client) if client.plaintext == Plaintext::Allowed => &[true, false],
        Some(_) => &[true],
    };
    let join = |url: &dyn Fn(bool) -> String| {
        let urls: Vec<String> = schemes.iter().map(|secure| url(*secure)).collect();
        urls.join(",")
    };
    let mut flags = vec![
        format!(
            "--listen-peer-urls={}",
            listen(secure_peers, identity::PEER_PORT)
        ),
        format!(
            "--listen-client-urls={}",
            join(&|secure| listen(secure, identity::CLIENT_PORT))
        ),
        format!(
            "--listen-metrics-urls={}",
            listen(false, identity::METRICS_PORT)
        ),
        format!(
            "--initial-advertise-peer-urls={}",
            identity::peer_url(name, namespace, member, secure_peers)
        ),
        format!(
            "--advertise-client-urls={}",
            join(&|secure| identity::client_url(name, namespace, member, secure))
        ),
    ];
    if tls.client.is_some() {
        flags.extend([
            format!("--cert-file={DIRECTORY}/client/tls.crt"),
            format!("--key-file={DIRECTORY}/client/tls.key"),
            format!("--trusted-ca-file={DIRECTORY}/client/ca.crt"),
            "--client-cert-auth=true".to_owned(),
        ]);
    }
    if tls.peer.is_some() {
        flags.extend([
            format!("--peer-cert-file={DIRECTORY}/peer/tls.crt"),
            format!("--peer-key-file={DIRECTORY}/peer/tls.key"),
            format!("--peer-trusted-ca-file={DIRECTORY}/peer/ca.crt"),
            "--peer-client-cert-auth=true".to_owned(),
            // Who is a member is told by this name, not by an address: a pod's
            // changes with every start, and DNS is late to know.
            format!(
                "--peer-cert-allowed-hostname={}",
                identity::peer_domain(name, namespace)
            ),
            "--peer-skip-client-san-verification=true".to_owned(),
        ]);
    }
    flags
}

/// What a cluster gets whose spec says nothing about TLS, while it is made.
const DEFAULT: TlsMode = TlsMode::Disabled;

/// The TLS the spec asks for, at its last stage. What it leaves out stays as it is; a
/// cluster that is yet to form gets the default, and one from before there was TLS
/// stays plain.
pub(crate) fn wanted(cluster: &EtcdCluster) -> TlsStatus {
    let in_effect = in_effect(cluster);
    let status = cluster.status.as_ref();
    let decided = status.is_some_and(|status| status.tls.is_some() || status.cluster_id.is_some());
    let by_default = |kept: bool| !kept && !decided && DEFAULT != TlsMode::Disabled;
    let spec = cluster.spec.tls.as_ref();
    let client = match spec.and_then(|tls| tls.client.as_ref()) {
        Some(client) if client.mode == TlsMode::Disabled => None,
        Some(client) => Some(ClientTransport {
            mode: client.mode,
            plaintext: client.plaintext.unwrap_or_default(),
            secret: client.secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        None if by_default(in_effect.client.is_some()) => Some(ClientTransport {
            mode: DEFAULT,
            ..ClientTransport::default()
        }),
        None => in_effect.client.clone(),
    };
    let peer = match spec.and_then(|tls| tls.peer.as_ref()) {
        Some(peer) if peer.mode == TlsMode::Disabled => None,
        Some(peer) => Some(PeerTransport {
            mode: peer.mode,
            stage: PeerStage::Secured,
            secret: peer.secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        None if by_default(in_effect.peer.is_some()) => Some(PeerTransport {
            mode: DEFAULT,
            stage: PeerStage::Secured,
            secret: None,
        }),
        None => in_effect.peer.clone(),
    };
    TlsStatus {
        client,
        peer,
        restarts: in_effect.restarts,
    }
}

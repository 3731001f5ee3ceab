//! TLS in a member's pod: flags, the volume with its certificates, and the
//! annotation that says what its etcd listens with. All of it follows from the TLS
//! that status records as in effect; without any, nothing is added.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume};
use serde_json::json;

use crate::{
    api::{
        ClientTransport, EtcdCluster, PeerStage, PeerTransport, Plaintext, TlsMode, TlsStatus,
        seconds,
    },
    certificates::{Origin, Purpose, member_secret},
    identity,
    observe::Schemes,
};

/// Where a pod finds its certificates: `client/` and `peer/`, each with `tls.crt`,
/// `tls.key` and `ca.crt`. One volume, so all of it changes at once.
pub(crate) const DIRECTORY: &str = "/etc/etcd-tls";
/// Name of the volume.
pub(super) const VOLUME: &str = "certificates";
/// How long clients get to load what has changed, unless the spec says otherwise.
const SETTLE: SignedDuration = SignedDuration::from_mins(2);
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

/// Where the certificates for `purpose` come from, while there are any.
pub(crate) fn origin(tls: &TlsStatus, purpose: Purpose) -> Option<Origin> {
    let (mode, secret) = match purpose {
        Purpose::Client => {
            let client = tls.client.as_ref()?;
            (client.mode, client.secret.as_ref())
        }
        Purpose::Peer => {
            let peer = tls.peer.as_ref()?;
            (peer.mode, peer.secret.as_ref())
        }
    };
    match mode {
        TlsMode::Disabled => None,
        TlsMode::Operator => Some(Origin::Own),
        TlsMode::CertManager => Some(Origin::CertManager),
        TlsMode::Secret => Some(Origin::Secret(secret.cloned().unwrap_or_default())),
    }
}

/// Keys of `tls.crt`, `tls.key` and `ca.crt` for `purpose` in a member's Secret.
pub(crate) fn keys(purpose: Purpose) -> [String; 3] {
    CLIENTS_KEYS.map(|key| format!("{}-{key}", purpose.as_str()))
}

/// The same in the Secret for clients.
pub(crate) const CLIENTS_KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// How long clients get to load what has changed in their Secret.
pub(crate) fn settle(cluster: &EtcdCluster) -> SignedDuration {
    let tls = cluster.spec.tls.as_ref();
    let client = tls.and_then(|tls| tls.client.as_ref());
    client
        .and_then(|client| seconds(client.settle_duration.as_deref()?))
        .map_or(SETTLE, SignedDuration::from_secs)
}

/// What pods are to listen with.
pub(crate) fn listens(cluster: &EtcdCluster) -> Schemes {
    let tls = in_effect(cluster);
    Schemes {
        client_tls: tls.serves_clients(),
        client_plain: tls
            .client
            .as_ref()
            .is_none_or(|client| client.plaintext == Plaintext::Allowed),
        peer_tls: tls.secures_peers(),
    }
}

/// What of TLS shapes the pods; `None`: there is none. Where certificates come from is
/// not among it: a member's Secret has always the same form.
pub(super) fn shape(cluster: &EtcdCluster) -> Option<serde_json::Value> {
    let tls = in_effect(cluster);
    (!tls.is_plain()).then(|| {
        json!({
            "schemes": schemes(cluster),
            "peer": tls.peer.as_ref().map(|peer| peer.stage),
        })
    })
}

/// The volume with the certificates; `None` if there are none.
pub(super) fn volume(cluster: &EtcdCluster, member: &str) -> Option<Volume> {
    let tls = in_effect(cluster);
    let items: Vec<KeyToPath> = Purpose::ALL
        .into_iter()
        .filter(|purpose| origin(tls, *purpose).is_some())
        .flat_map(|purpose| {
            keys(purpose)
                .into_iter()
                .zip(CLIENTS_KEYS)
                .map(move |(key, file)| KeyToPath {
                    key,
                    path: format!("{}/{file}", purpose.as_str()),
                    mode: None,
                })
        })
        .collect();
    (!items.is_empty()).then(|| Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(member_secret(member)),
            default_mode: Some(MODE),
            items: Some(items),
            optional: None,
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
const DEFAULT: TlsMode = TlsMode::Operator;

/// The TLS the spec asks for, at its last stage. What it leaves out stays as it is; a
/// cluster that is new gets the default, and one that an operator without TLS has begun
/// to form stays plain.
pub(crate) fn wanted(cluster: &EtcdCluster) -> TlsStatus {
    let in_effect = in_effect(cluster);
    let status = cluster.status.as_ref();
    let decided = status.is_some_and(|status| {
        status.tls.is_some() || status.cluster_id.is_some() || status.bootstrap.is_some()
    });
    let spec = cluster.spec.tls.as_ref();
    let client = match spec.and_then(|tls| tls.client.as_ref()) {
        Some(client) if client.mode == TlsMode::Disabled => None,
        Some(client) => Some(ClientTransport {
            mode: client.mode,
            plaintext: client.plaintext.unwrap_or_default(),
            secret: client.secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        None if !decided => Some(ClientTransport {
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
        None if !decided => Some(PeerTransport {
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

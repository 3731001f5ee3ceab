//! TLS of clients and of members among themselves: where certificates come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// TLS of a cluster. Both parts may be changed while it runs; the operator goes from
/// one state to the other in stages, one member at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// Between clients and members. Left out, it stays as it is; a new cluster gets
    /// mode Operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientTls>,
    /// Among members. Left out, it stays as it is; a new cluster gets mode Operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerTls>,
}

/// TLS between clients and members. Clients must show a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!has(self.operator) || self.mode == 'Operator'", "tls.client.operator is for mode Operator only: certificates have one source"),
    validation = ("has(self.certManager) == (self.mode == 'CertManager')", "tls.client.certManager belongs to mode CertManager, and to no other: certificates have one source"),
    validation = ("has(self.secretRef) == (self.mode == 'Secret')", "tls.client.secretRef belongs to mode Secret, and to no other: certificates have one source"),
    validation = ("has(self.operatorSecretRef) == (self.mode == 'Secret')", "tls.client.operatorSecretRef belongs to mode Secret, and to no other: it holds the certificate the operator shows to members whose CA is yours"),
    validation = ("self.mode != 'Disabled' || !has(self.plaintext) || self.plaintext == 'Allowed'", "tls.client.plaintext cannot be Denied in mode Disabled: nothing would be left"),
)]
pub struct ClientTls {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// Whether members serve plain connections too, on the same port: for the time in
    /// which clients move. Denied unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Plaintext>,
    /// Further names and addresses clients reach members by, such as that of a load
    /// balancer, for the certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// How long clients get to load what has changed in their Secret before anything
    /// depends on it: while a CA is replaced, and before plain connections, or those
    /// with TLS, are no longer served. `2m` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}[hms]$"))]
    pub settle_duration: Option<String>,
    /// How the operator's own CA issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OwnAuthority>,
    /// Whom cert-manager asks for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt` for all members. The certificate
    /// must name every member, `*.<cluster>-peer.<namespace>.svc`, and do for servers
    /// and for clients: a member also shows it to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Secret with `tls.crt` and `tls.key` that the operator shows to members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_secret_ref: Option<SecretRef>,
}

/// TLS among members. Both ends show a certificate of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("!has(self.operator) || self.mode == 'Operator'", "tls.peer.operator is for mode Operator only: certificates have one source"),
    validation = ("has(self.certManager) == (self.mode == 'CertManager')", "tls.peer.certManager belongs to mode CertManager, and to no other: certificates have one source"),
    validation = ("has(self.secretRef) == (self.mode == 'Secret')", "tls.peer.secretRef belongs to mode Secret, and to no other: certificates have one source"),
)]
pub struct PeerTls {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// How the operator's own CA issues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OwnAuthority>,
    /// Whom cert-manager asks for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt` for all members; the
    /// certificate must name `<cluster>-peer.<namespace>.svc` and, under it, every member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Where certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Disabled,
    /// A CA of this cluster's own, kept by the operator in a Secret.
    Operator,
    /// cert-manager, which must be installed.
    CertManager,
    /// Secrets of the user.
    Secret,
}

/// Whether plain connections are served beside TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Plaintext {
    /// Both are served.
    Allowed,
    /// TLS only.
    #[default]
    Denied,
}

/// How the operator's own CA issues. Certificates and CA are renewed at two thirds
/// of their lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnAuthority {
    /// Life of the CA, such as `43800h`, which is the default: five years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}[hms]$"))]
    pub ca_duration: Option<String>,
    /// Life of a certificate, such as `2160h`, which is the default: 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}[hms]$"))]
    pub duration: Option<String>,
}

/// Whom cert-manager asks for certificates. It renews them at two thirds of their lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// The issuer. Its certificates must do for servers and for clients, and may have a
    /// wildcard: all members show the same one.
    pub issuer_ref: IssuerRef,
    /// Life of a certificate, such as `2160h`, which is cert-manager's default. It takes
    /// no less than an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}[hms]$"))]
    pub duration: Option<String>,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind; `Issuer`, in the cluster's namespace, unless set.
    #[serde(default = "issuer_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its API group; cert-manager's own unless set.
    #[serde(default = "issuer_group")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

fn issuer_kind() -> String {
    "Issuer".to_owned()
}

fn issuer_group() -> String {
    "cert-manager.io".to_owned()
}

/// What is in effect, and recorded before any pod is given it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// Between clients and members; absent: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientTransport>,
    /// Among members; absent: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerTransport>,
    /// Counts the rounds of restarts that certificates needed, of an etcd that does
    /// not load a CA while it runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How clients and members talk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTransport {
    /// Where certificates come from; or are about to, one member after the other.
    pub mode: TlsMode,
    /// Whether plain connections are served beside TLS. They are for a while whenever
    /// TLS is switched on or off.
    #[serde(default)]
    pub plaintext: Plaintext,
    /// The user's Secret, in mode Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How members talk among themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerTransport {
    /// Where certificates come from; or are about to, one member after the other.
    pub mode: TlsMode,
    /// How far it is.
    pub stage: PeerStage,
    /// The user's Secret, in mode Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Stages of peers' TLS on a cluster that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PeerStage {
    /// Members have certificates and can dial either way; they listen in plain.
    #[default]
    Prepared,
    /// Members listen with TLS, or are restarted to, one at a time.
    Secured,
}

impl TlsStatus {
    /// Whether clients may, or must, use TLS.
    pub fn serves_clients(&self) -> bool {
        self.client.is_some()
    }

    /// Whether members listen with TLS for each other.
    pub fn secures_peers(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.stage == PeerStage::Secured)
    }

    /// Whether nothing is encrypted.
    pub fn is_plain(&self) -> bool {
        self.client.is_none() && self.peer.is_none()
    }
}

/// Reads a duration such as `90m`, as the schema admits it: digits and one of h, m, s.
pub fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| *number > 0)?;
    let unit = match unit {
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.checked_mul(unit)
}

//! Who is meant by a certificate, and which Secret holds it.

use crate::identity;

/// What a CA of a cluster is for. Each has one of its own, so that a client's
/// certificate never passes for a member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Between clients and members.
    Client,
    /// Among members.
    Peer,
}

impl Purpose {
    /// Both of them.
    pub const ALL: [Purpose; 2] = [Purpose::Client, Purpose::Peer];

    /// The word in names of Secrets, and in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Client => "client",
            Purpose::Peer => "peer",
        }
    }
}

/// Secret of a cluster's CA. It alone holds the CA's key.
pub fn authority_secret(cluster: &str, purpose: Purpose) -> String {
    format!("{cluster}-{}-ca", purpose.as_str())
}

/// Last words of the name a cluster's CA bears.
pub fn authority_name(cluster: &str, purpose: Purpose) -> String {
    format!("{cluster} {}", purpose.as_str())
}

/// Secret of a member's certificates.
pub fn member_secret(member: &str) -> String {
    format!("{member}-tls")
}

/// Secret for clients: `ca.crt`, `tls.crt`, `tls.key` and `endpoints`.
pub fn clients_secret(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// Names of the certificate `member` shows to clients, sorted.
pub fn client_names(
    cluster: &str,
    namespace: &str,
    member: &str,
    further: &[String],
) -> Vec<String> {
    let member = identity::member_host(cluster, namespace, member);
    names_to_clients(cluster, namespace, member, further)
}

/// Names of a certificate that every member shows to clients, sorted.
pub fn server_names(cluster: &str, namespace: &str, further: &[String]) -> Vec<String> {
    let members = format!("*.{}", identity::peer_domain(cluster, namespace));
    names_to_clients(cluster, namespace, members, further)
}

/// Names of a certificate that every member shows to its peers, sorted.
pub fn peer_wildcards(cluster: &str, namespace: &str) -> Vec<String> {
    let domain = identity::peer_domain(cluster, namespace);
    vec![format!("*.{domain}"), domain]
}

fn names_to_clients(
    cluster: &str,
    namespace: &str,
    member: String,
    further: &[String],
) -> Vec<String> {
    let service = identity::client_service(cluster);
    let mut names = vec![
        member,
        service.clone(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(further.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Names of the certificate `member` shows to its peers, sorted. The second is what
/// tells a member of this cluster from anyone else the CA may have certified.
pub fn peer_names(cluster: &str, namespace: &str, member: &str) -> Vec<String> {
    let mut names = vec![
        identity::member_host(cluster, namespace, member),
        identity::peer_domain(cluster, namespace),
    ];
    names.sort();
    names
}

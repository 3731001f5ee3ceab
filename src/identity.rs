//! Names and IDs that follow from a cluster's name: members, peer URLs, and the
//! IDs etcd derives from them, so that they are known before anything starts.

use sha1::{Digest, Sha1};

/// Port clients use.
pub const CLIENT_PORT: u16 = 2379;
/// Port members use among themselves.
pub const PEER_PORT: u16 = 2380;
/// Port of metrics, health and, before etcd runs, admission. Plain HTTP.
pub const METRICS_PORT: u16 = 2381;

/// Name of the member with this serial; also of its StatefulSet.
pub fn member_name(cluster: &str, serial: i64) -> String {
    format!("{cluster}-{serial}")
}

/// Serial of a member by its name, or `None` if the name is of no member of `cluster`.
pub fn member_serial(cluster: &str, member: &str) -> Option<i64> {
    let digits = member.strip_prefix(cluster)?.strip_prefix('-')?;
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Name of a member's pod.
pub fn pod_name(member: &str) -> String {
    format!("{member}-0")
}

/// Name of a member's claim.
pub fn claim_name(member: &str) -> String {
    format!("data-{member}")
}

/// Name of the headless Service that gives members their DNS names.
pub fn peer_service(cluster: &str) -> String {
    format!("{cluster}-peer")
}

/// Name of the Service clients use.
pub fn client_service(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// DNS name of a member's pod. It ends in `.svc`, so it holds whatever the domain
/// of the Kubernetes cluster is.
pub fn member_host(cluster: &str, namespace: &str, member: &str) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        pod_name(member),
        peer_service(cluster)
    )
}

/// DNS name of the peer Service; members' names lie under it, and every certificate
/// of a peer bears it.
pub fn peer_domain(cluster: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", peer_service(cluster))
}

/// `https` or `http`.
pub fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// URL a member's peers use.
pub fn peer_url(cluster: &str, namespace: &str, member: &str, secure: bool) -> String {
    format!(
        "{}://{}:{PEER_PORT}",
        scheme(secure),
        member_host(cluster, namespace, member)
    )
}

/// Whether `url` is the member's, with either scheme.
pub fn is_peer_url(url: &str, cluster: &str, namespace: &str, member: &str) -> bool {
    [false, true]
        .iter()
        .any(|secure| peer_url(cluster, namespace, member, *secure) == url)
}

/// URL a member tells clients to use.
pub fn client_url(cluster: &str, namespace: &str, member: &str, secure: bool) -> String {
    format!(
        "{}://{}:{CLIENT_PORT}",
        scheme(secure),
        member_host(cluster, namespace, member)
    )
}

/// An ID as etcd prints it: hex, without leading zeros.
pub fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// Reads an ID written by [`hex`].
pub fn parse_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The member ID etcd derives at a static bootstrap.
pub fn member_id(peer_url: &str, token: &str) -> u64 {
    first_eight(&[peer_url.as_bytes(), token.as_bytes()])
}

/// The cluster ID etcd derives from the members of a static bootstrap.
pub fn cluster_id(members: &[u64]) -> u64 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let bytes: Vec<u8> = sorted.iter().flat_map(|id| id.to_be_bytes()).collect();
    first_eight(&[&bytes])
}

fn first_eight(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 20] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_etcd_derives() {
        // What `etcd` without any flag prints: member 8e9e05c52164694d of
        // cluster cdf818194e3a8c32.
        let member = member_id("http://localhost:2380", "etcd-cluster");
        assert_eq!(hex(member), "8e9e05c52164694d");
        assert_eq!(hex(cluster_id(&[member])), "cdf818194e3a8c32");
    }

    #[test]
    fn a_serial_is_read_from_a_members_name_only() {
        assert_eq!(member_serial("demo", "demo-0"), Some(0));
        assert_eq!(member_serial("demo", "demo-12"), Some(12));
        for other in [
            "demo", "demo-", "demo-x", "demo-01", "demo-1-0", "other-1", "demo-+1",
        ] {
            assert_eq!(member_serial("demo", other), None, "{other}");
        }
    }
}

//! IDs of members and clusters, by etcd's SHA-1 scheme.

use sha1::{Digest, Sha1};

/// The ID of a member: the first eight bytes, big-endian, of the SHA-1 of its
/// sorted peer URLs and the cluster token; a member added at run time has an empty
/// token and its birth in Unix seconds behind the URLs.
pub fn member_id(peer_urls: &[String], token: &str, added_at_unix_s: Option<i64>) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hash = Sha1::new();
    for url in &urls {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    if let Some(seconds) = added_at_unix_s {
        hash.update(seconds.to_string().as_bytes());
    }
    first_eight(hash)
}

/// The ID of a cluster: the first eight bytes of the SHA-1 of its members' IDs in
/// ascending order, eight big-endian bytes each.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Known from every etcd log of a cluster bootstrapped with the defaults.
    #[test]
    fn the_default_member_and_cluster_have_their_well_known_ids() {
        let member = member_id(&["http://localhost:2380".into()], "etcd-cluster", None);
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[member])), "cdf818194e3a8c32");
    }
}

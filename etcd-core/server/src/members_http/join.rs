//! Joining a running cluster: `--initial-cluster` must name exactly its members.

use std::collections::BTreeSet;

use etcd_replica::Member;

/// What a member told of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    /// Its ID.
    pub cluster_id: u64,
    /// Its members, the one that is to join included.
    pub members: Vec<Member>,
}

/// Why this member cannot join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// None of the members in `--initial-cluster` answered.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    )]
    Unreachable,
    /// Other members than the cluster has.
    #[error("error validating peerURLs {remote}: {reason}")]
    Mismatch {
        /// The cluster's members.
        remote: String,
        /// What does not match.
        reason: String,
    },
}

/// The ID that the cluster gave to the member of these peer URLs. `named`: the peer
/// URLs of every member in `--initial-cluster`.
pub fn match_members(
    remote: &RemoteCluster,
    named: &[Vec<String>],
    own: &[String],
) -> Result<u64, JoinError> {
    let mismatch = |reason: String| JoinError::Mismatch {
        remote: format!("{:?}", remote.members),
        reason,
    };
    if remote.members.len() != named.len() {
        return Err(mismatch("member count is unequal".to_owned()));
    }
    let set = |urls: &[String]| {
        urls.iter()
            .map(|u| u.trim_end_matches('/').to_owned())
            .collect::<BTreeSet<_>>()
    };
    for urls in named {
        if !remote
            .members
            .iter()
            .any(|m| set(&m.peer_urls) == set(urls))
        {
            return Err(mismatch(format!(
                "unmatched member while checking PeerURLs ({})",
                urls.join(",")
            )));
        }
    }
    remote
        .members
        .iter()
        .find(|m| set(&m.peer_urls) == set(own))
        .map(|m| m.id)
        .ok_or_else(|| {
            mismatch(format!(
                "unmatched member while checking PeerURLs ({})",
                own.join(",")
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> RemoteCluster {
        let member = |id, url: &str| Member {
            id,
            peer_urls: vec![url.into()],
            ..Member::default()
        };
        RemoteCluster {
            cluster_id: 1,
            members: vec![member(2, "http://a:1"), member(3, "http://b:1")],
        }
    }

    #[test]
    fn a_member_adopts_the_id_it_was_given() {
        let named = [vec!["http://b:1".to_owned()], vec!["http://a:1".to_owned()]];
        assert_eq!(match_members(&remote(), &named, &named[0]), Ok(3));
    }

    #[test]
    fn other_members_than_the_clusters_are_refused() {
        let named = [vec!["http://a:1".to_owned()]];
        let error = match_members(&remote(), &named, &named[0]).unwrap_err();
        assert!(
            error.to_string().ends_with("member count is unequal"),
            "{error}"
        );
    }
}

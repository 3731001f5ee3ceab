//! The comparison before a start (`InitialCorruptCheck`): a member that differs from
//! the others must not serve, nor vote on what it has.

use std::time::Duration;

use etcd_mvcc::ReadError;
use etcd_replica::View;

use super::verdict::Asked;
use super::{PeerHashError, PeerHashes};

/// Why a member must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptionError {
    /// Other members have other data. The text is etcd's.
    #[error("{member:x} found data inconsistency with peers")]
    Inconsistent {
        /// This member.
        member: u64,
    },
    /// The member's own data cannot be read.
    #[error("{member:x} failed to fetch hash ({reason})")]
    Unreadable {
        /// This member.
        member: u64,
        /// What failed.
        reason: ReadError,
    },
}

/// Compares a member's data, as its last checkpoint has it, with that of the members
/// that answer. Others that do not answer, are behind or have compacted otherwise prove
/// nothing. `timeout` is for each of them.
pub async fn check_before_start(
    member: u64,
    cluster_id: u64,
    view: &View,
    peers: &dyn PeerHashes,
    timeout: Duration,
) -> Result<(), CorruptionError> {
    let id = format!("{member:x}");
    tracing::info!(
        "local-member-id" = id,
        ?timeout,
        "starting initial corruption check"
    );
    let kv = view.kv.clone();
    let own = tokio::task::block_in_place(|| kv.hash_kv(0))
        .map_err(|reason| CorruptionError::Unreadable { member, reason })?;
    let others = view.membership.iter().filter(|m| m.id != member);
    let asked = others.map(|other| async {
        let asking = peers.hash_kv(cluster_id, other.peer_urls.clone(), own.revision);
        let answer = tokio::time::timeout(timeout, asking)
            .await
            .unwrap_or_else(|_| Err(PeerHashError::Other("no answer in time".to_owned())));
        Asked {
            id: other.id,
            peer_urls: other.peer_urls.clone(),
            answer,
        }
    });
    let mut differ = false;
    for peer in futures::future::join_all(asked).await {
        let remote = format!("{:x}", peer.id);
        let answer = match peer.answer {
            Ok(answer) => answer,
            Err(error) => {
                let message = match error {
                    PeerHashError::Future => "cannot fetch hash from slow remote peer",
                    PeerHashError::Compacted => {
                        "cannot fetch hash from remote peer; local member is behind"
                    }
                    PeerHashError::Other(_) => "failed hash kv request",
                };
                tracing::warn!(
                    "local-member-id" = id,
                    "local-member-revision" = own.revision,
                    "local-member-compact-revision" = own.compact_revision,
                    "local-member-hash" = own.hash,
                    "remote-peer-id" = remote,
                    "remote-peer-endpoints" = ?crate::log::json(&peer.peer_urls),
                    %error,
                    "{message}"
                );
                continue;
            }
        };
        if answer.hash == own.hash {
            continue;
        }
        let same_compaction = answer.compact_revision == own.compact_revision;
        differ |= same_compaction;
        let message = if same_compaction {
            "found different hash values from remote peer"
        } else {
            "found different compact revision values from remote peer"
        };
        tracing::warn!(
            "local-member-id" = id,
            "local-member-revision" = own.revision,
            "local-member-compact-revision" = own.compact_revision,
            "local-member-hash" = own.hash,
            "remote-peer-id" = remote,
            "remote-peer-endpoints" = ?crate::log::json(&peer.peer_urls),
            "remote-peer-revision" = answer.current_revision,
            "remote-peer-compact-revision" = answer.compact_revision,
            "remote-peer-hash" = answer.hash,
            "{message}"
        );
    }
    if differ {
        return Err(CorruptionError::Inconsistent { member });
    }
    tracing::info!(
        "local-member-id" = id,
        "initial corruption checking passed; no corruption"
    );
    Ok(())
}

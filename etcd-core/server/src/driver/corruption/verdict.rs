//! What follows from the members' hashes. Pure.

use std::collections::BTreeMap;

use etcd_mvcc::KvHash;

use super::{PeerHash, PeerHashError};

/// One that was asked, and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) answer: Result<PeerHash, PeerHashError>,
}

/// Member of an alarm that concerns the whole cluster, since nobody knows who is wrong.
pub(crate) const ANYBODY: u64 = 0;

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All members have the same hash.
    Same,
    /// Those that could be compared have the same hash; some could not be.
    Incomplete,
    /// These differ from a majority; [`ANYBODY`] alone if there is none.
    Corrupt(Vec<u64>),
}

/// Which of `others` the leader asks: all but the `known`, for which the alarm CORRUPT is
/// raised. What these say is no news, and while another member is away it leaves no
/// majority, so that the whole cluster would be suspected for what is known. `None`: the
/// leader is one of them, and judges nobody.
pub(crate) fn witnesses(leader: u64, others: &[u64], known: &[u64]) -> Option<Vec<u64>> {
    if known.contains(&leader) {
        return None;
    }
    let others = others.iter().filter(|other| !known.contains(other));
    Some(others.copied().collect())
}

/// Compares the leader's hash with those of the same compact revision. Whom to blame is
/// decided by a majority of all members: without one, not even a leader is right.
pub(crate) fn compare(leader: u64, own: &KvHash, peers: &[Asked]) -> Verdict {
    let mut by_hash = BTreeMap::from([(own.hash, vec![leader])]);
    let mut compared = 0;
    for peer in peers {
        let reason = match &peer.answer {
            Ok(answer) if answer.compact_revision == own.compact_revision => {
                compared += 1;
                by_hash.entry(answer.hash).or_default().push(peer.id);
                continue;
            }
            Ok(answer) => format!(
                "the peer's CompactRevision {} doesn't match leader's CompactRevision {}",
                answer.compact_revision, own.compact_revision
            ),
            Err(error) => format!("no response: {error}"),
        };
        tracing::warn!(
            "number-of-peers" = peers.len(),
            "leader-id" = %format_args!("{leader:x}"),
            "peer-id" = %format_args!("{:x}", peer.id),
            reason,
            "Skipped peer's hash"
        );
    }
    if by_hash.len() == 1 {
        return if compared == peers.len() {
            Verdict::Same
        } else {
            Verdict::Incomplete
        };
    }
    let quorum = peers.len().div_ceil(2) + 1;
    let right = by_hash
        .iter()
        .find(|(_, members)| members.len() >= quorum)
        .map(|(hash, _)| *hash);
    for (hash, members) in by_hash.iter().filter(|(hash, _)| Some(**hash) != right) {
        tracing::error!(
            "leader-id" = %format_args!("{leader:x}"),
            "leader-revision" = own.revision,
            "leader-compact-revision" = own.compact_revision,
            "leader-hash" = own.hash,
            "peer-hash" = hash,
            "peer-ids" = hexadecimal(members),
            "quorum-exist" = right.is_some(),
            "Detected hash mismatch"
        );
    }
    match right {
        Some(right) => Verdict::Corrupt(
            by_hash
                .into_iter()
                .filter(|(hash, _)| *hash != right)
                .flat_map(|(_, members)| members)
                .collect(),
        ),
        None => Verdict::Corrupt(vec![ANYBODY]),
    }
}

/// What the leader knew before and after it asked, in a comparison of all keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Periodic {
    /// Its hash of everything when it asked; `revision` is what it asked for.
    pub(crate) before: KvHash,
    /// The same after a linearizable read.
    pub(crate) after: KvHash,
}

/// Compares all keys: beside [`compare`], nobody may be ahead of what the leader has
/// after a linearizable read, and the leader must not contradict itself.
pub(crate) fn compare_all(leader: u64, own: &Periodic, peers: &[Asked]) -> Verdict {
    let Periodic { before, after } = own;
    let mut wrong = Vec::new();
    let same_state =
        before.revision == after.revision && before.compact_revision == after.compact_revision;
    if same_state && before.hash != after.hash {
        tracing::warn!(
            revision = before.revision,
            "compact-revision" = before.compact_revision,
            "hash-1" = before.hash,
            "hash-2" = after.hash,
            "found hash mismatch"
        );
        wrong.push(leader);
    }
    for peer in peers {
        let Ok(answer) = &peer.answer else {
            continue;
        };
        if answer.current_revision > after.revision {
            tracing::warn!(
                "leader-revision" = after.revision,
                "follower-revision" = answer.current_revision,
                "follower-peer-id" = %format_args!("{:x}", peer.id),
                "revision from follower must be less than or equal to leader's"
            );
            wrong.push(peer.id);
        } else if answer.compact_revision > after.compact_revision {
            tracing::warn!(
                "leader-compact-revision" = after.compact_revision,
                "follower-compact-revision" = answer.compact_revision,
                "follower-peer-id" = %format_args!("{:x}", peer.id),
                "compact revision from follower must be less than or equal to leader's"
            );
            wrong.push(peer.id);
        }
    }
    match compare(leader, before, peers) {
        Verdict::Corrupt(differing) => {
            wrong.extend(differing);
            wrong.sort_unstable();
            wrong.dedup();
            Verdict::Corrupt(wrong)
        }
        verdict if wrong.is_empty() => verdict,
        _ => Verdict::Corrupt(wrong),
    }
}

fn hexadecimal(members: &[u64]) -> String {
    let ids: Vec<String> = members.iter().map(|id| format!("{id:x}")).collect();
    ids.join(",")
}

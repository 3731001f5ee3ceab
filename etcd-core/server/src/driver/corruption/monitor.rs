//! The comparisons of a running leader.

use std::sync::Arc;
use std::time::Duration;

use etcd_proto::etcdserverpb::AlarmType;

use super::verdict::{ANYBODY, Asked, Periodic, Verdict, compare, compare_all, witnesses};
use super::{CorruptionChecks, PeerHashError, PeerHashes};
use crate::driver::node::Node;

/// Compares until the member stops. Only a leader compares, since only it can raise the
/// alarm against what the cluster has agreed on.
pub(crate) async fn run(node: Node, peers: Arc<dyn PeerHashes>, checks: CorruptionChecks) {
    let all = every(checks.periodic, || node.compare_everything(&*peers));
    let compactions = async {
        let Some(pause) = checks.compactions else {
            return;
        };
        // Revisions up to here were equal on every member.
        let mut compared = 0;
        loop {
            tokio::time::sleep(pause).await;
            if node.shared.is_stopping() {
                return;
            }
            if node.leadership().is_leader {
                node.compare_compactions(&*peers, &mut compared).await;
            }
        }
    };
    tokio::join!(all, compactions);

    async fn every<F: Future<Output = bool>>(pause: Option<Duration>, look: impl Fn() -> F) {
        let Some(pause) = pause else {
            return;
        };
        loop {
            tokio::time::sleep(pause).await;
            if !look().await {
                return;
            }
        }
    }
}

impl Node {
    /// Compares all keys with all members. Whether the member runs on.
    async fn compare_everything(&self, peers: &dyn PeerHashes) -> bool {
        if self.shared.is_stopping() {
            return false;
        }
        if !self.leadership().is_leader {
            return true;
        }
        let Some(first) = self.look_at_everything(peers).await else {
            return true;
        };
        if first.is_empty() {
            return true;
        }
        // An alarm stops every write. Whoever is wrong is so at the next look too, while
        // a race that nobody thought of hardly comes twice.
        let second = self.look_at_everything(peers).await.unwrap_or_default();
        for member in second.into_iter().filter(|member| first.contains(member)) {
            self.raise_corrupt(member).await;
        }
        true
    }

    /// Members that differ; `None` if nothing could be found out.
    async fn look_at_everything(&self, peers: &dyn PeerHashes) -> Option<Vec<u64>> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "failed to check hash KV");
        };
        let (before, _) = self.hash_kv(0).await.inspect_err(|e| failed(e)).ok()?;
        let asked = self.ask_all(peers, before.revision).await?;
        self.read_index().await.inspect_err(|e| failed(e)).ok()?;
        let (after, _) = self.hash_kv(0).await.inspect_err(|e| failed(e)).ok()?;
        let verdict = compare_all(self.member_id(), &Periodic { before, after }, &asked);
        let answered = asked.iter().filter(|peer| peer.answer.is_ok()).count();
        tracing::info!(
            "number-of-peers-checked" = answered,
            "finished peer corruption check"
        );
        Some(match verdict {
            Verdict::Corrupt(members) => members,
            Verdict::Same | Verdict::Incomplete => Vec::new(),
        })
    }

    /// Compares the hashes of compactions, the newest first, until one was compared with
    /// every member or somebody differs.
    async fn compare_compactions(&self, peers: &dyn PeerHashes, compared: &mut i64) {
        let view = self.view();
        let unchecked: Vec<_> = view
            .kv
            .compaction_hashes()
            .iter()
            .rev()
            .filter(|hash| hash.revision > *compared)
            .copied()
            .collect();
        if unchecked.is_empty() {
            return;
        }
        tracing::info!(
            "local-member-id" = %format_args!("{:x}", self.member_id()),
            timeout = ?self.request_timeout(),
            "starting compact hash check"
        );
        let mut checked = 0;
        for hash in unchecked {
            let Some(asked) = self.ask_all(peers, hash.revision).await else {
                break;
            };
            if asked.is_empty() {
                break;
            }
            checked += 1;
            match compare(self.member_id(), &hash, &asked) {
                Verdict::Incomplete => {}
                Verdict::Same => {
                    tracing::info!(
                        "number-of-peers" = asked.len(),
                        "compact-revision" = hash.revision,
                        hash = hash.hash,
                        "successfully checked hash on whole cluster"
                    );
                    *compared = (*compared).max(hash.revision);
                    break;
                }
                Verdict::Corrupt(members) => {
                    for member in members {
                        self.raise_corrupt(member).await;
                    }
                    break;
                }
            }
        }
        tracing::info!(
            "number-of-hashes-checked" = checked,
            "finished compaction hash check"
        );
    }

    /// What the others say, except those that are known to be corrupt, which count as
    /// silent. `None`: this one is.
    async fn ask_all(&self, peers: &dyn PeerHashes, revision: i64) -> Option<Vec<Asked>> {
        let view = self.view();
        let known = view.alarms.of(AlarmType::Corrupt);
        let known: Vec<u64> = known.map(|alarm| alarm.member_id).collect();
        let all = view.membership.iter();
        let others: Vec<_> = all.filter(|m| m.id != self.member_id()).collect();
        let ids: Vec<u64> = others.iter().map(|other| other.id).collect();
        let witnesses = witnesses(self.member_id(), &ids, &known)?;
        let asked = others.into_iter().map(async |other| {
            if !witnesses.contains(&other.id) {
                let why = "the alarm CORRUPT is raised for it".to_owned();
                return Asked {
                    id: other.id,
                    peer_urls: other.peer_urls.clone(),
                    answer: Err(PeerHashError::Other(why)),
                };
            }
            let asking = peers.hash_kv(self.cluster_id(), other.peer_urls.clone(), revision);
            let answer = tokio::time::timeout(self.request_timeout(), asking)
                .await
                .unwrap_or_else(|_| Err(PeerHashError::Other("no answer in time".to_owned())));
            if let Err(error) = &answer {
                tracing::warn!(
                    "local-member-id" = %format_args!("{:x}", self.member_id()),
                    "requested-revision" = revision,
                    "remote-peer-id" = %format_args!("{:x}", other.id),
                    %error,
                    "failed hash kv request"
                );
            }
            Asked {
                id: other.id,
                peer_urls: other.peer_urls.clone(),
                answer,
            }
        });
        Some(futures::future::join_all(asked).await)
    }

    async fn raise_corrupt(&self, member: u64) {
        if member == ANYBODY {
            tracing::error!(
                "leader-id" = %format_args!("{:x}", self.member_id()),
                "Detected hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0"
            );
        }
        self.raise_alarm(member, AlarmType::Corrupt).await;
    }
}

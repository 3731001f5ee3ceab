//! Members compare their data: before a start, after compactions, now and then.
//!
//! What is compared is HashKV, at one revision and under one compact revision: two
//! members that have applied the same log have the same one. A member that differs
//! is named by the alarm CORRUPT, which ends all writes until a human disarms it.

mod monitor;
mod start;
#[cfg(test)]
mod tests;
mod verdict;

use std::future::Future;
use std::pin::Pin;

pub(crate) use monitor::run;
pub use start::{CorruptionError, check_before_start};

/// What another member told of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHash {
    /// The revision that it was at.
    pub current_revision: i64,
    /// Compact revision that the hash was computed under; -1 if nothing was compacted.
    pub compact_revision: i64,
    /// CRC-32C of its keys up to the revision it was asked for.
    pub hash: u32,
}

/// Why another member told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerHashError {
    /// It has compacted the revision.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// It has not reached the revision.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    Future,
    /// It does not answer, or refuses.
    #[error("{0}")]
    Other(String),
}

/// What a question for a hash ends in.
pub type AskedHash<'a> = Pin<Box<dyn Future<Output = Result<PeerHash, PeerHashError>> + Send + 'a>>;

/// Asks other members for HashKV. Implemented over the peer listeners' `/members/hashkv`.
pub trait PeerHashes: Send + Sync {
    /// The hash up to `revision` of the member of cluster `cluster_id` that listens at
    /// these peer URLs.
    fn hash_kv(&self, cluster_id: u64, peer_urls: Vec<String>, revision: i64) -> AskedHash<'_>;
}

/// When a running leader compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Pause between comparisons of all keys; `None`: never.
    pub periodic: Option<std::time::Duration>,
    /// Pause between comparisons of compactions' hashes; `None`: never.
    pub compactions: Option<std::time::Duration>,
}

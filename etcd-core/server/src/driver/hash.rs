//! Hashes of the keys: asked for by others, and those of compactions, which a thread
//! of its own computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use etcd_mvcc::{CompactionHash, KvHash, ReadError};

use super::apply::ApplyTask;
use super::error::RequestError;
use super::node::Node;
use super::observation::Observation;
use super::shared::Shared;

/// Compactions whose hash waits to be computed. Each pins the state from before it; one
/// that finds no room has none, and members that compare pass it over.
pub(crate) const WAITING_MAX: usize = 1;

/// Computes hashes of compactions until the apply thread has ended or the member stops.
pub(crate) fn run(
    shared: &Arc<Shared>,
    compactions: &Receiver<CompactionHash>,
    apply: &Sender<ApplyTask>,
) {
    while let Ok(compaction) = compactions.recv() {
        let began = Instant::now();
        match compaction.compute_while(&mut || !shared.is_stopping()) {
            Ok(Some(hash)) => {
                tracing::info!(
                    hash = hash.hash,
                    revision = hash.revision,
                    "compact-revision" = hash.compact_revision,
                    took = ?began.elapsed(),
                    "storing new hash"
                );
                let _stopping = apply.send(ApplyTask::Hashed(hash));
            }
            Ok(None) => return,
            // Of damage the member is told by the archive; here it only means no hash.
            Err(error) => tracing::warn!(
                revision = compaction.revision(),
                %error,
                "failed to compute the hash of a compaction"
            ),
        }
    }
}

impl Node {
    /// The hash of all keys up to a revision (0: now), and the current revision.
    /// Reads the whole history on a thread that may block.
    pub async fn hash_kv(&self, revision: i64) -> Result<(KvHash, i64), HashError> {
        let view = self.view();
        let shared = self.shared.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let hash = view.kv.hash_kv(revision)?;
            shared.tell(Observation::HashRev(began.elapsed()));
            Ok((hash, view.kv.revision()))
        });
        match hashing.await {
            Ok(hashed) => hashed.map_err(HashError::Read),
            Err(error) => Err(HashError::Request(RequestError::Internal(
                error.to_string(),
            ))),
        }
    }
}

/// Why there is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The revision is gone, not there yet, or cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// Anything else.
    #[error(transparent)]
    Request(RequestError),
}

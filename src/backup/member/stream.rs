//! What is read from a member: its snapshot, and its hash.

use std::time::Duration;

use bytes::Bytes;
use etcd_proto::etcdserverpb::{HashKvRequest, HashKvResponse, SnapshotRequest, SnapshotResponse};
use tonic::{Code, Streaming};

use super::{Peer, refused};
use crate::backup::run::{Failure, Reason};

/// A member that sends nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(60);
/// A hash reads the whole history.
const HASH: Duration = Duration::from_secs(600);

/// A snapshot that is being sent.
pub(crate) struct SnapshotStream {
    endpoint: String,
    stream: Streaming<SnapshotResponse>,
    first: Option<Bytes>,
    /// Bytes of the image, without its trailer.
    pub bytes: u64,
}

/// Asks a member for its snapshot.
///
/// # Errors
/// [`Reason::MemberFailed`], [`Reason::MemberRefused`].
pub(crate) async fn snapshot(peer: &Peer) -> Result<SnapshotStream, Failure> {
    let mut stream = peer
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await
        .map_err(|status| refused("asks for a snapshot", &peer.endpoint, &status))?
        .into_inner();
    let Some(first) = message(&mut stream, &peer.endpoint).await? else {
        return Err(Failure::new(
            Reason::MemberFailed,
            format!("the member at {} sent an empty snapshot", peer.endpoint),
        ));
    };
    Ok(SnapshotStream {
        endpoint: peer.endpoint.clone(),
        stream,
        bytes: first.remaining_bytes + first.blob.len() as u64,
        first: Some(first.blob),
    })
}

async fn message(
    stream: &mut Streaming<SnapshotResponse>,
    endpoint: &str,
) -> Result<Option<SnapshotResponse>, Failure> {
    match tokio::time::timeout(SILENCE, stream.message()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(refused("reads the snapshot", endpoint, &status)),
        Err(_) => Err(Failure::new(
            Reason::MemberFailed,
            format!("the member at {endpoint} sent nothing of its snapshot for {SILENCE:?}"),
        )),
    }
}

impl SnapshotStream {
    /// The next piece, `None` at its end. Whether that is the true end is told by the
    /// trailer.
    ///
    /// # Errors
    /// [`Reason::MemberFailed`].
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = message(&mut self.stream, &self.endpoint).await?;
        Ok(next.map(|message| message.blob))
    }
}

/// A member's hash of its history up to `revision`; `None` if it has compacted beyond it.
///
/// # Errors
/// [`Reason::MemberFailed`], [`Reason::MemberRefused`].
pub(crate) async fn hash_kv(peer: &Peer, revision: i64) -> Result<Option<HashKvResponse>, Failure> {
    let mut request = tonic::Request::new(HashKvRequest { revision });
    request.set_timeout(HASH);
    match peer.maintenance().hash_kv(request).await {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status)
            if status.code() == Code::OutOfRange && status.message().contains("compacted") =>
        {
            Ok(None)
        }
        Err(status) => Err(refused("asks for the hash", &peer.endpoint, &status)),
    }
}

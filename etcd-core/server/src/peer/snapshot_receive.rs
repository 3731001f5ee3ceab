//! Receives a snapshot: its message, then the image into a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use etcd_proto::raftpb::Message;
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message as _;
use thiserror::Error;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;

use super::event::PeerEvent;
use super::headers::IMAGE_CRC32C;
use super::inbound::{Refusal, Shared};

/// Largest message in bytes before an image; the image itself has no limit.
const MESSAGE_LIMIT: u64 = 64 << 20;

/// Time without a byte after which the sender counts as dead.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes gathered before the file is written to.
const WRITE_BYTES: usize = 1 << 20;

/// Why a snapshot was not received.
#[derive(Debug, Error)]
pub(super) enum ReceiveError {
    #[error("failed to decode raft message ({0})")]
    Decode(String),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("failed to save KV snapshot ({0})")]
    Save(#[from] io::Error),
    #[error("the snapshot has changed on its way: CRC-32C {sent} was sent, {received} arrived")]
    Changed { sent: String, received: String },
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// A file that is removed unless it is kept.
struct Temporary {
    path: Option<PathBuf>,
}

impl Temporary {
    /// Names a file that no other snapshot of this process has.
    fn new(shared: &Shared, index: u64) -> Temporary {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tmp.{index:016x}.{count}.snap.db");
        Temporary {
            path: Some(shared.config.snapshot_dir.join(name)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove an unfinished snapshot");
        }
    }
}

/// Receives a request's body. When it returns, image and message were handed over.
pub(super) async fn run(shared: &Shared, mut body: Body) -> Result<(), ReceiveError> {
    let (message, rest) = read_message(&mut body).await?;
    shared.check(&message, true)?;
    let index = message
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.metadata.as_ref())
        .map_or(0, |at| at.index);
    let from = format!("{:x}", message.from);
    tracing::info!(
        remote_snapshot_sender_id = from,
        incoming_snapshot_index = index,
        "receiving database snapshot"
    );

    let mut temporary = Temporary::new(shared, index);
    let bytes = match &temporary.path {
        Some(path) => {
            let bytes = save(&mut body, rest, path).await?;
            verify(shared, path).await?;
            bytes
        }
        None => 0,
    };
    tracing::info!(
        remote_snapshot_sender_id = from,
        incoming_snapshot_index = index,
        incoming_snapshot_size_bytes = bytes,
        "received and saved database snapshot"
    );
    if let Some(image) = temporary.path.take() {
        shared
            .deliver(PeerEvent::SnapshotReceived { message, image })
            .await;
    }
    Ok(())
}

/// Reads the message, and what of the image came with its last piece.
async fn read_message(body: &mut Body) -> Result<(Message, Bytes), ReceiveError> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(len) = buffer.get(..8).map(|mut len| len.get_u64()) {
            if len > MESSAGE_LIMIT {
                return Err(ReceiveError::Decode(format!(
                    "message of {len} bytes exceeds the limit"
                )));
            }
            if buffer.len() as u64 >= 8 + len {
                buffer.advance(8);
                let message = buffer.split_to(len as usize).freeze();
                let message = Message::decode(message)
                    .map_err(|error| ReceiveError::Decode(error.to_string()))?;
                return Ok((message, buffer.freeze()));
            }
        }
        match next(body).await {
            Ok(Some(data)) => buffer.extend_from_slice(&data),
            Ok(None) => return Err(ReceiveError::Decode("unexpected EOF".to_owned())),
            Err(error) => return Err(ReceiveError::Decode(error.to_string())),
        }
    }
}

/// Writes and syncs the image; its bytes. A body that is cut short is an error, and one
/// whose trailer says that it was another.
async fn save(body: &mut Body, first: Bytes, path: &PathBuf) -> Result<u64, ReceiveError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::with_capacity(WRITE_BYTES, options.open(path).await?);
    let mut written = first.len() as u64;
    let mut crc = crc32c::crc32c(&first);
    file.write_all(&first).await?;
    let mut sent = None;
    while let Some(frame) = next_frame(body).await? {
        match frame.into_data() {
            Ok(data) => {
                crc = crc32c::crc32c_append(crc, &data);
                file.write_all(&data).await?;
                written += data.len() as u64;
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                sent = trailers.get(IMAGE_CRC32C).cloned();
            }
        }
    }
    let received = format!("{crc:08x}");
    if let Some(sent) = sent
        && sent != received
    {
        let sent = String::from_utf8_lossy(sent.as_bytes()).into_owned();
        return Err(ReceiveError::Changed { sent, received });
    }
    file.flush().await?;
    file.get_ref().sync_all().await?;
    Ok(written)
}

/// Asks whether the member could take the image over, before raft counts on it.
async fn verify(shared: &Shared, path: &Path) -> Result<(), ReceiveError> {
    let (verify, path) = (shared.config.verify_image, path.to_owned());
    let verified = tokio::task::spawn_blocking(move || verify(&path)).await;
    verified
        .map_err(io::Error::other)?
        .map_err(ReceiveError::Damaged)
}

/// The next piece of a body.
async fn next(body: &mut Body) -> io::Result<Option<Bytes>> {
    while let Some(frame) = next_frame(body).await? {
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn next_frame(body: &mut Body) -> io::Result<Option<Frame<Bytes>>> {
    let frame = timeout(STALL_TIMEOUT, body.frame())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    frame.transpose().map_err(io::Error::other)
}

//! Sends a snapshot: its message, and behind it the image while it is written.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use etcd_proto::raftpb::Message;
use http::header::{HeaderMap, HeaderValue, TRAILER};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::codec::put_sized;
use super::error::RequestError;
use super::event::PeerEvent;
use super::headers::IMAGE_CRC32C;
use super::link::Link;
use super::request::{Client, PostBody, check_post, post_request, read_answer};

/// Bytes of the image that are handed on at a time, and how many such pieces wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;

/// Time without any progress after which the connection is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time between the last byte and the answer: the receiver syncs the image.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// A bbolt image that can be written once its size is known.
pub trait SnapshotSource: Send {
    /// Bytes of the image.
    fn size(&self) -> u64;
    /// Writes the image, exactly so many bytes. Blocking.
    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Sends a snapshot and reports what became of it.
pub(super) async fn run(link: Arc<Link>, message: Message, source: Box<dyn SnapshotSource>) {
    let index = message
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.metadata.as_ref())
        .map_or(0, |at| at.index);
    let bytes = source.size();
    let to = format!("{:x}", link.id);
    tracing::info!(
        snapshot_index = index,
        remote_peer_id = to,
        bytes,
        "sending database snapshot"
    );
    let mut client = Client::default();
    let sent = send(&link, &mut client, message, source).await;
    match &sent {
        Ok(()) => {
            link.status.activate();
            tracing::info!(
                snapshot_index = index,
                remote_peer_id = to,
                bytes,
                "sent database snapshot"
            );
        }
        Err(error) => {
            tracing::warn!(snapshot_index = index, remote_peer_id = to, %error, "failed to send database snapshot");
            client.failed(&link, "sendMsgSnap", "post", error);
            link.unreachable();
        }
    }
    // Raft waits for this one, so it is offered until it is taken.
    link.shared
        .deliver(PeerEvent::SnapshotSent {
            to: link.id,
            ok: sent.is_ok(),
        })
        .await;
}

async fn send(
    link: &Link,
    client: &mut Client,
    message: Message,
    mut source: Box<dyn SnapshotSource>,
) -> Result<(), RequestError> {
    let mut head = BytesMut::new();
    put_sized(&message, &mut head);
    let (pieces, receiver) = mpsc::channel(PIECES);
    let taken = Arc::new(AtomicU64::new(0));
    let total = head.len() as u64 + source.size();
    let body = ImageBody {
        left: source.size(),
        head: Some(head.freeze()),
        pieces: receiver,
        taken: taken.clone(),
        crc: 0,
        ended: false,
    };
    link.shared.runtime.spawn_blocking(move || {
        let mut writer = PieceWriter {
            pieces,
            buffer: BytesMut::new(),
        };
        if let Err(error) = source.write_to(&mut writer).and_then(|()| writer.flush()) {
            // Without a receiver the request has failed already.
            let _ = writer.pieces.blocking_send(Err(error));
        }
    });

    let post = |url: &_| {
        let mut request = post_request(
            &link.shared,
            url,
            "/raft/snapshot",
            "application/octet-stream",
            PostBody::new(body),
        );
        let trailers = HeaderValue::from(IMAGE_CRC32C);
        request.headers_mut().insert(TRAILER, trailers);
        request
    };
    let exchange = async {
        let answer = client.send(link, post).await?;
        check_post(answer.status(), &read_answer(answer).await?)
    };
    tokio::pin!(exchange);
    let mut ticks = interval(Duration::from_secs(1));
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            result = &mut exchange => {
                link.status.sent(taken.load(Ordering::Relaxed) as usize);
                return result;
            }
            _ = ticks.tick() => {
                let now = taken.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
                let limit = if now == total { ANSWER_TIMEOUT } else { STALL_TIMEOUT };
                if since.elapsed() > limit {
                    return Err(RequestError::TimedOut);
                }
            }
        }
    }
}

/// The blocking end of the body.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// The request's body. An image of another length than planned breaks the request instead
/// of passing for one; the trailer tells what it was when it left.
struct ImageBody {
    head: Option<Bytes>,
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// Bytes of the image that are to come.
    left: u64,
    /// Bytes that the connection has taken, the head's included.
    taken: Arc<AtomicU64>,
    crc: u32,
    ended: bool,
}

impl Body for ImageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(head) = this.head.take() {
            this.taken.fetch_add(head.len() as u64, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        Poll::Ready(Some(match ready!(this.pieces.poll_recv(context)) {
            Some(Ok(piece)) if piece.len() as u64 <= this.left => {
                this.left -= piece.len() as u64;
                this.taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
                this.crc = crc32c::crc32c_append(this.crc, &piece);
                Ok(Frame::data(piece))
            }
            Some(Ok(_)) => Err(io::Error::other("image is longer than announced")),
            Some(Err(error)) => Err(error),
            None if this.left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            None => {
                this.ended = true;
                let crc = HeaderValue::from_str(&format!("{:08x}", this.crc));
                let crc = crc.map_err(io::Error::other);
                crc.map(|crc| Frame::trailers(HeaderMap::from_iter([(IMAGE_CRC32C, crc)])))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

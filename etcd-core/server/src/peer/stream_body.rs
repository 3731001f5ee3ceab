//! The endless response body of a stream: what the queue holds, as frames.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use etcd_proto::raftpb::Message;
use http_body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::LINK_HEARTBEAT;
use super::codec::{Encoder, StreamKind};
use super::link::Link;

/// Bytes of messages that are encoded together, into one piece of the body.
const BATCH_BYTES: usize = 256 << 10;

/// One connection's body. It ends when another connection takes its place or the
/// member goes; dropping it, when the connection broke, detaches it.
pub(super) struct StreamBody {
    link: Arc<Link>,
    kind: StreamKind,
    connection: u64,
    encoder: Encoder,
    heartbeat: Interval,
    batch: Vec<Message>,
    buffer: BytesMut,
}

impl StreamBody {
    /// Makes a new connection the one that `link` sends its `kind` of messages on.
    pub(super) fn attach(link: Arc<Link>, kind: StreamKind) -> StreamBody {
        let connection = link.attach(kind);
        let mut heartbeat = interval_at(Instant::now() + LINK_HEARTBEAT, LINK_HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StreamBody {
            link,
            kind,
            connection,
            encoder: Encoder::new(kind),
            heartbeat,
            batch: Vec::new(),
            buffer: BytesMut::new(),
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let queue = this.link.queue(this.kind);
        match queue.poll_take(this.connection, context, BATCH_BYTES, &mut this.batch) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(())) => {
                for message in this.batch.drain(..) {
                    this.encoder.message(&message, &mut this.buffer);
                }
            }
            Poll::Pending => {
                ready!(this.heartbeat.poll_tick(context));
                this.encoder.heartbeat(&mut this.buffer);
            }
        }
        let frames = this.buffer.split().freeze();
        this.link.status.sent(frames.len());
        Poll::Ready(Some(Ok(Frame::data(frames))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.link.detach(self.kind, self.connection);
    }
}

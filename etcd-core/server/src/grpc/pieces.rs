//! A long reply in pieces, so that nobody has to copy it as a whole.
//!
//! ```text
//! KvService::range ── Pieces, beside an empty message ──> tonic ──> PiecesLayer
//!                                                   takes them, and puts them in its place
//! ```
//!
//! tonic wants a message as one run of bytes and copies it into its own buffer, on the
//! threads that serve everybody. The pieces are made on other threads, and a connection
//! takes one after the other, as its client reads.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd_mvcc::Item;
use http::{Request, Response};
use http_body::{Body, Frame};
use prost::encoding::encode_varint;
use tonic::server::NamedService;
use tower::Service;

/// What is copied is gathered into pieces of this size, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Values from this size on are shared with the store instead of copied. Each then is a
/// frame of its own, which pays from the size of HTTP/2's frames on.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// A message that is made piece by piece.
#[derive(Debug, Default)]
pub(super) struct PiecesWriter {
    done: VecDeque<Bytes>,
    open: BytesMut,
    /// Bytes of all that is done.
    len: usize,
}

/// A finished message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl PiecesWriter {
    /// Appends a field that holds an encoded message: one of a range's pairs.
    pub(super) fn pair(&mut self, tag: u8, item: &Item<'_>) {
        let len = item.len();
        let shared = match item {
            Item::Stored(bytes) if len >= SHARED_BYTES_MIN => Some(*bytes),
            _ => None,
        };
        if shared.is_none() && self.open.len() + len > PIECE_BYTES {
            self.cut();
        }
        if self.open.capacity() == 0 {
            self.open.reserve(PIECE_BYTES);
        }
        self.open.put_u8(tag << 3 | 2);
        encode_varint(len as u64, &mut self.open);
        match shared {
            Some(bytes) => {
                self.cut();
                self.len += bytes.len();
                self.done.push_back(bytes.clone());
            }
            None => item.encode(&mut self.open),
        }
    }

    /// Where fields of a few bytes are appended.
    pub(super) fn open(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.len + self.open.len()
    }

    /// Ends the message.
    pub(super) fn finish(mut self) -> Pieces {
        self.cut();
        Pieces {
            pieces: self.done,
            len: self.len,
        }
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.len += self.open.len();
            // The rest of the buffer's space goes on as the next piece's.
            self.done.push_back(self.open.split().freeze());
        }
    }
}

impl Pieces {
    /// The message in one piece, if it is short: then copying is the cheaper way.
    ///
    /// # Errors
    /// The pieces, if it is not.
    pub(super) fn joined(mut self) -> Result<Bytes, Pieces> {
        match self.pieces.len() {
            0 => Ok(Bytes::new()),
            1 if self.len < PIECE_BYTES => Ok(self.pieces.pop_front().unwrap_or_default()),
            _ => Err(self),
        }
    }

    /// Whether gRPC can carry a message of this length.
    pub(super) fn fits(&self) -> bool {
        u32::try_from(self.len).is_ok()
    }
}

/// Puts pieces in the place of the empty message that they came with.
#[derive(Clone, Debug)]
pub struct PiecesService<S>(pub S);

impl<S: NamedService> NamedService for PiecesService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, Q> Service<Request<Q>> for PiecesService<S>
where
    S: Service<Request<Q>, Response = Response<tonic::body::Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PiecesFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        PiecesFuture(Box::pin(self.0.call(request)))
    }
}

/// See [`PiecesService`].
pub struct PiecesFuture<F>(Pin<Box<F>>);

impl<F, E> Future for PiecesFuture<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut response = ready!(self.0.as_mut().poll(cx))?;
        let Some(pieces) = response.extensions_mut().remove::<Pieces>() else {
            return Poll::Ready(Ok(response));
        };
        Poll::Ready(Ok(response.map(|inner| {
            let mut head = BytesMut::with_capacity(5);
            head.put_u8(0);
            // It was found to fit when it was made.
            head.put_u32(u32::try_from(pieces.len).unwrap_or(u32::MAX));
            let mut left = pieces.pieces;
            left.push_front(head.freeze());
            tonic::body::Body::new(PiecesBody { left, inner })
        })))
    }
}

/// The pieces, and then what followed the empty message.
struct PiecesBody {
    left: VecDeque<Bytes>,
    inner: tonic::body::Body,
}

impl Body for PiecesBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(piece) = self.left.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                // The empty message.
                Some(Ok(frame)) if frame.is_data() => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_proto::etcdserverpb::RangeResponse;
    use etcd_proto::mvccpb::KeyValue;
    use prost::Message as _;

    #[test]
    fn pieces_are_the_message_and_long_values_are_not_copied() {
        let sizes = [0, 10, 20 << 10, 60 << 10, 3, 63 << 10, 200 << 10, 1];
        let kvs: Vec<KeyValue> = sizes
            .iter()
            .map(|size| KeyValue {
                key: format!("key-{size}").into(),
                value: vec![b'v'; *size].into(),
                ..KeyValue::default()
            })
            .collect();
        let stored: Vec<Bytes> = kvs.iter().map(|kv| kv.encode_to_vec().into()).collect();
        let mut writer = PiecesWriter::default();
        for bytes in &stored {
            writer.pair(2, &Item::Stored(bytes));
        }
        let expected = RangeResponse {
            kvs,
            ..RangeResponse::default()
        };
        assert_eq!(writer.len(), expected.encoded_len());
        let pieces = writer.finish();
        assert_eq!(pieces.len, expected.encoded_len());
        let shared = |piece: &Bytes| stored.iter().any(|s| s.as_ptr() == piece.as_ptr());
        assert_eq!(pieces.pieces.iter().filter(|p| shared(p)).count(), 4);
        let whole: Vec<u8> = pieces.pieces.iter().flatten().copied().collect();
        assert_eq!(RangeResponse::decode(&whole[..]).unwrap(), expected);
    }

    #[test]
    fn a_short_message_is_one_run_of_bytes() {
        let mut writer = PiecesWriter::default();
        assert_eq!(PiecesWriter::default().finish().joined(), Ok(Bytes::new()));
        writer.pair(2, &Item::Stored(&Bytes::from_static(b"xyz")));
        assert_eq!(
            writer.finish().joined(),
            Ok(Bytes::from_static(b"\x12\x03xyz"))
        );
    }
}

//! Bodies of requests and replies, counted as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::stream::ConnectionInfo;
use super::wire::OpenStream;
use crate::metrics::{CANCELED, CODES, CallType, METHODS, MethodMetrics, Metrics, UNKNOWN};

/// Counts gRPC messages in a stream of bytes: one flag byte, four bytes of
/// length, the message, and so on.
#[derive(Debug, Default)]
struct MessageCounter {
    prefix: [u8; 5],
    have: usize,
    rest: u64,
}

impl MessageCounter {
    /// Takes bytes; returns how many messages began, and how many bytes were theirs.
    fn feed(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut messages, mut payload) = (0, 0);
        while !bytes.is_empty() {
            if self.rest > 0 {
                let take = bytes
                    .len()
                    .min(usize::try_from(self.rest).unwrap_or(usize::MAX));
                bytes = &bytes[take..];
                self.rest -= take as u64;
                payload += take as u64;
                continue;
            }
            let take = bytes.len().min(5 - self.have);
            self.prefix[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == 5 {
                let [_, a, b, c, d] = self.prefix;
                self.rest = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.have = 0;
                messages += 1;
            }
        }
        (messages, payload)
    }
}

/// Which method a call is of, if etcd counts it.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) metrics: Arc<Metrics>,
    /// Its place among the methods.
    pub(super) place: Option<usize>,
    /// Unary calls that take longer are logged.
    pub(super) slow: Duration,
    pub(super) connection: ConnectionInfo,
}

impl Call {
    pub(super) fn method(&self) -> Option<&MethodMetrics> {
        self.metrics.grpc.at(self.place?)
    }
}

/// A request's body on its way in.
pub struct RequestBody<B> {
    pub(super) inner: B,
    pub(super) call: Call,
    counter: MessageCounter,
}

impl<B> RequestBody<B> {
    pub(super) fn new(inner: B, call: Call) -> RequestBody<B> {
        RequestBody {
            inner,
            call,
            counter: MessageCounter::default(),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let (messages, bytes) = this.counter.feed(data);
            let metrics = &this.call.metrics;
            metrics.network.client_grpc_received_bytes.add(bytes);
            if messages > 0
                && let Some(method) = this.call.method()
            {
                method.received(messages);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A reply's body on its way out.
pub enum ResponseBody {
    /// gRPC's.
    Grpc(GrpcBody),
    /// Any other.
    Http(axum::body::Body),
}

/// A gRPC reply's body, which ends with the call's status.
pub struct GrpcBody {
    inner: tonic::body::Body,
    call: Call,
    counter: MessageCounter,
    began: Instant,
    /// Set once the call's end is counted.
    counted: bool,
    /// For as long as the call lasts.
    _open: OpenStream,
}

impl GrpcBody {
    pub(super) fn new(
        inner: tonic::body::Body,
        headers: &http::HeaderMap,
        call: Call,
        began: Instant,
        open: OpenStream,
    ) -> GrpcBody {
        let mut body = GrpcBody {
            inner,
            call,
            counter: MessageCounter::default(),
            began,
            counted: false,
            _open: open,
        };
        // A call that failed at once has its status in the headers.
        if headers.contains_key("grpc-status") {
            body.end(headers);
        }
        body
    }

    fn end(&mut self, trailers: &http::HeaderMap) {
        let code = trailers
            .get("grpc-status")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(UNKNOWN);
        self.count(code);
    }

    fn count(&mut self, code: usize) {
        if !self.counted {
            self.counted = true;
            let took = self.began.elapsed();
            let Some(place) = self.call.place else { return };
            let Some(method) = self.call.method() else {
                return;
            };
            method.handled(code, took);
            if took > self.call.slow && method.call_type == CallType::Unary {
                let (service, name, _) = METHODS[place];
                tracing::warn!(
                    "time-spent" = ?took, remote = self.call.connection.remote(),
                    method = %format_args!("/{service}/{name}"), code = CODES.get(code),
                    "request took too long"
                );
            }
        }
    }
}

impl Drop for GrpcBody {
    fn drop(&mut self) {
        // No status was sent: the client went away first.
        self.count(CANCELED);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            ResponseBody::Http(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            ResponseBody::Grpc(body) => {
                let polled = Pin::new(&mut body.inner).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    if let Some(data) = frame.data_ref() {
                        let (messages, bytes) = body.counter.feed(data.chunk());
                        body.call.metrics.network.client_grpc_sent_bytes.add(bytes);
                        if messages > 0
                            && let Some(method) = body.call.method()
                        {
                            method.sent(messages);
                        }
                    } else if let Some(trailers) = frame.trailers_ref() {
                        body.end(trailers);
                    }
                }
                polled.map_err(Into::into)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Http(body) => body.is_end_stream(),
            ResponseBody::Grpc(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Http(body) => body.size_hint(),
            ResponseBody::Grpc(body) => body.inner.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut bytes = Vec::new();
        for length in [0u32, 3, 300] {
            bytes.push(0);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend(std::iter::repeat_n(7, length as usize));
        }
        for cut in [1, 2, 5, 7, 1000] {
            let mut counter = MessageCounter::default();
            let (mut messages, mut payload) = (0, 0);
            for piece in bytes.chunks(cut) {
                let (m, p) = counter.feed(piece);
                messages += m;
                payload += p;
            }
            assert_eq!((messages, payload), (3, 303), "{cut}");
        }
    }
}

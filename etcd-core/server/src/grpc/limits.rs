//! What the transport owes to every call: the client's deadline, and etcd's words
//! where the framing refuses a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use tokio::time::Sleep;
use tonic::{Code, Status};
use tower::{Layer, Service};

const TIMEOUT: &str = "grpc-timeout";
const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// How the framing words that a request is too long.
const TOO_LONG: &str = "Error, decoded message length too large: found ";

/// Puts [`CallLimits`] around services.
#[derive(Clone, Copy, Debug)]
pub struct CallLimitsLayer;

impl<S> Layer<S> for CallLimitsLayer {
    type Service = CallLimits<S>;

    fn layer(&self, inner: S) -> CallLimits<S> {
        CallLimits(inner)
    }
}

/// See [`CallLimitsLayer`].
#[derive(Clone, Debug)]
pub struct CallLimits<S>(S);

impl<S, Q, B> Service<Request<Q>> for CallLimits<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let timeout = request.headers().get(TIMEOUT).and_then(parse_timeout);
        let call = self.0.call(request);
        Box::pin(async move {
            let Some(timeout) = timeout else {
                let mut response = call.await?;
                reword(response.headers_mut());
                return Ok(response.map(tonic::body::Body::new));
            };
            let deadline = tokio::time::sleep(timeout);
            tokio::pin!(deadline);
            tokio::select! {
                response = call => {
                    let mut response = response?;
                    reword(response.headers_mut());
                    let deadline = Box::pin(tokio::time::sleep_until(deadline.deadline()));
                    let limited = |inner| tonic::body::Body::new(Limited { inner: Box::pin(inner), deadline, ended: false });
                    Ok(response.map(limited))
                }
                () = &mut deadline => Ok(exceeded().into_http()),
            }
        })
    }
}

fn exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

/// Go's server refuses a long message with another code and text than ours.
fn reword(headers: &mut HeaderMap) {
    // Successful answers have no message here, and this is all they pay.
    let Some(message) = headers.get(MESSAGE).and_then(|m| m.to_str().ok()) else {
        return;
    };
    let message = message.replace("%20", " ");
    let Some(lengths) = message.strip_prefix(TOO_LONG) else {
        return;
    };
    let mut numbers = lengths
        .split(|c: char| !c.is_ascii_digit())
        .filter(|n| !n.is_empty());
    let (Some(found), Some(limit)) = (numbers.next(), numbers.next()) else {
        return;
    };
    let text =
        format!("grpc:%20received%20message%20larger%20than%20max%20({found}%20vs.%20{limit})");
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(MESSAGE, text);
        headers.insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
    }
}

/// A positive number of at most eight digits and its unit.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A reply that ends when the client's time is up.
struct Limited<B> {
    inner: Pin<Box<B>>,
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = self.inner.as_mut().poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if self.deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        if exceeded().add_header(&mut trailers).is_err() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let read = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("300m"), Some(Duration::from_millis(300)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("123456789S"), None);
        assert_eq!(read("S"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn b003_a_message_that_is_too_long_is_refused_in_gos_words() {
        let mut headers = HeaderMap::new();
        let status = Status::out_of_range(
            "Error, decoded message length too large: found 2097160 bytes, the limit is: 2097152 bytes",
        );
        status.add_header(&mut headers).unwrap();
        reword(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (2097160 vs. 2097152)"
        );
    }
}

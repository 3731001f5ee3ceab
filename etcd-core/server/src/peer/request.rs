//! Requests to other members, each connection used for one at a time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::error::RequestError;
use super::event::PeerEvent;
use super::headers::{CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION};
use super::inbound::Shared;
use super::link::Link;

/// Largest body in bytes of an answer that is read.
const ANSWER_LIMIT: usize = 64 << 10;

/// The body of any request.
pub(super) struct PostBody(http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>);

impl PostBody {
    pub(super) fn new<B>(body: B) -> PostBody
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        PostBody(body.map_err(std::io::Error::other).boxed_unsync())
    }
}

impl Body for PostBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

/// A connection that may be reused.
#[derive(Default)]
pub(super) struct Client {
    open: Option<(Uri, SendRequest<PostBody>)>,
    /// Where the last request went.
    url: Option<Uri>,
}

impl Client {
    /// Sends a request to the URL in use and returns the head of the answer.
    pub(super) async fn send(
        &mut self,
        link: &Link,
        request: impl FnOnce(&Uri) -> Request<PostBody>,
    ) -> Result<Response<Incoming>, RequestError> {
        let url = link.urls.pick().ok_or(RequestError::NoUrl)?;
        self.url = Some(url.clone());
        let mut sender = match self.open.take() {
            Some((open, sender)) if open == url && !sender.is_closed() => sender,
            _ => connect(&link.shared, &url).await?,
        };
        sender.ready().await?;
        let answer = sender.send_request(request(&url)).await?;
        self.open = Some((url, sender));
        Ok(answer)
    }

    /// Sends a request and reads the whole answer, within a time.
    pub(super) async fn request(
        &mut self,
        link: &Link,
        limit: Duration,
        request: impl FnOnce(&Uri) -> Request<PostBody>,
    ) -> Result<(StatusCode, Bytes), RequestError> {
        let exchange = async {
            let answer = self.send(link, request).await?;
            let status = answer.status();
            Ok((status, read_answer(answer).await?))
        };
        match timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Notes that the last request failed, and ends its connection.
    pub(super) fn failed(self, link: &Link, source: &str, action: &str, error: &RequestError) {
        if let Some(url) = &self.url {
            link.urls.unreachable(url);
        }
        link.status.deactivate(source, action, &error.to_string());
        if matches!(error, RequestError::Removed) {
            link.shared.notify(PeerEvent::RemovedByPeers);
        }
    }
}

async fn connect(shared: &Shared, url: &Uri) -> Result<SendRequest<PostBody>, RequestError> {
    let dial = timeout(shared.config.dial_timeout, shared.config.dialer.dial(url));
    let stream = match dial.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => {
            return Err(RequestError::Dial {
                url: url.to_string(),
                source,
            });
        }
        Err(_) => return Err(RequestError::DialTimedOut),
    };
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its sender and the body of its last answer.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a peer ended");
        }
    });
    Ok(sender)
}

/// A request with the local member's headers.
pub(super) fn request(
    shared: &Shared,
    url: &Uri,
    method: Method,
    path: &str,
    body: PostBody,
) -> Request<PostBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = shared.identity.request.clone();
    let host = url
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    request
        .headers_mut()
        .insert(HOST, host.unwrap_or(HeaderValue::from_static("")));
    request
}

/// A POST with the local member's headers.
pub(super) fn post_request(
    shared: &Shared,
    url: &Uri,
    path: &str,
    content_type: &'static str,
    body: PostBody,
) -> Request<PostBody> {
    let mut request = request(shared, url, Method::POST, path, body);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    request
}

/// Reads an answer's body.
pub(super) async fn read_answer(answer: Response<Incoming>) -> Result<Bytes, RequestError> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
        .collect()
        .await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| RequestError::Status {
            status,
            body: error.to_string(),
        })
}

/// What an answer to a POST means.
pub(super) fn check_post(status: StatusCode, body: &[u8]) -> Result<(), RequestError> {
    match status {
        StatusCode::NO_CONTENT => Ok(()),
        _ => Err(refusal(status, body)),
    }
}

/// What an answer means that is not the one hoped for.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> RequestError {
    let body = String::from_utf8_lossy(body).trim().to_owned();
    match (status, body.as_str()) {
        (StatusCode::PRECONDITION_FAILED, INCOMPATIBLE_VERSION) => {
            RequestError::IncompatibleVersion
        }
        (StatusCode::PRECONDITION_FAILED, CLUSTER_ID_MISMATCH) => RequestError::ClusterIdMismatch,
        (StatusCode::GONE, _) => RequestError::Removed,
        // The other 403 says that a URL leads to another member, which is no reason to
        // give up for ever.
        (StatusCode::FORBIDDEN, body) if body.contains("removed member") => RequestError::Removed,
        (StatusCode::NOT_FOUND, _) => RequestError::UnknownToPeer,
        _ => RequestError::Status { status, body },
    }
}

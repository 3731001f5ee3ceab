//! One call: JSON in, the gRPC services of this process, JSON out.

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use prost_reflect::MethodDescriptor;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::Services;
use super::answer::{error, error_line, stream_error, success};
use super::messages::{GrpcMessages, JsonMessages};
use crate::listen::ConnectionInfo;

/// Headers that begin so are the call's metadata.
const METADATA: &str = "grpc-metadata-";
/// The call's own time limit.
const TIMEOUT: &str = "grpc-timeout";

/// A method behind a path.
pub(super) struct Call {
    pub(super) method: MethodDescriptor,
    pub(super) grpc: Services,
    pub(super) max_bytes: usize,
}

impl Call {
    pub(super) async fn serve(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let mut values = JsonMessages::new(body, self.method.input(), self.max_bytes);
        // The first value is read before anything is asked: what is wrong with it can be said.
        let first = match values.next().await {
            Ok(Some(first)) => Some(first),
            Ok(None) if self.method.is_client_streaming() => None,
            Ok(None) => Some(values.empty()),
            Err(status) => return error(&status),
        };
        let more = self.method.is_client_streaming().then_some(values);
        let frames = stream::unfold((first, more), |(first, more)| async move {
            if let Some(first) = first {
                return Some((Ok::<_, Status>(Frame::data(first)), (None, more)));
            }
            let mut values = more?;
            // What cannot be read ends the requests, as it does at etcd.
            let next = values.next().await.unwrap_or_else(|error| {
                tracing::warn!(error = error.message(), "failed to read a request in JSON");
                None
            });
            Some((Ok(Frame::data(next?)), (None, Some(values))))
        });
        let request = self.request(parts, StreamBody::new(frames));
        // The routes are always ready, and do not fail.
        let answer = match self.grpc.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(failure) => return error(&Status::internal(failure.to_string())),
        };
        let (parts, body) = answer.into_parts();
        let messages = GrpcMessages::new(body, self.method.output());
        let failed = Status::from_header_map(&parts.headers).filter(|s| s.code() != Code::Ok);
        match (self.method.is_server_streaming(), failed) {
            (true, Some(status)) => stream_error(&status),
            (true, None) => lines(messages).await,
            (false, Some(status)) => error(&status),
            (false, None) => one(messages).await,
        }
    }

    fn request<B>(&self, from: Parts, body: B) -> http::Request<B> {
        let path = format!(
            "/{}/{}",
            self.method.parent_service().full_name(),
            self.method.name()
        );
        let mut request = http::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().expect("names of methods");
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = metadata(&from.headers);
        if let Some(connection) = from.extensions.get::<ConnectionInfo>() {
            request.extensions_mut().insert(connection.clone());
        }
        request
    }
}

/// What a call takes over of the headers of its request.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let named = name.as_str().strip_prefix(METADATA);
        let named = named.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let kept = *name == header::AUTHORIZATION || name.as_str() == TIMEOUT;
        if let Some(name) = named.or_else(|| kept.then(|| name.clone())) {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}

/// The only message of an answer.
async fn one(mut messages: GrpcMessages) -> Response {
    let message = match messages.next().await {
        Ok(Some(message)) => message,
        Ok(None) => return error(&Status::internal("the call ended without an answer")),
        Err(status) => return error(&status),
    };
    match messages.next().await {
        Ok(_) => success(message),
        Err(status) => error(&status),
    }
}

/// Every message of an answer in a line of its own. The head waits for the first.
async fn lines(mut messages: GrpcMessages) -> Response {
    let first = match messages.next().await {
        Ok(first) => first,
        Err(status) => return stream_error(&status),
    };
    let first = first.map(|first| line(&first));
    let lines = stream::unfold((first, Some(messages)), |(first, messages)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, Status>(first), (None, messages)));
        }
        let mut messages = messages?;
        match messages.next().await {
            Ok(message) => Some((Ok(line(&message?)), (None, Some(messages)))),
            Err(status) => Some((Ok(error_line(&status).into()), (None, None))),
        }
    });
    success(Body::from_stream(lines))
}

fn line(message: &[u8]) -> Bytes {
    [b"{\"result\":", message, b"}\n"].concat().into()
}

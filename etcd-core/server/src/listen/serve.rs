//! HTTP on accepted connections: gRPC and HTTP on one port for clients,
//! HTTP/1.1 for members. Every limit is stated here.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use futures::future::{Either, FutureExt};
use http::{Request, Response, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tower::{Service, ServiceExt};

use super::accept::{Limits, Security, accept};
use super::bind::Listener;
use super::body::{Call, GrpcBody, RequestBody, ResponseBody};
use super::pings::PingPolicy;
use super::stream::{ConnectionInfo, Stream};
use super::wire::{OpenStream, Wire};
use crate::metrics::{CallType, Metrics};

/// What a stream may have on its way to us unread, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams of a connection may, in bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What may wait to be sent on a stream, in bytes.
const SEND_BUFFER: usize = 1 << 20;
/// Largest frame we take, in bytes.
const MAX_FRAME: u32 = 64 << 10;
/// Headers of a request, in bytes.
const MAX_HEADERS: u32 = 64 << 10;
/// Headers of an HTTP/1 request, in number.
const MAX_HEADER_COUNT: usize = 100;
/// Streams a client may open and reset before we have seen to them.
const MAX_RESETS: usize = 256;
/// What requests under way may take once we are stopping. Watches never end by
/// themselves, and clients find another member quickly.
const GRACE: Duration = Duration::from_millis(300);
/// HTTP/2's own limit on streams, below the four billion that etcd's flag allows.
const MAX_STREAMS: u32 = i32::MAX as u32;

/// What a client listener serves; `grpc` or `http` may be absent, not both.
#[derive(Clone)]
pub struct ClientService<G> {
    /// gRPC, by path.
    pub grpc: Option<G>,
    /// Everything else.
    pub http: Option<Router>,
    /// Counts calls.
    pub metrics: Arc<Metrics>,
    /// Most streams of a connection.
    pub max_concurrent_streams: u32,
    /// Pings of idle connections: pause, and wait for the answer.
    pub keepalive: Option<(Duration, Duration)>,
    /// How often clients may ping; none is as often as they like. As in etcd it is
    /// not looked at where gRPC and HTTP share a connection over TLS: there Go's
    /// HTTP server serves, which counts no pings.
    pub pings: Option<PingPolicy>,
    /// Unary calls that take longer are logged.
    pub slow_request: Duration,
}

/// Serves clients until `limits` says stop.
pub async fn serve_client<G>(
    listener: Listener,
    security: Option<Security>,
    limits: Limits,
    service: ClientService<G>,
) where
    G: Service<
            Request<RequestBody<Incoming>>,
            Response = Response<tonic::body::Body>,
            Error = Infallible,
        > + Clone
        + Send
        + Sync
        + 'static,
    G::Future: Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience.head)
        .max_buf_size(MAX_HEADERS as usize)
        .max_headers(MAX_HEADER_COUNT)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_concurrent_streams(service.max_concurrent_streams.min(MAX_STREAMS));
    if let Some((pause, wait)) = service.keepalive {
        builder
            .http2()
            .keep_alive_interval(pause)
            .keep_alive_timeout(wait);
    }
    let builder = Arc::new(builder);
    let (stop, patience) = (limits.stop.clone(), limits.patience);
    accept(listener, security, limits, move |stream: Stream, info: ConnectionInfo| {
        let (builder, service, stop) = (builder.clone(), service.clone(), stop.clone());
        async move {
            let remote = info.clone();
            let shared = info.is_secure() && service.http.is_some();
            let wire = Wire::new(stream, info.clone(), service.pings.filter(|_| !shared));
            let handler = hyper::service::service_fn(move |request| handle(&service, &info, request));
            let connection = builder.serve_connection(TokioIo::new(wire), handler);
            let mut connection = std::pin::pin!(connection);
            let silent = async {
                tokio::time::sleep(patience.preface).await;
                if remote.activity().begun() {
                    std::future::pending::<()>().await;
                }
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = stop.cancelled() => None,
                () = silent => {
                    tracing::debug!("remote-addr" = remote.remote(), "client says nothing; closing its connection");
                    return;
                }
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    match tokio::time::timeout(GRACE, connection).await {
                        Ok(ended) => ended,
                        Err(_) => return,
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!("remote-addr" = remote.remote(), %error, "client connection ended");
            }
        }
    })
    .await;
}

/// Decides what a request is, and has it answered.
fn handle<G>(
    service: &ClientService<G>,
    info: &ConnectionInfo,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + use<G>
where
    G: Service<
            Request<RequestBody<Incoming>>,
            Response = Response<tonic::body::Body>,
            Error = Infallible,
        > + Clone,
{
    request.extensions_mut().insert(info.clone());
    let is_grpc = request.version() == Version::HTTP_2
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match (&service.grpc, &service.http) {
        (Some(grpc), _) if is_grpc => Either::Left(call(grpc.clone(), service, info, request)),
        (_, Some(http)) => {
            let answer = http.clone().oneshot(request.map(axum::body::Body::new));
            Either::Right(Either::Left(
                answer.map(|answer| answer.map(|answer| answer.map(ResponseBody::Http))),
            ))
        }
        // A listener for gRPC alone, met with something else.
        (_, None) => {
            let mut refused = Response::new(ResponseBody::Http(axum::body::Body::empty()));
            *refused.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Either::Right(Either::Right(futures::future::ready(Ok(refused))))
        }
    }
}

/// Has a gRPC call answered and counted.
fn call<G>(
    mut grpc: G,
    service: &ClientService<G>,
    info: &ConnectionInfo,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + use<G>
where
    G: Service<
            Request<RequestBody<Incoming>>,
            Response = Response<tonic::body::Body>,
            Error = Infallible,
        >,
{
    let began = Instant::now();
    let metrics = &service.metrics;
    let call = Call {
        metrics: metrics.clone(),
        place: metrics.grpc.find(request.uri().path()),
        slow: service.slow_request,
        connection: info.clone(),
    };
    let call_type = call.method().map(|method| {
        method.started();
        method.call_type
    });
    let version = request.headers().get("client-api-version");
    let version = version
        .and_then(|version| version.to_str().ok())
        .unwrap_or("unknown");
    metrics
        .grpc
        .client_request(call_type.unwrap_or(CallType::Unary), version);
    let counted = call.clone();
    let open = OpenStream::new(info);
    let request = request.map(|body| RequestBody::new(body, call));
    // The routes are always ready.
    grpc.call(request).map(move |answer| {
        answer.map(|answer| {
            let (parts, body) = answer.into_parts();
            let body = GrpcBody::new(body, &parts.headers, counted, began, open);
            Response::from_parts(parts, ResponseBody::Grpc(body))
        })
    })
}

/// Serves members, in HTTP/1.1, until `limits` says stop.
pub async fn serve_peer(
    listener: Listener,
    security: Option<Security>,
    limits: Limits,
    router: Router,
) {
    // A member that is gone must not be sent anything: its stream ends with what it sends.
    serve_http1(listener, security, limits, router, false).await;
}

/// Serves metrics and health until `limits` says stop.
pub async fn serve_metrics(
    listener: Listener,
    security: Option<Security>,
    limits: Limits,
    router: Router,
) {
    serve_http1(listener, security, limits, router, true).await;
}

/// `half_close`: who has sent all is still answered.
async fn serve_http1(
    listener: Listener,
    security: Option<Security>,
    limits: Limits,
    router: Router,
    half_close: bool,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience.head)
        .max_buf_size(MAX_HEADERS as usize)
        .max_headers(MAX_HEADER_COUNT)
        .half_close(half_close);
    let stop = limits.stop.clone();
    accept(
        listener,
        security,
        limits,
        move |stream: Stream, info: ConnectionInfo| {
            let (builder, router, stop) = (builder.clone(), router.clone(), stop.clone());
            async move {
                let remote = info.clone();
                let handler = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(info.clone());
                    router.clone().oneshot(request)
                });
                let connection = builder.serve_connection(TokioIo::new(stream), handler);
                let mut connection = std::pin::pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => Some(ended),
                    () = stop.cancelled() => None,
                };
                let ended = match ended {
                    Some(ended) => ended,
                    None => {
                        connection.as_mut().graceful_shutdown();
                        match tokio::time::timeout(GRACE, connection).await {
                            Ok(ended) => ended,
                            Err(_) => return,
                        }
                    }
                };
                if let Err(error) = ended {
                    tracing::debug!("remote-addr" = remote.remote(), %error, "connection ended");
                }
            }
        },
    )
    .await;
}

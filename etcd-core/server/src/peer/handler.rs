//! What other members ask of us.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use etcd_proto::raftpb::Message;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use prost::Message as _;

use super::MESSAGE_LIMIT;
use super::codec::StreamKind;
use super::event::PeerEvent;
use super::headers::{self, CLUSTER_ID, RAFT_TO, SERVER_VERSION};
use super::inbound::Refusal;
use super::snapshot_receive::{self, ReceiveError};
use super::stream_body::StreamBody;
use super::transport::PeerTransport;

/// The routes below `/raft`.
pub(super) fn router(transport: PeerTransport) -> Router {
    Router::new()
        .route("/raft", any(pipeline))
        .route("/raft/snapshot", any(snapshot))
        .route("/raft/stream/{kind}/{id}", any(stream))
        .route("/raft/probing", any(probing))
        .with_state(transport)
}

async fn pipeline(State(transport): State<PeerTransport>, request: Request) -> Response {
    if let Some(refused) = refuse(&transport, &request, Method::POST) {
        return refused;
    }
    let response = match receive(&transport, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refused,
    };
    with_cluster_id(&transport, response)
}

async fn receive(transport: &PeerTransport, request: Request) -> Result<(), Response> {
    register_sender(transport, &request);
    let body = Limited::new(request.into_body(), MESSAGE_LIMIT as usize)
        .collect()
        .await;
    let body = body
        .map_err(|_| text(StatusCode::BAD_REQUEST, "error reading raft message"))?
        .to_bytes();
    let len = body.len();
    let message = Message::decode(body)
        .map_err(|_| text(StatusCode::BAD_REQUEST, "error unmarshalling raft message"))?;
    transport.shared().check(&message, false).map_err(refused)?;
    if let Some(link) = transport.link(message.from) {
        link.status.received(len);
    }
    transport
        .shared()
        .deliver(PeerEvent::Message(message))
        .await;
    Ok(())
}

async fn snapshot(State(transport): State<PeerTransport>, request: Request) -> Response {
    if let Some(refused) = refuse(&transport, &request, Method::POST) {
        return refused;
    }
    register_sender(&transport, &request);
    let response = match snapshot_receive::run(transport.shared(), request.into_body()).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::warn!(%error, "failed to receive a database snapshot");
            match error {
                ReceiveError::Refused(refusal) => refused(refusal),
                ReceiveError::Decode(_) => text(StatusCode::BAD_REQUEST, &error.to_string()),
                ReceiveError::Save(_) | ReceiveError::Changed { .. } | ReceiveError::Damaged(_) => {
                    text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
                }
            }
        }
    };
    with_cluster_id(&transport, response)
}

async fn stream(
    State(transport): State<PeerTransport>,
    Path((kind, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let response = match refuse(&transport, &request, Method::GET) {
        Some(refused) => refused,
        None => open_stream(&transport, &kind, &id, &request),
    };
    let version = transport.shared().identity.server_version.clone();
    with_cluster_id(&transport, with_header(response, SERVER_VERSION, version))
}

fn open_stream(transport: &PeerTransport, kind: &str, id: &str, request: &Request) -> Response {
    let Some(kind) = StreamKind::from_name(kind) else {
        return text(StatusCode::NOT_FOUND, "invalid path");
    };
    let Some(from) = headers::parse_id(id) else {
        return text(StatusCode::NOT_FOUND, "invalid from");
    };
    if transport.shared().is_removed(from) {
        tracing::warn!(
            remote_peer_id_from = id,
            "rejected stream from remote peer because it was removed"
        );
        return text(StatusCode::GONE, "removed member");
    }
    let Some(link) = transport.peer(from) else {
        // Either it does not belong here, or we lag behind the change that added it.
        // Then answering it needs its URLs.
        if let Some((_, urls)) = headers::sender(request.headers()) {
            transport.add_remote(from, &urls);
        }
        tracing::warn!(
            remote_peer_id_from = id,
            "failed to find remote peer in cluster"
        );
        return text(StatusCode::NOT_FOUND, "error sender not found");
    };
    let local = headers::id_value(transport.shared().config.local_id);
    if request.headers().get(RAFT_TO) != Some(&local) {
        tracing::warn!(
            remote_peer_id_from = id,
            "ignored streaming request; ID mismatch"
        );
        return text(StatusCode::PRECONDITION_FAILED, "to field mismatch");
    }
    Response::new(Body::new(StreamBody::attach(link, kind)))
}

async fn probing() -> Response {
    // Of the answer only its arrival, and roughly its clock, is of interest.
    let body = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", jiff::Timestamp::now());
    with_header(
        body.into_response(),
        CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )
}

/// Refuses a request of another method, version or cluster.
fn refuse(transport: &PeerTransport, request: &Request, method: Method) -> Option<Response> {
    if request.method() != method {
        let refused = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        let allow = HeaderValue::from_str(method.as_str()).unwrap_or(HeaderValue::from_static(""));
        return Some(with_header(refused, ALLOW, allow));
    }
    let error = transport.shared().identity.check(request.headers()).err()?;
    tracing::warn!(
        remote_peer = headers::text(request.headers(), &headers::SERVER_FROM).unwrap_or_default(),
        remote_cluster_id = headers::text(request.headers(), &CLUSTER_ID).unwrap_or_default(),
        %error,
        "refused a request of a peer"
    );
    Some(with_cluster_id(
        transport,
        text(StatusCode::PRECONDITION_FAILED, &error.to_string()),
    ))
}

/// A sender that is no member we know may be one that we have yet to hear of.
fn register_sender(transport: &PeerTransport, request: &Request) {
    if let Some((from, urls)) = headers::sender(request.headers()) {
        transport.add_remote(from, &urls);
    }
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Removed | Refusal::Mismatch => {
            let body = format!("{{\"message\":\"{refusal}\"}}");
            let response = (StatusCode::FORBIDDEN, body).into_response();
            with_header(
                response,
                CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )
        }
        Refusal::Unexpected => text(StatusCode::BAD_REQUEST, "wrong raft message type"),
    }
}

/// An error as Go's HTTP server writes it.
fn text(status: StatusCode, body: &str) -> Response {
    let response = (status, format!("{body}\n")).into_response();
    let nosniff = HeaderName::from_static("x-content-type-options");
    with_header(response, nosniff, HeaderValue::from_static("nosniff"))
}

fn with_cluster_id(transport: &PeerTransport, response: Response) -> Response {
    with_header(
        response,
        CLUSTER_ID,
        transport.shared().identity.cluster_id.clone(),
    )
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

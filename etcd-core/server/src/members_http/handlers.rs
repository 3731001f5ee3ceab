//! The peer listener's side.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use etcd_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse,
};
use etcd_proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use etcd_replica::{Member, MembershipError};
use prost::Message as _;

use super::CLUSTER_ID;
use crate::driver::{HashError, KeepAlive, Node, RequestError};
use crate::grpc::status;

/// What the handlers need.
#[derive(Clone)]
pub struct MembersState {
    /// This member.
    pub node: Node,
    /// `--strict-reconfig-check`.
    pub strict: bool,
}

/// Routes of the peer listener, besides those of raft.
pub fn router(state: MembersState) -> Router {
    Router::new()
        .route("/members", get(members))
        .route("/members/promote/{id}", post(promote))
        .route("/members/hashkv", get(hash_kv))
        .route("/leases", post(renew_lease))
        .route("/leases/internal", post(lease_time_to_live))
        .route("/downgrade/enabled", get(downgrade_enabled))
        .with_state(state)
}

fn with_cluster_id(node: &Node, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    if let Ok(id) = HeaderValue::from_str(&format!("{:x}", node.cluster_id())) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(CLUSTER_ID), id);
    }
    response
}

fn json(body: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}

fn members_json(members: &[Member]) -> Vec<u8> {
    serde_json::to_vec(members).unwrap_or_else(|_| b"[]".to_vec())
}

async fn members(State(state): State<MembersState>) -> Response {
    let members: Vec<Member> = state.node.view().membership.iter().cloned().collect();
    let mut body = members_json(&members);
    body.push(b'\n');
    with_cluster_id(&state.node, json(body))
}

async fn promote(State(state): State<MembersState>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<u64>() else {
        let text = format!("member {id} not found in cluster\n");
        return with_cluster_id(&state.node, (StatusCode::NOT_FOUND, text));
    };
    match state.node.promote_member(id, state.strict).await {
        Ok(members) => with_cluster_id(&state.node, json(members_json(&members))),
        Err(error) => {
            let code = match &error {
                RequestError::Membership(MembershipError::IdNotFound) => StatusCode::NOT_FOUND,
                RequestError::Membership(MembershipError::NotLearner)
                | RequestError::LearnerNotReady => StatusCode::PRECONDITION_FAILED,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let text = format!("{}\n", status(&error).message());
            with_cluster_id(&state.node, (code, text))
        }
    }
}

#[derive(serde::Deserialize)]
struct HashKvQuestion {
    #[serde(default)]
    revision: i64,
}

#[derive(serde::Serialize)]
struct HashKvHeader {
    cluster_id: u64,
    member_id: u64,
    revision: i64,
    raft_term: u64,
}

#[derive(serde::Serialize)]
struct HashKvAnswer {
    header: HashKvHeader,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

async fn hash_kv(State(state): State<MembersState>, headers: HeaderMap, body: Bytes) -> Response {
    let node = &state.node;
    let foreign = headers
        .get(CLUSTER_ID)
        .is_some_and(|id| id.as_bytes() != format!("{:x}", node.cluster_id()).as_bytes());
    if foreign {
        return with_cluster_id(
            node,
            (StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n"),
        );
    }
    let question: HashKvQuestion = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => {
            return with_cluster_id(
                node,
                (
                    StatusCode::BAD_REQUEST,
                    format!("error unmarshalling request: {error}\n"),
                ),
            );
        }
    };
    match node.hash_kv(question.revision).await {
        Ok((hash, revision)) => {
            let header = node.header(revision);
            let answer = HashKvAnswer {
                header: HashKvHeader {
                    cluster_id: header.cluster_id,
                    member_id: header.member_id,
                    revision,
                    raft_term: header.raft_term,
                },
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.revision,
            };
            with_cluster_id(node, json(serde_json::to_vec(&answer).unwrap_or_default()))
        }
        Err(HashError::Read(error)) => {
            let text = format!("{}\n", crate::grpc::read_status(&error).message());
            with_cluster_id(node, (StatusCode::BAD_REQUEST, text))
        }
        Err(HashError::Request(error)) => with_cluster_id(
            node,
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        ),
    }
}

async fn renew_lease(State(state): State<MembersState>, body: Bytes) -> Response {
    let node = &state.node;
    let Ok(request) = LeaseKeepAliveRequest::decode(body) else {
        return with_cluster_id(
            node,
            (StatusCode::BAD_REQUEST, "error unmarshalling request\n"),
        );
    };
    match node.renew_lease(request.id).await {
        Ok(KeepAlive::Renewed(ttl)) => {
            let response = LeaseKeepAliveResponse {
                id: request.id,
                ttl,
                header: None,
            };
            with_cluster_id(node, protobuf(response.encode_to_vec()))
        }
        Ok(KeepAlive::NotFound) => {
            with_cluster_id(node, (StatusCode::NOT_FOUND, "lease not found\n"))
        }
        Err(error) => with_cluster_id(node, unanswered(&error)),
    }
}

async fn lease_time_to_live(State(state): State<MembersState>, body: Bytes) -> Response {
    let node = &state.node;
    let request = LeaseInternalRequest::decode(body)
        .ok()
        .and_then(|r| r.lease_time_to_live_request);
    let Some(request) = request else {
        return with_cluster_id(
            node,
            (StatusCode::BAD_REQUEST, "error unmarshalling request\n"),
        );
    };
    match node.lease_time_to_live(request.id).await {
        Ok(Some((granted_ttl, ttl, keys))) => {
            let response = LeaseTimeToLiveResponse {
                header: Some(node.header(node.view().kv.revision())),
                id: request.id,
                ttl,
                granted_ttl,
                keys: if request.keys { keys } else { Vec::new() },
            };
            let response = LeaseInternalResponse {
                lease_time_to_live_response: Some(response),
            };
            with_cluster_id(node, protobuf(response.encode_to_vec()))
        }
        Ok(None) => with_cluster_id(node, (StatusCode::NOT_FOUND, "lease not found\n")),
        Err(error) => with_cluster_id(node, unanswered(&error)),
    }
}

fn protobuf(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], body).into_response()
}

fn unanswered(error: &RequestError) -> Response {
    let code = match error {
        RequestError::Timeout => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, format!("{}\n", status(error).message())).into_response()
}

async fn downgrade_enabled(State(state): State<MembersState>) -> Response {
    let enabled = state.node.view().downgrade.enabled;
    with_cluster_id(&state.node, enabled.to_string())
}

//! What HTTP says about an error.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use tonic::{Code, Status};

/// grpc-gateway's code for a call that its client canceled, which HTTP has none for.
const CANCELED: u16 = 499;

/// An error as a body: `google.rpc.Status` in JSON.
fn json(status: &Status) -> String {
    serde_json::json!({"code": i32::from(status.code()), "message": status.message()}).to_string()
}

/// A call that failed.
pub(super) fn error(status: &Status) -> Response {
    with_status(http_status(status.code()), json(status))
}

/// A stream that failed before it said anything.
pub(super) fn stream_error(status: &Status) -> Response {
    with_status(http_status(status.code()), error_line(status))
}

/// The last line of a stream that failed.
pub(super) fn error_line(status: &Status) -> String {
    format!("{{\"error\":{}}}\n", json(status))
}

/// A call that was answered.
pub(super) fn success(body: impl Into<Body>) -> Response {
    let mut response = with_status(StatusCode::OK, body);
    response.headers_mut().insert(
        "grpc-metadata-content-type",
        HeaderValue::from_static("application/grpc"),
    );
    response
}

fn with_status(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// As grpc-gateway maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(CANCELED).expect("three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

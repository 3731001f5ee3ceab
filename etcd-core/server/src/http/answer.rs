//! Answers in the manner of Go's `net/http`, and what a query asks.

use axum::body::Body;
use axum::http::{HeaderValue, Response as HttpResponse, StatusCode, Uri, header};
use axum::response::Response;

/// 200 with a body.
pub(super) fn content(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = HttpResponse::new(body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Tells browsers not to guess.
pub(super) fn nosniff(response: &mut Response) {
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// An error as text with a line's end, as `http.Error` writes it.
pub(super) fn error(status: u16, text: &str) -> Response {
    let mut response = content("text/plain; charset=utf-8", format!("{text}\n"));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    nosniff(&mut response);
    response
}

/// 405 of a path that takes GET alone.
pub(super) fn method_not_allowed() -> Response {
    let mut response = error(405, "Method Not Allowed");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// 404.
pub(super) fn not_found() -> Response {
    error(404, "404 page not found")
}

/// A query's names and values, decoded, in order.
pub(super) struct Query(Vec<(String, String)>);

/// Reads the query of a request.
pub(super) fn query(uri: &Uri) -> Query {
    let text = uri.query().unwrap_or("");
    Query(
        url::form_urlencoded::parse(text.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    )
}

impl Query {
    /// The values under a name.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a name is there, with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }
}

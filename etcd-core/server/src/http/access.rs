//! Who may talk HTTP to a client listener: only under host names that are
//! allowed (or a page in somebody's browser could, CVE-2018-5702), and from
//! pages of origins that are. gRPC does not pass through here.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::error;
use crate::config::url::split_host_port;
use crate::listen::ConnectionInfo;

/// What is allowed. `*` allows everything, and so does an empty list of hosts.
#[derive(Debug, Clone)]
pub struct Access {
    /// Host names of requests without TLS.
    pub hosts: Arc<BTreeSet<String>>,
    /// Origins of pages.
    pub origins: Arc<BTreeSet<String>>,
    /// Whether all connections of the listener have TLS. Where some have, each is
    /// asked.
    pub secure: bool,
}

impl Access {
    fn allows_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains("*") || self.hosts.contains(host)
    }

    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() || self.origins.contains("*") {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = headers.get(header::ORIGIN)?;
        let known = origin
            .to_str()
            .is_ok_and(|origin| self.origins.contains(origin));
        known.then(|| origin.clone())
    }
}

/// Lets a request through, or not.
pub(super) async fn control(
    State(access): State<Access>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(rewritten) = without_beta(request.uri()) {
        *request.uri_mut() = rewritten;
    }
    let info = request.extensions().get::<ConnectionInfo>();
    if !access.secure && !info.is_some_and(ConnectionInfo::is_secure) {
        let host = host_of(&request);
        if !access.allows_host(&host) {
            tracing::warn!(%host, "rejecting HTTP request to prevent DNS rebinding attacks");
            return error(421, &misdirected(&host));
        }
    }
    let origin = access.allowed_origin(request.headers());
    let mut response = match *request.method() {
        Method::OPTIONS => ().into_response(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
    response
}

/// The host of a request without its port.
fn host_of(request: &Request) -> String {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or("");
    match split_host_port(host) {
        Ok((host, _)) => host.to_owned(),
        Err(_) => host.to_owned(),
    }
}

/// The path that an old one means: /v3beta/x is /v3/x.
fn without_beta(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix("/v3beta/")?;
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("/v3/{rest}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    )
}

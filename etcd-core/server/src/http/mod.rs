//! The HTTP paths beside gRPC: health, metrics, version.
//!
//! ```text
//! client listener  -> access (host, CORS) -> /health /livez /readyz /metrics /version /debug/vars
//! metrics listener ->                        /health /livez /readyz /metrics
//! ```
//!
//! They ask a [`MemberHealth`], so they can be tested without a member.

mod access;
mod answer;
mod health;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::any;

pub use access::Access;
pub use health::MemberHealth;

use answer::{content, method_not_allowed, not_found};
use health::{HealthState, Probe};

use crate::metrics::{Metrics, file_limit};
use crate::version::SERVER_VERSION;

/// What a listener answers HTTP with.
pub struct HttpService<H> {
    /// Whose health it is.
    pub member: Arc<H>,
    /// What /metrics shows.
    pub metrics: Arc<Metrics>,
    /// After this a health check's read counts as failed.
    pub request_timeout: Duration,
}

impl<H: MemberHealth> HttpService<H> {
    /// Paths of a metrics listener.
    pub fn metrics_router(&self) -> Router {
        self.common().fallback(|| async { not_found() })
    }

    /// Paths of a client listener, beside `more` (the gateway's, for one).
    pub fn client_router(&self, access: Access, more: Router) -> Router {
        let member = self.member.clone();
        self.common()
            .route(
                "/version",
                any(move |method| std::future::ready(version(method, &*member))),
            )
            .route("/debug/vars", any(vars))
            .merge(more)
            .fallback(|| async { not_found() })
            .layer(axum::middleware::from_fn_with_state(
                access,
                access::control,
            ))
    }

    /// `/version`, for the peer listener.
    pub fn version_router(&self) -> Router {
        let member = self.member.clone();
        Router::new().route(
            "/version",
            any(move |method| std::future::ready(version(method, &*member))),
        )
    }

    fn common(&self) -> Router {
        let state = HealthState {
            member: self.member.clone(),
            metrics: self.metrics.clone(),
            timeout: self.request_timeout,
        };
        let metrics = self.metrics.clone();
        let health = state.clone();
        let mut router = Router::new()
            .route(
                "/metrics",
                any(move || {
                    let metrics = metrics.clone();
                    async move {
                        content(
                            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                            metrics.render(),
                        )
                    }
                }),
            )
            .route(
                "/health",
                any(move |method, uri| health.clone().health(method, uri)),
            );
        for probe in [Probe::Live, Probe::Ready] {
            let root = state.clone();
            router = router.route(
                &format!("/{}", probe.name()),
                any(move |method: Method, uri: Uri| root.clone().checks(probe, None, method, uri)),
            );
            for check in probe.checks().iter().copied() {
                let single = state.clone();
                router = router.route(
                    &format!("/{}/{}", probe.name(), check.name()),
                    any(move |method: Method, uri: Uri| {
                        single.clone().checks(probe, Some(check), method, uri)
                    }),
                );
            }
        }
        router
    }
}

fn version<H: MemberHealth>(method: Method, member: &H) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let cluster = member
        .cluster_version()
        .unwrap_or_else(|| "not_decided".to_owned());
    let storage = member
        .storage_version()
        .unwrap_or_else(|| "unknown".to_owned());
    let body = format!(
        r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
    );
    content("application/json", body)
}

/// Go's expvar page, with what of it exists here.
async fn vars(method: Method) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let command: Vec<String> = std::env::args().collect();
    let command = serde_json::to_string(&command).unwrap_or_else(|_| "[]".to_owned());
    let body = format!(
        "{{\n\"cmdline\": {command},\n\"file_descriptor_limit\": {},\n\"memstats\": {{}}\n}}\n",
        file_limit()
    );
    content("application/json; charset=utf-8", body)
}

//! Counts every request to the API server by verb, resource and outcome.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use kube::{Client, client::ClientBuilder};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tower::{Layer, Service};

/// What is told apart. All three come from closed sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    verb: &'static str,
    resource: String,
    code: String,
}

/// The counters.
pub(super) type Requests = Family<Labels, Counter>;

/// A client whose requests are counted.
pub(super) fn client(config: kube::Config, requests: &Requests) -> Result<Client, kube::Error> {
    let layer = Count(requests.clone());
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

#[derive(Clone)]
struct Count(Requests);

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            requests: self.0.clone(),
        }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (verb, resource) = classify(request.method(), request.uri());
        let requests = self.requests.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => response.status().as_u16().to_string(),
                Err(_) => "none".to_owned(),
            };
            let labels = Labels {
                verb,
                resource,
                code,
            };
            requests.get_or_create(&labels).inc();
            answer
        })
    }
}

/// Verb and resource, as in RBAC, of a request to the API server.
fn classify(method: &Method, uri: &http::Uri) -> (&'static str, String) {
    let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
    // `api/v1` or `apis/<group>/<version>`, then perhaps `namespaces/<namespace>`.
    let found = match parts.next() {
        Some("api") => parts.next().is_some(),
        Some("apis") => parts.next().is_some() && parts.next().is_some(),
        _ => false,
    };
    let rest: Vec<&str> = parts.collect();
    let rest = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let [resource, object @ ..] = rest else {
        return ("other", "other".to_owned());
    };
    if !found {
        return ("other", "other".to_owned());
    }
    let resource = match object {
        [_, subresource, ..] => format!("{resource}/{subresource}"),
        _ => (*resource).to_owned(),
    };
    let watches = uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|part| part == "watch=true" || part == "watch=1")
    });
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if object.is_empty() => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_as_in_rbac() {
        let cases = [
            (
                Method::GET,
                "/api/v1/pods?labelSelector=a&watch=true",
                "watch",
                "pods",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/n/pods?limit=500",
                "list",
                "pods",
            ),
            (
                Method::PATCH,
                "/api/v1/namespaces/n/pods/x-0-0",
                "patch",
                "pods",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/n/pods/x-0-0",
                "delete",
                "pods",
            ),
            (
                Method::PATCH,
                "/apis/etcd-core.io/v1alpha1/namespaces/n/etcdclusters/x/status?force=true",
                "patch",
                "etcdclusters/status",
            ),
            (
                Method::GET,
                "/apis/apps/v1/namespaces/n/statefulsets/x-0",
                "get",
                "statefulsets",
            ),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/n/events",
                "create",
                "events",
            ),
            (
                Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/n/leases/l",
                "update",
                "leases",
            ),
            (Method::GET, "/api/v1/namespaces/n", "get", "namespaces"),
            (Method::GET, "/version", "other", "other"),
        ];
        for (method, uri, verb, resource) in cases {
            let found = classify(&method, &uri.parse().unwrap());
            assert_eq!(found, (verb, resource.to_owned()), "{method} {uri}");
        }
    }
}

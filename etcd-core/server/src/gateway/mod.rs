//! The JSON gateway: `POST /v3/...` in JSON for who has no gRPC at hand.
//!
//! ```text
//! routes    which path is which method
//! call      a request in JSON -> the gRPC services, in this process -> an answer in JSON
//! messages  JSON values out of a body (scan: where one ends), gRPC messages out of another
//! answer    what HTTP says about an error
//! ```
//!
//! Form and codes are grpc-gateway's with etcd's options: names as in the .proto files,
//! what is empty left out, unknown fields passed over.

mod answer;
mod call;
mod messages;
mod routes;
mod scan;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::any;
use prost_reflect::DescriptorPool;
use tonic::service::Routes;
use tonic::{Code, Status};

use answer::error;
use call::Call;
use routes::ROUTES;

use crate::grpc::CallLimits;

/// What the paths begin with. etcd keeps the older one.
const ROOTS: [&str; 2] = ["/v3", "/v3beta"];

/// The services, with what the transport owes to every call.
pub type Services = CallLimits<Routes>;

/// The gateway's paths, answered by `grpc`. A JSON value may take `max_bytes`.
///
/// # Panics
/// If a route names a method that the .proto files do not have; a test goes through all.
pub fn router(grpc: &Services, max_bytes: usize) -> Router {
    let pool = DescriptorPool::decode(etcd_proto::DESCRIPTORS).expect("our own descriptors");
    let mut router = Router::new();
    for (path, service, method) in ROUTES {
        let service = pool.get_service_by_name(service);
        let method = service.and_then(|service| service.methods().find(|m| m.name() == *method));
        let call = Arc::new(Call {
            method: method.expect("a method of ours"),
            grpc: grpc.clone(),
            max_bytes,
        });
        for root in ROOTS {
            let call = call.clone();
            let serve = move |request: Request| async move {
                match *request.method() {
                    Method::POST => call.serve(request).await,
                    _ => error(&Status::new(Code::Unimplemented, "Method Not Allowed")),
                }
            };
            router = router.route(&format!("{root}/{path}"), any(serve));
        }
    }
    for root in ROOTS {
        let unknown = || async { error(&Status::not_found("Not Found")) };
        router = router
            .route(&format!("{root}/"), any(unknown))
            .route(&format!("{root}/{{*path}}"), any(unknown));
    }
    router
}

//! Counts of gRPC calls by method, all there and at zero from the start, so
//! that a rate over them is never missing its first step.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::RwLock;

use super::instrument::{Counter, Family, Histogram};
use super::registry::Registry;

/// How a method's messages flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallType {
    /// One request, one reply.
    Unary,
    /// One request, many replies.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl CallType {
    fn as_str(self) -> &'static str {
        match self {
            CallType::Unary => "unary",
            CallType::ServerStream => "server_stream",
            CallType::BidiStream => "bidi_stream",
        }
    }
}

use CallType::{BidiStream, ServerStream, Unary};

/// Every method that etcd serves and counts: service, method, type.
#[rustfmt::skip]
pub static METHODS: &[(&str, &str, CallType)] = &[
    ("etcdserverpb.Auth", "AuthDisable", Unary), ("etcdserverpb.Auth", "AuthEnable", Unary),
    ("etcdserverpb.Auth", "AuthStatus", Unary), ("etcdserverpb.Auth", "Authenticate", Unary),
    ("etcdserverpb.Auth", "RoleAdd", Unary), ("etcdserverpb.Auth", "RoleDelete", Unary),
    ("etcdserverpb.Auth", "RoleGet", Unary), ("etcdserverpb.Auth", "RoleGrantPermission", Unary),
    ("etcdserverpb.Auth", "RoleList", Unary), ("etcdserverpb.Auth", "RoleRevokePermission", Unary),
    ("etcdserverpb.Auth", "UserAdd", Unary), ("etcdserverpb.Auth", "UserChangePassword", Unary),
    ("etcdserverpb.Auth", "UserDelete", Unary), ("etcdserverpb.Auth", "UserGet", Unary),
    ("etcdserverpb.Auth", "UserGrantRole", Unary), ("etcdserverpb.Auth", "UserList", Unary),
    ("etcdserverpb.Auth", "UserRevokeRole", Unary),
    ("etcdserverpb.Cluster", "MemberAdd", Unary), ("etcdserverpb.Cluster", "MemberList", Unary),
    ("etcdserverpb.Cluster", "MemberPromote", Unary), ("etcdserverpb.Cluster", "MemberRemove", Unary),
    ("etcdserverpb.Cluster", "MemberUpdate", Unary),
    ("etcdserverpb.KV", "Compact", Unary), ("etcdserverpb.KV", "DeleteRange", Unary),
    ("etcdserverpb.KV", "Put", Unary), ("etcdserverpb.KV", "Range", Unary),
    ("etcdserverpb.KV", "RangeStream", ServerStream), ("etcdserverpb.KV", "Txn", Unary),
    ("etcdserverpb.Lease", "LeaseGrant", Unary), ("etcdserverpb.Lease", "LeaseKeepAlive", BidiStream),
    ("etcdserverpb.Lease", "LeaseLeases", Unary), ("etcdserverpb.Lease", "LeaseRevoke", Unary),
    ("etcdserverpb.Lease", "LeaseTimeToLive", Unary),
    ("etcdserverpb.Maintenance", "Alarm", Unary), ("etcdserverpb.Maintenance", "Defragment", Unary),
    ("etcdserverpb.Maintenance", "Downgrade", Unary), ("etcdserverpb.Maintenance", "Hash", Unary),
    ("etcdserverpb.Maintenance", "HashKV", Unary), ("etcdserverpb.Maintenance", "MoveLeader", Unary),
    ("etcdserverpb.Maintenance", "Snapshot", ServerStream), ("etcdserverpb.Maintenance", "Status", Unary),
    ("etcdserverpb.Watch", "Watch", BidiStream),
    ("grpc.health.v1.Health", "Check", Unary), ("grpc.health.v1.Health", "List", Unary),
    ("grpc.health.v1.Health", "Watch", ServerStream),
];

/// gRPC's codes by number.
pub static CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The code of a call whose client went away.
pub const CANCELED: usize = 1;
/// The code of a reply whose status cannot be read.
pub const UNKNOWN: usize = 2;

/// Instruments of one method.
#[derive(Debug)]
pub struct MethodMetrics {
    /// How its messages flow.
    pub call_type: CallType,
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: Vec<Counter>,
    handling: Option<Histogram>,
}

impl MethodMetrics {
    /// A call began.
    pub fn started(&self) {
        self.started.inc();
    }

    /// Messages came.
    pub fn received(&self, messages: u64) {
        self.received.add(messages);
    }

    /// Messages went.
    pub fn sent(&self, messages: u64) {
        self.sent.add(messages);
    }

    /// A call ended with this code, after this long.
    pub fn handled(&self, code: usize, took: Duration) {
        self.handled[code.min(CODES.len() - 1)].inc();
        if let Some(handling) = &self.handling {
            handling.observe_seconds(took);
        }
    }
}

/// Calls by version that a client says it speaks; more are counted together.
const CLIENT_VERSIONS_MAX: usize = 64;

/// Instruments of all methods.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: Vec<MethodMetrics>,
    by_path: HashMap<String, usize>,
    client_requests: Family<Counter>,
    client_versions: RwLock<Vec<(bool, String, Counter)>>,
}

impl GrpcMetrics {
    /// Registers the counters; histograms only if `extensive`.
    pub(super) fn new(registry: &mut Registry, extensive: bool) -> GrpcMetrics {
        const LABELS: &[&str] = &["grpc_method", "grpc_service", "grpc_type"];
        const WITH_CODE: &[&str] = &["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        const BOUNDS: &[f64] = &[
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let started = registry.counters("grpc_server_started_total", "Calls begun.", LABELS);
        let received = registry.counters(
            "grpc_server_msg_received_total",
            "Messages received.",
            LABELS,
        );
        let sent = registry.counters("grpc_server_msg_sent_total", "Messages sent.", LABELS);
        let handled = registry.counters(
            "grpc_server_handled_total",
            "Calls ended, whatever their outcome.",
            WITH_CODE,
        );
        let handling = extensive.then(|| {
            registry.histograms(
                "grpc_server_handling_seconds",
                "Seconds from the beginning of a call to its end.",
                LABELS,
                BOUNDS,
            )
        });
        let paths = METHODS.iter().enumerate();
        let by_path = paths
            .map(|(at, (service, method, _))| (format!("/{service}/{method}"), at))
            .collect();
        let methods = METHODS
            .iter()
            .map(|(service, method, call_type)| {
                let labels = [*method, *service, call_type.as_str()];
                MethodMetrics {
                    call_type: *call_type,
                    started: started.with(&labels),
                    received: received.with(&labels),
                    sent: sent.with(&labels),
                    handled: CODES
                        .iter()
                        .map(|code| handled.with(&[*code, *method, *service, call_type.as_str()]))
                        .collect(),
                    handling: handling.as_ref().map(|family| family.with(&labels)),
                }
            })
            .collect();
        GrpcMetrics {
            methods,
            by_path,
            client_requests: registry.counters(
                "etcd_server_client_requests_total",
                "Calls by the version that their client says it speaks.",
                &["client_api_version", "type"],
            ),
            client_versions: RwLock::default(),
        }
    }

    /// The place of the method of a request's path, `/service/method`.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// The method at a place that [`GrpcMetrics::find`] gave.
    pub fn at(&self, place: usize) -> Option<&MethodMetrics> {
        self.methods.get(place)
    }

    /// Counts a call of a client that names its version; "unknown" if it does not.
    pub fn client_request(&self, call_type: CallType, version: &str) {
        let stream = call_type != Unary;
        let find = |versions: &[(bool, String, Counter)], version: &str| {
            let found = versions
                .iter()
                .find(|(s, v, _)| *s == stream && v == version);
            found.map(|(_, _, counter)| counter.inc()).is_some()
        };
        if find(&self.client_versions.read(), version) {
            return;
        }
        let mut versions = self.client_versions.write();
        // A client may say anything; it shall not fill our memory with it.
        let version = match versions.len() < CLIENT_VERSIONS_MAX {
            true => version,
            false => "unknown",
        };
        if find(&versions, version) {
            return;
        }
        let kind = if stream { "stream" } else { "unary" };
        let counter = self.client_requests.with(&[version, kind]);
        counter.inc();
        versions.push((stream, version.to_owned(), counter));
    }
}

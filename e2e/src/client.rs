//! A client of one member: tonic's stubs, with the requests tests make most.

use std::time::Duration;

use bytes::Bytes;
use etcd_proto::etcdserverpb::auth_client::AuthClient;
use etcd_proto::etcdserverpb::cluster_client::ClusterClient;
use etcd_proto::etcdserverpb::kv_client::KvClient;
use etcd_proto::etcdserverpb::lease_client::LeaseClient;
use etcd_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use etcd_proto::etcdserverpb::watch_client::WatchClient;
use etcd_proto::etcdserverpb::*;
use etcd_proto::v3electionpb::election_client::ElectionClient;
use etcd_proto::v3lockpb::lock_client::LockClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::load::Bundle;
use crate::watch::Watch;

/// A call without an answer for this long fails with `Cancelled`, so that no test waits for ever.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What every call may return: the answer, or etcd's error as gRPC carries it.
pub type Answer<T> = Result<T, Status>;

/// One HTTP/2 connection to one member.
///
/// It connects when first used and again after a loss. It repeats nothing: a
/// request that fails is the caller's to judge (it may have been applied).
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// The range end of "every key from `key` on", and together with it as key, of every key.
pub const ZERO: &[u8] = b"\0";

/// The smallest key that is greater than every key with this prefix.
pub fn prefix_end(prefix: impl AsRef<[u8]>) -> Bytes {
    let mut end = prefix.as_ref().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(ZERO)
}

/// A put of `value` at `key`.
pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

/// A linearizable get of one key.
pub fn get(key: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        ..RangeRequest::default()
    }
}

/// A linearizable get of `[key, end)`.
pub fn range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

/// A linearizable get of every key that begins with `prefix`.
pub fn prefix(prefix: impl AsRef<[u8]>) -> RangeRequest {
    range(prefix.as_ref(), prefix_end(prefix.as_ref()))
}

/// A deletion of one key.
pub fn delete(key: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        ..DeleteRangeRequest::default()
    }
}

/// A deletion of `[key, end)`.
pub fn delete_range(key: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

/// Any request as an operation of a transaction.
pub fn op(request: impl Into<Operation>) -> RequestOp {
    RequestOp {
        request: Some(request.into().0),
    }
}

/// See [`op`].
#[derive(Debug)]
pub struct Operation(request_op::Request);

macro_rules! operation {
    ($($request:ident => $variant:ident),*) => {$(
        impl From<$request> for Operation {
            fn from(request: $request) -> Operation {
                Operation(request_op::Request::$variant(request))
            }
        }
    )*};
}

operation!(PutRequest => RequestPut, RangeRequest => RequestRange, DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn);

fn bytes(of: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(of.as_ref())
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::from_shared(url.to_owned())
        .expect("a URL")
        .connect_timeout(Duration::from_secs(2))
        .timeout(CALL_LIMIT)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
}

impl Client {
    /// A client of the member at `url`; connects on first use.
    ///
    /// # Panics
    /// If `url` is none.
    pub fn new(url: &str) -> Client {
        Client {
            channel: endpoint(url).connect_lazy(),
        }
    }

    /// The same with TLS: the member is believed to be `host`.
    ///
    /// # Panics
    /// If `url` is none, or the bundle holds no certificates.
    pub fn secure(url: &str, host: &str, bundle: &Bundle) -> Client {
        let endpoint = endpoint(url).tls_config(bundle.config(host));
        Client {
            channel: endpoint.expect("certificates").connect_lazy(),
        }
    }

    /// A client over a connection made elsewhere.
    pub fn over(channel: Channel) -> Client {
        Client { channel }
    }

    /// Key-value calls. Answers may be of any size.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Watch calls. Answers may be of any size.
    pub fn watch_client(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Lease calls.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Membership calls.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// Maintenance calls.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Locks.
    pub fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    /// Elections.
    pub fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    /// Auth calls.
    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    /// Puts `value` at `key`.
    ///
    /// # Errors
    /// etcd's, as in every method here.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Answer<PutResponse> {
        self.put_with(put(key, value)).await
    }

    /// Sends a put as given.
    ///
    /// # Errors
    /// etcd's.
    pub async fn put_with(&self, request: PutRequest) -> Answer<PutResponse> {
        Ok(self.kv().put(request).await?.into_inner())
    }

    /// Reads one key, linearizably.
    ///
    /// # Errors
    /// etcd's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Answer<RangeResponse> {
        self.range(get(key)).await
    }

    /// Sends a range as given.
    ///
    /// # Errors
    /// etcd's.
    pub async fn range(&self, request: RangeRequest) -> Answer<RangeResponse> {
        Ok(self.kv().range(request).await?.into_inner())
    }

    /// Sends a deletion as given.
    ///
    /// # Errors
    /// etcd's.
    pub async fn delete(&self, request: DeleteRangeRequest) -> Answer<DeleteRangeResponse> {
        Ok(self.kv().delete_range(request).await?.into_inner())
    }

    /// Sends a transaction.
    ///
    /// # Errors
    /// etcd's.
    pub async fn txn(&self, request: TxnRequest) -> Answer<TxnResponse> {
        Ok(self.kv().txn(request).await?.into_inner())
    }

    /// Compacts the history below `revision` and waits until the space is given back.
    ///
    /// # Errors
    /// etcd's.
    pub async fn compact(&self, revision: i64) -> Answer<CompactionResponse> {
        Ok(self
            .kv()
            .compact(CompactionRequest {
                revision,
                physical: true,
            })
            .await?
            .into_inner())
    }

    /// The store's current revision, read linearizably.
    ///
    /// # Errors
    /// etcd's.
    pub async fn revision(&self) -> Answer<i64> {
        Ok(self
            .get("revision?")
            .await?
            .header
            .unwrap_or_default()
            .revision)
    }

    /// Grants a lease; `id` 0 lets the server choose.
    ///
    /// # Errors
    /// etcd's.
    pub async fn grant(&self, ttl: i64, id: i64) -> Answer<LeaseGrantResponse> {
        Ok(self
            .lease()
            .lease_grant(LeaseGrantRequest { ttl, id })
            .await?
            .into_inner())
    }

    /// Revokes a lease.
    ///
    /// # Errors
    /// etcd's.
    pub async fn revoke(&self, id: i64) -> Answer<LeaseRevokeResponse> {
        Ok(self
            .lease()
            .lease_revoke(LeaseRevokeRequest { id })
            .await?
            .into_inner())
    }

    /// Renews a lease once, on a stream of its own.
    ///
    /// # Errors
    /// etcd's; `Unknown` if the stream ends without an answer.
    pub async fn keep_alive(&self, id: i64) -> Answer<LeaseKeepAliveResponse> {
        let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
        let mut answers = self.lease().lease_keep_alive(requests).await?.into_inner();
        answers
            .message()
            .await?
            .ok_or_else(|| Status::unknown("the stream ended without an answer"))
    }

    /// A lease's remaining time and, if `keys`, what is attached to it.
    ///
    /// # Errors
    /// etcd's.
    pub async fn time_to_live(&self, id: i64, keys: bool) -> Answer<LeaseTimeToLiveResponse> {
        Ok(self
            .lease()
            .lease_time_to_live(LeaseTimeToLiveRequest { id, keys })
            .await?
            .into_inner())
    }

    /// The members, read linearizably.
    ///
    /// # Errors
    /// etcd's.
    pub async fn members(&self) -> Answer<Vec<Member>> {
        let request = MemberListRequest { linearizable: true };
        Ok(self
            .cluster()
            .member_list(request)
            .await?
            .into_inner()
            .members)
    }

    /// This member's status.
    ///
    /// # Errors
    /// etcd's.
    pub async fn status(&self) -> Answer<StatusResponse> {
        Ok(self
            .maintenance()
            .status(StatusRequest {})
            .await?
            .into_inner())
    }

    /// This member's hash of all keys up to `revision` (0 = current).
    ///
    /// # Errors
    /// etcd's.
    pub async fn hash_kv(&self, revision: i64) -> Answer<HashKvResponse> {
        Ok(self
            .maintenance()
            .hash_kv(HashKvRequest { revision })
            .await?
            .into_inner())
    }

    /// Alarms: reads, raises or clears them.
    ///
    /// # Errors
    /// etcd's.
    pub async fn alarm(
        &self,
        action: alarm_request::AlarmAction,
        member_id: u64,
        alarm: AlarmType,
    ) -> Answer<AlarmResponse> {
        let request = AlarmRequest {
            action: action.into(),
            member_id,
            alarm: alarm.into(),
        };
        Ok(self.maintenance().alarm(request).await?.into_inner())
    }

    /// Hands leadership to `target_id`; to be asked of the leader.
    ///
    /// # Errors
    /// etcd's.
    pub async fn move_leader(&self, target_id: u64) -> Answer<MoveLeaderResponse> {
        Ok(self
            .maintenance()
            .move_leader(MoveLeaderRequest { target_id })
            .await?
            .into_inner())
    }

    /// A stream of watches.
    pub fn watch(&self) -> Watch {
        Watch::open(self, false)
    }
}

/// A request that a member without leader refuses at once.
pub fn require_leader<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(
        "hasleader",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    request
}

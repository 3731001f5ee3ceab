//! The service KV.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, BytesMut};
use etcd_mvcc::{check_delete, check_put, check_range, check_txn, is_read_only, is_serializable};
use etcd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, InternalRaftRequest, PutRequest,
    RangeRequest, TxnRequest,
};
use etcd_replica::{Response, View};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::{Request, Status};

use super::codec::Encoded;
use super::guard::Guard;
use super::status::{read_status, status};
use crate::driver::{Node, Observation, Reply, RequestError, RequestKind};

/// The generated server.
#[allow(unreachable_pub, missing_docs, clippy::all)]
pub(super) mod generated {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.KV.rs"));
}
use generated::k_v_server;

/// Results beyond so many keys are collected on a blocking thread.
const INLINE_KEYS_MAX: i64 = 1_000;

/// KV over a node.
#[derive(Clone)]
pub struct KvService {
    node: Node,
    guard: Guard,
    max_txn_ops: usize,
}

type Reply_<T> = Result<tonic::Response<T>, Status>;

impl KvService {
    /// `max_txn_ops`: of `--max-txn-ops`.
    pub fn new(node: Node, guard: Guard, max_txn_ops: usize) -> Self {
        KvService {
            node,
            guard,
            max_txn_ops,
        }
    }

    async fn read(&self, request: RangeRequest) -> Result<Encoded, Status> {
        let began = Instant::now();
        let result = self.try_read(request).await;
        self.node.observe(Observation::Request {
            kind: RequestKind::Range,
            success: result.is_ok(),
            took: began.elapsed(),
        });
        result
    }

    async fn try_read(&self, request: RangeRequest) -> Result<Encoded, Status> {
        self.node.counts().ranges.add(1);
        let view = self
            .node
            .read_view(request.serializable)
            .await
            .map_err(|e| status(&e))?;
        let header = self.node.header(view.kv.revision());
        let long = !request.range_end.is_empty()
            && (request.limit == 0 || request.limit > INLINE_KEYS_MAX);
        let began = Instant::now();
        let result = if long && !request.count_only {
            blocking(move || encode_range(&view, &request, &header)).await?
        } else {
            encode_range(&view, &request, &header)
        };
        self.node.observe(Observation::Range {
            success: result.is_ok(),
            took: began.elapsed(),
        });
        result
    }

    async fn write(&self, cost: u64, request: InternalRaftRequest) -> Result<Reply, Status> {
        if cost > 0 && !self.node.has_space_for(cost) {
            self.node.raise_no_space();
            return Err(status(&RequestError::NoSpace));
        }
        self.node.propose(request).await.map_err(|e| status(&e))
    }

    /// A transaction without writes never enters the log.
    async fn read_txn(&self, request: TxnRequest) -> Result<Encoded, Status> {
        self.node.counts().txns.add(1);
        let serializable = is_serializable(&request);
        let view = self
            .node
            .read_view(serializable)
            .await
            .map_err(|e| status(&e))?;
        let header = self.node.header(view.kv.revision());
        blocking(move || {
            let mut response = view
                .kv
                .txn(&request)
                .map_err(|e| status(&RequestError::Apply(e.into())))?;
            response.header = Some(header);
            Ok(Encoded::of(&response))
        })
        .await?
    }
}

#[tonic::async_trait]
impl k_v_server::KV for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Reply_<Encoded> {
        self.guard.read(&request, request.get_ref().serializable)?;
        let request = request.into_inner();
        check_range(&request).map_err(|e| status(&e.into()))?;
        self.read(request).await.map(tonic::Response::new)
    }

    type RangeStreamStream = Pin<Box<dyn futures::Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Reply_<Self::RangeStreamStream> {
        self.guard.read(&request, request.get_ref().serializable)?;
        let request = request.into_inner();
        check_range(&request).map_err(|e| status(&e.into()))?;
        super::range_stream::check(&request)?;
        self.node.counts().ranges.add(1);
        let view = self
            .node
            .read_view(request.serializable)
            .await
            .map_err(|e| status(&e))?;
        let stream = super::range_stream::stream(self.node.clone(), view, request)?;
        Ok(tonic::Response::new(Box::pin(stream)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Reply_<Encoded> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        check_put(&request).map_err(|e| status(&e.into()))?;
        let cost = etcd_mvcc::put_cost(&request);
        let request = InternalRaftRequest {
            put: Some(request),
            ..InternalRaftRequest::default()
        };
        let reply = self.write(cost, request).await?;
        match reply.result.map_err(|e| status(&e.into()))? {
            Response::Put(mut response) => {
                response.header = Some(self.node.header(reply.revision));
                Ok(tonic::Response::new(Encoded::of(&response)))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(&self, request: Request<DeleteRangeRequest>) -> Reply_<Encoded> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        check_delete(&request).map_err(|e| status(&e.into()))?;
        let request = InternalRaftRequest {
            delete_range: Some(request),
            ..InternalRaftRequest::default()
        };
        let reply = self.write(0, request).await?;
        match reply.result.map_err(|e| status(&e.into()))? {
            Response::DeleteRange(mut response) => {
                response.header = Some(self.node.header(reply.revision));
                Ok(tonic::Response::new(Encoded::of(&response)))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Reply_<Encoded> {
        let reads_only = is_read_only(request.get_ref());
        self.guard
            .read(&request, reads_only && is_serializable(request.get_ref()))?;
        let request = request.into_inner();
        check_txn(&request, self.max_txn_ops).map_err(|e| status(&e.into()))?;
        if reads_only {
            let encoded = self.read_txn(request).await?;
            return Ok(tonic::Response::new(encoded));
        }
        let cost = etcd_mvcc::txn_cost(&request);
        let request = InternalRaftRequest {
            txn: Some(request),
            ..InternalRaftRequest::default()
        };
        let reply = self.write(cost, request).await?;
        match reply.result.map_err(|e| status(&e.into()))? {
            Response::Txn(mut response) => {
                response.header = Some(self.node.header(reply.revision));
                Ok(tonic::Response::new(Encoded::of(&response)))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Reply_<Encoded> {
        self.guard.write(&request)?;
        let request = request.into_inner();
        let physical = request.physical;
        let request = InternalRaftRequest {
            compaction: Some(request),
            ..InternalRaftRequest::default()
        };
        let reply = self.write(0, request).await?;
        reply.result.map_err(|e| status(&e.into()))?;
        if physical {
            self.node.compacted().await.map_err(|e| status(&e))?;
        }
        let response = CompactionResponse {
            header: Some(self.node.header(reply.revision)),
        };
        Ok(tonic::Response::new(Encoded::of(&response)))
    }
}

/// Encodes a RangeResponse around pairs that are encoded already.
pub(super) fn encode_range(
    view: &Arc<View>,
    request: &RangeRequest,
    header: &etcd_proto::etcdserverpb::ResponseHeader,
) -> Result<Encoded, Status> {
    let header_len = header.encoded_len();
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(1 << 3 | 2);
    encode_varint(header_len as u64, &mut out);
    header.encode_raw(&mut out);
    let summary = view
        .kv
        .range_encoded(request, &mut out)
        .map_err(|e| read_status(&e))?;
    if summary.more {
        out.put_u8(3 << 3);
        out.put_u8(1);
    }
    if summary.count != 0 {
        out.reserve(1 + encoded_len_varint(summary.count as u64));
        out.put_u8(4 << 3);
        encode_varint(summary.count as u64, &mut out);
    }
    Ok(Encoded(out.freeze()))
}

/// Runs long work off the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Status::unknown(e.to_string()))
}

fn unexpected(response: &Response) -> Status {
    Status::unknown(format!(
        "etcdserver: a request was answered with {response:?}"
    ))
}

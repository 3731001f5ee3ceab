//! The service KV.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, BytesMut};
use etcd_mvcc::{
    RangeSummary, check_delete, check_put, check_range, check_txn, is_read_only, is_serializable,
};
use etcd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, InternalRaftRequest, PutRequest,
    RangeRequest, ResponseHeader, TxnRequest,
};
use etcd_replica::{Response, View};
use prost::Message as _;
use prost::encoding::encode_varint;
use tonic::{Request, Status};

use super::codec::Encoded;
use super::guard::Guard;
use super::pieces::PiecesWriter;
use super::status::{read_status, status};
use super::turns::{TURN_BYTES, Turn, Turns};
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
    turns: Turns,
}

type Reply_<T> = Result<tonic::Response<T>, Status>;

impl KvService {
    /// `max_txn_ops`: of `--max-txn-ops`.
    pub fn new(node: Node, guard: Guard, max_txn_ops: usize) -> Self {
        KvService {
            node,
            guard,
            max_txn_ops,
            turns: Turns::new(),
        }
    }

    async fn read(&self, request: RangeRequest) -> Reply_<Encoded> {
        let began = Instant::now();
        let result = self.try_read(request).await;
        self.node.observe(Observation::Request {
            kind: RequestKind::Range,
            success: result.is_ok(),
            took: began.elapsed(),
        });
        result
    }

    async fn try_read(&self, request: RangeRequest) -> Reply_<Encoded> {
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
            let turn = self.turns.begin().await?;
            blocking(move || long_range(&view, &request, &header, turn)).await?
        } else {
            encode_range(&view, &request, &header).map(tonic::Response::new)
        };
        self.node.observe(Observation::Range {
            success: result.is_ok(),
            took: began.elapsed(),
        });
        result
    }

    async fn write(&self, cost: u64, request: InternalRaftRequest) -> Result<Reply, Status> {
        write(&self.node, cost, request).await
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
        self.read(request).await
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

/// Proposes what takes `cost` bytes, if there is space for them.
pub(super) async fn write(
    node: &Node,
    cost: u64,
    request: InternalRaftRequest,
) -> Result<Reply, Status> {
    if cost > 0 && !node.has_space_for(cost) {
        node.raise_no_space();
        return Err(status(&RequestError::NoSpace));
    }
    node.propose(request).await.map_err(|e| status(&e))
}

/// Tags of a RangeResponse.
const HEADER: u8 = 1;
const KVS: u8 = 2;
const MORE: u8 = 3;
const COUNT: u8 = 4;

/// Encodes a RangeResponse around pairs that are encoded already.
fn encode_range(
    view: &Arc<View>,
    request: &RangeRequest,
    header: &ResponseHeader,
) -> Result<Encoded, Status> {
    let mut out = BytesMut::with_capacity(256);
    begin_range(&mut out, header);
    let summary = view
        .kv
        .range_encoded(request, &mut out)
        .map_err(|e| read_status(&e))?;
    end_range(&mut out, &summary);
    Ok(Encoded(out.freeze()))
}

/// The same for a range that may be long, in turns with others. The reply carries it in
/// pieces beside an empty message, unless it turns out to be short.
fn long_range(
    view: &Arc<View>,
    request: &RangeRequest,
    header: &ResponseHeader,
    mut turn: Turn,
) -> Reply_<Encoded> {
    let mut out = PiecesWriter::default();
    let (mut turn_end, mut interrupted) = (TURN_BYTES, Ok(()));
    begin_range(out.open(), header);
    let summary = view
        .kv
        .range_items(request, &mut |item| {
            out.pair(KVS, &item);
            if out.len() > turn_end && interrupted.is_ok() {
                turn_end = out.len() + TURN_BYTES;
                interrupted = turn.next();
            }
        })
        .map_err(|e| read_status(&e))?;
    interrupted?;
    end_range(out.open(), &summary);
    let pieces = match out.finish().joined() {
        Ok(bytes) => return Ok(tonic::Response::new(Encoded(bytes))),
        Err(pieces) if !pieces.fits() => {
            let text = "Cannot return body with more than 4GB of data";
            return Err(Status::resource_exhausted(text));
        }
        Err(pieces) => pieces,
    };
    let mut response = tonic::Response::new(Encoded::default());
    response.extensions_mut().insert(pieces);
    Ok(response)
}

fn begin_range(out: &mut BytesMut, header: &ResponseHeader) {
    out.put_u8(HEADER << 3 | 2);
    encode_varint(header.encoded_len() as u64, out);
    header.encode_raw(out);
}

fn end_range(out: &mut BytesMut, summary: &RangeSummary) {
    if summary.more {
        out.put_u8(MORE << 3);
        out.put_u8(1);
    }
    if summary.count != 0 {
        out.put_u8(COUNT << 3);
        encode_varint(summary.count as u64, out);
    }
}

/// Runs long work off the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Status::unknown(e.to_string()))
}

pub(super) fn unexpected(response: &Response) -> Status {
    Status::unknown(format!(
        "etcdserver: a request was answered with {response:?}"
    ))
}

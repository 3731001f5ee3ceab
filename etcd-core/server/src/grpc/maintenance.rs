//! The service Maintenance.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use etcd_proto::etcdserverpb::maintenance_server::Maintenance;
use etcd_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    InternalRaftRequest, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use etcd_replica::{ImageSource, Response as Applied};
use etcd_storage::bolt::Sha256Trailer;
use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::guard::Guard;
use super::kv::blocking;
use super::status::{archive_status, read_status, status};
use crate::driver::{HashError, Node, Observation};
use crate::version::{SERVER_VERSION, STORAGE_VERSION};

/// etcd's size of a blob of a snapshot.
const BLOB_BYTES: usize = 32 << 10;
/// Blobs that wait for a slow reader.
const BLOBS_WAITING: usize = 16;

/// Maintenance over a node.
#[derive(Clone)]
pub struct MaintenanceService {
    node: Node,
    guard: Guard,
}

impl MaintenanceService {
    /// Over a node.
    pub fn new(node: Node, guard: Guard) -> Self {
        MaintenanceService { node, guard }
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        self.guard.write(&request)?;
        let request = InternalRaftRequest {
            alarm: Some(request.into_inner()),
            ..InternalRaftRequest::default()
        };
        let reply = self.node.propose(request).await.map_err(|e| status(&e))?;
        match reply.result.map_err(|e| status(&e.into()))? {
            Applied::Alarm(alarms) => Ok(Response::new(AlarmResponse {
                header: Some(self.node.header(reply.revision)),
                alarms,
            })),
            other => Err(Status::unknown(format!(
                "etcdserver: an alarm was answered with {other:?}"
            ))),
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.guard.any(&request)?;
        let view = self.node.view();
        let leadership = self.node.leadership();
        let mut errors = Vec::new();
        if leadership.leader == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        for alarm in view.alarms.of(AlarmType::None) {
            errors.push(format!(
                "memberID:{} alarm:{} ",
                alarm.member_id,
                alarm.alarm().as_str_name()
            ));
        }
        Ok(Response::new(StatusResponse {
            header: Some(self.node.header(view.kv.revision())),
            version: SERVER_VERSION.to_owned(),
            db_size: size(view.db_size.max(LEAST_DB_SIZE)),
            leader: leadership.leader,
            raft_index: self.node.commit_index(),
            raft_term: leadership.term,
            raft_applied_index: view.index,
            errors,
            db_size_in_use: size(view.db_size_in_use.max(LEAST_DB_SIZE)),
            is_learner: self.node.is_learner(),
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: self.node.quota_bytes().map_or(0, size),
            downgrade_info: Some(DowngradeInfo {
                enabled: view.downgrade.enabled,
                target_version: view.downgrade.target.clone(),
            }),
        }))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.guard.write(&request)?;
        self.node.defragment().await.map_err(|e| status(&e))?;
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.guard.write(&request)?;
        let capture = self.node.capture().await.map_err(|e| status(&e))?;
        let revision = capture.view.kv.revision();
        let began = Instant::now();
        let hash = blocking(move || capture.hash())
            .await?
            .map_err(|e| archive_status(&e))?;
        self.node.observe(Observation::Hash(began.elapsed()));
        Ok(Response::new(HashResponse {
            header: Some(self.node.header(revision)),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.guard.write(&request)?;
        let asked = request.into_inner().revision;
        let (hash, revision) = self
            .node
            .hash_kv(asked)
            .await
            .map_err(|error| match error {
                HashError::Read(error) => read_status(&error),
                HashError::Request(error) => status(&error),
            })?;
        Ok(Response::new(HashKvResponse {
            header: Some(self.node.header(revision)),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.guard.any(&request)?;
        let capture = self.node.capture().await.map_err(|e| status(&e))?;
        let source = blocking(move || ImageSource::plan(&capture))
            .await?
            .map_err(|e| Status::unknown(e.to_string()))?;
        let (blobs, stream) = mpsc::channel(BLOBS_WAITING);
        let (node, began) = (self.node.clone(), Instant::now());
        tokio::task::spawn_blocking(move || {
            let mut out = Sha256Trailer::new(Blobs::new(source.size(), blobs.clone()));
            let written = source
                .write_to(&mut out)
                .and_then(|()| out.finish())
                .and_then(|(mut rest, _)| rest.send());
            node.observe(Observation::SnapshotStreamed(began.elapsed()));
            if let Err(error) = written {
                // The reader has gone, or it learns of the failure here.
                let _gone = blobs.blocking_send(Err(Status::unknown(error.to_string())));
            }
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(stream),
        )))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.guard.write(&request)?;
        if !self.node.leadership().is_leader {
            return Err(status(&crate::driver::RequestError::NotLeader));
        }
        let target = request.into_inner().target_id;
        self.node
            .move_leader(target)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.guard.write(&request)?;
        Err(Status::unimplemented(
            "etcdserver: downgrade is not supported by this version",
        ))
    }
}

/// What Status tells of an empty store: the least a database of etcd's has, five pages.
/// Stock etcdctl divides by the size, and panics if it is 0.
const LEAST_DB_SIZE: u64 = 5 * 4096;

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Cuts what is written into blobs, the trailing hash into one of its own.
struct Blobs {
    /// Bytes of the image that are not sent yet.
    left: u64,
    buffer: Vec<u8>,
    out: mpsc::Sender<Result<SnapshotResponse, Status>>,
}

impl Blobs {
    fn new(image_bytes: u64, out: mpsc::Sender<Result<SnapshotResponse, Status>>) -> Self {
        Blobs {
            left: image_bytes,
            buffer: Vec::with_capacity(BLOB_BYTES),
            out,
        }
    }

    fn send(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let blob = Bytes::from(std::mem::replace(
            &mut self.buffer,
            Vec::with_capacity(BLOB_BYTES),
        ));
        self.left = self.left.saturating_sub(blob.len() as u64);
        let response = SnapshotResponse {
            header: None,
            remaining_bytes: self.left,
            blob,
            version: STORAGE_VERSION.to_owned(),
        };
        self.out
            .blocking_send(Ok(response))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }
}

impl std::io::Write for Blobs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // The image fills its blobs exactly to its end, so that the hash stands alone.
        let image_room = usize::try_from(self.left - (self.buffer.len() as u64).min(self.left))
            .unwrap_or(usize::MAX);
        let room = BLOB_BYTES - self.buffer.len();
        let take = bytes
            .len()
            .min(room)
            .min(if image_room == 0 { room } else { image_room });
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == BLOB_BYTES || self.buffer.len() as u64 == self.left {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

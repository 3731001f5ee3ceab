//! Answers in the members' name: gRPC on the client port, health and admission on the
//! metrics port, at whatever address the operator dials.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use etcd_proto::etcdserverpb::{
    cluster_server::{Cluster, ClusterServer},
    maintenance_server::{Maintenance, MaintenanceServer},
    *,
};
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Server, server::TcpConnectInfo};
use tonic::{Request, Response, Status};

use super::members::{Answer, Line, Members, Runs, VERSION, new_id};
use super::secure::{self, Secure};

#[derive(Clone)]
struct Stub(Arc<Members>);

/// Begins to answer on every address of this network.
pub(super) async fn serve(members: Arc<Members>, secure: Arc<Secure>) -> Result<()> {
    let http = TcpListener::bind(("0.0.0.0", 2381))
        .await
        .context("the metrics port")?;
    let all = Arc::clone(&members);
    tokio::spawn(async move {
        while let Ok((connection, _)) = http.accept().await {
            let members = Arc::clone(&all);
            tokio::spawn(async move {
                // The operator may hang up whenever it likes.
                drop(health(&members, connection).await);
            });
        }
    });
    let stub = Stub(members);
    let server = Server::builder()
        .add_service(ClusterServer::new(stub.clone()))
        .add_service(MaintenanceServer::new(stub));
    // Members' own port: only looked at for its certificate.
    for (port, router) in [(2379, server.clone()), (2380, server)] {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
        let listener = listener.with_context(|| format!("port {port}"))?;
        let wires = secure::accept(listener, Arc::clone(&secure));
        tokio::spawn(async move {
            if let Err(error) = router.serve_with_incoming(wires).await {
                eprintln!("port {port}: {error}");
            }
        });
    }
    Ok(())
}

/// Plain HTTP, one request after the other.
async fn health(members: &Members, mut connection: TcpStream) -> std::io::Result<()> {
    let SocketAddr::V4(local) = connection.local_addr()? else {
        return Ok(());
    };
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            if connection.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&read);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (code, body) = match (members.at(*local.ip()), path) {
            (Runs::Admission(uid), "/admission") => (
                "200 OK",
                serde_json::json!({"podUID": uid, "found": "Empty", "version": VERSION})
                    .to_string(),
            ),
            (Runs::Etcd(answer), "/readyz") if answer.leader != 0 => ("200 OK", "ok".to_owned()),
            (Runs::Etcd(_) | Runs::Admission(_), "/livez") => ("200 OK", "ok".to_owned()),
            (Runs::Etcd(_), "/readyz") => ("503 Service Unavailable", "no leader".to_owned()),
            _ => ("404 Not Found", "404 page not found".to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {code}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(answer.as_bytes()).await?;
        read.clear();
    }
}

impl Stub {
    fn answer<T>(&self, request: &Request<T>) -> Result<Answer, Status> {
        match self.0.at(local(request)?) {
            Runs::Etcd(answer) => Ok(answer),
            _ => Err(Status::unavailable("no etcd runs here")),
        }
    }
}

fn local<T>(request: &Request<T>) -> Result<Ipv4Addr, Status> {
    let info = request.extensions().get::<TcpConnectInfo>();
    match info.and_then(TcpConnectInfo::local_addr) {
        Some(SocketAddr::V4(address)) => Ok(*address.ip()),
        _ => Err(Status::internal("a connection to no address")),
    }
}

fn header(answer: &Answer) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: answer.cluster,
        member_id: answer.member,
        revision: 1,
        raft_term: 2,
    })
}

fn lines(members: &[Line]) -> Vec<Member> {
    let lines = members.iter().map(|line| Member {
        id: line.id,
        name: line.name.clone(),
        peer_ur_ls: vec![line.url.clone()],
        is_learner: line.learner,
        ..Member::default()
    });
    lines.collect()
}

const NOT_HERE: &str = "the bench's members do not do this";

#[tonic::async_trait]
impl Cluster for Stub {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let answer = self.answer(&request)?;
        let address = local(&request)?;
        let asked = request.into_inner();
        let url = asked.peer_ur_ls.first().cloned().unwrap_or_default();
        let added = self.0.change(address, |members| {
            let line = Line {
                id: new_id(&url),
                name: String::new(),
                url,
                learner: asked.is_learner,
            };
            members.push(line.clone());
            (line, members.clone())
        });
        let (line, all) = added.ok_or_else(|| Status::unavailable("gone"))?;
        Ok(Response::new(MemberAddResponse {
            header: header(&answer),
            member: lines(&[line]).pop(),
            members: lines(&all),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let answer = self.answer(&request)?;
        let address = local(&request)?;
        let id = request.into_inner().id;
        self.0
            .change(address, |members| members.retain(|line| line.id != id));
        Ok(Response::new(MemberRemoveResponse {
            header: header(&answer),
            members: Vec::new(),
        }))
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let answer = self.answer(&request)?;
        if answer.leader == 0 {
            return Err(Status::unavailable("etcdserver: no leader"));
        }
        Ok(Response::new(MemberListResponse {
            header: header(&answer),
            members: lines(&answer.members),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let answer = self.answer(&request)?;
        let address = local(&request)?;
        let id = request.into_inner().id;
        self.0.change(address, |members| {
            for line in members.iter_mut().filter(|line| line.id == id) {
                line.learner = false;
            }
        });
        Ok(Response::new(MemberPromoteResponse {
            header: header(&answer),
            members: Vec::new(),
        }))
    }
}

type Snapshots = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Maintenance for Stub {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let answer = self.answer(&request)?;
        Ok(Response::new(StatusResponse {
            header: header(&answer),
            version: VERSION.to_owned(),
            leader: answer.leader,
            raft_index: 100,
            raft_term: 2,
            raft_applied_index: 100,
            is_learner: answer.learner,
            db_size: 32 << 10,
            db_size_in_use: 16 << 10,
            db_size_quota: 2 << 30,
            storage_version: "3.7.0".to_owned(),
            ..StatusResponse::default()
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let answer = self.answer(&request)?;
        Ok(Response::new(AlarmResponse {
            header: header(&answer),
            alarms: Vec::new(),
        }))
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    type SnapshotStream = Snapshots;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Snapshots>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn move_leader(
        &self,
        _: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }
}

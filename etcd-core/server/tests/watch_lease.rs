//! The services Watch and Lease over a socket, at a member of one in this process.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_proto::etcdserverpb::kv_client::KvClient;
use etcd_proto::etcdserverpb::lease_client::LeaseClient;
use etcd_proto::etcdserverpb::lease_server::LeaseServer;
use etcd_proto::etcdserverpb::watch_client::WatchClient;
use etcd_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use etcd_proto::mvccpb::event::EventType;
use etcd_replica::{Boot, Member};
use etcd_server::driver::{NoPeers, Node, NodeConfig};
use etcd_server::grpc::{
    Guard, KvServer, KvService, LeaseService, NoForward, WatchServer, WatchService,
};
use etcd_storage::disk::{Disk, RealDisk};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Streaming};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PEER_URL: &str = "http://localhost:2380";

struct Member1 {
    node: Node,
    channel: Channel,
    server: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Member1 {
    async fn start() -> Member1 {
        let directory = tempfile::tempdir().unwrap();
        let node = open(directory.path());
        let guard = Guard::new(node.clone());
        let interval = Duration::from_millis(100);
        let routes = Server::builder()
            .add_service(KvServer::new(KvService::new(
                node.clone(),
                guard.clone(),
                128,
            )))
            .add_service(WatchServer::new(WatchService::new(
                node.clone(),
                guard.clone(),
                interval,
            )))
            .add_service(LeaseServer::new(LeaseService::new(
                node.clone(),
                guard,
                Arc::new(NoForward),
            )));
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = tokio::net::TcpListener::bind(any).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let served = routes
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
            served.unwrap();
        });
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        // The first entry of the term makes this member ready for all requests.
        node.read_index().await.unwrap();
        Member1 {
            node,
            channel,
            server,
            _directory: directory,
        }
    }

    async fn put(&self, key: &str, value: impl Into<Vec<u8>>, lease: i64) -> i64 {
        let put = PutRequest {
            key: key.to_owned().into(),
            value: value.into().into(),
            lease,
            ..PutRequest::default()
        };
        let response = KvClient::new(self.channel.clone()).put(put).await.unwrap();
        response.into_inner().header.unwrap().revision
    }

    async fn delete(&self, key: &str) -> i64 {
        let delete = DeleteRangeRequest {
            key: key.to_owned().into(),
            ..DeleteRangeRequest::default()
        };
        let response = KvClient::new(self.channel.clone())
            .delete_range(delete)
            .await
            .unwrap();
        response.into_inner().header.unwrap().revision
    }

    async fn count(&self, key: &str) -> i64 {
        let range = RangeRequest {
            key: key.to_owned().into(),
            ..RangeRequest::default()
        };
        let response = KvClient::new(self.channel.clone())
            .range(range)
            .await
            .unwrap();
        response.into_inner().count
    }

    async fn watch(&self) -> Watching {
        let (requests, receiver) = channel(16);
        let stream = ReceiverStream::new(receiver);
        let responses = WatchClient::new(self.channel.clone())
            .watch(stream)
            .await
            .unwrap();
        Watching {
            requests,
            responses: responses.into_inner(),
        }
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    async fn grant(&self, ttl: i64, id: i64) -> i64 {
        let granted = self
            .lease()
            .lease_grant(LeaseGrantRequest { ttl, id })
            .await
            .unwrap();
        granted.into_inner().id
    }

    fn end(self) {
        self.server.abort();
        tokio::task::block_in_place(|| self.node.stop());
    }
}

fn open(directory: &Path) -> Node {
    let config = NodeConfig {
        directory: directory.join("member"),
        wal_directory: directory.join("member").join("wal"),
        heartbeat: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        initial_election_tick_advance: true,
        pre_vote: true,
        snapshot_count: 1000,
        snapshot_catchup_entries: 500,
        max_wals: 5,
        quota_bytes: None,
        max_request_bytes: 3 << 19,
        max_learners: 1,
        warning_apply_duration: Duration::from_secs(1),
        lease_checkpoint: false,
        force_new_cluster: false,
        unsafe_no_fsync: true,
        observer: None,
    };
    let peer_urls = vec![PEER_URL.to_owned()];
    let id = etcd_replica::member_id(&peer_urls, "etcd-cluster", None);
    let member = Member {
        id,
        peer_urls,
        name: "default".into(),
        ..Member::default()
    };
    let boot = Boot::New {
        member_id: id,
        members: vec![member],
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let recovered = Node::open(&disk, &config, &boot).unwrap();
    let die = Box::new(|line: &str| panic!("{line}"));
    let node = Node::start(disk, &config, recovered, Arc::new(NoPeers), die).unwrap();
    node.begin();
    node
}

struct Watching {
    requests: Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(request).await.unwrap();
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        self.next().await
    }

    async fn next(&mut self) -> WatchResponse {
        let message = tokio::time::timeout(PATIENCE, self.responses.message());
        message
            .await
            .expect("a response in time")
            .unwrap()
            .expect("a response")
    }
}

fn key(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        ..WatchCreateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b085_b086_b091_a_watch_from_its_creation_to_its_end() {
    let member = Member1::start().await;
    let first = member.put("k", "1", 0).await;
    let mut watch = member.watch().await;
    let created = watch.create(key("k")).await;
    assert!(created.created && !created.canceled);
    let header = created.header.unwrap();
    assert_eq!(header.revision, first);
    assert_eq!(header.member_id, member.node.member_id());
    assert_eq!(header.cluster_id, member.node.cluster_id());
    assert_ne!(header.raft_term, 0);
    member.put("other", "x", 0).await;
    let second = member.put("k", "2", 0).await;
    let event = watch.next().await.events.remove(0);
    assert_eq!(event.kv.unwrap().mod_revision, second);
    let deleted = member.delete("k").await;
    let event = watch.next().await.events.remove(0);
    assert_eq!(event.r#type(), EventType::Delete);
    assert_eq!(event.kv.unwrap().mod_revision, deleted);

    let mut replay = member.watch().await;
    replay
        .create(WatchCreateRequest {
            start_revision: first,
            prev_kv: true,
            ..key("k")
        })
        .await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(replay.next().await.events);
    }
    let prev: Vec<Option<i64>> = seen
        .iter()
        .map(|e| e.prev_kv.as_ref().map(|kv| kv.mod_revision))
        .collect();
    assert_eq!(prev, [None, Some(first), Some(second)]);

    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 });
    watch.ask(cancel).await;
    let canceled = watch.next().await;
    assert!(canceled.canceled && !canceled.created && canceled.compact_revision == 0);
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn b088_b104_s28_refusals_and_compactions_leave_the_stream_open() {
    let member = Member1::start().await;
    for value in ["1", "2", "3"] {
        member.put("k", value, 0).await;
    }
    let compaction = CompactionRequest {
        revision: 3,
        physical: true,
    };
    KvClient::new(member.channel.clone())
        .compact(compaction)
        .await
        .unwrap();
    let mut watch = member.watch().await;
    let refused = watch
        .create(WatchCreateRequest {
            range_end: "a".into(),
            ..key("b")
        })
        .await;
    assert!(refused.created && refused.canceled && refused.watch_id == -1);
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    let refused = watch
        .create(WatchCreateRequest {
            start_revision: -1,
            ..key("k")
        })
        .await;
    assert_eq!(
        refused.cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
    let created = watch
        .create(WatchCreateRequest {
            start_revision: 2,
            ..key("k")
        })
        .await;
    assert!(created.created && !created.canceled);
    let canceled = watch.next().await;
    assert_eq!((canceled.canceled, canceled.compact_revision), (true, 3));
    assert_eq!(canceled.header.unwrap().revision, 0);
    watch
        .create(WatchCreateRequest {
            start_revision: 3,
            ..key("k")
        })
        .await;
    let events = watch.next().await.events;
    assert_eq!(events[0].kv.as_ref().unwrap().mod_revision, 3);

    // S28: what resumes at a compacted deletion is still told of it.
    let deleted = member.delete("k").await;
    let compaction = CompactionRequest {
        revision: deleted,
        physical: true,
    };
    KvClient::new(member.channel.clone())
        .compact(compaction)
        .await
        .unwrap();
    let mut resumed = member.watch().await;
    resumed
        .create(WatchCreateRequest {
            start_revision: deleted,
            prev_kv: true,
            ..key("k")
        })
        .await;
    let event = resumed.next().await.events.remove(0);
    assert_eq!(event.r#type(), EventType::Delete);
    assert_eq!(
        (event.kv.unwrap().mod_revision, event.prev_kv),
        (deleted, None)
    );
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn b100_b101_progress_is_told_when_asked_for() {
    let member = Member1::start().await;
    let mut watch = member.watch().await;
    watch
        .create(WatchCreateRequest {
            progress_notify: true,
            ..key("k")
        })
        .await;
    let now = member.put("other", "x", 0).await;
    loop {
        let progress = watch.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (0, 0));
        if progress.header.unwrap().revision == now {
            break;
        }
    }
    let mut other = member.watch().await;
    other.create(key("k")).await;
    other
        .ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    let progress = other.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, now);
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn s31_a_client_that_does_not_read_gets_everything_when_it_does() {
    let member = Member1::start().await;
    let mut stalled = member.watch().await;
    let start = stalled.create(key("k")).await.header.unwrap().revision;
    let count = 300;
    for _ in 0..count {
        member.put("k", vec![b'v'; 20_000], 0).await;
    }
    assert_eq!(member.node.watches().stats().slow_watchers, 1);
    let mut last = start;
    while last < start + count {
        for event in stalled.next().await.events {
            last += 1;
            assert_eq!(event.kv.unwrap().mod_revision, last);
        }
    }
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn b108_a_dropped_stream_leaves_no_watcher() {
    let member = Member1::start().await;
    let mut watch = member.watch().await;
    watch.create(key("a")).await;
    watch.create(key("b")).await;
    assert_eq!(member.node.watches().stats().watchers, 2);
    // A client that has said its last is still told of events.
    let Watching {
        requests,
        mut responses,
    } = watch;
    drop(requests);
    member.put("a", "1", 0).await;
    assert_eq!(responses.message().await.unwrap().unwrap().events.len(), 1);
    drop(responses);
    tokio::time::timeout(PATIENCE, async {
        while member.node.watches().stats().watchers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn b062_b068_b073_a_lease_from_its_grant_to_its_revocation() {
    let member = Member1::start().await;
    let id = member.grant(60, 0).await;
    assert!(id > 0);
    let again = member
        .lease()
        .lease_grant(LeaseGrantRequest { ttl: 60, id })
        .await;
    let again = again.unwrap_err();
    assert_eq!(
        (again.code(), again.message()),
        (Code::FailedPrecondition, "etcdserver: lease already exists")
    );
    let long = LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 0,
    };
    let long = member.lease().lease_grant(long).await.unwrap_err();
    assert_eq!(
        (long.code(), long.message()),
        (Code::OutOfRange, "etcdserver: too large lease TTL")
    );
    member.put("b", "", id).await;
    member.put("a", "", id).await;
    let ask = |keys| LeaseTimeToLiveRequest { id, keys };
    let state = member
        .lease()
        .lease_time_to_live(ask(true))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (state.granted_ttl, state.keys),
        (60, vec!["a".into(), "b".into()])
    );
    assert!((50..=60).contains(&state.ttl));
    let state = member
        .lease()
        .lease_time_to_live(ask(false))
        .await
        .unwrap()
        .into_inner();
    assert!(state.keys.is_empty());
    let listed = member
        .lease()
        .lease_leases(LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.leases.iter().map(|l| l.id).collect::<Vec<_>>(), [id]);

    let mut watch = member.watch().await;
    watch
        .create(WatchCreateRequest {
            range_end: "c".into(),
            ..key("a")
        })
        .await;
    let revoked = member
        .lease()
        .lease_revoke(LeaseRevokeRequest { id })
        .await
        .unwrap();
    let revision = revoked.into_inner().header.unwrap().revision;
    let events = watch.next().await.events;
    assert_eq!(events.len(), 2);
    assert!(
        events
            .iter()
            .all(|e| e.kv.as_ref().unwrap().mod_revision == revision)
    );
    assert_eq!(events[0].kv.as_ref().unwrap().key, "a");
    let twice = member
        .lease()
        .lease_revoke(LeaseRevokeRequest { id })
        .await
        .unwrap_err();
    assert_eq!(
        (twice.code(), twice.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
    let state = member
        .lease()
        .lease_time_to_live(ask(true))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((state.id, state.ttl, state.granted_ttl), (id, -1, 0));
    member.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn b069_b070_b071_a_lease_lives_while_it_is_kept_alive() {
    let member = Member1::start().await;
    let id = member.grant(1, 0).await;
    member.put("k", "", id).await;
    let (requests, receiver) = channel(4);
    let answers = member
        .lease()
        .lease_keep_alive(ReceiverStream::new(receiver))
        .await;
    let mut answers = answers.unwrap().into_inner();
    requests
        .send(LeaseKeepAliveRequest { id: 424_242 })
        .await
        .unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.id, answer.ttl), (424_242, 0));
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        requests.send(LeaseKeepAliveRequest { id }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (id, 1));
        assert_eq!(member.count("k").await, 1);
    }
    let mut watch = member.watch().await;
    watch.create(key("k")).await;
    let event = watch.next().await.events.remove(0);
    assert_eq!(event.r#type(), EventType::Delete);
    requests.send(LeaseKeepAliveRequest { id }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 0);
    drop(requests);
    assert!(
        answers.message().await.unwrap().is_none(),
        "the stream ends with its requests"
    );
    member.end();
}

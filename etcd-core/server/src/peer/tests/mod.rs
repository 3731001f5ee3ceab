//! Transports against each other over loopback sockets, and their parts alone.

mod codec;
mod protocol;
mod queue;
mod streams;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_proto::raftpb::{ConfState, Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::codec::StreamKind;
use super::*;

const CLUSTER: u64 = 0xcafe;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A member: a transport behind a listener whose connections can be cut.
struct Host {
    id: u64,
    address: SocketAddr,
    transport: PeerTransport,
    events: mpsc::Receiver<PeerEvent>,
    connections: Arc<Mutex<JoinSet<()>>>,
    directory: TempDir,
    _listener: tokio::task::JoinHandle<()>,
}

impl Host {
    async fn start(id: u64) -> Host {
        Host::start_in(id, CLUSTER, 4096).await
    }

    async fn start_in(id: u64, cluster_id: u64, room: usize) -> Host {
        let dialer = Arc::new(TcpDialer);
        Host::start_with(id, cluster_id, room, dialer, |_| Ok(())).await
    }

    async fn start_with(
        id: u64,
        cluster_id: u64,
        room: usize,
        dialer: Arc<dyn Dialer>,
        verify_image: fn(&Path) -> Result<(), String>,
    ) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (sender, events) = mpsc::channel(room);
        let config = PeerConfig {
            local_id: id,
            cluster_id,
            server_version: "3.7.3".to_owned(),
            min_cluster_version: "3.0.0".to_owned(),
            local_peer_urls: vec![format!("http://{address}")],
            snapshot_dir: directory.path().to_owned(),
            verify_image,
            dialer,
            dial_timeout: Duration::from_secs(2),
        };
        let runtime = tokio::runtime::Handle::current();
        let transport = PeerTransport::new(config, Arc::new(sender), runtime);
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let service = TowerToHyperService::new(transport.handler());
        let accepted = connections.clone();
        let accept = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                accepted.lock().spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // Connections of these tests end in every way there is.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Host {
            id,
            address,
            transport,
            events,
            connections,
            directory,
            _listener: accept,
        }
    }

    fn urls(&self) -> Vec<String> {
        vec![format!("http://{}", self.address)]
    }

    /// Breaks every connection that was accepted.
    fn cut(&self) {
        self.connections.lock().abort_all();
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .unwrap()
    }

    /// The next message, whatever else comes before it.
    async fn message(&mut self) -> Message {
        loop {
            if let PeerEvent::Message(message) = self.event().await {
                return message;
            }
        }
    }

    /// Waits until both streams to a member are open.
    async fn connected_to(&self, id: u64) {
        let link = self.transport.link(id).unwrap();
        until(|| {
            let open = |kind| link.queue(kind).is_connected();
            open(StreamKind::MsgApp) && open(StreamKind::Message)
        })
        .await;
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }
}

/// Two members that know each other, all streams open.
async fn pair() -> (Host, Host) {
    let (one, two) = (Host::start(1).await, Host::start(2).await);
    one.transport.add_peer(2, &two.urls());
    two.transport.add_peer(1, &one.urls());
    one.connected_to(2).await;
    two.connected_to(1).await;
    (one, two)
}

async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, poll).await.expect("a condition in time");
}

fn heartbeat(from: u64, to: u64, commit: u64) -> Message {
    Message {
        r#type: MessageType::MsgHeartbeat as i32,
        from,
        to,
        term: 3,
        commit,
        ..Message::default()
    }
}

/// The append of one entry of `len` bytes behind `index`.
fn append(from: u64, to: u64, index: u64, len: usize) -> Message {
    let entry = Entry {
        term: 3,
        index: index + 1,
        data: vec![index as u8; len].into(),
        ..Entry::default()
    };
    Message {
        r#type: MessageType::MsgApp as i32,
        from,
        to,
        term: 3,
        log_term: 3,
        index,
        entries: vec![entry],
        commit: index,
        ..Message::default()
    }
}

fn snapshot(from: u64, to: u64, index: u64) -> Message {
    let conf_state = ConfState {
        voters: vec![from, to],
        ..ConfState::default()
    };
    let metadata = SnapshotMetadata {
        conf_state: Some(conf_state),
        index,
        term: 3,
    };
    Message {
        r#type: MessageType::MsgSnap as i32,
        from,
        to,
        term: 3,
        snapshot: Some(Snapshot {
            data: vec![b'{'; 1000].into(),
            metadata: Some(metadata),
        }),
        ..Message::default()
    }
}

/// An image of so many bytes, of which it writes perhaps other ones.
struct Image {
    announced: usize,
    written: usize,
    fails: bool,
}

impl Image {
    fn of(len: usize) -> Image {
        Image {
            announced: len,
            written: len,
            fails: false,
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }
}

impl SnapshotSource for Image {
    fn size(&self) -> u64 {
        self.announced as u64
    }

    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for piece in Image::bytes(self.written).chunks(4096) {
            out.write_all(piece)?;
        }
        match self.fails {
            true => Err(io::Error::other("disk")),
            false => Ok(()),
        }
    }
}

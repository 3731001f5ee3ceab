//! Three members in this process, over a network that can be cut.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use etcd_proto::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, PutRequest};
use etcd_proto::raftpb::{Message, MessageType};
use etcd_replica::{Boot, Input, Member, Membership};
use etcd_server::driver::{KeepAlive, Node, NodeConfig, Peers, SnapshotSource};
use etcd_storage::disk::{Disk, RealDisk};

/// Hands messages to the other nodes, unless it is cut or they are gone.
#[derive(Default)]
struct Wire {
    nodes: OnceLock<Vec<Node>>,
    cut: AtomicBool,
    /// A member to which nothing can be sent; 0 is nobody.
    gone: AtomicU64,
}

struct End(Arc<Wire>);

impl Peers for End {
    fn send(&self, messages: Vec<Message>) {
        let Some(nodes) = self.0.nodes.get() else {
            return;
        };
        for message in messages {
            if self.0.gone.load(Ordering::Acquire) == message.to {
                let from = nodes.iter().find(|n| n.member_id() == message.from);
                if let (MessageType::MsgProp, Some(from)) = (message.r#type(), from) {
                    from.unsent(message);
                }
                continue;
            }
            let to = nodes.iter().find(|n| n.member_id() == message.to);
            if let (false, Some(to)) = (self.0.cut.load(Ordering::Acquire), to) {
                to.receive(Input::Message(message)).ok();
            }
        }
    }

    fn send_snapshot(&self, _message: Message, _image: Box<dyn SnapshotSource>) {
        panic!("nobody lags here");
    }

    fn set_members(&self, _membership: &Membership) {}

    fn active_since(&self, _id: u64) -> Option<Instant> {
        None
    }
}

fn start(directory: &Path, members: &[Member], place: usize, wire: &Arc<Wire>) -> Node {
    let member = directory.join(place.to_string());
    let config = NodeConfig {
        wal_directory: member.join("wal"),
        directory: member,
        heartbeat: Duration::from_millis(50),
        election_timeout: Duration::from_millis(500),
        initial_election_tick_advance: true,
        pre_vote: true,
        snapshot_count: 10_000,
        snapshot_catchup_entries: 5_000,
        max_wals: 5,
        quota_bytes: None,
        max_request_bytes: 1 << 20,
        max_learners: 1,
        warning_apply_duration: Duration::from_secs(1),
        lease_checkpoint: false,
        force_new_cluster: false,
        unsafe_no_fsync: true,
        observer: None,
    };
    let boot = Boot::New {
        member_id: members[place].id,
        members: members.to_vec(),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let recovered = Node::open(&disk, &config, &boot).unwrap();
    let die = Box::new(|line: &str| panic!("{line}"));
    let node = Node::start(disk, &config, recovered, Arc::new(End(wire.clone())), die).unwrap();
    node.begin();
    node
}

/// Three members, and the one that leads.
async fn three(directory: &Path, wire: &Arc<Wire>) -> (Vec<Node>, Node) {
    let members: Vec<Member> = (1..=3)
        .map(|id| Member {
            id,
            peer_urls: vec![format!("http://localhost:{id}")],
            ..Member::default()
        })
        .collect();
    let nodes: Vec<Node> = (0..3)
        .map(|place| start(directory, &members, place, wire))
        .collect();
    assert!(wire.nodes.set(nodes.clone()).is_ok());
    let mut changes = nodes[0].leadership_changes();
    let led = changes.wait_for(|l| l.leader != 0);
    let leader = tokio::time::timeout(Duration::from_secs(30), led)
        .await
        .unwrap()
        .unwrap()
        .leader;
    let leader = nodes.iter().find(|n| n.member_id() == leader).unwrap();
    (nodes.clone(), leader.clone())
}

fn put(key: &'static str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.into(),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s26_a_leader_without_a_quorum_keeps_no_lease_alive() {
    let directory = tempfile::tempdir().unwrap();
    let wire = Arc::new(Wire::default());
    let (nodes, leader) = three(directory.path(), &wire).await;
    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    let request = InternalRaftRequest {
        lease_grant: Some(grant),
        ..InternalRaftRequest::default()
    };
    leader.propose(request).await.unwrap().result.unwrap();
    assert_eq!(leader.renew_lease(7).await, Ok(KeepAlive::Renewed(60)));

    // It still takes itself for the leader, for an election timeout at least.
    wire.cut.store(true, Ordering::Release);
    assert!(leader.leadership().is_leader);
    let (renewed, told) = tokio::join!(leader.renew_lease(7), leader.lease_time_to_live(7));
    assert!(renewed.is_err(), "{renewed:?}");
    assert!(told.is_err(), "{told:?}");
    tokio::task::block_in_place(|| nodes.iter().for_each(Node::stop));
}

/// Stock etcd drops what it cannot forward, and its client waits in vain.
#[tokio::test(flavor = "multi_thread")]
async fn b035_proposals_and_reads_of_a_follower_outlive_the_leader() {
    let directory = tempfile::tempdir().unwrap();
    let wire = Arc::new(Wire::default());
    let (nodes, leader) = three(directory.path(), &wire).await;
    let id = leader.member_id();
    let follower = nodes.iter().find(|n| n.member_id() != id).unwrap();
    let before = follower.propose(put("before")).await.unwrap().revision;

    wire.gone.store(id, Ordering::Release);
    tokio::task::block_in_place(|| leader.stop());
    assert_eq!(follower.leadership().leader, id, "it does not know yet");
    let puts = ["a", "b", "c"].map(|key| follower.propose(put(key)));
    let (puts, read) = tokio::join!(futures::future::join_all(puts), follower.read_index());
    read.unwrap();
    for put in puts {
        put.unwrap().result.unwrap();
    }
    let after = follower.propose(put("after")).await.unwrap().revision;
    assert_eq!(after, before + 4, "each once");
    tokio::task::block_in_place(|| nodes.iter().for_each(Node::stop));
}

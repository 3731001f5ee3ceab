//! A member of one, in this process, on a real disk.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_proto::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
};
use etcd_replica::{Boot, Member, Response};
use etcd_server::driver::{NoPeers, Node, NodeConfig, Reply};
use etcd_storage::disk::{Disk, RealDisk};

const PEER_URL: &str = "http://localhost:2380";

fn config(directory: &Path) -> NodeConfig {
    NodeConfig {
        directory: directory.join("member"),
        wal_directory: directory.join("member").join("wal"),
        heartbeat: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        initial_election_tick_advance: true,
        pre_vote: true,
        snapshot_count: 100,
        snapshot_catchup_entries: 50,
        max_wals: 5,
        quota_bytes: None,
        max_request_bytes: 1 << 20,
        max_learners: 1,
        warning_apply_duration: Duration::from_secs(1),
        lease_checkpoint: false,
        force_new_cluster: false,
        unsafe_no_fsync: false,
        observer: None,
    }
}

fn boot() -> Boot {
    let peer_urls = vec![PEER_URL.to_owned()];
    let id = etcd_replica::member_id(&peer_urls, "etcd-cluster", None);
    Boot::New {
        member_id: id,
        members: vec![Member {
            id,
            peer_urls,
            name: "default".into(),
            ..Member::default()
        }],
    }
}

fn start(directory: &Path) -> Node {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let config = config(directory);
    let recovered = Node::open(&disk, &config, &boot()).unwrap();
    let die = Box::new(|line: &str| panic!("{line}"));
    let node = Node::start(disk, &config, recovered, Arc::new(NoPeers), die).unwrap();
    node.begin();
    node
}

async fn put(node: &Node, key: &str, value: &str) -> Reply {
    put_leased(node, key, value, 0).await
}

async fn put_leased(node: &Node, key: &str, value: &str, lease: i64) -> Reply {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..PutRequest::default()
    };
    let request = InternalRaftRequest {
        put: Some(put),
        ..InternalRaftRequest::default()
    };
    node.propose(request).await.unwrap()
}

async fn get(node: &Node, key: &str) -> Option<(String, i64)> {
    let view = node.read_view(false).await.unwrap();
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let response = view.kv.range(&request).unwrap();
    response.kvs.first().map(|kv| {
        (
            String::from_utf8(kv.value.to_vec()).unwrap(),
            kv.mod_revision,
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn b040_writes_survive_a_restart_across_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    // Well beyond several checkpoints.
    for i in 0..1000 {
        let reply = put(&node, &format!("k{:03}", i % 200), &format!("v{i}")).await;
        assert_eq!(reply.revision, i + 2);
    }
    assert_eq!(get(&node, "k007").await, Some(("v807".into(), 809)));
    let hash = node.view().kv.hash_kv(0).unwrap();
    tokio::task::block_in_place(|| node.stop());
    drop(node);

    let node = start(directory.path());
    assert_eq!(get(&node, "k007").await, Some(("v807".into(), 809)));
    assert_eq!(node.view().kv.revision(), 1001);
    assert_eq!(
        node.view().kv.hash_kv(0).unwrap(),
        hash,
        "b039: the hash is unchanged by a restart"
    );
    assert_eq!(put(&node, "new", "x").await.revision, 1002);
    tokio::task::block_in_place(|| node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_and_defragmentation_shrink_the_store_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let value = "x".repeat(1000);
    for _ in 0..500 {
        put(&node, "key", &value).await;
    }
    let compaction = CompactionRequest {
        revision: 500,
        physical: true,
    };
    let request = InternalRaftRequest {
        compaction: Some(compaction),
        ..InternalRaftRequest::default()
    };
    let reply = node.propose(request).await.unwrap();
    assert_eq!(reply.result.unwrap(), Response::Compaction);
    node.compacted().await.unwrap();
    node.defragment().await.unwrap();
    assert!(node.view().db_size < 20_000, "{}", node.view().db_size);
    let hash = node.view().kv.hash_kv(0).unwrap();
    tokio::task::block_in_place(|| node.stop());
    drop(node);

    let node = start(directory.path());
    assert_eq!(get(&node, "key").await, Some((value, 501)));
    assert_eq!(node.view().kv.compact_revision(), 500);
    assert_eq!(node.view().kv.hash_kv(0).unwrap(), hash);
    tokio::task::block_in_place(|| node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn b069_a_lease_that_runs_out_takes_its_keys_along() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let grant = LeaseGrantRequest { id: 7, ttl: 1 };
    let request = InternalRaftRequest {
        lease_grant: Some(grant),
        ..InternalRaftRequest::default()
    };
    assert_eq!(
        node.propose(request).await.unwrap().result.unwrap(),
        Response::LeaseGrant { id: 7, ttl: 1 }
    );
    put_leased(&node, "leased", "x", 7).await;
    assert!(get(&node, "leased").await.is_some());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while get(&node, "leased").await.is_some() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the lease did not run out"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!node.has_lease(7));
    tokio::task::block_in_place(|| node.stop());
}

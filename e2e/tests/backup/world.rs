//! What the tests have in common: one MinIO, members with a history, and what runs are told.

use std::time::Duration;

use bytes::Bytes;
use etcd_e2e::client::{delete, put, range};
use etcd_e2e::{Bucket, Client, Minio, Options, Pod, Process, Target};
use etcd_proto::mvccpb::KeyValue;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A MinIO that all tests share which leave it alone; each has a bucket of its own.
pub(crate) async fn minio() -> &'static Minio {
    static SHARED: OnceCell<Minio> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async { Minio::start().await.unwrap() })
        .await
}

/// A pod with a bucket of its own in the shared MinIO.
pub(crate) async fn s3(bucket: &str) -> (Pod, Bucket) {
    let minio = minio().await;
    let made = minio.bucket(bucket).await.unwrap();
    (Pod::s3(minio, None, bucket, "etcd/demo").unwrap(), made)
}

/// A member alone, of that target.
pub(crate) async fn etcd(target: Target) -> Process {
    Process::start(Options {
        target,
        ..Options::single()
    })
    .await
    .unwrap()
}

/// A history with everything in it: overwritten keys, deleted ones, leases, a compaction.
pub(crate) async fn history(client: &Client) {
    client.grant(600, 77).await.unwrap();
    client.grant(900, 78).await.unwrap();
    for round in 0..30 {
        let value = format!("value of round {round}");
        client.put(format!("k/{}", round % 7), value).await.unwrap();
    }
    client.delete(delete("k/3")).await.unwrap();
    let mut leased = put("leased", "1");
    leased.lease = 77;
    client.put_with(leased).await.unwrap();
    client.compact(12).await.unwrap();
    client.put("k/5", "last").await.unwrap();
}

/// So many values of 64 KiB that nothing compresses.
pub(crate) async fn noise(client: &Client, count: usize) {
    let mut state = 1_u64;
    for number in 0..count {
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .take(64 << 10)
        .collect();
        client.put(format!("noise/{number}"), value).await.unwrap();
    }
}

/// All keys as they are, but for what a restore changes.
pub(crate) async fn everything(client: &Client) -> Vec<KeyValue> {
    client.range(range(b"\0", b"\0")).await.unwrap().kvs
}

/// The cluster of a member, as a run is told of it.
pub(crate) async fn cluster(member: &Process) -> Value {
    let header = member.client().status().await.unwrap().header.unwrap();
    json!({
        "namespace": "ns", "name": "demo", "uid": "6b1f", "clusterID": format!("{:x}", header.cluster_id),
    })
}

/// Members as a run is told of them.
pub(crate) fn voters(members: &[&Process]) -> Value {
    members
        .iter()
        .map(|member| json!({"endpoint": member.client_url()}))
        .collect()
}

/// A `SnapshotRun`.
pub(crate) async fn snapshot(pod: &Pod, member: &Process, folder: &str) -> Value {
    json!({
        "cluster": cluster(member).await,
        "voters": voters(&[member]),
        "destination": pod.destination,
        "folder": folder,
    })
}

/// A source: a folder, as it is.
pub(crate) fn folder(pod: &Pod, folder: &str) -> Value {
    json!({"backup": {"destination": pod.destination, "folder": folder}})
}

/// A source: what leads to a target.
pub(crate) fn target(pod: &Pod, target: Value) -> Value {
    json!({"backup": {"destination": pod.destination, "target": target}})
}

/// A member on a data directory that `restore` makes in the pod, as `name`.
pub(crate) struct Restored {
    /// The report.
    pub(crate) report: Value,
    /// The member, which runs.
    pub(crate) member: Process,
}

/// Restores a source for a member of that target, and starts it.
pub(crate) async fn restored(pod: &Pod, target: Target, source: Value, bump: u64) -> Restored {
    let (mut member, told) = prepared(target, source, bump);
    let report = pod.succeed("restore", &told).await.unwrap();
    member.spawn().unwrap();
    member.ready().await.unwrap();
    let header = member.client().status().await.unwrap().header.unwrap();
    assert_eq!(report["clusterID"], format!("{:x}", header.cluster_id));
    assert_eq!(report["memberID"], format!("{:x}", header.member_id));
    Restored { report, member }
}

/// A member that does not run yet, and a `RestoreRun` for its directory.
pub(crate) fn prepared(target: Target, source: Value, bump: u64) -> (Process, Value) {
    let member = Process::prepare(Options {
        target,
        initial_cluster_token: "restored".into(),
        ..Options::single()
    })
    .unwrap();
    let told = json!({
        "id": "restore-1",
        "source": source,
        "dataDir": member.data_dir(),
        "member": member.name(),
        "members": [{"name": member.name(), "peerURLs": [member.peer_url()]}],
        "token": "restored",
        "bumpRevision": bump,
    });
    (member, told)
}

/// Starts a run again and again and kills it, each time a little later, until one is done; how many were killed.
/// `look` is called after each.
pub(crate) async fn killed_anywhere(
    pod: &Pod,
    command: &str,
    told: &Value,
    look: impl Fn(),
) -> usize {
    let mut after = Duration::from_millis(8);
    let mut killed = 0;
    loop {
        let mut run = pod.start(command, told).unwrap();
        tokio::time::sleep(after).await;
        if !run.is_running() {
            assert_eq!(run.end().await.unwrap().code, Some(0));
            return killed;
        }
        run.kill();
        look();
        killed += 1;
        after = after * 3 / 2;
    }
}

/// The one artifact of a folder.
pub(crate) async fn artifact(bucket: &Bucket, folder: &str) -> String {
    let keys = bucket
        .keys(&format!("etcd/demo/{folder}/snapshot-"))
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

/// Age identities, made by nobody else.
pub(crate) const KEYS: [&str; 2] = [
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
    "AGE-SECRET-KEY-1ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYG3ZYGSUZRZYL",
];

/// Bytes of a key.
pub(crate) fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

//! What a server keeps in memory.

use std::time::Duration;

use etcd_e2e::{Options, Process, eventually};
use etcd_proto::etcdserverpb::DefragmentRequest;
use etcd_storage::disk::RealDisk;
use etcd_storage::manifest::Manifest;

const WITHIN: Duration = Duration::from_secs(30);

/// Names of the segments that the process maps, in order.
fn mapped(server: &Process) -> Vec<String> {
    let pid = server.pid().expect("it runs");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let segments = maps.lines().filter(|line| line.contains(".seg"));
    let mut names: Vec<String> = segments
        .filter_map(|line| Some(line.rsplit_once('/')?.1.to_owned()))
        .collect();
    names.sort();
    names
}

/// Names of the segments that the store consists of, in order.
fn named(server: &Process) -> Vec<String> {
    let store = server.data_dir().join("member/store");
    let manifest = Manifest::load(&RealDisk, &store).expect("read");
    manifest.expect("there is one").segments
}

/// Segments that were rewritten are let go of, also if nothing is written afterwards.
#[tokio::test]
async fn a_segment_that_was_replaced_does_not_stay_mapped() {
    let server = Process::start(Options::single().args(["--snapshot-count=50"]))
        .await
        .unwrap();
    let client = server.client();
    for number in 0..400 {
        let key = format!("k/{}", number % 20);
        client.put(key, vec![b'v'; 2000]).await.unwrap();
    }
    let revision = client.revision().await.unwrap();
    client.compact(revision).await.unwrap();
    let before = named(&server);
    let mut maintenance = client.maintenance();
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
    eventually(
        WITHIN,
        "only what the store consists of is mapped",
        async || {
            let (mapped, named) = (mapped(&server), named(&server));
            match named != before && mapped == named {
                true => Ok(()),
                false => Err((mapped, named)),
            }
        },
    )
    .await;
}

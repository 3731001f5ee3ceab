//! Compaction that nobody asks for.

use etcd_e2e::client::get;
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::COMPACTED;
use etcd_e2e::{Cluster, Options, eventually};
use etcd_proto::etcdserverpb::RangeRequest;

#[tokio::test]
async fn auto_compaction_by_time() {
    let args = [
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1s",
    ];
    let cluster = Cluster::start(3, Options::single().args(args))
        .await
        .unwrap();
    let client = cluster.members[0].client();
    let first = client.put("k", "old").await.unwrap();
    let old = first.header.unwrap().revision;
    let newest = client.put("k", "new").await.unwrap();
    let newest = newest.header.unwrap().revision;
    let at = |revision| RangeRequest {
        revision,
        ..get("k")
    };
    for client in &cluster.clients() {
        eventually(
            AGREES_WITHIN,
            "the old revision is gone",
            async || match client.range(at(old)).await {
                Err(status) if COMPACTED.matches(&status) => Ok(()),
                outcome => Err(format!("{outcome:?}")),
            },
        )
        .await;
        // What is current is never compacted away.
        let now = client.range(at(newest)).await.unwrap();
        assert_eq!(now.kvs[0].value, "new");
    }
}

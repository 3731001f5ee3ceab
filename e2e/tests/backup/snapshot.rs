//! Full backups that nothing disturbs.

use std::time::Duration;

use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Cluster, Etcdutl, Options, Pod, Target, eventually};
use serde_json::{Value, json};

use crate::world::{
    KEYS, artifact, cluster, etcd, everything, folder, history, noise, restored, s3, snapshot,
    voters,
};

#[tokio::test]
async fn every_way_of_packing_comes_back_whole_from_a_bucket() {
    let (pod, bucket) = s3("packing").await;
    pod.write("encryption-key/age.key", KEYS[0]).unwrap();
    for target in [Target::Ours, Target::Stock] {
        let member = etcd(target).await;
        history(&member.client()).await;
        let hash = member.client().hash_kv(0).await.unwrap();
        // Two clusters: each has a prefix of its own.
        let mut pod = pod.another().unwrap();
        pod.destination["s3"]["prefix"] = json!(format!("etcd/{target}"));
        for (compression, encrypted, suffix) in [
            ("Zstd", false, ".db.zst"),
            ("Gzip", true, ".db.gz.age"),
            ("None", false, ".db"),
            ("Zstd", true, ".db.zst.age"),
        ] {
            let name = format!("{}-{encrypted}", compression.to_lowercase());
            let mut told = snapshot(&pod, &member, &name).await;
            told["compression"] = json!(compression);
            told["encrypted"] = json!(encrypted);
            let report = pod.succeed("snapshot", &told).await.unwrap();
            let made = &report["artifact"];
            assert_eq!(report["verification"], "Restore");
            assert_eq!(made["kvHash"], hash.hash, "{target} {compression}");
            assert_eq!(made["compactRevision"], hash.compact_revision);
            assert_eq!(made["revision"], hash.header.unwrap().revision);
            assert_eq!(made["totalKeys"], everything(&member.client()).await.len());
            assert_eq!(
                made["etcdVersion"],
                member.client().status().await.unwrap().version
            );
            let uri = made["uri"].as_str().unwrap();
            assert!(uri.ends_with(suffix), "{uri}");
            // The manifest is the last word, and nothing else is left.
            let keys = bucket
                .keys(&format!("etcd/{target}/{name}/"))
                .await
                .unwrap();
            assert_eq!(keys.len(), 2, "{keys:?}");
            let manifest: Value =
                serde_json::from_slice(&bucket.get(&keys[0]).await.unwrap()).unwrap();
            assert_eq!(manifest["storedSha256"], made["storedSha256"]);
            assert_eq!(made["encryptedTo"].is_string(), encrypted);
            let verified = pod
                .succeed("verify", &json!({"source": folder(&pod, &name)}))
                .await
                .unwrap();
            assert_eq!(verified["totalKeys"], made["totalKeys"]);
            assert_eq!(verified["sha256"], made["sha256"]);
        }
    }
}

#[tokio::test]
async fn a_plain_backup_is_what_stock_etcdutl_takes() {
    let (pod, bucket) = s3("plain").await;
    let scratch = Scratch::new().unwrap();
    let stock = Etcdutl::new().unwrap();
    for target in [Target::Ours, Target::Stock] {
        let member = etcd(target).await;
        history(&member.client()).await;
        let mut pod = pod.another().unwrap();
        pod.destination["s3"]["prefix"] = json!(format!("etcd/{target}"));
        let mut told = snapshot(&pod, &member, "plain").await;
        told["compression"] = json!("None");
        let made = pod.succeed("snapshot", &told).await.unwrap()["artifact"].clone();
        let keys = bucket
            .keys(&format!("etcd/{target}/plain/snapshot-"))
            .await
            .unwrap();
        let file = scratch.path().join(format!("{target}.db"));
        std::fs::write(&file, bucket.get(&keys[0]).await.unwrap()).unwrap();
        let file = file.to_str().unwrap();
        let status = stock
            .run(&["snapshot", "status", file, "-w", "json"])
            .await
            .unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["revision"], made["revision"]);
        // Stock etcdutl counts revisions, not keys.
        assert!(status["totalKey"].as_u64() >= made["totalKeys"].as_u64());
        let data = scratch.path().join(format!("{target}.etcd"));
        stock
            .run(&[
                "snapshot",
                "restore",
                file,
                "--data-dir",
                data.to_str().unwrap(),
            ])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_volume_is_as_good_as_a_bucket() {
    let pod = Pod::claim().unwrap();
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    for verification in ["Restore", "Checksum"] {
        let name = verification.to_lowercase();
        let mut told = snapshot(&pod, &member, &name).await;
        told["verification"] = json!(verification);
        let report = pod.succeed("snapshot", &told).await.unwrap();
        assert_eq!(report["verification"], verification);
        let uri = report["artifact"]["uri"].as_str().unwrap();
        assert!(
            uri.starts_with(&format!("pvc://backups/{name}/snapshot-")),
            "{uri}"
        );
        assert_eq!(
            std::fs::read_dir(pod.place("claim").join(&name))
                .unwrap()
                .count(),
            2
        );
    }
    let copy = restored(&pod, Target::Stock, folder(&pod, "restore"), 0).await;
    assert_eq!(
        everything(&copy.member.client()).await,
        everything(&member.client()).await
    );
}

#[tokio::test]
async fn a_large_one_goes_in_parts_and_a_checksum_proves_it() {
    let (pod, bucket) = s3("parts").await;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 400).await;
    let mut told = snapshot(&pod, &member, "large").await;
    told["verification"] = json!("Checksum");
    let report = pod.succeed("snapshot", &told).await.unwrap();
    let stored = report["artifact"]["storedBytes"].as_u64().unwrap();
    assert!(stored > 3 * (8 << 20), "{stored} bytes are no three parts");
    let key = artifact(&bucket, "large").await;
    assert_eq!(bucket.get(&key).await.unwrap().len() as u64, stored);
    assert_eq!(bucket.uploads(&key).await.unwrap(), 0);
    let verified = pod
        .succeed("verify", &json!({"source": folder(&pod, "large")}))
        .await
        .unwrap();
    assert_eq!(verified["totalKeys"], 400);
}

#[tokio::test]
async fn a_run_whose_answer_was_lost_finds_its_backup_and_proves_it_again() {
    let (pod, bucket) = s3("again").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    let told = snapshot(&pod, &member, "once").await;
    let first = pod.succeed("snapshot", &told).await.unwrap();
    member.client().put("later", "x").await.unwrap();
    let key = artifact(&bucket, "once").await;
    let second = pod
        .another()
        .unwrap()
        .succeed("snapshot", &told)
        .await
        .unwrap();
    assert_eq!(first["artifact"], second["artifact"]);
    assert_eq!(artifact(&bucket, "once").await, key);
}

#[tokio::test]
async fn o28_a_follower_is_read_and_whoever_is_ill_is_not() {
    let (pod, _) = s3("choice").await;
    let cluster_of = Cluster::start(
        3,
        Options {
            target: Target::Ours,
            ..Options::single()
        },
    )
    .await
    .unwrap();
    let leader = cluster_of.leader().await;
    let members: Vec<_> = cluster_of.members.iter().collect();
    members[leader].client().put("k", "v").await.unwrap();
    let mut told = json!({
        "cluster": cluster(members[0]).await,
        "voters": voters(&members),
        "destination": pod.destination,
        "folder": "follower",
    });
    let id = async |place: usize| format!("{:x}", cluster_of.id(place).await.unwrap());
    let report = pod.succeed("snapshot", &told).await.unwrap();
    assert_ne!(report["artifact"]["memberID"], id(leader).await);
    // With one follower held the other is read; the run does not wait for who is silent.
    let (held, other) = ((leader + 1) % 3, (leader + 2) % 3);
    members[held].pause().unwrap();
    told["folder"] = json!("other");
    let report = pod.succeed("snapshot", &told).await.unwrap();
    assert_eq!(report["artifact"]["memberID"], id(other).await);
    // Without quorum there is nobody to trust.
    members[other].pause().unwrap();
    eventually(
        Duration::from_secs(20),
        "the leader steps down",
        async || {
            let status = members[leader].client().status().await.unwrap();
            (status.leader == 0).then_some(()).ok_or(status.leader)
        },
    )
    .await;
    let mut pod = pod.another().unwrap();
    pod.patience = 1;
    told["folder"] = json!("none");
    let failed = pod.fail("snapshot", &told).await.unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("NoHealthyMember", true)
    );
    assert!(
        failed.message.contains("has no leader"),
        "{}",
        failed.message
    );
}

#[tokio::test]
async fn a_store_compacted_up_to_its_last_change_is_compared_all_the_same() {
    for target in [Target::Ours, Target::Stock] {
        let pod = Pod::claim().unwrap();
        let member = etcd(target).await;
        let client = member.client();
        history(&client).await;
        client
            .compact(client.revision().await.unwrap())
            .await
            .unwrap();
        let made = pod
            .succeed("snapshot", &snapshot(&pod, &member, "compacted").await)
            .await
            .unwrap();
        let artifact = &made["artifact"];
        assert_eq!(
            artifact["compactRevision"], artifact["revision"],
            "{target}"
        );
    }
}

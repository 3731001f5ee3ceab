//! Data directories of backups.

use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Etcdctl, Pod, Target};
use serde_json::{Value, json};

use crate::world::{
    KEYS, etcd, everything, folder, history, killed_anywhere, noise, prepared, restored, s3,
    snapshot,
};

#[tokio::test]
async fn either_server_starts_on_what_either_has_saved() {
    for from in [Target::Ours, Target::Stock] {
        let (pod, _) = s3(&format!("restore-{from}")).await;
        pod.write("encryption-key/age.key", KEYS[0]).unwrap();
        let member = etcd(from).await;
        history(&member.client()).await;
        let before = everything(&member.client()).await;
        let hash = member.client().hash_kv(0).await.unwrap();
        let mut told = snapshot(&pod, &member, "full").await;
        told["encrypted"] = json!(true);
        pod.succeed("snapshot", &told).await.unwrap();
        for to in [Target::Ours, Target::Stock] {
            let copy = restored(&pod.another().unwrap(), to, folder(&pod, "full"), 0).await;
            let client = copy.member.client();
            assert_eq!(everything(&client).await, before, "{from} to {to}");
            assert_eq!(
                client.hash_kv(0).await.unwrap().hash,
                hash.hash,
                "{from} to {to}"
            );
            let lease = client.time_to_live(77, true).await.unwrap();
            assert_eq!((lease.granted_ttl, lease.keys.len()), (600, 1));
            assert_eq!(
                client.time_to_live(78, true).await.unwrap().granted_ttl,
                900
            );
            let range = client
                .range(etcd_proto::etcdserverpb::RangeRequest {
                    revision: 11,
                    ..etcd_e2e::client::get("k/1")
                })
                .await;
            etcd_e2e::errors::COMPACTED.check(range);
        }
    }
}

#[tokio::test]
async fn o23_the_revision_is_raised_and_all_before_it_compacted() {
    let (pod, _) = s3("raised").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    let made = pod
        .succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let revision = made["artifact"]["revision"].as_i64().unwrap();
    for to in [Target::Ours, Target::Stock] {
        let copy = restored(
            &pod.another().unwrap(),
            to,
            folder(&pod, "full"),
            1_000_000_000,
        )
        .await;
        assert_eq!(copy.report["revision"], revision + 1_000_000_000);
        assert_eq!(copy.report["compactRevision"], revision + 1_000_000_000);
        assert_eq!(copy.report["totalKeys"], made["artifact"]["totalKeys"]);
        let client = copy.member.client();
        assert_eq!(
            everything(&client).await,
            everything(&member.client()).await
        );
        let mut watch = client.watch();
        let created = watch
            .create(etcd_proto::etcdserverpb::WatchCreateRequest {
                start_revision: revision + 1,
                key: crate::world::key("k/1"),
                ..Default::default()
            })
            .await;
        // An informer that goes on where it was is told to list anew.
        let answer = match created.compact_revision {
            0 => watch.next().await,
            _ => created,
        };
        assert!(answer.compact_revision > revision, "{to}: {answer:?}");
        // The row that raises the revision is no key of a client, in later backups either.
        let (again, _) = s3(&format!("raised-{to}")).await;
        let told = snapshot(&again, &copy.member, "full").await;
        let second = again.succeed("snapshot", &told).await.unwrap();
        assert_eq!(
            second["artifact"]["totalKeys"],
            made["artifact"]["totalKeys"]
        );
    }
}

#[tokio::test]
async fn a_bare_file_of_stock_etcdctl_is_restored_too() {
    let (pod, bucket) = s3("bare").await;
    let scratch = Scratch::new().unwrap();
    let member = etcd(Target::Stock).await;
    history(&member.client()).await;
    let file = scratch.path().join("saved.db");
    Etcdctl::new(&[member.client_url()])
        .unwrap()
        .run(&["snapshot", "save", file.to_str().unwrap()])
        .await
        .unwrap();
    let saved = std::fs::read(&file).unwrap();
    bucket
        .put("etcd/demo/by-hand/saved.db", saved.clone())
        .await
        .unwrap();
    let source = json!({"file": {"destination": pod.destination, "key": "by-hand/saved.db"}});
    let verified = pod
        .succeed("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert!(verified["artifact"].is_null() && verified["folder"].is_null());
    let copy = restored(&pod, Target::Ours, source, 0).await;
    assert_eq!(
        everything(&copy.member.client()).await,
        everything(&member.client()).await
    );
    // Copied from a data directory it has no digest, and is not believed.
    bucket
        .put(
            "etcd/demo/by-hand/raw.db",
            saved[..saved.len() - 32].to_vec(),
        )
        .await
        .unwrap();
    let raw = json!({"file": {"destination": pod.destination, "key": "by-hand/raw.db"}});
    let failed = pod.fail("verify", &json!({"source": raw})).await.unwrap();
    assert_eq!(failed.reason, "Corrupt");
    assert!(
        failed.message.contains("no SHA-256 at its end"),
        "{}",
        failed.message
    );
    // Swapped for another good one: the digest that was told says so.
    let wrong = json!({"file": {"destination": pod.destination, "key": "by-hand/saved.db", "sha256": "00".repeat(32)}});
    assert_eq!(
        pod.fail("verify", &json!({"source": wrong}))
            .await
            .unwrap()
            .reason,
        "Corrupt"
    );
}

#[tokio::test]
async fn o21_a_directory_with_a_member_in_it_is_left_alone() {
    let (pod, _) = s3("occupied").await;
    let mut member = etcd(Target::Ours).await;
    history(&member.client()).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let (_, mut told) = prepared(Target::Ours, folder(&pod, "full"), 0);
    member.client().put("after", "x").await.unwrap();
    member.kill();
    told["dataDir"] = json!(member.data_dir());
    let failed = pod.fail("restore", &told).await.unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("DataDirNotEmpty", false)
    );
    member.restart().await.unwrap();
    let kept = member.client().get("after").await.unwrap();
    assert_eq!(kept.kvs.len(), 1);
}

#[tokio::test]
async fn o22_what_is_damaged_is_found_before_anything_is_touched() {
    let (pod, bucket) = s3("untouched").await;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 20).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let key = crate::world::artifact(&bucket, "full").await;
    bucket
        .tamper(&key, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        })
        .await
        .unwrap();
    let (copy, told) = prepared(Target::Ours, folder(&pod, "full"), 0);
    let failed = pod.fail("restore", &told).await.unwrap();
    assert_eq!(failed.reason, "Corrupt");
    assert!(!copy.data_dir().join("member").exists());
    // The answer names what a run expects, and a run that expects another image refuses.
    let good = pod.another().unwrap();
    pod.succeed("snapshot", &snapshot(&pod, &member, "second").await)
        .await
        .unwrap();
    let (_, mut told) = prepared(Target::Ours, folder(&pod, "second"), 0);
    told["expectedSha256"] = json!("00".repeat(32));
    let failed = good.fail("restore", &told).await.unwrap();
    assert_eq!(failed.reason, "Corrupt");
    assert!(
        failed.message.contains("is not what was verified"),
        "{}",
        failed.message
    );
}

#[tokio::test]
async fn a_restore_killed_anywhere_is_done_by_the_next() {
    let (pod, _) = s3("killed-restore").await;
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 150).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let before = everything(&member.client()).await;
    let (mut copy, told) = prepared(Target::Ours, folder(&pod, "full"), 0);
    let member_dir = copy.data_dir().join("member");
    let killed = killed_anywhere(&pod, "restore", &told, || {
        let whole = ["wal", "snap/db"].map(|name| member_dir.join(name).exists());
        assert!(
            !member_dir.exists() || whole == [true; 2],
            "half a member: {whole:?}"
        );
    })
    .await;
    assert!(killed >= 3, "only {killed} were killed");
    let first = pod.succeed("restore", &told).await.unwrap();
    // The answer was lost, and the pod starts again, perhaps beside a member that has run since.
    let second = pod.succeed("restore", &told).await.unwrap();
    assert_eq!(first, second);
    copy.spawn().unwrap();
    copy.ready().await.unwrap();
    copy.client().put("after", "x").await.unwrap();
    copy.kill();
    assert_eq!(pod.succeed("restore", &told).await.unwrap(), first);
    copy.restart().await.unwrap();
    assert_eq!(copy.client().get("after").await.unwrap().kvs.len(), 1);
    assert_eq!(everything(&copy.client()).await.len(), before.len() + 1);
    // Another restore than the one that made it is refused.
    let mut other = told.clone();
    other["id"] = json!("restore-2");
    assert_eq!(
        pod.fail("restore", &other).await.unwrap().reason,
        "DataDirNotEmpty"
    );
}

#[tokio::test]
async fn a_list_tells_what_there_is_and_the_newest_is_taken_where_none_is_named() {
    let pod = Pod::claim().unwrap();
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    let mut revisions = Vec::new();
    for name in ["b", "a", "c"] {
        member.client().put("now", name).await.unwrap();
        let made = pod
            .succeed("snapshot", &snapshot(&pod, &member, name).await)
            .await
            .unwrap();
        revisions.push(made["artifact"]["revision"].as_i64().unwrap());
    }
    let list = pod
        .succeed("list", &json!({"destination": pod.destination}))
        .await
        .unwrap();
    let folders: Vec<&Value> = list["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["folder"])
        .collect();
    assert_eq!(folders, ["c", "a", "b"]);
    assert_eq!(
        list["clusterID"],
        crate::world::cluster(&member).await["clusterID"]
    );
    let newest = json!({"backup": {"destination": pod.destination}});
    let verified = pod
        .succeed("verify", &json!({"source": newest}))
        .await
        .unwrap();
    assert_eq!(verified["folder"], "c");
    let at = crate::world::target(&pod, json!({"revision": revisions[1]}));
    let verified = pod.succeed("verify", &json!({"source": at})).await.unwrap();
    assert_eq!(
        (&verified["folder"], &verified["reach"]["revision"]),
        (&json!("a"), &json!(revisions[1]))
    );
}

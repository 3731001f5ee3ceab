//! Keys below a prefix, out of a cluster and into one.

use etcd_e2e::client::{delete_range, prefix, prefix_end, put};
use etcd_e2e::{Client, Pod, Process, Target};
use serde_json::{Value, json};

use crate::world::{KEYS, cluster, etcd, folder, history, s3, snapshot, voters};

async fn export(pod: &Pod, member: &Process, folder: &str, prefix: &str) -> Value {
    json!({
        "cluster": cluster(member).await,
        "voters": voters(&[member]),
        "prefix": prefix,
        "destination": pod.destination,
        "folder": folder,
    })
}

async fn import(member: &Process, source: Value, prefix: &str) -> Value {
    json!({
        "source": source,
        "prefix": prefix,
        "cluster": cluster(member).await,
        "voters": voters(&[member]),
    })
}

async fn pairs(client: &Client, below: &str) -> Vec<(String, String)> {
    let found = client.range(prefix(below)).await.unwrap().kvs;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    found
        .iter()
        .map(|kv| (text(&kv.key), text(&kv.value)))
        .collect()
}

/// 1,203 keys below `app/`, one of them with a lease, and others besides.
async fn fill(client: &Client) {
    history(client).await;
    client.put("app", "not below it").await.unwrap();
    client.put("app0", "nor this").await.unwrap();
    for number in 0..1200 {
        client
            .put(format!("app/{number:04}"), format!("value {number}"))
            .await
            .unwrap();
    }
    client.put("app/ü", "ä").await.unwrap();
    client
        .put("app/large", "x".repeat(700 << 10))
        .await
        .unwrap();
    let mut leased = put("app/leased", "1");
    leased.lease = 77;
    client.put_with(leased).await.unwrap();
}

#[tokio::test]
async fn what_is_exported_from_one_cluster_is_imported_into_another() {
    let (pod, _) = s3("export").await;
    pod.write("encryption-key/age.key", KEYS[0]).unwrap();
    let (one, two) = (etcd(Target::Ours).await, etcd(Target::Stock).await);
    fill(&one.client()).await;
    let revision = one.client().revision().await.unwrap();
    let before = pairs(&one.client(), "app/").await;
    one.client().put("app/0000", "changed since").await.unwrap();
    let mut told = export(&pod, &one, "keys", "app/").await;
    told["revision"] = json!(revision);
    told["encrypted"] = json!(true);
    let report = pod.succeed("export", &told).await.unwrap();
    assert_eq!(
        (&report["keys"], &report["revision"]),
        (&json!(1203), &json!(revision))
    );
    assert_eq!(pod.succeed("export", &told).await.unwrap(), report);
    let mut told = import(&two, folder(&pod, "keys"), "app/").await;
    told["into"] = json!("copy/of/");
    let report = pod.succeed("import", &told).await.unwrap();
    let expected =
        json!({"written": 1203, "kept": 0, "withoutLease": 1, "revision": report["revision"]});
    assert_eq!(report, expected);
    let moved: Vec<(String, String)> = before
        .into_iter()
        .map(|(key, value)| (key.replacen("app/", "copy/of/", 1), value))
        .collect();
    assert_eq!(pairs(&two.client(), "copy/of/").await, moved);
    assert_eq!(pairs(&two.client(), "app").await, []);
    // Cut off and done again: what is there already is no obstacle.
    two.client()
        .delete(delete_range("copy/of/05", prefix_end("copy/of/05")))
        .await
        .unwrap();
    let again = pod.succeed("import", &told).await.unwrap();
    assert_eq!(
        (&again["written"], &again["kept"]),
        (&json!(100), &json!(1103))
    );
}

#[tokio::test]
async fn one_prefix_of_a_full_backup_is_restored_into_the_running_cluster() {
    let pod = Pod::claim().unwrap();
    let member = etcd(Target::Ours).await;
    let client = member.client();
    fill(&client).await;
    let before = pairs(&client, "app/").await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    client
        .delete(delete_range("app/", prefix_end("app/")))
        .await
        .unwrap();
    client
        .put("app/0001", "written by somebody meanwhile")
        .await
        .unwrap();
    client.put("other", "stays").await.unwrap();
    let told = import(&member, folder(&pod, "full"), "app/").await;
    let failed = pod.fail("import", &told).await.unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("KeysExist", false)
    );
    assert!(failed.message.contains("app/0001"), "{}", failed.message);
    assert_eq!(pairs(&client, "app/").await.len(), 1);
    let mut keep = told.clone();
    keep["existing"] = json!("Keep");
    let report = pod.succeed("import", &keep).await.unwrap();
    assert_eq!(
        (&report["written"], &report["kept"]),
        (&json!(1202), &json!(1))
    );
    assert_eq!(
        pairs(&client, "app/0001").await[0].1,
        "written by somebody meanwhile"
    );
    let mut over = told;
    over["existing"] = json!("Overwrite");
    pod.succeed("import", &over).await.unwrap();
    assert_eq!(pairs(&client, "app/").await, before);
    assert_eq!(pairs(&client, "other").await.len(), 1);
}

#[tokio::test]
async fn an_export_is_no_full_backup_and_a_damaged_one_writes_nothing() {
    let (pod, bucket) = s3("exports").await;
    let member = etcd(Target::Ours).await;
    fill(&member.client()).await;
    let mut told = export(&pod, &member, "keys", "app/").await;
    told["compression"] = json!("None");
    pod.succeed("export", &told).await.unwrap();
    let failed = pod
        .fail("verify", &json!({"source": folder(&pod, "keys")}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "NotFound");
    assert!(
        failed.message.contains("exported keys"),
        "{}",
        failed.message
    );
    let failed = pod
        .fail("snapshot", &snapshot(&pod, &member, "keys").await)
        .await
        .unwrap();
    assert_eq!(failed.reason, "Conflict");
    let keys = bucket.keys("etcd/demo/keys/export-").await.unwrap();
    bucket
        .tamper(&keys[0], |bytes| {
            let last = bytes.len() - 50;
            bytes[last] ^= 1;
        })
        .await
        .unwrap();
    let other = etcd(Target::Ours).await;
    let failed = pod
        .fail(
            "import",
            &import(&other, folder(&pod, "keys"), "app/").await,
        )
        .await
        .unwrap();
    assert_eq!(failed.reason, "Corrupt");
    assert_eq!(pairs(&other.client(), "app").await, []);
    // A revision that is gone, or not there yet.
    let mut told = export(&pod, &member, "gone", "app/").await;
    for revision in [2, 1_000_000] {
        told["revision"] = json!(revision);
        let failed = pod.fail("export", &told).await.unwrap();
        assert_eq!(failed.reason, "TargetOutOfReach", "{}", failed.message);
    }
}

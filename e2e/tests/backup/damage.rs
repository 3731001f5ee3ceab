//! What is stored is damaged, swapped, or a trap.

use etcd_e2e::Target;
use serde_json::{Value, json};

use crate::world::{KEYS, artifact, etcd, folder, history, noise, s3, snapshot};

#[tokio::test]
async fn o24_an_artifact_that_is_cut_flipped_or_swapped_is_found() {
    let (pod, bucket) = s3("damaged").await;
    pod.write("encryption-key/age.key", KEYS[0]).unwrap();
    let member = etcd(Target::Ours).await;
    noise(&member.client(), 10).await;
    for (name, compression, encrypted) in [
        ("plain", "None", false),
        ("zstd", "Zstd", false),
        ("gzip", "Gzip", false),
        ("age", "Zstd", true),
    ] {
        let mut told = snapshot(&pod, &member, name).await;
        told["compression"] = json!(compression);
        told["encrypted"] = json!(encrypted);
        pod.succeed("snapshot", &told).await.unwrap();
        let key = artifact(&bucket, name).await;
        let whole = bucket.get(&key).await.unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 3] ^= 0x20;
        let mut longer = whole.clone();
        longer.extend_from_slice(b"tail");
        for bad in [
            &whole[..whole.len() / 2],
            &whole[..0],
            &flipped[..],
            &longer[..],
        ] {
            bucket.put(&key, bad.to_vec()).await.unwrap();
            for verification in ["Checksum", "Restore"] {
                let told = json!({"source": folder(&pod, name), "verification": verification});
                let failed = pod.fail("verify", &told).await.unwrap();
                assert_eq!(failed.reason, "Corrupt", "{name}: {}", failed.message);
                assert!(
                    !failed.transient && failed.message.contains(&key),
                    "{failed:?}"
                );
            }
        }
        bucket.put(&key, whole).await.unwrap();
        let told = json!({"source": folder(&pod, name), "verification": "Checksum"});
        pod.succeed("verify", &told).await.unwrap();
    }
    // One backup's artifact in the place of another's.
    let (one, two) = (
        artifact(&bucket, "plain").await,
        artifact(&bucket, "zstd").await,
    );
    bucket
        .put(&one, bucket.get(&two).await.unwrap())
        .await
        .unwrap();
    let told = json!({"source": folder(&pod, "plain")});
    assert_eq!(pod.fail("verify", &told).await.unwrap().reason, "Corrupt");
    // One that is gone, and a folder that never was.
    bucket.delete(&one).await.unwrap();
    assert_eq!(pod.fail("verify", &told).await.unwrap().reason, "NotFound");
    let told = json!({"source": folder(&pod, "nowhere")});
    assert_eq!(pod.fail("verify", &told).await.unwrap().reason, "NotFound");
}

#[tokio::test]
async fn o24_what_has_no_manifest_does_not_exist_and_a_damaged_one_is_told() {
    let (pod, bucket) = s3("manifest").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    pod.succeed("snapshot", &snapshot(&pod, &member, "full").await)
        .await
        .unwrap();
    let key = "etcd/demo/full/manifest.json";
    let good: Value = serde_json::from_slice(&bucket.get(key).await.unwrap()).unwrap();
    let told = json!({"source": folder(&pod, "full")});
    for (field, value, reason) in [
        ("formatVersion", json!(99), "NewerFormat"),
        ("revision", json!(3), "HashMismatch"),
        ("kvHash", json!(1), "HashMismatch"),
        ("totalKeys", json!(1), "HashMismatch"),
        ("storedSha256", json!("00".repeat(32)), "Corrupt"),
        ("sha256", json!("00".repeat(32)), "Corrupt"),
        ("sizeBytes", json!(4096), "TooLarge"),
        ("object", json!("../../other"), "Corrupt"),
        ("revision", json!("many"), "Corrupt"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        bucket.put(key, bad.to_string()).await.unwrap();
        let failed = pod.fail("verify", &told).await.unwrap();
        assert_eq!(failed.reason, reason, "{field}: {}", failed.message);
        assert!(!failed.transient, "{failed:?}");
    }
    // A damaged one is told, and stands in nobody's way.
    let newest = json!({"source": {"backup": {"destination": pod.destination}}});
    let failed = pod.fail("verify", &newest).await.unwrap();
    assert_eq!(failed.reason, "NotFound");
    assert!(
        failed.message.contains("manifest.json is damaged"),
        "{}",
        failed.message
    );
    pod.succeed("snapshot", &snapshot(&pod, &member, "second").await)
        .await
        .unwrap();
    assert_eq!(
        pod.succeed("verify", &newest).await.unwrap()["folder"],
        "second"
    );
    let list = pod
        .succeed("list", &json!({"destination": pod.destination}))
        .await
        .unwrap();
    assert_eq!(
        (
            &list["unreadable"],
            list["backups"].as_array().unwrap().len()
        ),
        (&json!(["full"]), 1)
    );
    bucket
        .delete("etcd/demo/second/manifest.json")
        .await
        .unwrap();
    bucket.delete(key).await.unwrap();
    assert_eq!(pod.fail("verify", &told).await.unwrap().reason, "NotFound");
    let list = pod
        .succeed("list", &json!({"destination": pod.destination}))
        .await
        .unwrap();
    assert_eq!(list["backups"], json!([]));
}

#[tokio::test]
async fn a_wrong_key_a_missing_one_and_an_old_one() {
    let (pod, _) = s3("keys").await;
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    let mut told = snapshot(&pod, &member, "full").await;
    told["encrypted"] = json!(true);
    let missing = pod.fail("snapshot", &told).await.unwrap();
    assert_eq!(
        (missing.reason.as_str(), missing.transient),
        ("KeyMissing", false)
    );
    pod.write("encryption-key/age.key", "canary, no key\n")
        .unwrap();
    let failed = pod.fail("snapshot", &told).await.unwrap();
    assert_eq!(failed.reason, "WrongKey");
    assert!(!failed.message.contains("canary"), "{}", failed.message);
    pod.write("encryption-key/age.key", KEYS[0]).unwrap();
    pod.succeed("snapshot", &told).await.unwrap();
    let verify = json!({"source": folder(&pod, "full")});
    pod.write("encryption-key/age.key", KEYS[1]).unwrap();
    assert_eq!(
        pod.fail("verify", &verify).await.unwrap().reason,
        "WrongKey"
    );
    std::fs::remove_file(pod.place("encryption-key/age.key")).unwrap();
    assert_eq!(
        pod.fail("verify", &verify).await.unwrap().reason,
        "KeyMissing"
    );
    // Rotated: the new one encrypts, the old one still reads.
    pod.write(
        "encryption-key/age.key",
        &format!("{}\n{}\n", KEYS[1], KEYS[0]),
    )
    .unwrap();
    pod.succeed("verify", &verify).await.unwrap();
}

#[tokio::test]
async fn x12_a_bomb_is_stopped_and_x13_a_hostile_file_refused() {
    let (pod, bucket) = s3("bombs").await;
    // A gigabyte and a half of zeros, in a few kilobytes of gzip within gzip is not unpacked twice; zstd's own frame is.
    let bomb = zeros(3 << 29);
    assert!(bomb.len() < 2 << 20);
    bucket.put("etcd/demo/bomb.db.zst", bomb).await.unwrap();
    bucket
        .put("etcd/demo/zeros.db", vec![0; 1 << 20])
        .await
        .unwrap();
    bucket
        .put("etcd/demo/text.db", b"hello".to_vec())
        .await
        .unwrap();
    for (key, reason) in [
        ("bomb.db.zst", "TooLarge"),
        ("zeros.db", "Corrupt"),
        ("text.db", "Corrupt"),
    ] {
        let source = json!({"file": {"destination": pod.destination, "key": key}});
        let failed = pod
            .fail("verify", &json!({"source": source}))
            .await
            .unwrap();
        assert_eq!(failed.reason, reason, "{key}: {}", failed.message);
    }
    // A right digest makes no snapshot.
    let mut signed = vec![7; 4096];
    signed.extend_from_slice(&sha2::Sha256::digest(&signed));
    bucket.put("etcd/demo/signed.db", signed).await.unwrap();
    let source = json!({"file": {"destination": pod.destination, "key": "signed.db"}});
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "NotASnapshot", "{}", failed.message);
    let source = json!({"file": {"destination": pod.destination, "key": "../other/x.db"}});
    let failed = pod
        .fail("verify", &json!({"source": source}))
        .await
        .unwrap();
    assert_eq!(failed.reason, "InvalidRun");
}

use sha2::Digest as _;

/// So many zeros as frames of zstd, each of one block that says "repeat" for 128 KiB.
fn zeros(bytes: usize) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    const BLOCKS: usize = 1024;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // Descriptor: no content size, no checksum, a window of its own; window of 2^27.
    frame.extend_from_slice(&[0x00, 17 << 3]);
    for number in 0..BLOCKS {
        let last = usize::from(number == BLOCKS - 1);
        // Block type 1: one byte, repeated.
        let head = last | (1 << 1) | (BLOCK << 3);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame.repeat(bytes.div_ceil(BLOCK * BLOCKS))
}

//! Bad input: each ends in a reason, a sentence, and nothing that runs for ever.

use etcd_e2e::authority::Authority;
use etcd_e2e::gate::s3_error;
use etcd_e2e::minio::Credentials;
use etcd_e2e::{Gate, Minio, Pod, Target, Way};
use serde_json::json;

use crate::world::{etcd, history, minio, s3, snapshot};

/// What a run says, and how soon.
async fn said(pod: &Pod, told: &serde_json::Value) -> (String, bool, String) {
    let failed = pod.fail("snapshot", told).await.unwrap();
    assert!(!failed.message.contains("canary"), "{}", failed.message);
    (failed.reason, failed.transient, failed.message)
}

#[tokio::test]
async fn wrong_credentials_buckets_and_regions() {
    let (pod, _) = s3("wrong").await;
    let member = etcd(Target::Ours).await;
    let told = snapshot(&pod, &member, "full").await;

    pod.credentials(&Credentials::new("nobody")).unwrap();
    let (reason, transient, message) = said(&pod, &told).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("InvalidCredentials", false),
        "{message}"
    );
    assert!(message.contains("s3.credentialsSecretRef"), "{message}");
    let mut half = minio().await.credentials().clone();
    half.secret = "canary-wrong".to_owned();
    pod.credentials(&half).unwrap();
    assert_eq!(said(&pod, &told).await.0, "InvalidCredentials");
    std::fs::remove_file(pod.place("s3-credentials/AWS_SECRET_ACCESS_KEY")).unwrap();
    let (reason, _, message) = said(&pod, &told).await;
    assert_eq!(reason, "InvalidRun");
    assert!(message.contains("AWS_SECRET_ACCESS_KEY"), "{message}");

    pod.credentials(minio().await.credentials()).unwrap();
    let mut other = told.clone();
    other["destination"]["s3"]["bucket"] = json!("no-such-bucket");
    let (reason, transient, message) = said(&pod, &other).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("NoSuchBucket", false),
        "{message}"
    );
    assert!(message.contains("no-such-bucket"), "{message}");
    let mut other = told.clone();
    other["destination"]["s3"]["region"] = json!("mars-north-1");
    let (reason, transient, message) = said(&pod, &other).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("WrongRegion", false),
        "{message}"
    );
}

#[tokio::test]
async fn wrong_authorities_and_plain_text() {
    let minio = Minio::start_tls().await.unwrap();
    minio.bucket("tls").await.unwrap();
    let pod = Pod::s3(&minio, None, "tls", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    history(&member.client()).await;
    let told = snapshot(&pod, &member, "full").await;
    pod.succeed("snapshot", &told).await.unwrap();

    let stranger = Authority::new("stranger").unwrap();
    pod.write("s3-ca/ca.crt", stranger.pem()).unwrap();
    let (reason, transient, message) = said(&pod, &told).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("CertificateRefused", false),
        "{message}"
    );
    assert!(message.contains("s3.caSecretRef"), "{message}");
    pod.write("s3-ca/ca.crt", "no certificate").unwrap();
    assert_eq!(said(&pod, &told).await.0, "InvalidRun");
    // Without an authority of its own it is Mozilla's that count.
    let mut public = told.clone();
    public["destination"]["s3"]
        .as_object_mut()
        .unwrap()
        .remove("caSecretRef");
    assert_eq!(said(&pod, &public).await.0, "CertificateRefused");
    // TLS spoken to a server that speaks none.
    let mut plain = told.clone();
    let address = crate::world::minio().await.address();
    plain["destination"]["s3"]["endpoint"] = json!(format!("https://{address}"));
    pod.write("s3-ca/ca.crt", minio.authority().unwrap().pem())
        .unwrap();
    assert_eq!(said(&pod, &plain).await.0, "CertificateRefused");
}

#[tokio::test]
async fn x10_endpoints_that_lead_inside_are_not_dialled_and_redirects_not_followed() {
    let gate = Gate::open(&minio().await.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(minio().await, Some(&endpoint), "redirect", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    let told = snapshot(&pod, &member, "full").await;
    for inside in [
        "http://169.254.169.254",
        "http://[fe80::1]",
        "https://0xa9fea9fe",
    ] {
        let mut other = told.clone();
        other["destination"]["s3"]["endpoint"] = json!(inside);
        let (reason, transient, message) = said(&pod, &other).await;
        assert_eq!(
            (reason.as_str(), transient),
            ("EndpointRefused", false),
            "{message}"
        );
    }
    let mut public = told.clone();
    public["destination"]["s3"]["endpoint"] = json!("https://10.11.12.13");
    public["destination"]["s3"]["endpointNetwork"] = json!("Public");
    let (reason, _, message) = said(&pod, &public).await;
    assert_eq!(reason, "EndpointRefused");
    assert!(message.contains("s3.endpointNetwork Private"), "{message}");
    let mut ambient = told.clone();
    ambient["destination"]["s3"]
        .as_object_mut()
        .unwrap()
        .remove("credentialsSecretRef");
    let (reason, _, message) = said(&pod, &ambient).await;
    assert_eq!(reason, "InvalidRun");
    assert!(message.contains("only shown to AWS"), "{message}");

    gate.set(Way::Answer(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/metadata\r\nContent-Length: 0\r\n\r\n".into(),
    ));
    let (reason, transient, message) = said(&pod, &told).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("Redirected", false),
        "{message}"
    );
    assert!(
        message.contains("not followed to http://127.0.0.1:1/metadata"),
        "{message}"
    );
}

#[tokio::test]
async fn clocks_that_disagree_and_stores_that_cannot() {
    let gate = Gate::open(&minio().await.address()).await.unwrap();
    let endpoint = format!("http://{}", gate.address());
    let pod = Pod::s3(minio().await, Some(&endpoint), "clock", "etcd/demo").unwrap();
    let member = etcd(Target::Ours).await;
    let told = snapshot(&pod, &member, "full").await;
    for (status, code, expected) in [
        ("403 Forbidden", "RequestTimeTooSkewed", "ClockSkewed"),
        ("403 Forbidden", "AccessDenied", "AccessDenied"),
        ("301 Moved Permanently", "PermanentRedirect", "WrongRegion"),
        ("501 Not Implemented", "NotImplemented", "Unsupported"),
    ] {
        gate.set(s3_error(status, code, "as the test says"));
        let (reason, transient, message) = said(&pod, &told).await;
        assert_eq!((reason.as_str(), transient), (expected, false), "{message}");
        assert!(message.contains("as the test says"), "{message}");
    }
    gate.set(Way::Answer(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 21\r\n\r\n<html>login</html>   ".into(),
    ));
    let failed = pod.fail("snapshot", &told).await.unwrap();
    assert_eq!(failed.reason, "Corrupt", "{}", failed.message);
}

#[tokio::test]
async fn o29_another_clusters_prefix_is_refused_and_a_successors_taken_over() {
    let (pod, bucket) = s3("foreign").await;
    let (one, two) = (etcd(Target::Ours).await, etcd(Target::Ours).await);
    let first = snapshot(&pod, &one, "first").await;
    pod.succeed("snapshot", &first).await.unwrap();
    let mut second = snapshot(&pod, &two, "second").await;
    // Both were founded alike, so that only a made-up ID tells them apart.
    second["cluster"]["clusterID"] = json!("abc");
    let (reason, transient, message) = said(&pod, &second).await;
    assert_eq!(
        (reason.as_str(), transient),
        ("ForeignDestination", false),
        "{message}"
    );
    assert!(message.contains("ns/demo"), "{message}");
    // Without its marker a prefix still knows whose it is.
    let marker = "etcd/demo/etcd-backups.json";
    let kept = bucket.get(marker).await.unwrap();
    bucket.delete(marker).await.unwrap();
    assert_eq!(said(&pod, &second).await.0, "ForeignDestination");
    bucket.put(marker, kept).await.unwrap();
    let own = first["cluster"]["clusterID"].clone();
    second["cluster"]["lineage"] = json!([own]);
    // It may write, and then finds that the member is of another cluster than it was told.
    let (reason, _, message) = said(&pod, &second).await;
    assert_eq!(reason, "WrongCluster", "{message}");
    // From now on the old one is refused.
    let mut again = first.clone();
    again["folder"] = json!("third");
    assert_eq!(said(&pod, &again).await.0, "ForeignDestination");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field() {
    let (pod, _) = s3("nonsense").await;
    let member = etcd(Target::Ours).await;
    let told = snapshot(&pod, &member, "full").await;
    for (pointer, value, says) in [
        ("folder", json!("../x"), "folder \"../x\""),
        ("folder", json!("increments"), "increments"),
        ("compression", json!("Brotli"), "Brotli"),
        ("voters", json!([]), "none was named"),
        ("colour", json!("blue"), "colour"),
        (
            "destination",
            json!({}),
            "exactly one of s3 and persistentVolumeClaim",
        ),
        ("voters", json!([{"endpoint": "not a url"}]), "not a url"),
    ] {
        let mut bad = told.clone();
        bad[pointer] = value;
        let mut pod = pod.another().unwrap();
        pod.patience = 1;
        let failed = pod.fail("snapshot", &bad).await.unwrap();
        assert!(
            failed.message.contains(says),
            "{pointer}: {}",
            failed.message
        );
        assert!(
            ["InvalidRun", "NoHealthyMember"].contains(&failed.reason.as_str()),
            "{failed:?}"
        );
    }
}

#[tokio::test]
async fn without_a_secret_the_pods_own_identity_is_used_and_missed() {
    let mut pod = Pod::claim().unwrap();
    pod.env = vec![("AWS_EC2_METADATA_DISABLED".into(), "true".into())];
    pod.destination = json!({"s3": {"bucket": "backups", "region": "eu-central-1"}});
    pod.patience = 1;
    let failed = pod
        .fail("list", &json!({"destination": pod.destination}))
        .await
        .unwrap();
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("InvalidCredentials", false),
        "{}",
        failed.message
    );
    assert!(
        failed.message.contains("s3.credentialsSecretRef"),
        "{}",
        failed.message
    );
}

use serde_json::{Value, json};

use super::*;

/// What the API server says to a destination, as it holds it: with defaults.
fn said(written: Value) -> Result<(), String> {
    let destination: Destination = serde_json::from_value(written).unwrap();
    let held = serde_json::to_value(destination).unwrap();
    Destination::validate_cel(&held, None).map_err(|errors| errors.to_string())
}

#[test]
fn good_destinations_are_accepted() {
    let secret = json!({"name": "s3"});
    for good in [
        json!({"s3": {"bucket": "backups", "region": "eu-central-1"}}),
        json!({"s3": {"bucket": "backups", "prefix": "etcd/a", "region": "eu-central-1", "credentialsSecretRef": secret}}),
        json!({"s3": {"bucket": "backups", "endpoint": "https://minio.example", "credentialsSecretRef": secret, "caSecretRef": {"name": "ca"}}}),
        json!({"s3": {"bucket": "backups", "endpoint": "http://minio.ns.svc:9000", "endpointNetwork": "Private", "forcePathStyle": true, "credentialsSecretRef": secret}}),
        json!({"s3": {"bucket": "backups", "region": "x", "serverSideEncryption": {"type": "KMS", "kmsKeyID": "k"}, "objectLock": {"days": 30}}}),
        json!({"persistentVolumeClaim": {"claimName": "backups", "subPath": "a/b"}}),
    ] {
        assert_eq!(said(good.clone()), Ok(()), "{good}");
    }
}

#[test]
fn o32_destinations_that_make_no_sense_are_refused_with_what_is_allowed() {
    let secret = json!({"name": "s3"});
    for (bad, says) in [
        (json!({}), "exactly one of s3 and persistentVolumeClaim"),
        (
            json!({"s3": {"bucket": "b", "region": "x"}, "persistentVolumeClaim": {"claimName": "c"}}),
            "exactly one of s3 and persistentVolumeClaim",
        ),
        (
            json!({"s3": {"bucket": "backups"}}),
            "s3.region is needed where s3.endpoint is left out",
        ),
        (
            json!({"s3": {"bucket": "backups", "region": "x", "serverSideEncryption": {"type": "AES256", "kmsKeyID": "k"}}}),
            "kmsKeyID is of use with type KMS only",
        ),
        (
            json!({"s3": {"bucket": "backups", "region": "x", "caSecretRef": {"name": "ca"}}}),
            "s3.caSecretRef is of use with s3.endpoint only",
        ),
        (
            json!({"s3": {"bucket": "backups", "endpoint": "http://minio.example", "credentialsSecretRef": secret}}),
            "http:// is allowed with s3.endpointNetwork Private",
        ),
    ] {
        let error = said(bad.clone()).unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn x10_the_pods_own_identity_is_not_shown_to_hosts_that_a_user_names() {
    let error = said(json!({"s3": {"bucket": "backups", "endpoint": "https://minio.example"}}));
    assert!(
        error
            .unwrap_err()
            .contains("s3.endpoint needs s3.credentialsSecretRef")
    );
}

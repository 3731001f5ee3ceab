//! What is read off Secrets, and what is said of those that are no good.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::EtcdCluster,
    certificates::{Leaf, Pair, issue, new_authority, peer_wildcards, server_names},
    observe::Observed,
};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn authority(tag: &str) -> Pair {
    new_authority("theirs", tag, 86_400 * 365, now()).unwrap()
}

fn pair(ca: &Pair, names: Vec<String>) -> Pair {
    let leaf = Leaf {
        common_name: "theirs".to_owned(),
        server: !names.is_empty(),
        names,
        seconds: 86_400 * 90,
    };
    issue(ca, &leaf, now()).unwrap()
}

fn secret(texts: &[(&str, &str)]) -> Secret {
    let data = texts.iter().map(|(key, text)| {
        let bytes = ByteString(text.as_bytes().to_vec());
        ((*key).to_owned(), bytes)
    });
    Secret {
        data: Some(data.collect()),
        ..Secret::default()
    }
}

fn whole(pair: &Pair, ca: &Pair) -> Secret {
    secret(&[
        ("tls.crt", &pair.cert),
        ("tls.key", &pair.key),
        ("ca.crt", &ca.cert),
    ])
}

fn cluster(tls: Value) -> EtcdCluster {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "ns", "uid": "u"},
        "spec": {"replicas": 3, "tls": tls},
    }))
    .unwrap()
}

type Found = BTreeMap<String, Secret>;

fn seen(cluster: &EtcdCluster, found: &Found, requests: Option<Requests>) -> CertificatesSeen {
    facts_of(cluster, &Observed::default(), found, requests, now())
}

type Requests = BTreeMap<String, RequestSeen>;

fn put(found: &mut Found, name: &str, secret: Secret) {
    found.insert(name.to_owned(), secret);
}

#[test]
fn what_is_wrong_with_a_secret_is_named_and_it_offers_nothing() {
    let by_secret = cluster(json!({
        "client": {"mode": "Secret", "secretRef": {"name": "mine"}, "operatorSecretRef": {"name": "own"}},
        "peer": {"mode": "Disabled"},
    }));
    let (ca, other) = (authority("1"), authority("2"));
    let names = server_names("demo", "ns", &[]);
    let good = pair(&ca, names.clone());
    let stray = pair(&ca, vec!["elsewhere.ns.svc".to_owned()]);
    let strange = pair(&other, names.clone());
    let mixed = Pair {
        key: stray.key.clone(),
        ..good.clone()
    };
    let old = Leaf {
        common_name: "old".to_owned(),
        names,
        server: true,
        seconds: 60,
    };
    let old = issue(&ca, &old, now() - SignedDuration::from_hours(1)).unwrap();
    let own = pair(&ca, Vec::new());
    let stranger = pair(&other, Vec::new());
    let client_only = pair(&ca, Vec::new());
    let mut found = Found::new();
    let mut check = |name: &str, secret: Option<Secret>, reason: &str, words: &str| {
        if let Some(secret) = secret {
            put(&mut found, name, secret);
        }
        let seen = seen(&by_secret, &found, None);
        let problem = &seen.problems[0];
        assert_eq!(problem.reason.as_str(), reason, "{}", problem.message);
        assert!(problem.message.contains(words), "{}", problem.message);
        assert!(!problem.message.contains("PRIVATE"), "{}", problem.message);
        assert!(seen.offers.is_empty());
    };
    check("mine", None, "SecretMissing", "there is no Secret mine");
    let half = secret(&[("tls.crt", &good.cert), ("ca.crt", &ca.cert)]);
    check("mine", Some(half), "KeyMissing", "mine lacks tls.key");
    let cases = [
        (&mixed, "KeyMismatch", "Secret mine: tls.key is not the key"),
        (&old, "CertificateExpired", "Secret mine: tls.crt"),
        (&stray, "NameMissing", "demo-0-0.demo-peer.ns.svc"),
        (&strange, "UnknownAuthority", "Secret mine: tls.crt"),
        (&client_only, "UsageMissing", "Secret mine: tls.crt"),
    ];
    for (pair, reason, words) in cases {
        check("mine", Some(whole(pair, &ca)), reason, words);
    }
    let empty = secret(&[("tls.crt", "x"), ("tls.key", "x"), ("ca.crt", "x")]);
    check("mine", Some(empty), "CertificateUnreadable", "Secret mine");
    let mine = Some(whole(&good, &ca));
    check("mine", mine, "SecretMissing", "there is no Secret own");
    let theirs = Some(whole(&stranger, &other));
    check("own", theirs, "UnknownAuthority", "Secret own: tls.crt");

    put(&mut found, "own", whole(&own, &ca));
    let seen = seen(&by_secret, &found, None);
    assert_eq!(seen.problems, []);
    let offer = &seen.offers[&(Purpose::Client, Origin::Secret("mine".to_owned()))];
    let fingerprint = ca.seen().unwrap().fingerprint;
    assert_eq!((&offer.anchor, &offer.clients), (&fingerprint, &None));
    assert_eq!(offer.bundle, [fingerprint]);
}

#[test]
fn what_cert_manager_has_not_done_is_named() {
    let issuer = json!({"issuerRef": {"name": "ca"}});
    let by_cert_manager = cluster(json!({
        "client": {"mode": "Disabled"},
        "peer": {"mode": "CertManager", "certManager": issuer},
    }));
    let mut found = Found::new();
    let problem = |found: &Found, requests: Option<Requests>| {
        let problems = seen(&by_cert_manager, found, requests).problems;
        problems
            .first()
            .map(|p| (p.reason.as_str(), p.message.clone()))
    };
    let (reason, message) = problem(&found, None).unwrap();
    assert_eq!(reason, "CertManagerMissing");
    assert!(
        message.contains("tls.peer.mode is CertManager"),
        "{message}"
    );
    let (reason, _) = problem(&found, Some(Requests::new())).unwrap();
    assert_eq!(reason, "CertificatePending");

    let request = |ready, issuer_missing, message: &str| {
        let request = RequestSeen {
            ready,
            issuer_missing,
            message: message.to_owned(),
            ..RequestSeen::default()
        };
        Some(Requests::from([("demo-peer-cert".to_owned(), request)]))
    };
    let told = problem(&found, request(false, true, "there is no Issuer ca"));
    let wanted = "Certificate demo-peer-cert: there is no Issuer ca";
    assert_eq!(told, Some(("IssuerMissing", wanted.to_owned())));
    let told = problem(&found, request(false, false, "denied"));
    let wanted = "Certificate demo-peer-cert: denied";
    assert_eq!(told, Some(("CertificatePending", wanted.to_owned())));
    // Issued, as it says, into a Secret that is not there.
    let (reason, _) = problem(&found, request(true, false, "")).unwrap();
    assert_eq!(reason, "SecretMissing");

    let ca = authority("1");
    let peer = pair(&ca, peer_wildcards("demo", "ns"));
    put(&mut found, "demo-peer-cert", whole(&peer, &ca));
    assert_eq!(problem(&found, request(true, false, "")), None);
    // One that is there is used, whatever becomes of its renewal.
    let seen = seen(&by_cert_manager, &found, request(false, false, "denied"));
    assert_eq!(seen.problems.len(), 1);
    assert!(
        seen.offers
            .contains_key(&(Purpose::Peer, Origin::CertManager))
    );
}

#[test]
fn a_certificate_of_cert_manager_is_ready_by_its_word_on_this_spec() {
    let read = |generation: i64, seen: Value| {
        let object = serde_json::from_value(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
            "metadata": {"name": "x", "generation": generation},
            "status": {"conditions": [
                {"type": "Issuing", "status": "True", "message": "no"},
                {"type": "Ready", "status": "True", "message": "yes", "observedGeneration": seen},
            ]},
        }));
        requests::read(object.unwrap())
    };
    assert!(read(2, json!(2)).ready);
    assert_eq!(read(2, json!(2)).message, "yes");
    assert!(!read(3, json!(2)).ready, "it speaks of the spec before");
    assert!(read(3, Value::Null).ready);
}

use serde_json::{Value, json};

use super::*;

/// A cluster as the API server would hold it: the sample's spec with defaults.
fn cluster(spec: Value) -> EtcdCluster {
    named("demo", spec)
}

fn named(name: &str, spec: Value) -> EtcdCluster {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
    }))
    .unwrap()
}

fn refused(cluster: &EtcdCluster) -> String {
    match cluster.validate_cel() {
        Ok(()) => panic!("{:?} was accepted", cluster.spec),
        Err(errors) => errors.to_string(),
    }
}

fn update_refused(old: &EtcdCluster, new: &EtcdCluster) -> String {
    match new.validate_cel_update(old) {
        Ok(()) => panic!("{:?} -> {:?} was accepted", old.spec, new.spec),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn good_specs_are_accepted() {
    for spec in [
        json!({}),
        json!({"replicas": 0}),
        json!({"replicas": 7, "version": "3.7.3", "image": {"repository": "etcd"}}),
        json!({"image": {"repository": "etcd", "digest": format!("sha256:{}", "0".repeat(64))}}),
        json!({"storage": {"emptyDir": {}}}),
        json!({"storage": {"persistentVolumeClaim": {"size": "1.5Gi", "storageClassName": "fast"}, "whenDeleted": "Delete"}}),
        json!({"options": {"heartbeatInterval": 200, "electionTimeout": 2000}}),
        json!({"options": {"autoCompactionMode": "Periodic", "autoCompactionRetention": "8h"}}),
        json!({"options": {"autoCompactionMode": "Revision", "autoCompactionRetention": "1000"}}),
        json!({"podTemplate": {"metadata": {"labels": {"team": "a"}}, "spec": {"resources": {"requests": {"cpu": 1}}}}}),
        json!({"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}}),
        json!({"maintenance": {"windows": [{"schedule": "0 2 * * SUN", "timeZone": "Europe/Berlin", "duration": "4h"}]}}),
        json!({"podTemplate": {"spec": {
            "sidecars": [{"name": "x", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "secret": {"name": "s"}}]}}}),
        json!({"tls": {"client": {"mode": "Operator", "plaintext": "Allowed", "operator": {"duration": "720h"}}, "peer": {"mode": "Operator"}}}),
        json!({"tls": {"client": {"mode": "Secret", "secretRef": {"name": "a"}, "operatorSecretRef": {"name": "b"}}}}),
        json!({"tls": {"client": {"mode": "Disabled", "plaintext": "Allowed"}, "peer": {"mode": "Disabled"}}}),
        json!({"tls": {"client": {"mode": "CertManager", "certManager": {"issuerRef": {"name": "a"}}, "settleDuration": "30s"}}}),
    ] {
        let cluster = cluster(spec.clone());
        assert!(
            cluster.validate_cel().is_ok(),
            "{spec}: {:?}",
            cluster.validate_cel()
        );
    }
}

#[test]
fn o32_specs_that_make_no_sense_are_refused_with_what_is_allowed() {
    for (spec, says) in [
        (
            json!({"replicas": 2}),
            "replicas must be 0 (asleep), 1, 3, 5 or 7",
        ),
        (
            json!({"replicas": -1}),
            "replicas must be 0 (asleep), 1, 3, 5 or 7",
        ),
        (
            json!({"replicas": 9}),
            "replicas must be 0 (asleep), 1, 3, 5 or 7",
        ),
        (
            json!({"tls": {"client": {"mode": "Operator", "secretRef": {"name": "a"}}}}),
            "tls.client.secretRef belongs to mode Secret, and to no other: certificates have one source",
        ),
        (
            json!({"tls": {"peer": {"mode": "Secret", "secretRef": {"name": "a"}, "operator": {}}}}),
            "tls.peer.operator is for mode Operator only: certificates have one source",
        ),
        (
            json!({"tls": {"client": {"mode": "Secret", "secretRef": {"name": "a"}}}}),
            "tls.client.operatorSecretRef belongs to mode Secret",
        ),
        (
            json!({"tls": {"client": {"mode": "Operator", "certManager": {"issuerRef": {"name": "a"}}}}}),
            "tls.client.certManager belongs to mode CertManager, and to no other: certificates have one source",
        ),
        (
            json!({"tls": {"peer": {"mode": "CertManager"}}}),
            "tls.peer.certManager belongs to mode CertManager, and to no other: certificates have one source",
        ),
        (
            json!({"tls": {"peer": {"mode": "Secret", "certManager": {"issuerRef": {"name": "a"}}, "secretRef": {"name": "a"}}}}),
            "tls.peer.certManager belongs to mode CertManager, and to no other: certificates have one source",
        ),
        (
            json!({"tls": {"client": {"mode": "Disabled", "plaintext": "Denied"}}}),
            "plaintext cannot be Denied in mode Disabled",
        ),
        (
            json!({"image": {"tag": "v1"}}),
            "image.tag and image.digest need image.repository",
        ),
        (
            json!({"image": {"repository": "etcd"}}),
            "needs image.tag, image.digest or version",
        ),
        (
            json!({"storage": {}}),
            "exactly one of persistentVolumeClaim and emptyDir",
        ),
        (
            json!({"storage": {"emptyDir": {}, "persistentVolumeClaim": {"size": "1Gi"}}}),
            "exactly one of persistentVolumeClaim and emptyDir",
        ),
        (
            json!({"storage": {"persistentVolumeClaim": {"size": "0"}}}),
            "must be greater than 0",
        ),
        (
            json!({"options": {"electionTimeout": 400}}),
            "at least five times",
        ),
        (
            json!({"options": {"heartbeatInterval": 300}}),
            "at least five times",
        ),
        (
            json!({"options": {"autoCompactionMode": "Periodic"}}),
            "needs options.autoCompactionRetention",
        ),
        (
            json!({"options": {"autoCompactionMode": "Revision", "autoCompactionRetention": "8h"}}),
            "must be a number of revisions",
        ),
        (
            json!({"maintenance": {"windows": [{"schedule": "* * * * *", "duration": "0h"}]}}),
            "must be longer than 0",
        ),
        (
            json!({"podTemplate": {"spec": {"sidecars": [{"name": "etcd", "image": "x"}]}}}),
            "must not be etcd or admission",
        ),
        (
            json!({"podTemplate": {"spec": {"sidecars": [{"name": "x", "image": "x", "ports": [{"name": "x", "containerPort": 2379}]}]}}}),
            "must not be 2379",
        ),
        (
            json!({"podTemplate": {"spec": {"sidecars": [{"name": "x", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}}),
            "must be the name of one of podTemplate.spec.volumes",
        ),
        (
            json!({"podTemplate": {"spec": {"volumes": [{"name": "x"}]}}}),
            "exactly one of configMap, secret and emptyDir",
        ),
        (
            json!({"podTemplate": {"metadata": {"labels": {"etcd-core.io/role": "voter"}}}}),
            "must not use the prefixes",
        ),
        (
            json!({"podTemplate": {"metadata": {"annotations": {"etcd-core.io/ticket": "{}"}}}}),
            "must not use the prefix",
        ),
    ] {
        let message = refused(&cluster(spec.clone()));
        assert!(message.contains(says), "{spec}: {message}");
    }
}

#[test]
fn names_that_would_not_fit_are_refused() {
    for name in ["a.b", "1a", "a-", &"a".repeat(41)] {
        let message = refused(&named(name, json!({})));
        assert!(
            message.contains("metadata.name must be"),
            "{name}: {message}"
        );
    }
    assert!(named(&"a".repeat(40), json!({})).validate_cel().is_ok());
}

#[test]
fn o32_what_cannot_change_is_refused_and_says_what_to_do() {
    let claim = |size: &str, class: Option<&str>| {
        let mut claim = json!({"size": size});
        if let Some(class) = class {
            claim["storageClassName"] = class.into();
        }
        cluster(json!({"storage": {"persistentVolumeClaim": claim}}))
    };
    let directory = cluster(json!({"storage": {"emptyDir": {}}}));
    for (old, new, says) in [
        (claim("8Gi", None), claim("4Gi", None), "may only grow"),
        (claim("1Gi", None), claim("1000Mi", None), "may only grow"),
        (
            claim("8Gi", None),
            claim("8Gi", Some("fast")),
            "storageClassName cannot be changed",
        ),
        (
            claim("8Gi", Some("fast")),
            claim("8Gi", None),
            "storageClassName cannot be changed",
        ),
        (
            claim("8Gi", Some("fast")),
            claim("8Gi", Some("slow")),
            "storageClassName cannot be changed",
        ),
        (
            claim("8Gi", None),
            directory.clone(),
            "storage cannot change between",
        ),
        (
            directory.clone(),
            claim("8Gi", None),
            "storage cannot change between",
        ),
        (
            directory,
            cluster(json!({"storage": {"emptyDir": {"medium": "Memory"}}})),
            "storage.emptyDir cannot be changed",
        ),
    ] {
        let message = update_refused(&old, &new);
        assert!(message.contains(says), "{message}");
    }
    assert!(
        claim("8192Mi", None)
            .validate_cel_update(&claim("8Gi", None))
            .is_ok()
    );
    assert!(
        claim("16Gi", None)
            .validate_cel_update(&claim("8Gi", None))
            .is_ok()
    );
}

#[test]
fn a_new_object_is_not_taken_for_reconciled() {
    let crd = serde_json::to_value(cluster_crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let status = &schema["properties"]["status"];
    assert_eq!(status["default"], json!({"observedGeneration": -1}));
    assert_eq!(
        status["properties"]["observedGeneration"]["default"],
        json!(-1)
    );
}

#[test]
fn the_schema_is_closed_and_its_lists_are_bounded() {
    fn walk(path: &str, schema: &Value, bad: &mut Vec<String>) {
        if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
            bad.push(format!("{path} takes anything"));
        }
        if schema["type"] == "object"
            && schema.get("properties").is_none()
            && schema.get("additionalProperties").is_none()
        {
            bad.push(format!("{path} has no fields"));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, bad);
        }
        if let Some(items) = schema.get("items") {
            // Kubernetes' own types bring lists of their own.
            let theirs = path.contains("podTemplate.spec");
            if schema.get("maxItems").is_none() && !theirs {
                bad.push(format!("{path} has no maxItems"));
            }
            walk(&format!("{path}[]"), items, bad);
        }
    }
    let crd = serde_json::to_value(cluster_crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut bad = Vec::new();
    for part in ["spec", "status"] {
        walk(part, &schema["properties"][part], &mut bad);
    }
    assert_eq!(bad, Vec::<String>::new());
}

#[test]
fn x06_the_pod_template_lends_no_privilege() {
    let crd = serde_json::to_value(cluster_crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = &schema["properties"]["spec"]["properties"]["podTemplate"]["properties"]["spec"];
    let fields: Vec<&String> = spec["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "affinity",
            "nodeSelector",
            "priorityClassName",
            "resources",
            "schedulerName",
            // These three only for those who may create pods: the chart's policy.
            "serviceAccountName",
            "sidecars",
            "terminationGracePeriodSeconds",
            "tolerations",
            "topologySpreadConstraints",
            "volumes"
        ],
        "a new field must not let an author of EtcdClusters do what creating pods would not"
    );
    let of = |name: &str| -> Vec<String> {
        let items = &spec["properties"][name]["items"]["properties"];
        items.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        of("sidecars"),
        [
            "args",
            "command",
            "env",
            "image",
            "name",
            "ports",
            "pullPolicy",
            "resources",
            "volumeMounts"
        ],
        "no securityContext, no devices, no lifecycle hooks"
    );
    let sources = ["configMap", "emptyDir", "name", "secret"];
    assert_eq!(of("volumes"), sources, "nothing of the node");
}

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
    for (kind, schema) in schemas() {
        let status = &schema["properties"]["status"];
        let default = json!({"observedGeneration": -1});
        assert_eq!(status["default"], default, "{kind}");
        let generation = &status["properties"]["observedGeneration"];
        assert_eq!(generation["default"], json!(-1), "{kind}");
    }
}

/// The schema of each kind.
fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
    crds().into_iter().map(|(kind, crd)| {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        (kind, schema.clone())
    })
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
            // There is nothing to say about it: `survivor: {}`.
            && !path.ends_with("source.survivor")
            && !path.ends_with("from.survivor")
        {
            bad.push(format!("{path} has no fields"));
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, bad);
        }
        if let Some(items) = schema.get("items") {
            // Kubernetes' own types bring lists of their own.
            let theirs = path.contains("podTemplate.spec") || path.contains("job.scheduling");
            if schema.get("maxItems").is_none() && !theirs {
                bad.push(format!("{path} has no maxItems"));
            }
            walk(&format!("{path}[]"), items, bad);
        }
    }
    let mut bad = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            let path = format!("{kind}: {part}");
            walk(&path, &schema["properties"][part], &mut bad);
        }
    }
    assert_eq!(bad, Vec::<String>::new());
}

#[test]
fn x06_the_pod_template_lends_no_privilege() {
    let (_, schema) = schemas().find(|(kind, _)| *kind == "etcdclusters").unwrap();
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

/// An object of `kind` as the API server would hold it.
fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
    }))
    .unwrap()
}

fn backup(extra: Value) -> EtcdBackup {
    let mut spec = json!({
        "clusterRef": {"name": "demo"},
        "destination": {"persistentVolumeClaim": {"claimName": "backups"}},
    });
    merge(&mut spec, extra);
    object("EtcdBackup", "once", spec)
}

fn schedule(extra: Value) -> EtcdBackupSchedule {
    let mut spec = json!({
        "clusterRef": {"name": "demo"},
        "schedule": "@daily",
        "template": {"spec": {"destination": {"persistentVolumeClaim": {"claimName": "backups"}}}},
    });
    merge(&mut spec, extra);
    object("EtcdBackupSchedule", "nightly", spec)
}

fn restore(extra: Value) -> EtcdRestore {
    let mut spec = json!({"clusterRef": {"name": "demo"}, "replaces": "c1"});
    merge(&mut spec, extra);
    object("EtcdRestore", "back", spec)
}

fn merge(spec: &mut Value, extra: Value) {
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
}

#[test]
fn backups_schedules_and_restores_that_make_sense_are_accepted() {
    for spec in [
        json!({}),
        json!({"deletionPolicy": "Delete", "encryption": {"keySecretRef": {"name": "key"}}}),
        json!({"job": {"scratch": {"size": "8Gi", "storageClassName": "fast"}, "attempts": 1}}),
    ] {
        assert_eq!(told(backup(spec).validate_cel()), Ok(()));
    }
    for spec in [
        json!({}),
        json!({"schedule": "0 2 * * SUN", "timeZone": "Europe/Berlin", "increments": {}}),
        json!({"retention": {"keepDaily": 7, "maxAge": "90d"}, "drill": {"schedule": "@weekly"}}),
    ] {
        assert_eq!(told(schedule(spec).validate_cel()), Ok(()));
    }
    let s3 = json!({"bucket": "b23", "region": "eu-central-1"});
    for spec in [
        json!({"source": {"backupRef": {"name": "once"}}}),
        json!({"source": {"s3": s3, "folder": "once-1"}, "target": {"revision": 7}}),
        json!({"source": {"s3": s3}, "target": {"time": "2026-01-01T00:00:00Z"}, "dryRun": true}),
        json!({"source": {"persistentVolumeClaim": {"claimName": "b"}, "file": "a/b.db"}}),
        json!({"source": {"survivor": {}}}),
    ] {
        assert_eq!(told(restore(spec).validate_cel()), Ok(()));
    }
    let begins = json!({"bootstrap": {"restore": {"from": {"backupRef": {"name": "once"}}}}});
    assert_eq!(told(cluster(begins).validate_cel()), Ok(()));
}

fn told<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|errors| errors.to_string())
}

#[test]
fn o32_backups_and_schedules_that_make_no_sense_are_refused_with_what_is_allowed() {
    for (spec, says) in [
        (
            json!({"destination": {}}),
            "exactly one of s3 and persistentVolumeClaim",
        ),
        (
            json!({"job": {"scratch": {"storageClassName": "fast"}}}),
            "needs job.scratch.size",
        ),
    ] {
        let message = told(backup(spec).validate_cel()).unwrap_err();
        assert!(message.contains(says), "{message}");
    }
    for (spec, says) in [
        (json!({"retention": {"maxAge": "0d"}}), "longer than 0"),
        (json!({"increments": {"maxLag": "2h"}}), "between 1s and 1h"),
        (json!({"increments": {"maxLag": "0s"}}), "between 1s and 1h"),
    ] {
        let message = told(schedule(spec).validate_cel()).unwrap_err();
        assert!(message.contains(says), "{message}");
    }
    let long: EtcdBackupSchedule = object("EtcdBackupSchedule", &"a".repeat(41), {
        serde_json::to_value(schedule(json!({})).spec).unwrap()
    });
    let message = told(long.validate_cel()).unwrap_err();
    assert!(message.contains("at most 40 characters"), "{message}");
}

#[test]
fn o32_restores_that_make_no_sense_are_refused_with_what_is_allowed() {
    let s3 = json!({"bucket": "b23", "region": "eu-central-1"});
    for (spec, says) in [
        (json!({"source": {}}), "exactly one of backupRef, s3"),
        (
            json!({"source": {"survivor": {}, "backupRef": {"name": "once"}}}),
            "exactly one of backupRef, s3",
        ),
        (
            json!({"source": {"backupRef": {"name": "once"}, "folder": "x"}}),
            "go with source.s3",
        ),
        (
            json!({"source": {"s3": s3, "folder": "x", "file": "y"}}),
            "exclude each other",
        ),
        (
            json!({"source": {"backupRef": {"name": "once"}}, "target": {}}),
            "exactly one of revision and time",
        ),
        (
            json!({"source": {"survivor": {}}, "target": {"revision": 1}}),
            "not with source.survivor",
        ),
        (
            json!({"source": {"s3": s3, "file": "y"}, "target": {"revision": 1}}),
            "not with source.file",
        ),
    ] {
        let message = told(restore(spec).validate_cel()).unwrap_err();
        assert!(message.contains(says), "{message}");
    }
    let begins = json!({"bootstrap": {"restore": {"from": {"survivor": {}}}}});
    let message = refused(&cluster(begins));
    assert!(
        message.contains("of use to an EtcdRestore only"),
        "{message}"
    );
}

#[test]
fn o21_what_a_backup_or_a_restore_is_cannot_be_changed_afterwards() {
    let one = backup(json!({}));
    for spec in [
        json!({"clusterRef": {"name": "other"}}),
        json!({"compression": "None"}),
        json!({"destination": {"persistentVolumeClaim": {"claimName": "others"}}}),
        json!({"encryption": {"keySecretRef": {"name": "key"}}}),
    ] {
        let message = told(backup(spec).validate_cel_update(&one)).unwrap_err();
        assert!(message.contains("cannot be changed"), "{message}");
    }
    let kept = backup(json!({"deletionPolicy": "Delete"}));
    assert_eq!(told(kept.validate_cel_update(&one)), Ok(()));
    let one = restore(json!({"source": {"survivor": {}}}));
    let other = restore(json!({"source": {"survivor": {}}, "replaces": "c2"}));
    let message = told(other.validate_cel_update(&one)).unwrap_err();
    assert!(
        message.contains("an EtcdRestore cannot be changed"),
        "{message}"
    );
    let empty = cluster(json!({}));
    let begins =
        cluster(json!({"bootstrap": {"restore": {"from": {"backupRef": {"name": "once"}}}}}));
    let message = update_refused(&empty, &begins);
    assert!(message.contains("bootstrap cannot be changed"), "{message}");
}

use serde_json::json;

use super::*;

fn cluster(spec: serde_json::Value) -> EtcdCluster {
    serde_json::from_value(json!({
        "apiVersion": "etcd-core.io/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "ns", "uid": "u-1"},
        "spec": spec,
    }))
    .unwrap()
}

fn settings() -> Settings {
    Settings {
        default_image: "example.com/etcd-core:1".to_owned(),
        operator_image: "example.com/etcd-core:1".to_owned(),
    }
}

#[test]
fn the_manifests_of_a_plain_cluster() {
    let cluster = cluster(json!({}));
    let shared = Shared::of(&cluster, 3);
    insta::assert_yaml_snapshot!("peer_service", shared.peer_service);
    insta::assert_yaml_snapshot!("client_service", shared.client_service);
    insta::assert_yaml_snapshot!("disruption_budget", shared.disruption_budget);
    let set = stateful_set(&cluster, "demo-0", &settings(), 1, true, &Start::Plain);
    insta::assert_yaml_snapshot!("stateful_set", set);
    let spec = cluster
        .spec
        .storage
        .persistent_volume_claim
        .clone()
        .unwrap();
    insta::assert_yaml_snapshot!(
        "claim",
        claim(&cluster, "demo-0", &spec, Some((0xc1, 0xa1)))
    );
}

#[test]
fn the_pod_of_a_cluster_with_everything_set() {
    let cluster = cluster(json!({
        "replicas": 5,
        "version": "3.7.3",
        "image": {"repository": "example.com/etcd", "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
        "storage": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}, "whenDeleted": "Delete"},
        "options": {
            "quotaBackendBytes": 1073741824, "autoCompactionMode": "Periodic", "autoCompactionRetention": "1h",
            "heartbeatInterval": 200, "electionTimeout": 2000, "maxRequestBytes": 2097152, "maxTxnOps": 256,
            "snapshotCount": 20000, "logLevel": "warn"
        },
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
            "spec": {
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                "nodeSelector": {"disk": "fast"},
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": {"matchLabels": {"etcd-core.io/cluster": "demo"}}}]}},
                "tolerations": [{"key": "etcd", "operator": "Exists"}],
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
                "priorityClassName": "high", "schedulerName": "mine", "terminationGracePeriodSeconds": 60,
                "serviceAccountName": "etcd",
                "sidecars": [{
                    "name": "exporter", "image": "example.com/exporter:1", "args": ["--listen=:9000"],
                    "env": {"LEVEL": "info"}, "ports": [{"name": "scrape", "containerPort": 9000}],
                    "resources": {"limits": {"memory": "32Mi"}},
                    "volumeMounts": [{"name": "rules", "mountPath": "/rules", "readOnly": true}]}],
                "volumes": [{"name": "rules", "configMap": {"name": "rules"}},
                    {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]
            }
        }
    }));
    let set = stateful_set(&cluster, "demo-7", &settings(), 1, false, &Start::Plain);
    insta::assert_yaml_snapshot!("stateful_set_with_everything", set);
}

#[test]
fn x16_the_pod_passes_the_restricted_standard() {
    let set = stateful_set(
        &cluster(json!({})),
        "demo-0",
        &settings(),
        1,
        true,
        &Start::Plain,
    );
    let pod = set.spec.unwrap().template.spec.unwrap();
    let context = pod.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod
        .init_containers
        .unwrap()
        .into_iter()
        .chain(pod.containers)
    {
        let context = container.security_context.unwrap();
        assert_eq!(
            context.allow_privilege_escalation,
            Some(false),
            "{}",
            container.name
        );
        assert_eq!(
            context.read_only_root_filesystem,
            Some(true),
            "{}",
            container.name
        );
        assert_eq!(
            context.capabilities.unwrap().drop,
            Some(vec!["ALL".to_owned()])
        );
    }
}

#[test]
fn a_promotion_changes_no_digest() {
    let cluster = cluster(json!({}));
    let digest = |voter| {
        let set = stateful_set(&cluster, "demo-0", &settings(), 1, voter, &Start::Plain);
        set.metadata.annotations.unwrap()[crate::api::ANNOTATION_TEMPLATE].clone()
    };
    assert_eq!(digest(true), digest(false));
}

#[test]
fn only_the_users_fields_change_the_digest_of_the_spec() {
    let plain = pod_spec_digest(&cluster(json!({})));
    // It stands on StatefulSets in the world: an operator that digests the same spec
    // otherwise would restart every cluster there is.
    assert_eq!(plain, "50a1ea05705cb46c");
    for same in [
        json!({"replicas": 5}),
        json!({"paused": true}),
        json!({"service": {"type": "NodePort"}}),
        json!({"version": "3.7.3"}),
        json!({"storage": {"persistentVolumeClaim": {"size": "99Gi"}}}),
    ] {
        assert_eq!(pod_spec_digest(&cluster(same.clone())), plain, "{same}");
    }
    for other in [
        json!({"options": {"snapshotCount": 1}}),
        json!({"image": {"repository": "a", "tag": "b"}}),
        json!({"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}),
    ] {
        assert_ne!(pod_spec_digest(&cluster(other.clone())), plain, "{other}");
    }
}

#[test]
fn o37_the_budget_keeps_the_quorum_of_what_is_and_of_what_is_wanted() {
    for (wanted, voters, available) in [
        (3, 0, 2),
        (3, 3, 2),
        (5, 3, 3),
        (1, 3, 2),
        (1, 1, 1),
        (0, 3, 2),
        (7, 7, 4),
    ] {
        let shared = Shared::of(&cluster(json!({"replicas": wanted})), voters);
        let spec = serde_json::to_value(shared.disruption_budget).unwrap();
        assert_eq!(
            spec["spec"]["minAvailable"],
            json!(available),
            "{wanted} {voters}"
        );
    }
}

#[test]
fn claims_are_owned_only_if_they_are_to_go_with_the_cluster() {
    let owners = |policy: &str| {
        let cluster = cluster(
            json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}, "whenDeleted": policy}}),
        );
        let spec = cluster
            .spec
            .storage
            .persistent_volume_claim
            .clone()
            .unwrap();
        claim(&cluster, "demo-0", &spec, None)
            .metadata
            .owner_references
            .map(|owners| owners.len())
    };
    assert_eq!(owners("Retain"), None);
    assert_eq!(owners("Delete"), Some(1));
}

#[test]
fn the_image_is_resolved_once() {
    let mut resolved = cluster(json!({}));
    assert_eq!(image(&resolved, &settings()), "example.com/etcd-core:1");
    resolved.status = Some(crate::api::EtcdClusterStatus {
        default_image: Some("example.com/etcd-core:0".to_owned()),
        ..Default::default()
    });
    assert_eq!(image(&resolved, &settings()), "example.com/etcd-core:0");
    let named = cluster(json!({"version": "3.7.3", "image": {"repository": "r/etcd"}}));
    assert_eq!(image(&named, &settings()), "r/etcd:v3.7.3");
}

//! The operator itself: replicas of it, its metrics.

use etcd_e2e::eventually;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};

use crate::world::{LIMIT, SYSTEM, with};

#[test]
fn o06_another_replica_takes_over_when_the_leader_goes() {
    with("o06", async |world| {
        world.install(&["replicas=2"]).await;
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), SYSTEM);
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
        let holder = async || {
            let lease = leases.get("etcd-operator").await?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity);
            Ok::<_, kube::Error>(holder.filter(|holder| !holder.is_empty()))
        };
        let first = eventually(LIMIT, "a leader", async || {
            holder()
                .await
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "nobody".to_owned())
        })
        .await;
        pods.delete(&first, &DeleteParams::default()).await.unwrap();
        let second = eventually(LIMIT, "another leader", async || {
            match holder().await.map_err(|error| error.to_string())? {
                Some(holder) if holder != first => Ok(holder),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(second.starts_with("etcd-operator-"), "{second}");
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        world.install(&["replicas=1"]).await;
    });
}

#[test]
fn its_metrics_are_served() {
    with("metrics", async |world| {
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
        let running = pods
            .list(&ListParams::default().labels("app.kubernetes.io/name=etcd-operator"))
            .await
            .unwrap();
        let name = running.items[0].metadata.name.clone().unwrap();
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy");
        let metrics = world
            .kubectl(&["get", "--raw", &format!("{path}/metrics")])
            .await;
        assert!(
            metrics.contains("etcd_operator_reconciles_total"),
            "{metrics}"
        );
        let health = world
            .kubectl(&["get", "--raw", &format!("{path}/healthz")])
            .await;
        assert_eq!(health, "ok\n");
    });
}

#[test]
fn roles_in_the_watched_namespaces_are_enough() {
    with("roles", async |world| {
        world.install(&["watchNamespaces={roles}"]).await;
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        world.put("one", "greeting", "hello").await;
        // Also what is taken away: it takes a right to delete.
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=3"])
            .await;
        world.ready("one", 3).await;
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=1"])
            .await;
        world.ready("one", 1).await;
        world.install(&[]).await;
    });
}

#[test]
fn o41_uninstalling_the_operator_leaves_the_clusters_alone() {
    with("o41", async |world| {
        world.apply_sample("one.yaml").await;
        let before = world.ready("one", 1).await;
        let pods = world.pods_of("one").await;
        world
            .helm
            .run(&[
                "uninstall",
                "etcd-operator",
                "--namespace",
                SYSTEM,
                "--wait",
            ])
            .await
            .unwrap();
        world.put("one", "served", "meanwhile").await;
        world.install(&[]).await;
        let after = world.ready("one", 1).await;
        assert_eq!(before["clusterID"], after["clusterID"]);
        let uids =
            |pods: &[Pod]| -> Vec<_> { pods.iter().map(|pod| pod.metadata.uid.clone()).collect() };
        assert_eq!(
            uids(&pods),
            uids(&world.pods_of("one").await),
            "it was restarted"
        );
        world.every_pod_reads("one", "served", "meanwhile").await;
    });
}

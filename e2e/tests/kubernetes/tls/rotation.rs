//! CAs are replaced while clients work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etcd_e2e::Client;
use etcd_e2e::load::Figures;
use kube::ResourceExt;

use super::{SHARED, in_effect, lives, manifest, reason, shared};
use crate::members::address;
use crate::world::{World, with};

/// Requests over connections of their own, believed only under the cluster's name.
struct Fresh {
    made: usize,
    failed: Vec<String>,
}

impl World {
    /// Makes a connection after the other with what clients mount now, and reads over each.
    async fn fresh_connections(&self, cluster: &str, stop: &AtomicBool) -> Fresh {
        let host = format!("{cluster}-client.{}.svc", self.namespace);
        let mut fresh = Fresh {
            made: 0,
            failed: Vec::new(),
        };
        let mut pause = tokio::time::interval(Duration::from_millis(200));
        while !stop.load(Ordering::Relaxed) {
            pause.tick().await;
            let pods = self.pods_of(cluster).await;
            let serving: Vec<_> = pods
                .iter()
                .filter(|pod| {
                    pod.metadata.deletion_timestamp.is_none() && crate::life::is_ready(pod)
                })
                .collect();
            let pod = serving[fresh.made % serving.len()];
            let bundle = self.bundle(cluster).await.expect("the Secret for clients");
            let url = format!("https://{}:2379", address(pod).unwrap());
            let read = Client::secure(&url, &host, &bundle).get("fresh").await;
            fresh.made += 1;
            if let Err(error) = read {
                fresh.failed.push(format!("{}: {error:?}", pod.name_any()));
            }
        }
        fresh
    }

    /// Replaces both CAs while clients work, and checks that they were.
    async fn replace_cas(&self, cluster: &str, request: &str, what: &str) -> (Figures, Fresh) {
        let secrets = ["client", "peer"].map(|purpose| format!("{cluster}-{purpose}-ca"));
        let mut before = Vec::new();
        for secret in &secrets {
            before.push(self.text(secret, "tls.crt").await);
        }
        assert_ne!(before[0], before[1], "each purpose has a CA of its own");
        let traffic = self.traffic(cluster).await;
        let stop = AtomicBool::new(false);
        let rotation = async {
            let start = Instant::now();
            let annotation = format!("etcd-core.io/rotate-ca={request}");
            self.kubectl(&[
                "annotate",
                "--overwrite",
                "etcdcluster",
                cluster,
                &annotation,
            ])
            .await;
            self.cluster_when(cluster, "CAs are being replaced", |status| {
                reason(status) == "Rotating"
            })
            .await;
            self.cluster_when(cluster, "both CAs were replaced", in_effect)
                .await;
            stop.store(true, Ordering::Relaxed);
            println!("\n  {what}: {:.1?}", start.elapsed());
        };
        let (fresh, ()) = tokio::join!(self.fresh_connections(cluster, &stop), rotation);
        println!(
            "  {what}: {} new connections, {} failed",
            fresh.made,
            fresh.failed.len()
        );
        for (secret, before) in secrets.iter().zip(before) {
            assert_ne!(self.text(secret, "tls.crt").await, before, "{secret}");
        }
        for purpose in ["client", "peer"] {
            assert_eq!(
                self.trusted(cluster, purpose).await,
                1,
                "the old CA is gone"
            );
        }
        (self.finish(traffic, what).await, fresh)
    }
}

#[test]
fn s37_x15_cas_are_replaced_under_load_and_no_request_fails() {
    shared(async |world| {
        world.own_cas().await;
        // With the bundle from a pod; not without it.
        let put = ["put", "greeting", "hello"];
        let written = world.etcdctl_in_a_pod(SHARED, "writer", &put).await;
        assert_eq!(written.trim(), "OK");
        let pods = world.pods_of(SHARED).await;
        let plain = Client::new(&format!("http://{}:2379", address(&pods[0]).unwrap()));
        plain.get("greeting").await.unwrap_err();

        // What clients have makes nobody a member.
        let bundle = world.bundle(SHARED).await.unwrap();
        let host = format!("{}.tls-peer.tls.svc", pods[0].name_any());
        let url = format!("https://{}:2380", address(&pods[0]).unwrap());
        Client::secure(&url, &host, &bundle)
            .get("greeting")
            .await
            .unwrap_err();

        let (figures, fresh) = world
            .replace_cas(SHARED, "first", "both CAs replaced")
            .await;
        assert_eq!((figures.failed, figures.retried), (0, 0), "{figures}");
        assert!(fresh.failed.is_empty(), "{}", fresh.failed.join("\n"));
        let after = world.pods_of(SHARED).await;
        assert_eq!(lives(&pods), lives(&after), "nobody was restarted for it");
    });
}

#[test]
fn s37_cas_are_replaced_under_stock_etcd_by_restarts_one_at_a_time() {
    with("tls-stock", async |world| {
        let image = ", image: {repository: localhost/etcd-development/etcd, tag: v3.7.3}";
        let tls = "{client: {mode: Operator, settleDuration: 3s}}";
        world.apply(&manifest("stock", tls, image)).await;
        world.ready("stock", 3).await;
        let before = world.pods_of("stock").await;
        let what = "both CAs replaced under stock etcd";
        let (figures, fresh) = world.replace_cas("stock", "first", what).await;
        assert_eq!(figures.failed, 0, "{figures}");
        // A pod may end between the look at it and the connection to it.
        assert!(fresh.failed.len() <= 6, "{}", fresh.failed.join("\n"));
        let after = world.pods_of("stock").await;
        let uids = |pods| lives(pods).into_iter().map(|(uid, _)| uid);
        let kept = uids(&after).filter(|uid| uids(&before).any(|old| old == *uid));
        assert_eq!(kept.count(), 0, "all were restarted");
    });
}

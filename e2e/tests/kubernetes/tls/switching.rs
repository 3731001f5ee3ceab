//! TLS is switched on and off on a live cluster.

use serde_json::Value;

use super::{in_effect, reason};
use crate::world::{condition, with};

#[test]
fn tls_is_switched_on_and_off_under_load() {
    with("tls-switch", async |world| {
        world.apply_sample("plain.yaml").await;
        let before = world.ready("plain", 3).await;
        assert!(before["tls"].is_null(), "{before}");
        let first = world.pods_of("plain").await;

        // Clients that know both ways, and use whichever works.
        let traffic = world.traffic_by("plain", &["http", "https"]).await;
        let on =
            r#"{"client":{"mode":"Operator","settleDuration":"3s"},"peer":{"mode":"Operator"}}"#;
        world.patch_tls("plain", on).await;
        let both = |status: &Value| status["tls"]["client"]["plaintext"] == "Allowed";
        world
            .cluster_when("plain", "both are served for a while", both)
            .await;
        let secured = |status: &Value| {
            status["tls"]["peer"]["stage"] == "Secured"
                && status["tls"]["client"]["plaintext"] == "Denied"
                && in_effect(status)
        };
        world
            .cluster_when("plain", "TLS and nothing else", secured)
            .await;
        let read = world
            .etcdctl_in_a_pod(
                "plain",
                "reader",
                &["get", "--prefix", "traffic/", "--limit=1"],
            )
            .await;
        assert!(read.contains("traffic/"), "{read}");
        let pods = world.pods_of("plain").await;
        let ctl = world.etcdctl(&pods).await;
        let list = ctl.run(&["member", "list"]).await.unwrap();
        assert_eq!(list.matches("https://plain-").count(), 6, "{list}");
        assert_eq!(list.matches("http://").count(), 0, "{list}");

        let off = r#"{"client":{"mode":"Disabled"},"peer":{"mode":"Disabled"}}"#;
        world.patch_tls("plain", off).await;
        world
            .cluster_when("plain", "both are served for a while", both)
            .await;
        let after = world
            .cluster_when("plain", "no TLS", |status| {
                reason(status) == "Disabled" && condition(status, "Ready") == "True"
            })
            .await;
        assert_eq!(before["clusterID"], after["clusterID"]);
        let figures = world.finish(traffic, "TLS switched on and off").await;
        assert_eq!(figures.failed, 0, "{figures}");
        let pods = world.pods_of("plain").await;
        let list = world.etcdctl(&pods).await;
        let list = list.run(&["member", "list"]).await.unwrap();
        assert_eq!(list.matches("http://plain-").count(), 6, "{list}");
        assert_eq!(first.len(), pods.len());
    });
}

//! TLS is switched on and off on a live cluster.

use serde_json::Value;

use super::{in_effect, manifest, reason};
use crate::world::{condition, with};

#[test]
fn tls_is_switched_on_and_off_under_load() {
    with("tls-switch", async |world| {
        let plain = "{client: {mode: Disabled, settleDuration: 3s}, peer: {mode: Disabled}}";
        world.apply(&manifest("live", plain, "")).await;
        let before = world.ready("live", 3).await;
        assert!(before["tls"].is_null(), "{before}");
        let first = world.pods_of("live").await;

        // Clients that know both ways, and use whichever works.
        let traffic = world.traffic_by("live", &["http", "https"]).await;
        let on = r#"{"client":{"mode":"Operator"},"peer":{"mode":"Operator"}}"#;
        world.patch_tls("live", on).await;
        let both = |status: &Value| status["tls"]["client"]["plaintext"] == "Allowed";
        world
            .cluster_when("live", "both are served for a while", both)
            .await;
        let secured = |status: &Value| {
            status["tls"]["peer"]["stage"] == "Secured"
                && status["tls"]["client"]["plaintext"] == "Denied"
                && in_effect(status)
        };
        world
            .cluster_when("live", "TLS and nothing else", secured)
            .await;
        let read = world
            .etcdctl_in_a_pod(
                "live",
                "reader",
                &["get", "--prefix", "traffic/", "--limit=1"],
            )
            .await;
        assert!(read.contains("traffic/"), "{read}");
        let pods = world.pods_of("live").await;
        let ctl = world.etcdctl(&pods).await;
        let list = ctl.run(&["member", "list"]).await.unwrap();
        assert_eq!(list.matches("https://live-").count(), 6, "{list}");
        assert_eq!(list.matches("http://").count(), 0, "{list}");

        let off = r#"{"client":{"mode":"Disabled"},"peer":{"mode":"Disabled"}}"#;
        world.patch_tls("live", off).await;
        world
            .cluster_when("live", "both are served for a while", both)
            .await;
        let after = world
            .cluster_when("live", "no TLS", |status| {
                reason(status) == "Disabled" && condition(status, "Ready") == "True"
            })
            .await;
        assert_eq!(before["clusterID"], after["clusterID"]);
        let figures = world.finish(traffic, "TLS switched on and off").await;
        assert_eq!(figures.failed, 0, "{figures}");
        let pods = world.pods_of("live").await;
        let list = world.etcdctl(&pods).await;
        let list = list.run(&["member", "list"]).await.unwrap();
        assert_eq!(list.matches("http://live-").count(), 6, "{list}");
        assert_eq!(first.len(), pods.len());
    });
}

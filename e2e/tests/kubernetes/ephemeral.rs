//! Members whose data lives in their pods.

use etcd_e2e::client::get;
use etcd_e2e::http;
use etcd_proto::etcdserverpb::RangeRequest;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::members::address;
use crate::world::{condition, with};

#[test]
fn o08_a_member_that_lost_its_data_is_replaced_by_a_new_one() {
    with("ephemeral", async |world| {
        world.apply_sample("ephemeral.yaml").await;
        let before = world.ready("ephemeral", 3).await;
        world.put("ephemeral", "kept", "by the others").await;
        let pods = world.pods_of("ephemeral").await;
        let lost = pods[0].labels()["etcd-core.io/member"].clone();
        world
            .pods()
            .delete(&pods[0].name_any(), &DeleteParams::default())
            .await
            .unwrap();
        let after = world
            .cluster_when("ephemeral", "the lost member is replaced", |status| {
                let members = status["members"].as_array().cloned().unwrap_or_default();
                members.len() == 3
                    && members.iter().all(|member| {
                        member["name"] != lost.as_str()
                            && member["role"] == "Voter"
                            && member["healthy"] == true
                    })
            })
            .await;
        assert_eq!(before["clusterID"], after["clusterID"]);
        world.ready("ephemeral", 3).await;
        world
            .every_pod_reads("ephemeral", "kept", "by the others")
            .await;
    });
}

#[test]
fn o09_when_two_of_three_lost_their_data_the_third_is_kept() {
    with("o09", async |world| {
        world.apply_sample("ephemeral.yaml").await;
        let before = world.ready("ephemeral", 3).await;
        world.put("ephemeral", "kept", "by the survivor").await;
        let pods = world.pods_of("ephemeral").await;
        let survivor = &pods[0];
        for pod in &pods[1..] {
            world
                .pods()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await
                .unwrap();
        }
        let status = world
            .cluster_when("ephemeral", "it says that the quorum is lost", |status| {
                condition(status, "QuorumLost") == "True" && condition(status, "Stalled") == "True"
            })
            .await;
        // Who lost the data, and what a person can do.
        let told = status["plan"]["reason"].as_str().unwrap();
        for pod in &pods[1..] {
            assert!(
                told.contains(&pod.labels()["etcd-core.io/member"]),
                "{told}"
            );
        }
        assert!(told.contains("ways out"), "{told}");
        assert_eq!(condition(&status, "Available"), "False");
        assert_eq!(status["clusterID"], before["clusterID"]);
        // Nothing was bootstrapped beside it, and what it holds can be read.
        let now = world.member_pod(
            &survivor.labels()["etcd-core.io/member"],
            "is there",
            |_| true,
        );
        assert_eq!(
            now.await.uid(),
            survivor.uid(),
            "the survivor was not touched"
        );
        let request = RangeRequest {
            serializable: true,
            ..get("kept")
        };
        let answer = world
            .client_of(survivor)
            .await
            .range(request)
            .await
            .unwrap();
        assert_eq!(answer.kvs[0].value, "by the survivor");
        for pod in world.pods_of("ephemeral").await {
            if pod.name_any() != survivor.name_any() {
                let url = format!("http://{}:2381/admission", address(&pod).unwrap());
                let (code, report) = http::get(&url).await.unwrap();
                assert_eq!(code, 200, "{} waits: {report}", pod.name_any());
            }
        }
    });
}

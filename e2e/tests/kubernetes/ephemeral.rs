//! Members whose data lives in their pods.

use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::world::with;

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

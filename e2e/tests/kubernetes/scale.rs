//! Growing, shrinking, sleeping.

use crate::world::with;

#[test]
fn o14_one_grows_to_three_and_shrinks_back() {
    with("o14", async |world| {
        world.apply_sample("one.yaml").await;
        let status = world.ready("one", 1).await;
        let id = status["clusterID"].clone();
        world.put("one", "before", "1").await;

        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=3"])
            .await;
        let status = world.ready("one", 3).await;
        assert_eq!(status["clusterID"], id);
        world.every_pod_reads("one", "before", "1").await;
        world.put("one", "between", "2").await;

        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=1"])
            .await;
        let status = world.ready("one", 1).await;
        assert_eq!(status["clusterID"], id);
        world.every_pod_reads("one", "before", "1").await;
        world.every_pod_reads("one", "between", "2").await;
        assert_eq!(world.pods_of("one").await.len(), 1);
    });
}

#[test]
fn o15_zero_replicas_and_back_keeps_the_data() {
    with("o15", async |world| {
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        world.put("one", "kept", "asleep").await;
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=0"])
            .await;
        world
            .cluster_when("one", "asleep", |status| {
                status["phase"] == "Asleep" && status["readyReplicas"] == 0
            })
            .await;
        world
            .kubectl(&["scale", "etcdcluster/one", "--replicas=1"])
            .await;
        world.ready("one", 1).await;
        world.every_pod_reads("one", "kept", "asleep").await;
    });
}

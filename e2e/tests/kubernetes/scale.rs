//! Sleeping. Growing and shrinking are in `change`, with clients at work.

use crate::world::with;

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

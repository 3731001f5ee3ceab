//! The operator needs nothing that stock etcd does not offer.

use crate::world::with;

#[test]
fn a_cluster_of_the_stock_image_works_the_same() {
    with("stock", async |world| {
        world.apply_sample("stock.yaml").await;
        let status = world.ready("stock", 3).await;
        assert_eq!(status["version"], "3.7.3");
        assert_eq!(status["image"], "localhost/etcd-development/etcd:v3.7.3");
        world.put("stock", "greeting", "hello").await;
        world.every_pod_reads("stock", "greeting", "hello").await;
    });
}

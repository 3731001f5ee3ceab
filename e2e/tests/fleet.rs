//! Many clusters whose members are only told of, on a real API server. Needs root, and
//! what `make e2e` builds.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::path::Path;
use std::time::Duration;

use etcd_e2e::fleet;
use serde_json::json;

/// A busy machine makes them in a quarter of that.
const LIMIT: Duration = Duration::from_secs(240);
const CLUSTERS: usize = 20;

/// Invariant 8: what a new operator would do differently waits for a planned restart.
#[test]
fn o41_an_upgrade_of_the_operator_over_twenty_clusters_restarts_nothing() {
    let state = Path::new("/var/lib/etcd-core-e2e/fleet");
    fleet::with(state, CLUSTERS, async |fleet| {
        let operator = fleet.operator("localhost/etcd-core:1").await?;
        // With TLS, as it is by default.
        let spec = json!({"replicas": 3});
        fleet.clusters.grow(0, CLUSTERS, &spec, LIMIT).await?;
        fleet::settled(&operator, LIMIT).await?;
        let image = "localhost/etcd-core:2";
        let (operator, pods) = fleet.upgrade(operator, image, CLUSTERS, LIMIT).await?;
        assert_eq!(pods, 3 * CLUSTERS);
        operator.stop()
    })
    .unwrap();
}

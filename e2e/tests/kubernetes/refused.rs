//! Manifests that make no sense are refused by the API server, with a sentence that says what is allowed.

use crate::world::with;

fn manifest(spec: &str) -> String {
    format!(
        "apiVersion: etcd-core.io/v1alpha1\nkind: EtcdCluster\nmetadata: {{name: bad}}\nspec: {spec}\n"
    )
}

#[test]
fn o32_bad_manifests_are_refused_with_a_sentence() {
    with("o32", async |world| {
        let cases = [
            ("{replicas: 2}", "replicas must be 0 (asleep), 1, 3, 5 or 7"),
            ("{replicas: 9}", "replicas must be 0 (asleep), 1, 3, 5 or 7"),
            ("{replica: 3}", "unknown field \"spec.replica\""),
            (
                "{storage: {emptyDir: {}, persistentVolumeClaim: {size: 1Gi}}}",
                "storage must be exactly one of persistentVolumeClaim and emptyDir",
            ),
            (
                "{options: {electionTimeout: 200}}",
                "must be at least five times options.heartbeatInterval",
            ),
            ("{version: three}", "spec.version"),
        ];
        for (spec, sentence) in cases {
            let said = world
                .refused(&["apply", "--validate=strict", "-f", "-"], &manifest(spec))
                .await;
            assert!(said.contains(sentence), "{spec}: {said}");
        }
    });
}

#[test]
fn o32_edits_that_cannot_be_carried_out_are_refused() {
    with("o32-edits", async |world| {
        let spec = |size: &str| {
            manifest(&format!(
                "{{replicas: 1, paused: true, storage: {{persistentVolumeClaim: {{size: {size}}}}}}}"
            ))
        };
        world.apply(&spec("2Gi")).await;
        let said = world.refused(&["apply", "-f", "-"], &spec("1Gi")).await;
        assert!(said.contains("size may only grow"), "{said}");
        let other = manifest("{replicas: 1, paused: true, storage: {emptyDir: {}}}");
        let said = world.refused(&["replace", "-f", "-"], &other).await;
        assert!(said.contains("create another EtcdCluster"), "{said}");
        let said = world
            .refused(&["scale", "etcdcluster/bad", "--replicas=4"], "")
            .await;
        assert!(said.contains("replicas must be"), "{said}");
    });
}

#[test]
fn the_tests_namespaces_refuse_what_is_not_restricted() {
    with("restricted", async |world| {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: root}\nspec: {containers: [{name: a, image: localhost/pause:1}]}\n";
        let said = world.refused(&["apply", "-f", "-"], pod).await;
        assert!(said.contains("violates PodSecurity"), "{said}");
    });
}

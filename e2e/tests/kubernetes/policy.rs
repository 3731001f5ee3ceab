//! Who writes EtcdClusters gains nothing by podTemplate that they lacked.

use etcd_e2e::eventually;

use crate::world::{LIMIT, World, with};

/// Where the fields of podTemplate.spec are in the CustomResourceDefinition.
const FIELDS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/podTemplate/properties/spec/properties";

fn manifest(name: &str, pod: &str) -> String {
    format!(
        "apiVersion: etcd-core.io/v1alpha1\nkind: EtcdCluster\nmetadata: {{name: {name}}}\nspec: {{paused: true, podTemplate: {{spec: {pod}}}}}\n"
    )
}

impl World {
    /// Applies a manifest as somebody else; what was said, and whether it was taken.
    async fn apply_as(&self, user: &str, manifest: &str) -> (String, bool) {
        let who = format!("--as={user}");
        let args = ["apply", "-n", self.namespace.as_str(), &who, "-f", "-"];
        let output = self.kubectl.try_run(&args, manifest).await.unwrap();
        (output.stderr, output.success)
    }

    /// Adds a field to podTemplate.spec that the policy has never heard of, or takes it away.
    async fn unknown_field(&self, there: bool) {
        let patch = if there {
            format!(r#"[{{"op": "add", "path": "{FIELDS}/x06", "value": {{"type": "string"}}}}]"#)
        } else {
            format!(r#"[{{"op": "remove", "path": "{FIELDS}/x06"}}]"#)
        };
        let crd = "etcdclusters.etcd-core.io";
        self.kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch])
            .await;
    }
}

#[test]
fn x06_who_may_not_create_pods_may_not_shape_what_runs_in_them() {
    with("x06", async |world| {
        let rights = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writer}
rules: [{apiGroups: [etcd-core.io], resources: [etcdclusters], verbs: [get, create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: pods}
rules: [{apiGroups: [''], resources: [pods], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects: [{kind: User, name: eve}, {kind: User, name: adam}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pods}
subjects: [{kind: User, name: adam}]
";
        world.apply(rights).await;
        world.unknown_field(true).await;
        let harmless = manifest(
            "hers",
            "{nodeSelector: {disk: ssd}, resources: {requests: {cpu: 10m}}}",
        );
        let power = |name| manifest(name, "{x06: root}");

        // Until the API server has taken up the field, it is unknown.
        let said = eventually(LIMIT, "the policy refuses", async || {
            match world.apply_as("eve", &power("evil")).await {
                (said, false) if said.contains("eve may not") => Ok(said),
                (said, _) => Err(said),
            }
        })
        .await;
        let why = "spec.podTemplate.spec.x06 may be set by those who may create pods in the namespace x06; eve may not";
        assert!(said.contains(why), "{said}");
        let (said, taken) = world.apply_as("eve", &harmless).await;
        assert!(taken, "{said}");
        let (said, taken) = world.apply_as("adam", &power("his")).await;
        assert!(taken, "{said}");

        // What adam has set, eve may neither take over nor change, but she may do her work.
        let edit = async |name: &str, patch: &str| {
            let args = [
                "patch",
                "etcdcluster",
                name,
                "--as=eve",
                "--type=merge",
                "-p",
                patch,
            ];
            let args = [&["-n", world.namespace.as_str()], &args[..]].concat();
            world.kubectl.try_run(&args, "").await.unwrap()
        };
        let scaled = edit("his", r#"{"spec": {"replicas": 5}}"#).await;
        assert!(scaled.success, "{}", scaled.stderr);
        for name in ["his", "hers"] {
            let patch = r#"{"spec": {"podTemplate": {"spec": {"x06": "admin"}}}}"#;
            let changed = edit(name, patch).await;
            assert!(changed.stderr.contains("eve may not"), "{}", changed.stderr);
        }
        world.kubectl(&["delete", "etcdcluster", "--all"]).await;
        world.unknown_field(false).await;
    });
}

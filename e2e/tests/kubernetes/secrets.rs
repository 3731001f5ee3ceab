//! What is secret stays where it was put, and members' pods can do as little as possible.

use etcd_e2e::{Client, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};

use crate::world::{LIMIT, SYSTEM, World, with};

/// What no log, event or status may hold.
const CANARY: &str = "canary-3f9d71c2e0";

impl World {
    /// A line of each private key in the Secrets of the namespace.
    async fn keys(&self) -> Vec<String> {
        let secrets = self.secrets().list(&ListParams::default()).await.unwrap();
        let data = secrets
            .into_iter()
            .flat_map(|secret| secret.data.unwrap_or_default());
        let texts = data.filter_map(|(_, bytes)| String::from_utf8(bytes.0).ok());
        texts
            .filter(|text| text.contains("PRIVATE KEY"))
            .map(|text| text.lines().nth(1).expect("a key has lines").to_owned())
            .collect()
    }

    /// Everything that the containers of these pods have said, also before a restart.
    async fn said(&self, pods: &Api<Pod>) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let name = pod.metadata.name.clone().unwrap();
            let spec = pod.spec.unwrap();
            let containers = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            for container in containers {
                for previous in [false, true] {
                    let params = LogParams {
                        container: Some(container.name.clone()),
                        previous,
                        ..LogParams::default()
                    };
                    match pods.logs(&name, &params).await {
                        Ok(text) => all.push((format!("{name}/{}", container.name), text)),
                        // There is a former one only if it was restarted.
                        Err(kube::Error::Api(status)) if previous && status.code == 400 => {}
                        Err(error) => panic!("logs of {name}: {error}"),
                    }
                }
            }
        }
        all
    }
}

#[test]
fn x09_values_and_passwords_appear_in_no_log_event_or_status() {
    with("x09", async |world| {
        let verbose = "
apiVersion: etcd-core.io/v1alpha1
kind: EtcdCluster
metadata: {name: canary}
spec:
  replicas: 1
  options: {logLevel: debug}
  storage: {emptyDir: {}}
";
        world.apply(verbose).await;
        world.ready("canary", 1).await;
        let pods = world.pods_of("canary").await;
        let ctl = world.etcdctl(&pods).await;
        world.put("canary", "key", CANARY).await;
        // Requests that fail are logged sooner than others.
        let client: Client = world.client_of(&pods[0]).await;
        let mut large = CANARY.as_bytes().repeat(200_000);
        large.truncate(3 << 20);
        client.put("large", large).await.unwrap_err();
        let tries: [&[&str]; 3] = [
            &["user", "add", "root", "--new-user-password", CANARY],
            &["user", "add", "root", "--new-user-password", CANARY],
            &["get", "key", "--user", &format!("root:{CANARY}")],
        ];
        for args in tries {
            // Whether there are users yet is not what this is about.
            ctl.try_run(args).await.unwrap();
        }
        // It restarts, and reads its log again.
        let uid = pods[0].metadata.uid.clone().unwrap();
        assert_eq!(world.machine.kill_in_pod(&uid, "etcd").unwrap(), 1);
        eventually(LIMIT, "it serves again", async || {
            world.client_of(&pods[0]).await.get("key").await
        })
        .await;

        let system: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
        let mut texts = world.said(&world.pods()).await;
        texts.extend(world.said(&system).await);
        assert!(
            texts
                .iter()
                .any(|(name, text)| name.starts_with("canary-0-0/etcd") && text.len() > 1000),
            "the member has logged"
        );
        for kind in [
            "events",
            "events.events.k8s.io",
            "etcdclusters",
            "statefulsets",
            "pods",
        ] {
            let yaml = world.kubectl(&["get", kind, "-o", "yaml"]).await;
            texts.push((kind.to_owned(), yaml));
        }
        // Keys of CAs, members and clients are in Secrets, and nowhere else.
        let keys = world.keys().await;
        assert!(keys.len() >= 5, "{} keys", keys.len());
        let secrets: Vec<&str> = keys.iter().map(String::as_str).chain([CANARY]).collect();
        for (name, text) in &texts {
            let told = |line: &&str| secrets.iter().any(|secret| line.contains(secret));
            let line = text.lines().find(told);
            assert_eq!(line, None, "{name} tells a secret");
        }
    });
}

#[test]
fn x16_members_run_without_root_token_or_a_root_they_can_write() {
    with("x16", async |world| {
        world.apply_sample("one.yaml").await;
        world.ready("one", 1).await;
        for pod in world.pods_of("one").await {
            let spec = pod.spec.unwrap();
            assert_eq!(spec.automount_service_account_token, Some(false));
            let volumes = spec.volumes.unwrap();
            let secrets = volumes.iter().filter_map(|volume| volume.secret.as_ref());
            let names: Vec<_> = secrets
                .map(|secret| secret.secret_name.as_deref())
                .collect();
            assert_eq!(names, [Some("one-0-tls")], "its certificates and no other");
            assert!(
                volumes.iter().all(|volume| volume.projected.is_none()),
                "{volumes:?}"
            );
            let context = spec.security_context.unwrap();
            assert_eq!(context.run_as_non_root, Some(true));
            for container in spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
            {
                let context = container.security_context.as_ref().unwrap();
                assert_eq!(context.read_only_root_filesystem, Some(true));
                assert_eq!(context.allow_privilege_escalation, Some(false));
            }
        }
    });
}

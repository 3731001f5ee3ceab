//! `kubectl etcd`, as a person runs it.

use etcd_e2e::eventually;
use etcd_e2e::kubernetes::{Places, Tool};
use serde_json::{Value, json};

use crate::store::{BUCKET, Store};
use crate::world::{LIMIT, World, with};

/// kubectl that finds the plugin and stock etcdctl.
fn kubectl(world: &World) -> Tool {
    let places = Places::find().unwrap();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = [places.product, places.stock, places.bin].into_iter();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&rest))).unwrap();
    world.kubectl.clone().env("PATH", path)
}

impl World {
    /// `kubectl etcd ARGS` in the test's namespace; it must succeed. What it printed.
    pub(crate) async fn etcd(&self, args: &[&str]) -> String {
        let here = [&["etcd", "--namespace", self.namespace.as_str()], args].concat();
        kubectl(self).run(&here).await.unwrap()
    }

    /// The same; it must fail. What it said.
    pub(crate) async fn etcd_fails(&self, args: &[&str]) -> String {
        let here = [&["etcd", "--namespace", self.namespace.as_str()], args].concat();
        let output = kubectl(self).try_run(&here, "").await.unwrap();
        assert!(!output.success, "{args:?}: {}", output.stdout);
        output.stderr
    }

    async fn view(&self, cluster: &str) -> Value {
        let text = self.etcd(&["status", cluster, "-o", "json"]).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

#[test]
fn kubectl_etcd_shows_and_steers_a_cluster() {
    with("plugin", async |world| {
        world.apply_sample("three.yaml").await;
        world.ready("three", 3).await;

        let text = world.etcd(&["status", "three"]).await;
        for words in [
            "Running, 3 of 3 members ready",
            "Leader",
            "nothing to do",
            "AsSpecified",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        world
            .etcd(&["ctl", "three", "--", "put", "greeting", "hello"])
            .await;
        let read = world
            .etcd(&[
                "ctl",
                "three",
                "--",
                "get",
                "greeting",
                "--print-value-only",
            ])
            .await;
        assert_eq!(read.trim(), "hello");

        // A follower hears of the write a moment later.
        let view = eventually(LIMIT, "figures of every member", async || {
            let view = world.view("three").await;
            let told = |member: &Value| {
                member["asked"]["raftIndex"].as_u64() > Some(0)
                    && member["asked"]["dbSizeBytes"].as_i64() > Some(0)
            };
            if view["members"].as_array().unwrap().iter().all(told) {
                Ok(view)
            } else {
                Err(view)
            }
        })
        .await;
        assert_eq!(view["advice"], serde_json::json!([]), "{view}");
        let list = world.etcd(&["status"]).await;
        assert!(
            list.lines().any(|line| line.starts_with("three  3/3")),
            "{list}"
        );

        let from = view["leader"].as_str().unwrap().to_owned();
        let said = world.etcd(&["move-leader", "three"]).await;
        let to = said.trim().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(said.trim(), format!("leadership moved from {from} to {to}"));
        assert_ne!(from, to);
        let leads = async || {
            world.view("three").await["leader"]
                .as_str()
                .map(str::to_owned)
        };
        eventually(LIMIT, "the other leads", async || match leads().await {
            Some(leader) if leader == to => Ok(()),
            other => Err(other),
        })
        .await;
        let said = world.etcd(&["move-leader", "three", &to]).await;
        assert_eq!(said.trim(), format!("{to} leads already"));

        world.etcd(&["pause", "three"]).await;
        world
            .cluster_when("three", "paused", |status| {
                crate::world::condition(status, "Paused") == "True"
            })
            .await;
        let plan = world.etcd(&["plan", "three"]).await;
        assert!(plan.contains("held back by Paused"), "{plan}");
        world.etcd(&["resume", "three"]).await;
        world.ready("three", 3).await;

        world.etcd(&["restart", "three"]).await;
        let asked = world.clusters().get("three").await.unwrap();
        let annotations = asked.metadata.annotations.unwrap_or_default();
        assert!(
            annotations.contains_key("etcd-core.io/restarted-at"),
            "{annotations:?}"
        );
    });
}

#[test]
fn o21_kubectl_etcd_backs_up_and_restores_what_it_was_told_to() {
    with("plugin-backups", async |world| {
        let _store = Store::start(&world).await;
        let spec = json!({"replicas": 1, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        world.make("EtcdCluster", "one", spec).await;
        let before = world.ready("one", 1).await;
        let id = before["clusterID"].as_str().unwrap();
        world.fill("one", "kept/", 50).await;
        let kept = world.everything("one").await;

        // A schedule that does nothing by itself.
        let destination = Store::destination(BUCKET, "plugin", "backup-credentials");
        let spec = json!({"clusterRef": {"name": "one"}, "schedule": "@yearly", "suspend": true,
            "template": {"spec": {"destination": destination}}});
        world.make("EtcdBackupSchedule", "yearly", spec).await;
        let said = world.etcd(&["backup", "one", "--name", "now"]).await;
        assert!(
            said.contains("EtcdBackup now is stored and proven"),
            "{said}"
        );
        assert!(said.contains("/plugin/now-"), "{said}");
        let list = world.etcd(&["backups", "one", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let line = &list["backups"][0];
        assert_eq!(
            (
                line["name"].as_str(),
                line["verified"].as_bool(),
                line["schedule"].as_str()
            ),
            (Some("now"), Some(true), Some("yearly")),
            "{list}"
        );
        let table = world.etcd(&["backups", "one"]).await;
        assert!(table.contains("now   Completed"), "{table}");

        // Writes after it would be lost: that is told, and nothing is done.
        let revision = world.fill("one", "lost/", 20).await;
        let lost = (revision - line["revision"].as_i64().unwrap()).to_string();
        let tool = kubectl(&world);
        let here = ["etcd", "--namespace", world.namespace.as_str()];
        let restore = ["restore", "one", "--from", "now"];
        let args = [&here[..], &restore].concat();
        let output = tool.try_run(&args, "").await.unwrap();
        assert!(!output.success, "{}", output.stdout);
        let tells = |name: &str, value: &str| {
            let line = output.stdout.lines().find(|line| line.contains(name));
            assert!(
                line.is_some_and(|line| line.ends_with(value)),
                "{name} {value}: {}",
                output.stdout
            );
        };
        tells("cluster ID replaced", id);
        tells("revision now", &revision.to_string());
        tells("revisions lost", &lost);
        let command = format!("--from now --replaces {id} --yes");
        assert!(output.stderr.contains(&command), "{}", output.stderr);
        let left = world.kubectl(&["get", "etcdrestore", "-o", "name"]).await;
        assert_eq!(left.trim(), "", "a dry run leaves nothing");

        let confirmed = [&restore[..], &["--replaces", id, "--yes"]].concat();
        let said = world.etcd(&confirmed).await;
        assert!(said.contains("is done"), "{said}");
        assert_eq!(world.everything("one").await, kept);
        let args = [&here[..], &confirmed].concat();
        let output = tool.try_run(&args, "").await.unwrap();
        assert!(
            !output.success && output.stderr.contains("nothing was done"),
            "{}",
            output.stderr
        );
    });
}

#[test]
fn kubectl_etcd_says_what_is_wrong() {
    with("plugin-errors", async |world| {
        let tool = kubectl(&world);
        let here = ["--namespace", world.namespace.as_str()];
        let cases = [
            (&["status", "nosuch"][..], "no EtcdCluster \"nosuch\""),
            (&["status", "x", "--context", "nowhere"], "nowhere"),
            (
                &["plan", "x", "-A"],
                "--all-namespaces goes with no cluster",
            ),
        ];
        for (args, words) in cases {
            let here: &[&str] = if args.contains(&"-A") { &[] } else { &here };
            let args = [&["etcd"][..], args, here].concat();
            let output = tool.try_run(&args, "").await.unwrap();
            assert!(!output.success, "{args:?}: {}", output.stdout);
            assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
        }
    });
}

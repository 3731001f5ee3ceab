//! What befalls machines and programs while clients work: nobody does anything about it by hand.
//!
//! These tests share one cluster of three: each begins when all is well, and leaves it well.

use std::future::Future;
use std::time::Duration;

use etcd_e2e::eventually;
use etcd_e2e::load::{Figures, Traffic};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, EvictParams, ListParams};
use serde_json::Value;

use crate::life::is_ready;
use crate::members::node_of;
use crate::world::{LIMIT, SYSTEM, World, condition, with_kept};

/// The node whose proxy leads the tests' own clients to Services: not to be cut off.
const DOOR: &str = "node-1";

/// The longest that a cluster at etcd's defaults may be without a leader: an election, twice.
pub(crate) const ELECTION: Duration = Duration::from_secs(3);

/// Runs `work` while clients use the shared cluster; then all must be as before. What the clients counted.
fn steady<F: Future<Output = (World, Traffic)>>(
    what: &'static str,
    work: impl FnOnce(World, Traffic) -> F + Send,
) -> Figures {
    let (send, receive) = std::sync::mpsc::channel();
    with_kept("steady", async |world| {
        world.nodes_are_well().await;
        world.apply_sample("three.yaml").await;
        let before = world.ready("three", 3).await;
        // A node that was away a moment ago may still count its pods as not ready.
        let pods = [
            "wait",
            "--for=condition=Ready",
            "pod",
            "-l",
            "etcd-core.io/cluster=three",
        ];
        world
            .kubectl(&[&pods[..], &["--timeout=120s"]].concat())
            .await;
        let traffic = world.traffic("three").await;
        let (world, traffic) = work(world, traffic).await;
        world.nodes_are_well().await;
        let after = world.ready("three", 3).await;
        assert_eq!(identity(&before), identity(&after), "{after}");
        send.send(world.finish(traffic, what).await).unwrap();
    });
    receive.recv().unwrap()
}

/// What stays for ever, unless a member is replaced.
fn identity(status: &Value) -> (Value, Vec<(Value, Value)>) {
    let members = status["members"].as_array().unwrap();
    (
        status["clusterID"].clone(),
        members
            .iter()
            .map(|member| (member["name"].clone(), member["id"].clone()))
            .collect(),
    )
}

impl World {
    /// The pod of the member that leads.
    pub(crate) async fn leader_of(&self, cluster: &str) -> Pod {
        eventually(LIMIT, "a leader", async || {
            for pod in self.pods_of(cluster).await {
                let Ok(status) = self.client_of(&pod).await.status().await else {
                    continue;
                };
                if status.leader != 0
                    && status.leader == status.header.unwrap_or_default().member_id
                {
                    return Ok(pod);
                }
            }
            Err("nobody says that it leads")
        })
        .await
    }

    /// Makes the member in `pod` the leader.
    async fn lead(&self, cluster: &str, pod: &Pod) {
        let leader = self.leader_of(cluster).await;
        if leader.uid() == pod.uid() {
            return;
        }
        let status = self.client_of(pod).await.status().await.unwrap();
        let target = status.header.unwrap().member_id;
        let client = self.client_of(&leader).await;
        client.move_leader(target).await.unwrap();
        eventually(LIMIT, "it leads", async || {
            let leader = self.leader_of(cluster).await;
            if leader.uid() == pod.uid() {
                Ok(())
            } else {
                Err(leader.name_any())
            }
        })
        .await;
    }

    /// Names of the nodes that the operator's pods are on.
    async fn nodes_of_the_operator(&self) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let pods = pods.list(&ListParams::default()).await.unwrap();
        pods.iter().map(node_of).collect()
    }

    /// Waits until the status says that one of three is missing; the others may have been
    /// asked while they elected a leader.
    async fn degraded(&self, cluster: &str) -> Value {
        self.cluster_when(
            cluster,
            "one member is not well, and it says so",
            |status| {
                condition(status, "Degraded") == "True"
                    && condition(status, "Available") == "True"
                    && status["readyReplicas"] == 2
            },
        )
        .await
    }
}

#[test]
fn the_leader_is_killed_and_clients_hardly_notice() {
    let figures = steady("leader killed with -9", async |world, traffic| {
        let leader = world.leader_of("three").await;
        let killed = world
            .machine
            .kill_in_pod(&leader.uid().unwrap(), "etcd")
            .unwrap();
        assert_eq!(killed, 1, "its etcd was killed");
        world.restarted(&leader).await;
        (world, traffic)
    });
    assert!(figures.longest_gap < ELECTION, "{figures}");
    // What had reached the dead leader is answered by nobody; those are retried, and few. What
    // had not waits for the next one.
    assert_eq!(figures.failed, 0, "{figures}");
}

#[test]
fn o36_a_node_that_is_cut_off_is_waited_for() {
    let figures = steady(
        "the leader's node cut off, and back",
        async |world, traffic| {
            let spared = world.nodes_of_the_operator().await;
            let pods = world.pods_of("three").await;
            let pod = pods
                .iter()
                .find(|pod| node_of(pod) != DOOR && !spared.contains(&node_of(pod)))
                .expect("three nodes, and two are spared");
            world.lead("three", pod).await;
            let cable = world.machine.cut(&node_of(pod)).unwrap();
            traffic.flows(100, LIMIT).await;
            world.degraded("three").await;
            // Longer than the node is given before it counts as gone: nothing is done to the member.
            let node = format!("node/{}", node_of(pod));
            world
                .kubectl(&[
                    "wait",
                    "--for=condition=Ready=Unknown",
                    &node,
                    "--timeout=120s",
                ])
                .await;
            traffic.flows(300, LIMIT).await;
            drop(cable);
            (world, traffic)
        },
    );
    // Whoever was connected to it finds out by the silence.
    assert!(figures.longest_gap < 2 * ELECTION, "{figures}");
    assert_eq!(figures.failed, 0, "{figures}");
}

#[test]
fn o37_of_two_nodes_drained_at_once_one_waits() {
    let figures = steady("two nodes drained at once", async |world, traffic| {
        let pods = world.pods_of("three").await;
        let two: Vec<&Pod> = pods.iter().take(2).collect();
        let nodes: Vec<String> = two.iter().map(|pod| node_of(pod)).collect();
        world.cordon(&nodes, true).await;
        // The first may go at once; the second only when the first is back.
        world.evict(two[0]).await;
        world.evict(two[1]).await;
        let name = two[0].name_any();
        let back = world.pods().get(&name).await.unwrap();
        assert!(back.uid() != two[0].uid() && is_ready(&back), "{back:?}");
        let drain = async |node: &String| {
            let options = [
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=200s",
            ];
            let args = [&["drain", node.as_str()], &options[..]].concat();
            world.kubectl.run(&args).await.unwrap();
        };
        tokio::join!(drain(&nodes[0]), drain(&nodes[1]));
        for pod in world.pods_of("three").await {
            world
                .object_when(world.pods(), &pod.name_any(), "is elsewhere", |pod| {
                    pod.is_some_and(|pod| {
                        pod.spec
                            .as_ref()
                            .and_then(|spec| spec.node_name.as_ref())
                            .is_some_and(|node| !nodes.contains(node))
                    })
                })
                .await;
        }
        (world, traffic)
    });
    assert!(figures.longest_gap < ELECTION, "{figures}");
    assert_eq!(figures.failed, 0, "{figures}");
}

impl World {
    /// Asks for the pod's eviction, and asks again while the budget does not allow it.
    async fn evict(&self, pod: &Pod) {
        let name = pod.name_any();
        eventually(LIMIT, "it may be evicted", async || {
            match self.pods().evict(&name, &EvictParams::default()).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }
}

#[test]
fn o12_all_nodes_restart_at_once_and_the_data_is_there() {
    let figures = steady("all nodes restarted at once", async |world, traffic| {
        let nodes = world.nodes().await;
        let mut taken = Vec::new();
        for node in &nodes {
            taken.push(world.machine.take_kubelet(node).unwrap());
            taken.push(world.machine.take_containerd(node).unwrap());
        }
        for node in &nodes {
            world.machine.kill_pods(node).unwrap();
        }
        drop(taken);
        traffic.flows(100, LIMIT).await;
        (world, traffic)
    });
    // Nothing ran for a while: requests may fail. What was acknowledged before is there.
    assert!(
        figures.longest_gap > Duration::from_millis(100),
        "{figures}"
    );
}

#[test]
fn o31_without_the_api_server_clusters_serve_on() {
    let figures = steady(
        "API server down, and the leader killed meanwhile",
        async |world, traffic| {
            let leader = world.leader_of("three").await;
            let client = world.client_of(&leader).await;
            let down = world.machine.take_api_server().unwrap();
            traffic.flows(300, LIMIT).await;
            let uid = leader.uid().unwrap();
            assert_eq!(world.machine.kill_in_pod(&uid, "etcd").unwrap(), 1);
            // Its kubelet starts it again, without asking anybody.
            eventually(LIMIT, "it serves again", async || client.get("x").await).await;
            traffic.flows(300, LIMIT).await;
            drop(down);
            let ready = ["get", "--raw", "/readyz"];
            eventually(LIMIT, "the API server is back", async || {
                world.kubectl.run(&ready).await
            })
            .await;
            (world, traffic)
        },
    );
    assert!(figures.longest_gap < 2 * ELECTION, "{figures}");
    assert_eq!(figures.failed, 0, "{figures}");
}

#[test]
fn o31_the_storage_of_the_api_server_is_killed_and_comes_back() {
    let figures = steady("the API server's storage killed", async |world, traffic| {
        drop(world.machine.take_storage().unwrap());
        let ready = ["get", "--raw", "/readyz"];
        eventually(LIMIT, "the API server is ready", async || {
            world.kubectl.run(&ready).await
        })
        .await;
        (world, traffic)
    });
    assert_eq!(figures.failed, 0, "{figures}");
}

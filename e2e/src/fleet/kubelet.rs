//! Nodes and their kubelet, as far as the API server can tell: a pod that is scheduled
//! gets an address and runs, is ready when its etcd would be, and ends when deleted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::members::Members;
use super::secure::Secure;

/// Pods handled at a time.
const CONCURRENCY: usize = 32;
/// Half of what the node controller waits for.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Registers `nodes` nodes and begins to run what is scheduled to them.
pub(super) async fn run(
    client: &Client,
    nodes: usize,
    members: Arc<Members>,
    secure: Arc<Secure>,
) -> Result<()> {
    for number in 1..=nodes {
        register(client, &name(number)).await?;
    }
    let beats = client.clone();
    tokio::spawn(async move {
        loop {
            for number in 1..=nodes {
                if let Err(error) = beat(&beats, &name(number)).await {
                    eprintln!("heartbeat: {error:#}");
                }
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    });
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let pods = pods.default_backoff();
    let client = client.clone();
    tokio::spawn(async move {
        pods.for_each_concurrent(CONCURRENCY, |event| {
            let (client, members) = (client.clone(), Arc::clone(&members));
            let secure = Arc::clone(&secure);
            async move {
                let done = match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                        keep(&client, &members, &secure, &pod).await
                    }
                    Ok(watcher::Event::Delete(pod)) => {
                        members.gone(&pod);
                        Ok(())
                    }
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = done {
                    eprintln!("kubelet: {error:#}");
                }
            }
        })
        .await;
    });
    Ok(())
}

fn name(number: usize) -> String {
    format!("fleet-{number}")
}

async fn register(client: &Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}
    }))?;
    nodes
        .create(&PostParams::default(), &node)
        .await
        .with_context(|| format!("registering {name}"))?;
    beat(client, name).await?;
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "2000"});
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Bench", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [
            condition("Ready", "True"), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False"),
        ],
        "addresses": [{"type": "InternalIP", "address": "172.31.0.200"}],
    }});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .with_context(|| format!("the status of {name}"))?;
    Ok(())
}

async fn beat(client: &Client, name: &str) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let now = Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        .to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
    });
    leases
        .patch(name, &PatchParams::apply("bench"), &Patch::Apply(&lease))
        .await
        .with_context(|| format!("the lease of {name}"))?;
    Ok(())
}

/// Brings a pod's status to what a kubelet would say.
async fn keep(client: &Client, members: &Members, secure: &Secure, pod: &Pod) -> Result<()> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    if !node.is_some_and(|node| node.starts_with("fleet-")) {
        return Ok(());
    }
    let name = pod.name_any();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        return match pods.delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("ending {name}")),
        };
    }
    let (address, runs) = members.seen(pod)?;
    secure.mount(client, pod, address).await?;
    let status = pod.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if status.pod_ip.is_some() && ready == runs {
        return Ok(());
    }
    let said = json!({
        "metadata": {"uid": pod.uid()},
        "status": running(pod, &address.to_string(), runs),
    });
    let patched = pods
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&said))
        .await;
    match patched {
        Ok(_) => Ok(()),
        // Deleted meanwhile: the watch says so.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the status of {name}")),
    }
}

fn running(pod: &Pod, address: &str, ready: bool) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let image = |init: bool| {
        let spec = pod.spec.as_ref();
        let containers = if init {
            spec.and_then(|spec| spec.init_containers.clone())
        } else {
            spec.map(|spec| spec.containers.clone())
        };
        containers.unwrap_or_default()
    };
    let started: Vec<Value> = image(false)
        .iter()
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "bench",
                "ready": ready, "started": true, "restartCount": 0,
                "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let done: Vec<Value> = image(true)
        .iter()
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "bench",
                "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}})
        })
        .collect();
    let condition = |kind: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastTransitionTime": now})
    };
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "hostIP": "172.31.0.200", "startTime": now,
        "initContainerStatuses": done, "containerStatuses": started,
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", ready), condition("Ready", ready),
        ],
    })
}

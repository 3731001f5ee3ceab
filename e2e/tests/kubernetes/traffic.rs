//! Traffic to a cluster, through its client Service and after its member list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use etcd_e2e::load::{Figures, Names, Reach, Traffic};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Api;
use parking_lot::Mutex;

use crate::members::address;
use crate::world::{LIMIT, World};

/// Writes that are waited for to know that the traffic flows: about a second's.
const SOME: usize = 100;

impl World {
    /// Starts traffic: one client through the Service, two that follow the member list.
    pub(crate) async fn traffic(&self, cluster: &str) -> Traffic {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = services.get(&format!("{cluster}-client")).await.unwrap();
        let ip = service.spec.unwrap().cluster_ip.unwrap();
        let through = Reach {
            endpoints: vec![format!("http://{ip}:2379")],
            names: None,
            tls: None,
        };
        let pods = self.pods_of(cluster).await;
        let after = Reach {
            endpoints: pods
                .iter()
                .filter_map(address)
                .map(|ip| format!("http://{ip}:2379"))
                .collect(),
            names: Some(self.names()),
            tls: None,
        };
        let traffic = Traffic::start(vec![through, after.clone(), after], "traffic/").await;
        traffic.flows(SOME, LIMIT).await;
        traffic
    }

    /// Ends the traffic after it has flowed a while, and checks and prints what it counted.
    pub(crate) async fn finish(&self, traffic: Traffic, what: &str) -> Figures {
        traffic.flows(SOME, LIMIT).await;
        let figures = traffic.finish().await;
        println!("\n  {what}: {figures}");
        figures.check();
        figures
    }

    /// Hosts of pods as DNS tells them: while the API server is away, what was known last.
    fn names(&self) -> Names {
        let pods: Api<Pod> = self.pods();
        let known: Arc<Mutex<HashMap<String, IpAddr>>> = Arc::default();
        Arc::new(move |host| {
            let (pods, known) = (pods.clone(), known.clone());
            Box::pin(async move {
                let name = host.split('.').next().unwrap_or_default().to_owned();
                match pods.get_opt(&name).await {
                    Ok(pod) => {
                        let found = pod.as_ref().and_then(address)?.parse().ok()?;
                        known.lock().insert(name, found);
                        Some(found)
                    }
                    Err(_) => known.lock().get(&name).copied(),
                }
            })
        })
    }
}

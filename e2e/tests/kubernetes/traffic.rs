//! Traffic to a cluster, through its client Service and after its member list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_e2e::load::{Bundle, Figures, Names, Reach, Traffic};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::Api;
use parking_lot::{Mutex, RwLock};

use crate::client::speaks_tls;
use crate::members::address;
use crate::world::{LIMIT, World};

/// Writes that are waited for to know that the traffic flows: about a second's.
const SOME: usize = 100;
/// How often clients look whether their Secret has changed, as what a pod mounts does.
const RELOAD: Duration = Duration::from_secs(1);

impl World {
    /// Starts traffic: one client through the Service, two that follow the member list.
    pub(crate) async fn traffic(&self, cluster: &str) -> Traffic {
        let pods = self.pods_of(cluster).await;
        let scheme = if speaks_tls(&pods[0]) {
            "https"
        } else {
            "http"
        };
        self.traffic_by(cluster, &[scheme]).await
    }

    /// The same, by clients that know these schemes and use whichever works.
    pub(crate) async fn traffic_by(&self, cluster: &str, schemes: &[&str]) -> Traffic {
        let namespace = &self.namespace;
        let urls = |host: &str| -> Vec<String> {
            let all = schemes.iter();
            all.map(|scheme| format!("{scheme}://{host}:2379"))
                .collect()
        };
        let tls = schemes.contains(&"https").then(|| self.mounted(cluster));
        let through = Reach {
            endpoints: urls(&format!("{cluster}-client.{namespace}.svc")),
            names: Some(self.names()),
            follows: false,
            tls: match tls {
                Some(bundle) => Some(bundle.await),
                None => None,
            },
        };
        let pods = self.pods_of(cluster).await;
        let names = pods.iter().filter_map(|pod| pod.metadata.name.clone());
        let after = Reach {
            endpoints: names
                .flat_map(|name| urls(&format!("{name}.{cluster}-peer.{namespace}.svc")))
                .collect(),
            follows: true,
            ..through.clone()
        };
        let traffic = Traffic::start(vec![through, after.clone(), after], "traffic/").await;
        traffic.flows(SOME, LIMIT).await;
        traffic
    }

    /// What clients have loaded of their Secret, kept up to date for ever.
    async fn mounted(&self, cluster: &str) -> Arc<RwLock<Bundle>> {
        let bundle = self.bundle(cluster).await.unwrap_or_default();
        let shared = Arc::new(RwLock::new(bundle));
        let (secrets, name) = (self.secrets(), format!("{cluster}-client"));
        let loaded = shared.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RELOAD).await;
                if let Ok(Some(secret)) = secrets.get_opt(&name).await
                    && let Some(bundle) = bundle_of(&secret)
                {
                    *loaded.write() = bundle;
                }
            }
        });
        shared
    }

    /// Ends the traffic after it has flowed a while, and checks and prints what it counted.
    pub(crate) async fn finish(&self, traffic: Traffic, what: &str) -> Figures {
        traffic.flows(SOME, LIMIT).await;
        let figures = traffic.finish().await;
        println!("\n  {what}: {figures}");
        figures.check();
        figures
    }

    /// Hosts of pods and of the Service as DNS tells them: while the API server is away, what was
    /// known last.
    fn names(&self) -> Names {
        let pods: Api<Pod> = self.pods();
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let known: Arc<Mutex<HashMap<String, IpAddr>>> = Arc::default();
        Arc::new(move |host| {
            let (pods, services, known) = (pods.clone(), services.clone(), known.clone());
            Box::pin(async move {
                let name = host.split('.').next().unwrap_or_default().to_owned();
                let answer = if name.ends_with("-client") {
                    let found = services.get_opt(&name).await;
                    found.map(|found| found?.spec?.cluster_ip)
                } else {
                    let found = pods.get_opt(&name).await;
                    found.map(|found| Some(address(found.as_ref()?)?.to_owned()))
                };
                match answer {
                    Ok(found) => {
                        let found = found?.parse().ok()?;
                        known.lock().insert(name, found);
                        Some(found)
                    }
                    Err(_) => known.lock().get(&name).copied(),
                }
            })
        })
    }
}

/// What a client of a cluster mounts.
pub(crate) fn bundle_of(secret: &Secret) -> Option<Bundle> {
    let data = secret.data.as_ref()?;
    let read = |key: &str| data.get(key).map(|bytes| bytes.0.clone());
    Some(Bundle {
        ca: read("ca.crt")?,
        identity: read("tls.crt").zip(read("tls.key")),
    })
}

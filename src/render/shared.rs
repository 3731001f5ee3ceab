//! What a cluster has once: two Services and a PodDisruptionBudget.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use crate::{
    api::{EtcdCluster, LABEL_ROLE, ROLE_VOTER, ServiceType},
    identity,
    observe::Observed,
    plan::quorum,
};

use super::{drift::first_difference, metadata, selector};

/// The manifests a cluster has once.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// Headless; gives members their DNS names, ready or not.
    pub peer_service: Service,
    /// For clients.
    pub client_service: Service,
    /// Keeps drains from breaking the quorum.
    pub disruption_budget: PodDisruptionBudget,
}

impl Shared {
    /// The manifests for a cluster that has `voters` voters now.
    pub fn of(cluster: &EtcdCluster, voters: usize) -> Shared {
        Shared {
            peer_service: peer_service(cluster),
            client_service: client_service(cluster),
            disruption_budget: disruption_budget(cluster, voters),
        }
    }

    /// What is missing or different in the world, in words; `None` if nothing.
    pub fn differs_from(&self, observed: &Observed) -> Option<String> {
        fn check<T: serde::Serialize>(what: &str, wanted: &T, live: Option<&T>) -> Option<String> {
            let Some(live) = live else {
                return Some(format!("makes the {what}"));
            };
            let value = |object| serde_json::to_value(object).expect("manifests are JSON");
            first_difference(&value(wanted), &value(live))
                .map(|path| format!("sets {path} of the {what} to what it should be"))
        }
        check(
            "peer Service",
            &self.peer_service,
            observed.peer_service.as_ref(),
        )
        .or_else(|| {
            check(
                "client Service",
                &self.client_service,
                observed.client_service.as_ref(),
            )
        })
        .or_else(|| {
            check(
                "PodDisruptionBudget",
                &self.disruption_budget,
                observed.disruption_budget.as_ref(),
            )
        })
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}

fn peer_service(cluster: &EtcdCluster) -> Service {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    Service {
        metadata: metadata(cluster, identity::peer_service(name), None),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            // A member must find its peers before any of them is ready.
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![
                port("client", identity::CLIENT_PORT),
                port("peer", identity::PEER_PORT),
                port("metrics", identity::METRICS_PORT),
            ]),
            selector: Some(selector(cluster)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn client_service(cluster: &EtcdCluster) -> Service {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let spec = &cluster.spec.service;
    let mut metadata = metadata(cluster, identity::client_service(name), None);
    if !spec.annotations.is_empty() {
        metadata.annotations = Some(spec.annotations.clone());
    }
    let type_ = match spec.type_ {
        ServiceType::ClusterIP | ServiceType::NodePort | ServiceType::LoadBalancer => spec.type_,
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.as_str().to_owned()),
            ports: Some(vec![port("client", identity::CLIENT_PORT)]),
            // Learners and members that wait are not ready, so they get no clients.
            selector: Some(selector(cluster)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn disruption_budget(cluster: &EtcdCluster, voters: usize) -> PodDisruptionBudget {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let target = usize::try_from(cluster.spec.replicas).unwrap_or(0);
    let available = quorum(voters.max(target).max(1));
    let mut match_labels: BTreeMap<String, String> = selector(cluster);
    match_labels.insert(LABEL_ROLE.to_owned(), ROLE_VOTER.to_owned());
    PodDisruptionBudget {
        metadata: metadata(cluster, name, None),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(
                i32::try_from(available).unwrap_or(i32::MAX),
            )),
            selector: Some(LabelSelector {
                match_labels: Some(match_labels),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

//! What cert-manager was asked for, and what it says. Read only where the spec asks
//! for it; cert-manager need not be installed otherwise.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::{
    api::{EtcdCluster, IssuerRef},
    certificates::{Origin, Requested},
    observe::ObserveError,
    plan::Kind,
    render::{CERT_MANAGER, cert_manager},
};

use super::{RequestSeen, needs};

/// Certificates by name; `None`: cert-manager is not installed.
pub(super) async fn fetch(
    client: &Client,
    cluster: &EtcdCluster,
) -> Result<Option<BTreeMap<String, RequestSeen>>, ObserveError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &Kind::Certificate.resource());
    let needs = needs(cluster);
    let asked = needs.iter().filter(|(_, o)| *o == Origin::CertManager);
    let names: Vec<(String, Option<&IssuerRef>)> = asked
        .flat_map(|(purpose, _)| {
            let issuer = cert_manager(cluster, *purpose).map(|spec| &spec.issuer_ref);
            let all = Requested::of(*purpose).iter();
            all.map(move |who| (who.name(&cluster.name_any()), issuer))
        })
        .collect();
    let found = join_all(names.iter().map(|(name, _)| api.get(name))).await;
    let mut requests = BTreeMap::new();
    for ((name, issuer), found) in names.into_iter().zip(found) {
        let object = match found {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.code == 404 && names_object(&status) => {
                continue;
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(source) => return Err(error(format!("Certificate {name}"), source)),
        };
        let mut request = read(object);
        if let (false, Some(issuer)) = (request.ready, issuer)
            && let Some(missing) = missing(client, &namespace, issuer).await?
        {
            request.issuer_missing = true;
            request.message = missing;
        }
        requests.insert(name, request);
    }
    Ok(Some(requests))
}

fn error(what: String, source: kube::Error) -> ObserveError {
    ObserveError::Get {
        what,
        source: Box::new(source),
    }
}

/// Whether an object is not there; else the whole kind is not, which the API server says
/// by a bare 404.
fn names_object(status: &kube::core::Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| !details.name.is_empty())
}

/// Reads a Certificate.
pub(crate) fn read(object: DynamicObject) -> RequestSeen {
    let body = serde_json::to_value(&object).unwrap_or_default();
    let conditions = body["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    let generation = object.metadata.generation;
    let current = ready.is_some_and(|ready| {
        let seen = ready["observedGeneration"].as_i64();
        seen.is_none() || seen == generation
    });
    RequestSeen {
        ready: current && ready.is_some_and(|ready| ready["status"] == "True"),
        message: ready
            .and_then(|ready| ready["message"].as_str())
            .unwrap_or_default()
            .to_owned(),
        issuer_missing: false,
        body,
    }
}

/// What to say if there is no such issuer. One that may not be looked at, or is not of
/// cert-manager's own kinds, is left to what cert-manager says.
async fn missing(
    client: &Client,
    namespace: &str,
    issuer: &IssuerRef,
) -> Result<Option<String>, ObserveError> {
    let IssuerRef { name, kind, group } = issuer;
    if group != CERT_MANAGER {
        return Ok(None);
    }
    let gvk = GroupVersionKind::gvk(group, "v1", kind);
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match kind.as_str() {
        "Issuer" => Api::namespaced_with(client.clone(), namespace, &resource),
        "ClusterIssuer" => Api::all_with(client.clone(), &resource),
        _ => {
            return Ok(Some(format!(
                "issuerRef.kind is {kind:?}; cert-manager has Issuer and ClusterIssuer"
            )));
        }
    };
    match api.get_metadata(name).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Ok(Some(format!("there is no {kind} {name}")))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(source) => Err(error(format!("{kind} {name}"), source)),
    }
}

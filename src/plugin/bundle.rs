//! What a client of a cluster shows and believes: from the Secret that the operator
//! keeps for clients, or, where users have certificates of their own, with the one they
//! gave the operator.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{api::EtcdCluster, certificates::clients_secret};

use super::{PluginError, error, target::Target};

/// PEM of CA, certificate and key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) ca: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Reads the bundle; `None` if members serve clients in plain.
pub(super) async fn read(
    target: &Target,
    cluster: &EtcdCluster,
) -> Result<Option<Bundle>, PluginError> {
    let status = cluster.status.as_ref();
    let tls = status.and_then(|status| status.tls.as_ref());
    if tls.and_then(|tls| tls.client.as_ref()).is_none() {
        return Ok(None);
    }
    let get = async |name: String| {
        let found = target.secrets().get(&name).await;
        found.map_err(|error| error::kube(&format!("read the Secret {name}"), error))
    };
    let clients = get(clients_secret(&cluster.name_any())).await?;
    match cluster.spec.operator_secret() {
        None => from_secrets(&clients, &clients).map(Some),
        Some(own) => from_secrets(&clients, &get(own.to_owned()).await?).map(Some),
    }
}

/// The CAs of one Secret, and the certificate of the same or of another.
pub(super) fn from_secrets(authorities: &Secret, own: &Secret) -> Result<Bundle, PluginError> {
    let entry = |secret: &Secret, key: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(key));
        found
            .map(|bytes| bytes.0.clone())
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| {
                PluginError::Bundle(format!(
                    "{} has no {key}; a client bundle has ca.crt, tls.crt and tls.key",
                    secret.name_any()
                ))
            })
    };
    Ok(Bundle {
        ca: entry(authorities, "ca.crt")?,
        certificate: entry(own, "tls.crt")?,
        key: entry(own, "tls.key")?,
    })
}

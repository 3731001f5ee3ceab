//! The client bundle: the Secret with the certificate that clients of a cluster use.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::api::EtcdCluster;

use super::{PluginError, error, target::Target};

/// PEM of CA, certificate and key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) ca: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Name of the Secret.
pub(super) fn name(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// Reads the bundle; `None` if there is none, so clients need no certificate.
pub(super) async fn read(
    target: &Target,
    cluster: &EtcdCluster,
) -> Result<Option<Bundle>, PluginError> {
    let name = name(&cluster.name_any());
    let found = target.secrets().get_opt(&name).await;
    let found = found.map_err(|error| error::kube(&format!("read the Secret {name}"), error))?;
    found.as_ref().map(from_secret).transpose()
}

/// The bundle in a Secret.
pub(super) fn from_secret(secret: &Secret) -> Result<Bundle, PluginError> {
    let entry = |key: &str| {
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
        ca: entry("ca.crt")?,
        certificate: entry("tls.crt")?,
        key: entry("tls.key")?,
    })
}

//! Calls about certificates: reads Secrets by name, and writes one over what it read.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::{ANNOTATION_CERTIFICATES, EtcdCluster},
    identity,
    observe::Observed,
    plan::{CertificateCall, Kind},
};

use super::{
    Applier, ApplyError, MANAGER, Owner,
    certify::{self, CertifyError, Found},
    is_ours, kube_error,
};

impl Applier {
    /// Carries out one call about certificates. What is right already is left alone.
    pub(super) async fn certify(
        &self,
        cluster: &EtcdCluster,
        observed: &Observed,
        call: &CertificateCall,
    ) -> Result<(), ApplyError> {
        let of = cluster.name_any();
        let owner = Owner::cluster(cluster, &of);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), owner.namespace);
        let mut found = Found::new();
        let (ours, others) = certify::reads(cluster, call);
        let all = ours.into_iter().map(|name| (name, true));
        for (name, own) in all.chain(others.into_iter().map(|name| (name, false))) {
            let secret = api.get_opt(&name).await;
            let secret = secret.map_err(kube_error(format!("reads Secret {name}")))?;
            let Some(secret) = secret else { continue };
            if own && !is_ours(&owner, secret.labels(), secret.owner_references()) {
                return Err(ApplyError::NameTaken(format!("Secret {name}")));
            }
            found.insert(name, secret);
        }
        let made = certify::outcome(cluster, call, &found, Timestamp::now());
        let made = made.map_err(|error| match error {
            CertifyError::NotYet(why) => ApplyError::NotYet(why),
            CertifyError::Issue(what, error) => ApplyError::Certificate(what, error),
        })?;
        let Some(mut secret) = made else {
            return Ok(());
        };
        let name = secret.name_any();
        if let Some(before) = found.get(&name) {
            // Only over what was read: nobody's key is lost to a race.
            secret.metadata.uid = before.metadata.uid.clone();
            secret.metadata.resource_version = before.metadata.resource_version.clone();
        }
        let digest = crate::render::digest(&secret.data);
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&secret))
            .await
            .map_err(kube_error(format!("applies Secret {name}")))?;
        match call {
            CertificateCall::Member { member, .. } => {
                self.nudge(&owner, observed, member, &digest).await
            }
            _ => Ok(()),
        }
    }

    /// The kubelet looks again at what it mounts when its pod changes; without this it
    /// would take a minute.
    async fn nudge(
        &self,
        owner: &Owner<'_>,
        observed: &Observed,
        member: &str,
        digest: &str,
    ) -> Result<(), ApplyError> {
        let pod = observed.members.get(member).and_then(|m| m.pod.as_ref());
        let Some(pod) = pod.filter(|pod| !pod.deleting) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {"uid": pod.uid, "annotations": {ANNOTATION_CERTIFICATES: digest}},
        });
        let nudged = self
            .merge(owner, Kind::Pod, &identity::pod_name(member), &patch)
            .await;
        match nudged {
            Err(error) if error.is_gone() => Ok(()), // the next pod mounts it as it is
            nudged => nudged,
        }
    }
}

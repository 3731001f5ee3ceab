//! Which Secrets are read, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use crate::{
    api::{
        ANNOTATION_PREVIOUS_CA, ANNOTATION_ROTATE_CA, ANNOTATION_ROTATION,
        ANNOTATION_ROTATION_SINCE, EtcdCluster,
    },
    certificates::{
        Authority, AuthorityError, Origin, Purpose, Requested, anchor, authority_secret,
        certificates, clients_secret, first, member_secret,
    },
    observe::{ObserveError, Observed},
    render::transport,
};

use super::{LeafSeen, offer::operators_secret};

/// The texts of a Secret.
pub(crate) type Texts = BTreeMap<String, String>;

/// Origins that are wanted or in effect, by purpose.
pub(crate) fn needs(cluster: &EtcdCluster) -> Vec<(Purpose, Origin)> {
    let mut needs = Vec::new();
    for purpose in Purpose::ALL {
        for origin in origins(cluster, purpose).into_iter().flatten() {
            if !needs.contains(&(purpose, origin.clone())) {
                needs.push((purpose, origin));
            }
        }
    }
    needs
}

/// The origin that is in effect for `purpose`, and the one that is wanted.
pub(crate) fn origins(cluster: &EtcdCluster, purpose: Purpose) -> [Option<Origin>; 2] {
    [
        transport::origin(transport::in_effect(cluster), purpose),
        transport::origin(&transport::wanted(cluster), purpose),
    ]
}

/// Members, also those of which nothing else is left.
pub(super) fn known(cluster: &EtcdCluster, observed: &Observed) -> BTreeSet<String> {
    let status = cluster.status.iter().flat_map(|status| &status.members);
    let remembered = status.map(|member| member.name.clone());
    remembered.chain(observed.members.keys().cloned()).collect()
}

/// Secrets by name, with their texts; `None`: there is none of that name.
#[derive(Default)]
pub(super) struct Secrets(pub(super) BTreeMap<String, Option<(Secret, Texts)>>);

impl Secrets {
    pub(super) fn secret(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)?.as_ref().map(|(secret, _)| secret)
    }

    pub(super) fn texts(&self, name: &str) -> Option<&Texts> {
        self.0.get(name)?.as_ref().map(|(_, texts)| texts)
    }
}

/// The texts of a Secret; what is no text is left out.
pub(crate) fn texts(secret: &Secret) -> Texts {
    let data = secret.data.iter().flatten();
    data.filter_map(|(key, value)| {
        Some((key.clone(), std::str::from_utf8(&value.0).ok()?.to_owned()))
    })
    .collect()
}

/// Reads all that concern the cluster.
pub(super) async fn fetch(
    client: &Client,
    cluster: &EtcdCluster,
    observed: &Observed,
) -> Result<Secrets, ObserveError> {
    let name = cluster.name_any();
    let mut names: Vec<String> = known(cluster, observed)
        .iter()
        .map(|member| member_secret(member))
        .collect();
    names.push(clients_secret(&name));
    for (purpose, origin) in needs(cluster) {
        names.extend(operators_secret(cluster, &origin));
        match origin {
            Origin::Own => names.push(authority_secret(&name, purpose)),
            Origin::CertManager => {
                names.extend(Requested::of(purpose).iter().map(|who| who.name(&name)));
            }
            Origin::Secret(users) => names.push(users),
        }
    }
    names.sort();
    names.dedup();
    let api: Api<Secret> =
        Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let found = join_all(names.iter().map(|name| api.get_opt(name))).await;
    let mut secrets = BTreeMap::new();
    for (name, found) in names.into_iter().zip(found) {
        let found = found.map_err(|source| ObserveError::Get {
            what: format!("Secret {name}"),
            source: Box::new(source),
        })?;
        let read = found.map(|secret| {
            let texts = texts(&secret);
            (secret, texts)
        });
        secrets.insert(name, read);
    }
    Ok(Secrets(secrets))
}

fn annotation(secret: &Secret, name: &str) -> String {
    secret.annotations().get(name).cloned().unwrap_or_default()
}

/// When what a Secret says began.
pub(super) fn since(secret: &Secret) -> Timestamp {
    let since = annotation(secret, ANNOTATION_ROTATION_SINCE).parse();
    since.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Reads a CA off its Secret.
pub(crate) fn read_authority(secret: &Secret) -> Result<Authority, AuthorityError> {
    Authority::read(
        &texts(secret),
        &annotation(secret, ANNOTATION_ROTATION),
        since(secret),
        annotation(secret, ANNOTATION_ROTATE_CA),
    )
}

/// What can be read off a certificate for `purpose` and what is beside it.
pub(crate) fn leaf(secret: &Secret, purpose: Purpose, keys: &[String; 3]) -> Option<LeafSeen> {
    let texts = texts(secret);
    let cert = texts.get(&keys[0])?;
    let authorities = texts.get(&keys[2]).map_or("", String::as_str);
    Some(LeafSeen {
        cert: first(cert)?,
        anchor: anchor(cert, authorities),
        bundle: certificates(authorities)
            .into_iter()
            .map(|cert| cert.fingerprint)
            .collect(),
        key: texts.get(&keys[1]).is_some_and(|key| !key.is_empty()),
        previous: previous(secret, purpose),
    })
}

/// The CA that vouched for the certificate before.
pub(crate) fn previous(secret: &Secret, purpose: Purpose) -> Option<String> {
    let mark = format!("{}=", purpose.as_str());
    let all = annotation(secret, ANNOTATION_PREVIOUS_CA);
    let mut all = all.split(',');
    all.find_map(|part| part.strip_prefix(&mark))
        .map(str::to_owned)
}

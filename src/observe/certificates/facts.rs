//! From Secrets to facts: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::EtcdCluster,
    certificates::{
        Origin, Purpose, Requested, TlsReason, authority_secret, clients_secret, member_secret,
    },
    identity,
    observe::Observed,
    render::transport,
};

use super::{
    CertificatesSeen, ClientsSeen, Problem, RequestSeen, Sought,
    offer::offer,
    origins,
    secrets::{Secrets, known, leaf, previous, read_authority, since},
};

/// The facts of Secrets and requests that a model of the API server holds.
#[cfg(test)]
pub(crate) fn facts_of(
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &BTreeMap<String, k8s_openapi::api::core::v1::Secret>,
    requests: Option<BTreeMap<String, RequestSeen>>,
    now: Timestamp,
) -> CertificatesSeen {
    let read = secrets.iter().map(|(name, secret)| {
        let texts = super::texts(secret);
        (name.clone(), Some((secret.clone(), texts)))
    });
    let secrets = Secrets(read.collect());
    facts(cluster, observed, &secrets, requests, now)
}

/// Everything that the plan is to know.
pub(super) fn facts(
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &Secrets,
    requests: Option<BTreeMap<String, RequestSeen>>,
    now: Timestamp,
) -> CertificatesSeen {
    let mut seen = CertificatesSeen {
        requests,
        ..CertificatesSeen::default()
    };
    for purpose in Purpose::ALL {
        let [in_effect, wanted] = origins(cluster, purpose);
        for origin in [in_effect.as_ref(), wanted.as_ref()].into_iter().flatten() {
            // What is wrong with an origin that is being left is nobody's concern.
            let told = wanted.as_ref() == Some(origin);
            if let Some(problem) = see(&mut seen, cluster, observed, secrets, purpose, origin, now)
                && told
                && !seen.problems.contains(&problem)
            {
                seen.problems.push(problem);
            }
        }
    }
    for member in known(cluster, observed) {
        let Some(secret) = secrets.secret(&member_secret(&member)) else {
            continue;
        };
        if let Some(uid) = secret.uid() {
            seen.secrets.insert(member.clone(), uid);
        }
        for purpose in Purpose::ALL {
            if let Some(leaf) = leaf(secret, purpose, &transport::keys(purpose)) {
                seen.members.insert((member.clone(), purpose), leaf);
            }
        }
    }
    let clients = clients_secret(&cluster.name_any());
    seen.clients = secrets.secret(&clients).map(|secret| {
        let texts = secrets.texts(&clients);
        let text = |key: &str| {
            let found = texts.and_then(|texts| texts.get(key));
            found.map_or("", String::as_str)
        };
        let authorities = crate::certificates::certificates(text("ca.crt"));
        ClientsSeen {
            leaf: leaf(
                secret,
                Purpose::Client,
                &transport::CLIENTS_KEYS.map(str::to_owned),
            ),
            bundle: authorities.into_iter().map(|ca| ca.fingerprint).collect(),
            endpoints: text("endpoints").to_owned(),
            published: since(secret),
            previous: previous(secret, Purpose::Client),
        }
    });
    seen
}

/// Takes in what `origin` has for `purpose`; what is wrong with it.
fn see(
    seen: &mut CertificatesSeen,
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &Secrets,
    purpose: Purpose,
    origin: &Origin,
    now: Timestamp,
) -> Option<Problem> {
    let name = cluster.name_any();
    if *origin == Origin::Own {
        let secret = authority_secret(&name, purpose);
        return match read_authority(secrets.secret(&secret)?) {
            Ok(authority) => {
                seen.authorities.insert(purpose, authority.seen());
                None
            }
            Err(error) => Some(Problem {
                purpose,
                reason: TlsReason::AuthorityUnreadable,
                message: format!("Secret {secret}: {error}; mend it, or delete it for a new CA"),
            }),
        };
    }
    let mut members: Vec<String> = observed.members.keys().cloned().collect();
    if members.is_empty() {
        // It is looked at before there is any member.
        members.push(identity::member_name(&name, 0));
    }
    let sought = Sought {
        cluster,
        purpose,
        origin,
        members: &members,
        secret: &|name| secrets.texts(name).cloned(),
        now,
    };
    let offered = offer(&sought);
    let pending = (*origin == Origin::CertManager)
        .then(|| pending(seen, &name, purpose))
        .flatten();
    match offered {
        Ok(offer) => {
            let key = (purpose, origin.clone());
            seen.offers.insert(key, offer.seen);
            pending
        }
        Err(problem) => pending.or(Some(problem)),
    }
}

/// Why cert-manager has not issued what it was asked for.
fn pending(seen: &CertificatesSeen, cluster: &str, purpose: Purpose) -> Option<Problem> {
    let problem = |reason, message| {
        Some(Problem {
            purpose,
            reason,
            message,
        })
    };
    let Some(requests) = &seen.requests else {
        return problem(
            TlsReason::CertManagerMissing,
            format!(
                "tls.{}.mode is CertManager, but there is no certificates.cert-manager.io here: install cert-manager, or choose another mode",
                purpose.as_str()
            ),
        );
    };
    let (name, found) = Requested::of(purpose)
        .iter()
        .map(|who| who.name(cluster))
        .find_map(|name| {
            let request = requests.get(&name);
            let ready = request.is_some_and(|request| request.ready);
            (!ready).then_some((name, request))
        })?;
    let (reason, message) = match found {
        Some(request) if !request.message.is_empty() => (
            if request.issuer_missing {
                TlsReason::IssuerMissing
            } else {
                TlsReason::CertificatePending
            },
            format!("Certificate {name}: {}", request.message),
        ),
        _ => (
            TlsReason::CertificatePending,
            format!("Certificate {name}: cert-manager has not said anything yet"),
        ),
    };
    problem(reason, message)
}

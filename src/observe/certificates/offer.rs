//! What cert-manager or a Secret of the user offers. Only what would work gets
//! further than this: a member is never given anything else.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::EtcdCluster,
    certificates::{
        Holder, Origin, Pair, Purpose, Requested, TlsReason, anchor, certificates, flaw, split,
    },
    identity,
};

use super::{OfferSeen, Problem, Texts};

/// A certificate with its key, and the CAs to be trusted with it.
pub(crate) struct Offer {
    pub(crate) pair: Pair,
    /// PEM, each CA once.
    pub(crate) authorities: Vec<String>,
    pub(crate) seen: OfferSeen,
}

/// For whom, and by whose Secrets.
pub(crate) struct Sought<'a> {
    pub(crate) cluster: &'a EtcdCluster,
    pub(crate) purpose: Purpose,
    pub(crate) origin: &'a Origin,
    /// Members whose names the certificate must bear.
    pub(crate) members: &'a [String],
    /// The texts of a Secret; `None`: there is none of that name.
    pub(crate) secret: &'a dyn Fn(&str) -> Option<Texts>,
    pub(crate) now: Timestamp,
}

const KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// What there is for members.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(crate) fn offer(sought: &Sought<'_>) -> Result<Offer, Problem> {
    let Sought {
        cluster, purpose, ..
    } = sought;
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let host = |member: &String| identity::member_host(&name, &namespace, member);
    let mut names: Vec<String> = sought.members.iter().map(host).collect();
    if *purpose == Purpose::Peer {
        names.push(identity::peer_domain(&name, &namespace));
    }
    let holder = Holder {
        server: names,
        client: true,
    };
    let secret = secret_of(sought).ok_or_else(|| {
        sought.problem(
            TlsReason::SecretMissing,
            format!("tls.{} names no Secret", purpose.as_str()),
        )
    })?;
    let (pair, own) = sought.usable(&secret, &holder)?;
    let mut seen = OfferSeen {
        cert: pair.seen().unwrap_or_default(),
        anchor: anchor(&pair.cert, &own).unwrap_or_default(),
        ..OfferSeen::default()
    };
    let mut authorities = split(&own);
    // What clients and the operator show is to be believed as well.
    for other in others(sought) {
        if let Some(texts) = (sought.secret)(&other) {
            authorities.extend(split(texts.get("ca.crt").map_or("", String::as_str)));
        }
    }
    let mut known = BTreeSet::new();
    authorities.retain(|pem| {
        let seen = certificates(pem).pop();
        seen.is_some_and(|ca| known.insert(ca.fingerprint))
    });
    seen.bundle = certificates(&authorities.concat())
        .into_iter()
        .map(|ca| ca.fingerprint)
        .collect();
    if *purpose == Purpose::Client {
        operators(sought, &authorities.concat())?;
        if let Some(clients) = clients_offer(sought)? {
            let vouches = anchor(&clients.cert, &authorities.concat());
            let fingerprint = clients.seen().map(|cert| cert.fingerprint);
            seen.clients = fingerprint.zip(vouches);
        }
    }
    Ok(Offer {
        pair,
        authorities,
        seen,
    })
}

/// What there is for clients; `None`: they have certificates of their own.
pub(crate) fn clients_offer(sought: &Sought<'_>) -> Result<Option<Pair>, Problem> {
    if *sought.origin != Origin::CertManager {
        return Ok(None);
    }
    let secret = Requested::Client.name(&sought.cluster.name_any());
    let (pair, _) = sought.usable(&secret, &AS_CLIENT)?;
    Ok(Some(pair))
}

const AS_CLIENT: Holder = Holder {
    server: Vec::new(),
    client: true,
};

/// The Secret with what members show.
fn secret_of(sought: &Sought<'_>) -> Option<String> {
    match (sought.origin, sought.purpose) {
        (Origin::Own, _) => None,
        (Origin::Secret(name), _) => Some(name.clone()),
        (Origin::CertManager, purpose) => {
            let who = Requested::of(purpose).first()?;
            Some(who.name(&sought.cluster.name_any()))
        }
    }
}

/// Secrets beside that one.
fn others(sought: &Sought<'_>) -> Vec<String> {
    match sought.origin {
        Origin::CertManager => {
            let all = Requested::of(sought.purpose).iter().skip(1);
            all.map(|who| who.name(&sought.cluster.name_any()))
                .collect()
        }
        Origin::Own | Origin::Secret(_) => Vec::new(),
    }
}

/// The Secret with what the operator itself shows to members.
pub(super) fn operators_secret(cluster: &EtcdCluster, origin: &Origin) -> Option<String> {
    match origin {
        Origin::Own => None,
        Origin::CertManager => Some(Requested::Operator.name(&cluster.name_any())),
        Origin::Secret(_) => cluster.spec.operator_secret().map(str::to_owned),
    }
}

/// Whether the operator has something to show, that the members' CAs vouch for.
fn operators(sought: &Sought<'_>, authorities: &str) -> Result<(), Problem> {
    let Some(secret) = operators_secret(sought.cluster, sought.origin) else {
        return Ok(());
    };
    let texts = sought.texts(&secret, &KEYS[..2])?;
    let found = flaw(
        &texts["tls.crt"],
        &texts["tls.key"],
        authorities,
        &AS_CLIENT,
        sought.now,
    );
    match found {
        None => Ok(()),
        Some((flaw, message)) => Err(sought.problem(
            TlsReason::Flawed(flaw),
            format!("Secret {secret}: {message}"),
        )),
    }
}

impl Sought<'_> {
    fn problem(&self, reason: TlsReason, message: String) -> Problem {
        Problem {
            purpose: self.purpose,
            reason,
            message,
        }
    }

    fn texts(&self, secret: &str, keys: &[&str]) -> Result<Texts, Problem> {
        let Some(texts) = (self.secret)(secret) else {
            return Err(self.problem(
                TlsReason::SecretMissing,
                format!("there is no Secret {secret}"),
            ));
        };
        let missing = keys
            .iter()
            .find(|key| texts.get(**key).is_none_or(String::is_empty));
        match missing {
            None => Ok(texts),
            Some(key) => Err(self.problem(
                TlsReason::KeyMissing,
                format!("Secret {secret} lacks {key}"),
            )),
        }
    }

    /// The certificate of a Secret and its CAs, if it will do for that holder.
    fn usable(&self, secret: &str, holder: &Holder) -> Result<(Pair, String), Problem> {
        let texts = self.texts(secret, &KEYS)?;
        let [cert, key, authorities] = KEYS.map(|key| texts[key].clone());
        match flaw(&cert, &key, &authorities, holder, self.now) {
            None => Ok((Pair { cert, key }, authorities)),
            Some((flaw, message)) => Err(self.problem(
                TlsReason::Flawed(flaw),
                format!("Secret {secret}: {message}"),
            )),
        }
    }
}

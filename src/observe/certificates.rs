//! Secrets of a cluster's certificates, read one by one by name, never listed or
//! watched. What comes out is facts; the keys the operator needs to dial members stay
//! in this folder.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use crate::{
    api::{
        ANNOTATION_ROTATE_CA, ANNOTATION_ROTATION, ANNOTATION_ROTATION_SINCE, EtcdCluster, TlsMode,
    },
    certificates::{
        Authority, AuthoritySeen, CertificateSeen, Holder, Leaf, Pair, Purpose, authority_secret,
        certificates, clients_secret, first, flaw, issue,
    },
    identity,
    render::transport,
};

use super::{ObserveError, Observed, Source, dial::Identity};

/// How long facts of a cluster that is well are believed.
const CALM: Duration = Duration::from_secs(300);
/// How long facts are believed while something goes on.
const BUSY: Duration = Duration::from_secs(4);
/// Life of the certificates the operator makes for itself; they are in memory only.
const OWN_SECONDS: i64 = 3600;

/// Everything known of a cluster's certificates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificatesSeen {
    /// The cluster's own CAs.
    pub authorities: BTreeMap<Purpose, AuthoritySeen>,
    /// Certificates of members, by member and purpose.
    pub members: BTreeMap<(String, Purpose), LeafSeen>,
    /// The Secret for clients.
    pub clients: Option<ClientsSeen>,
    /// What is wrong with Secrets, and whose fault it is not ours to mend.
    pub problems: Vec<Problem>,
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafSeen {
    /// The certificate.
    pub cert: CertificateSeen,
    /// Fingerprints of the CAs beside it, in order.
    pub bundle: Vec<String>,
    /// Whether there is a key beside it.
    pub key: bool,
}

/// The Secret that clients mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientsSeen {
    /// Its certificate.
    pub leaf: LeafSeen,
    /// Its endpoints.
    pub endpoints: String,
    /// When it was last written.
    pub published: Timestamp,
}

/// Something wrong with certificates, in words for the condition TLSReady.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it concerns.
    pub purpose: Purpose,
    /// Reason, from a closed set.
    pub reason: &'static str,
    /// The Secret, its key, and what is wrong.
    pub message: String,
}

/// How the operator dials listeners of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// To clients' ports, as itself.
    pub(super) client: Option<Identity>,
    /// With a certificate of each CA, to see who is taken: by purpose and the CA's
    /// fingerprint.
    pub(super) probes: Vec<(Purpose, String, Identity)>,
}

/// Facts and keys of all clusters, kept for a while.
#[derive(Clone, Default)]
pub(super) struct Keyring(Arc<Mutex<HashMap<(String, String), Entry>>>);

struct Entry {
    read: Instant,
    seen: CertificatesSeen,
    access: Access,
}

impl Keyring {
    /// Facts and access, from memory if `source` and the cluster's state allow it.
    pub(super) async fn read(
        &self,
        client: &Client,
        cluster: &EtcdCluster,
        observed: &Observed,
        source: Source,
    ) -> Result<(CertificatesSeen, Access), ObserveError> {
        let place = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        if needs(cluster).is_empty() {
            self.0.lock().remove(&place);
            return Ok(Default::default());
        }
        let limit = if is_calm(cluster) { CALM } else { BUSY };
        if source == Source::Cache
            && let Some(entry) = self.0.lock().get(&place)
            && entry.read.elapsed() < limit
        {
            return Ok((entry.seen.clone(), entry.access.clone()));
        }
        let secrets = fetch(client, cluster, observed).await?;
        let now = Timestamp::now();
        let seen = facts(cluster, observed, &secrets, now);
        let mut access = access(cluster, &secrets, now);
        let mut ring = self.0.lock();
        if access.client.is_none() {
            // A Secret that was spoilt locks nobody out that runs.
            access.client = ring
                .get(&place)
                .and_then(|entry| entry.access.client.clone());
        }
        let entry = Entry {
            read: Instant::now(),
            seen: seen.clone(),
            access: access.clone(),
        };
        ring.insert(place, entry);
        Ok((seen, access))
    }
}

/// Whether nothing goes on and nothing is wrong.
fn is_calm(cluster: &EtcdCluster) -> bool {
    let Some(status) = &cluster.status else {
        return false;
    };
    let is = |type_: &str| {
        status
            .conditions
            .iter()
            .any(|c| c.type_ == type_ && c.status == "True" && c.reason != "Rotating")
    };
    is("Ready") && is("TLSReady") && Some(status.observed_generation) == cluster.metadata.generation
}

/// Sources of certificates that the spec asks for or that are in effect.
pub(crate) fn needs(cluster: &EtcdCluster) -> Vec<(Purpose, TlsMode, Option<String>)> {
    let in_effect = transport::in_effect(cluster);
    let wanted = transport::wanted(cluster);
    let mut needs = Vec::new();
    for purpose in Purpose::ALL {
        for tls in [in_effect, &wanted] {
            if let Some((mode, secret)) = transport::source(tls, purpose) {
                let need = (purpose, mode, secret.map(str::to_owned));
                if !needs.contains(&need) {
                    needs.push(need);
                }
            }
        }
    }
    needs
}

type Texts = BTreeMap<String, String>;

/// Secrets by name, as text; `None`: there is none of that name.
struct Secrets(BTreeMap<String, Option<(Secret, Texts)>>);

impl Secrets {
    fn texts(&self, name: &str) -> Option<&Texts> {
        self.0.get(name)?.as_ref().map(|(_, texts)| texts)
    }
}

/// The texts of a Secret; what is no text is left out.
pub(crate) fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.filter_map(|(key, value)| {
        Some((key.clone(), std::str::from_utf8(&value.0).ok()?.to_owned()))
    })
    .collect()
}

async fn fetch(
    client: &Client,
    cluster: &EtcdCluster,
    observed: &Observed,
) -> Result<Secrets, ObserveError> {
    let name = cluster.name_any();
    let mut names = Vec::new();
    for (purpose, mode, users) in needs(cluster) {
        if mode == TlsMode::Operator {
            names.push(authority_secret(&name, purpose));
        }
        if mode == TlsMode::Secret {
            names.extend(users.clone());
        }
        for member in observed.members.keys() {
            names.push(transport::secret(member, purpose, mode, users.as_deref()).0);
        }
    }
    names.push(clients_secret(&name));
    names.extend(operators_secret(cluster));
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

/// The Secret with the operator's own certificate, where the CA is not the operator's.
fn operators_secret(cluster: &EtcdCluster) -> Option<String> {
    let client = cluster.spec.tls.as_ref()?.client.as_ref()?;
    match client.mode {
        TlsMode::Secret => Some(client.operator_secret_ref.as_ref()?.name.clone()),
        TlsMode::Disabled | TlsMode::Operator => None,
    }
}

/// Reads a CA off its Secret.
pub(crate) fn read_authority(
    secret: &Secret,
) -> Result<Authority, crate::certificates::AuthorityError> {
    let annotation = |name: &str| secret.annotations().get(name).cloned().unwrap_or_default();
    let since = annotation(ANNOTATION_ROTATION_SINCE).parse();
    Authority::read(
        &texts(secret),
        &annotation(ANNOTATION_ROTATION),
        since.unwrap_or(Timestamp::UNIX_EPOCH),
        annotation(ANNOTATION_ROTATE_CA),
    )
}

fn authority(secrets: &Secrets, cluster: &str, purpose: Purpose) -> Option<Authority> {
    let found = secrets.0.get(&authority_secret(cluster, purpose))?;
    read_authority(&found.as_ref()?.0).ok()
}

/// What can be read off three texts.
pub(crate) fn leaf(texts: &BTreeMap<String, String>, keys: &[String; 3]) -> Option<LeafSeen> {
    Some(LeafSeen {
        cert: first(texts.get(&keys[0])?)?,
        bundle: certificates(texts.get(&keys[2]).map_or("", String::as_str))
            .into_iter()
            .map(|cert| cert.fingerprint)
            .collect(),
        key: texts.get(&keys[1]).is_some_and(|key| !key.is_empty()),
    })
}

/// The facts of Secrets that a model of the API server holds.
#[cfg(test)]
pub(crate) fn certificates_seen(
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &BTreeMap<String, Secret>,
    now: Timestamp,
) -> CertificatesSeen {
    let read = secrets.iter().map(|(name, secret)| {
        let texts = texts(secret);
        (name.clone(), Some((secret.clone(), texts)))
    });
    facts(cluster, observed, &Secrets(read.collect()), now)
}

fn facts(
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &Secrets,
    now: Timestamp,
) -> CertificatesSeen {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let mut seen = CertificatesSeen::default();
    for (purpose, mode, users) in needs(cluster) {
        if mode == TlsMode::Operator {
            let secret = authority_secret(&name, purpose);
            match secrets.0.get(&secret).and_then(Option::as_ref) {
                None => {}
                Some((found, _)) => match read_authority(found) {
                    Ok(authority) => {
                        seen.authorities.insert(purpose, authority.seen());
                    }
                    Err(error) => seen.problems.push(Problem {
                        purpose,
                        reason: "AuthorityUnreadable",
                        message: format!(
                            "Secret {secret}: {error}; mend it, or delete it for a new CA"
                        ),
                    }),
                },
            }
        }
        let domain = identity::peer_domain(&name, &namespace);
        let mut members: Vec<String> = observed.members.keys().cloned().collect();
        if members.is_empty() {
            // A user's Secret is looked at before there is any member.
            members.push(identity::member_name(&name, 0));
        }
        for member in members {
            let (secret, keys) = transport::secret(&member, purpose, mode, users.as_deref());
            if let Some(leaf) = secrets.texts(&secret).and_then(|texts| leaf(texts, &keys)) {
                seen.members.insert((member.clone(), purpose), leaf);
            }
            if mode != TlsMode::Secret {
                continue;
            }
            let mut names = vec![identity::member_host(&name, &namespace, &member)];
            if purpose == Purpose::Peer {
                names.push(domain.clone());
            }
            let holder = Holder {
                server: names,
                client: purpose == Purpose::Peer,
            };
            if let Some((reason, message)) = foreign(secrets, &secret, &holder, None, now) {
                let problem = Problem {
                    purpose,
                    reason,
                    message,
                };
                if !seen.problems.contains(&problem) {
                    seen.problems.push(problem);
                }
            }
        }
    }
    if let Some(secret) = operators_secret(cluster)
        && let Some((_, _, Some(users))) = needs(cluster)
            .into_iter()
            .find(|(purpose, mode, _)| *purpose == Purpose::Client && *mode == TlsMode::Secret)
    {
        let holder = Holder {
            server: Vec::new(),
            client: true,
        };
        // The members' CAs are the ones that must believe it.
        if let Some((reason, message)) = foreign(secrets, &secret, &holder, Some(&users), now) {
            seen.problems.push(Problem {
                purpose: Purpose::Client,
                reason,
                message,
            });
        }
    }
    let keys = ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned);
    let clients = secrets.0.get(&clients_secret(&name));
    seen.clients = clients
        .and_then(Option::as_ref)
        .and_then(|(secret, texts)| {
            let published = secret.annotations().get(ANNOTATION_ROTATION_SINCE);
            Some(ClientsSeen {
                published: published
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(Timestamp::UNIX_EPOCH),
                leaf: leaf(texts, &keys)?,
                endpoints: texts.get("endpoints").cloned().unwrap_or_default(),
            })
        });
    seen
}

/// What is wrong with a Secret of the user's. The CAs are its own, or those of another.
fn foreign(
    secrets: &Secrets,
    name: &str,
    holder: &Holder,
    authorities_of: Option<&str>,
    now: Timestamp,
) -> Option<(&'static str, String)> {
    let Some(texts) = secrets.texts(name) else {
        return Some(("SecretMissing", format!("there is no Secret {name}")));
    };
    let needed: &[&str] = match authorities_of {
        None => &["tls.crt", "tls.key", "ca.crt"],
        Some(_) => &["tls.crt", "tls.key"],
    };
    if let Some(missing) = needed
        .iter()
        .find(|key| texts.get(**key).is_none_or(String::is_empty))
    {
        return Some(("KeyMissing", format!("Secret {name} lacks {missing}")));
    }
    let authorities = match authorities_of {
        None => texts,
        Some(other) => secrets.texts(other)?,
    };
    let (found, message) = flaw(
        &texts["tls.crt"],
        &texts["tls.key"],
        authorities.get("ca.crt").map_or("", String::as_str),
        holder,
        now,
    )?;
    Some((found.as_str(), format!("Secret {name}: {message}")))
}

/// How listeners are dialled, with certificates made for it where the CA is ours.
fn access(cluster: &EtcdCluster, secrets: &Secrets, now: Timestamp) -> Access {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let mut access = Access::default();
    for purpose in Purpose::ALL {
        let Some(authority) = authority(secrets, &name, purpose) else {
            continue;
        };
        let own = Leaf {
            // etcd's user with all rights, once there are users.
            common_name: match purpose {
                Purpose::Client => "root".to_owned(),
                Purpose::Peer => format!("{name} operator"),
            },
            names: match purpose {
                Purpose::Client => Vec::new(),
                Purpose::Peer => vec![identity::peer_domain(&name, &namespace)],
            },
            server: false,
            seconds: OWN_SECONDS,
        };
        let known = [
            Some(&authority.signer),
            authority.next.as_ref(),
            authority.previous.as_ref(),
        ];
        // A listener is believed by whichever of them it is; whether it should be is
        // seen from what it shows.
        let roots: String = known.iter().flatten().map(|ca| ca.cert.as_str()).collect();
        for ca in known.into_iter().flatten() {
            let Some(fingerprint) = ca.seen().map(|seen| seen.fingerprint) else {
                continue;
            };
            let Ok(pair) = issue(ca, &own, now) else {
                continue; // its key was lost
            };
            if let Some(identity) = Identity::new(&pair, &roots, b"http/1.1") {
                access.probes.push((purpose, fingerprint, identity));
            }
            if purpose == Purpose::Client && access.client.is_none() {
                access.client = Identity::new(&pair, &roots, b"h2");
            }
        }
    }
    if let Some(secret) = operators_secret(cluster)
        && let Some(texts) = secrets.texts(&secret)
        && access.client.is_none()
    {
        let text = |key: &str| texts.get(key).cloned().unwrap_or_default();
        let pair = Pair {
            cert: text("tls.crt"),
            key: text("tls.key"),
        };
        let mut roots = text("ca.crt");
        for (purpose, mode, users) in needs(cluster) {
            if (purpose, mode) == (Purpose::Client, TlsMode::Secret)
                && let Some(texts) = users.as_deref().and_then(|name| secrets.texts(name))
            {
                roots.push('\n');
                roots.push_str(texts.get("ca.crt").map_or("", String::as_str));
            }
        }
        access.client = Identity::new(&pair, &roots, b"h2");
    }
    access
}

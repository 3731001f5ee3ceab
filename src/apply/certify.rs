//! What a call about certificates makes of the Secrets it has read: no client and no
//! clock, so that the simulation makes its calls the same way. Keys come to be here,
//! and go nowhere but into the Secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    api::{
        ANNOTATION_PREVIOUS_CA, ANNOTATION_ROTATE_CA, ANNOTATION_ROTATION_SINCE, EtcdCluster,
        OwnAuthority, seconds,
    },
    certificates::{
        Authority, IssueError, Leaf, Origin, Pair, Phase, Purpose, Requested, authority_secret,
        certificates, clients_secret, issue, member_secret, new_authority, split,
    },
    observe::{
        Offer, OfferSeen, Sought, Texts, clients_offer, leaf, offer, previous, read_authority,
        texts,
    },
    plan::{CertificateCall, Exchange, Grant, wanting},
    render::{secret, transport},
};

use wanting::Issuer;

/// Life of a CA unless the spec says otherwise: five years.
const AUTHORITY_SECONDS: i64 = 5 * 365 * 86_400;
/// Life of a certificate unless the spec says otherwise: 90 days.
const LEAF_SECONDS: i64 = 90 * 86_400;

/// Why a call about certificates cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertifyError {
    /// Something has to come first.
    #[error("{0}")]
    NotYet(String),
    /// A certificate could not be made.
    #[error("{0}: {1}")]
    Issue(String, #[source] IssueError),
}

/// Secrets by name; those that are not there are left out.
pub(crate) type Found = BTreeMap<String, Secret>;

/// Names of the Secrets a call reads: those of the operator's own making, of which the
/// first is the one it may write; and those of others.
pub(crate) fn reads(cluster: &EtcdCluster, call: &CertificateCall) -> (Vec<String>, Vec<String>) {
    let name = cluster.name_any();
    let authority = |purpose| authority_secret(&name, purpose);
    let (first, grants) = match call {
        CertificateCall::MakeAuthority { purpose } => (authority(*purpose), &[][..]),
        CertificateCall::RotateAuthority { purpose, .. } => {
            return (vec![authority(*purpose)], Vec::new());
        }
        CertificateCall::Member { member, grants } => (member_secret(member), grants.as_slice()),
        CertificateCall::Clients { grant, .. } => {
            (clients_secret(&name), std::slice::from_ref(grant))
        }
    };
    let mut ours = vec![first];
    let mut others = Vec::new();
    for grant in grants {
        match &grant.origin {
            Origin::Own => ours.push(authority(grant.purpose)),
            Origin::CertManager => {
                let all = Requested::of(grant.purpose).iter();
                others.extend(all.map(|who| who.name(&name)));
            }
            Origin::Secret(users) => {
                others.push(users.clone());
                others.extend(cluster.spec.operator_secret().map(str::to_owned));
            }
        }
    }
    // CAs that are no longer, or not yet, what the origin names are in members' Secrets.
    let keeps = grants.iter().any(|grant| !grant.keep.is_empty());
    if keeps || matches!(call, CertificateCall::MakeAuthority { .. }) {
        let members = cluster.status.iter().flat_map(|status| &status.members);
        let secrets = members.map(|member| member_secret(&member.name));
        let new: Vec<String> = secrets.filter(|name| *name != ours[0]).collect();
        ours.extend(new);
    }
    (ours, others)
}

/// The Secret as it should be written; `None`: it is as it should be.
pub(crate) fn outcome(
    cluster: &EtcdCluster,
    call: &CertificateCall,
    found: &Found,
    now: Timestamp,
) -> Result<Option<Secret>, CertifyError> {
    let around = Around {
        cluster,
        found,
        now,
    };
    match call {
        CertificateCall::MakeAuthority { purpose } => around.make_authority(*purpose),
        CertificateCall::RotateAuthority {
            purpose,
            to,
            request,
        } => around.rotate(*purpose, *to, request),
        CertificateCall::Member { member, grants } => {
            around.certify_member(member, grants).map(Some)
        }
        CertificateCall::Clients { grant, endpoints } => {
            around.certify_clients(grant, endpoints).map(Some)
        }
    }
}

struct Around<'a> {
    cluster: &'a EtcdCluster,
    found: &'a Found,
    now: Timestamp,
}

/// Who issues, keys included.
enum Source {
    Own(Authority),
    Other(Box<Offer>),
}

impl Around<'_> {
    fn make_authority(&self, purpose: Purpose) -> Result<Option<Secret>, CertifyError> {
        let name = authority_secret(&self.cluster.name_any(), purpose);
        if self.found.contains_key(&name) {
            return self.authority(purpose).map(|_| None);
        }
        // Members that run believe a CA whose Secret was lost: the new one is made
        // known to them before it signs.
        let old = self.believed(purpose);
        let fresh = self.fresh(purpose)?;
        let authority = Authority::new(fresh, old, self.now, requested(self.cluster));
        Ok(Some(secret::authority(self.cluster, purpose, &authority)))
    }

    /// The CA of the cluster's own that members' Secrets hold, though its own is gone.
    fn believed(&self, purpose: Purpose) -> Option<String> {
        let name = self.cluster.name_any();
        let ours = crate::certificates::authority_name(&name, purpose);
        let members = self
            .cluster
            .status
            .iter()
            .flat_map(|status| &status.members);
        let [_, _, key] = transport::keys(purpose);
        let bundles = members
            .filter_map(|member| self.found.get(&member_secret(&member.name)))
            .filter_map(|secret| texts(secret).get(&key).cloned());
        bundles.flat_map(|bundle| split(&bundle)).find(|pem| {
            let seen = certificates(pem).pop();
            seen.is_some_and(|ca| ca.subject.ends_with(&ours))
        })
    }

    fn rotate(
        &self,
        purpose: Purpose,
        to: Phase,
        request: &str,
    ) -> Result<Option<Secret>, CertifyError> {
        let authority = self.authority(purpose)?;
        if authority.phase == to {
            return Ok(None);
        }
        if authority.phase.next() != to {
            return Err(CertifyError::NotYet(format!(
                "the {} CA is in phase {}, from which {} is not next",
                purpose.as_str(),
                authority.phase.as_str(),
                to.as_str()
            )));
        }
        let fresh = match to {
            Phase::Trust => Some(self.fresh(purpose)?),
            Phase::Steady | Phase::Reissue | Phase::Drop => None,
        };
        let moved = authority.advance(fresh, self.now, request.to_owned());
        Ok(Some(secret::authority(self.cluster, purpose, &moved)))
    }

    fn certify_member(&self, member: &str, grants: &[Grant]) -> Result<Secret, CertifyError> {
        let name = member_secret(member);
        let before = self.found.get(&name);
        // What this is not about stays as it is.
        let mut data = before.map(texts).unwrap_or_default();
        let mut marks = Vec::new();
        for grant in grants {
            let purpose = grant.purpose;
            let source = self.source(grant, Some(member))?;
            let keys = transport::keys(purpose);
            let held = before.and_then(|secret| leaf(secret, purpose, &keys));
            let names = wanting::names(self.cluster, member, purpose);
            let due = source.issuer(|issuer| issuer.renews(held.as_ref(), &names, self.now));
            let anchor = source.issuer(|issuer| issuer.anchor().to_owned());
            let [cert, key, ca] = keys;
            if due && (held.is_none() || grant.leaf == Exchange::By(anchor)) {
                let pair = match &source {
                    Source::Other(offer) => offer.pair.clone(),
                    Source::Own(authority) => {
                        let wanted = Leaf {
                            common_name: member.to_owned(),
                            names,
                            server: true,
                            seconds: self.leaf_seconds(purpose),
                        };
                        self.issue(authority, &wanted)?
                    }
                };
                data.insert(cert, pair.cert);
                data.insert(key, pair.key);
                marks.extend(mark(purpose, held.and_then(|held| held.anchor)));
            } else {
                marks.extend(mark(purpose, held.and_then(|held| held.previous)));
            }
            data.insert(ca, self.bundle(&source, grant)?);
        }
        let mut manifest = secret::secret(self.cluster, name, Some(member), data);
        let marked = !marks.is_empty();
        manifest.metadata.annotations =
            marked.then(|| BTreeMap::from([(ANNOTATION_PREVIOUS_CA.to_owned(), marks.join(","))]));
        Ok(manifest)
    }

    fn certify_clients(&self, grant: &Grant, endpoints: &str) -> Result<Secret, CertifyError> {
        let purpose = Purpose::Client;
        let name = clients_secret(&self.cluster.name_any());
        let before = self.found.get(&name);
        let old = before.map(texts).unwrap_or_default();
        let keys = transport::CLIENTS_KEYS.map(str::to_owned);
        let held = before.and_then(|secret| leaf(secret, purpose, &keys));
        let source = self.source(grant, None)?;
        let due = source.issuer(|issuer| issuer.renews_clients(held.as_ref(), self.now));
        let anchor = source.issuer(|issuer| issuer.clients().map(str::to_owned));
        let bundle = self.bundle(&source, grant)?;
        let mut data = BTreeMap::from([
            ("ca.crt".to_owned(), bundle.clone()),
            ("endpoints".to_owned(), endpoints.to_owned()),
        ]);
        let allowed = match anchor {
            Some(anchor) => held.is_none() || grant.leaf == Exchange::By(anchor),
            None => grant.leaf == Exchange::Away,
        };
        let renewed = due && allowed;
        let pair = match &source {
            _ if !renewed => held.as_ref().map(|_| Pair {
                cert: old.get("tls.crt").cloned().unwrap_or_default(),
                key: old.get("tls.key").cloned().unwrap_or_default(),
            }),
            Source::Own(authority) => {
                let wanted = Leaf {
                    common_name: name.clone(),
                    names: Vec::new(),
                    server: false,
                    seconds: self.leaf_seconds(purpose),
                };
                Some(self.issue(authority, &wanted)?)
            }
            Source::Other(_) => {
                let secret = |name: &str| self.found.get(name).map(texts);
                let sought = self.sought(grant, &secret, &[]);
                let pair = clients_offer(&sought);
                pair.map_err(|problem| CertifyError::NotYet(problem.message))?
            }
        };
        if let Some(pair) = pair {
            data.insert("tls.crt".to_owned(), pair.cert);
            data.insert("tls.key".to_owned(), pair.key);
        }
        // Clients need time for what is new to them; for what they lose they need none.
        let known = |text: &str| -> Vec<String> {
            let all = certificates(text).into_iter();
            all.map(|ca| ca.fingerprint).collect()
        };
        let trusted = known(old.get("ca.crt").map_or("", String::as_str));
        let news = renewed
            || old.get("endpoints").map(String::as_str) != Some(endpoints)
            || known(&bundle).iter().any(|ca| !trusted.contains(ca));
        let published = match before {
            Some(before) if !news => before.annotations().get(ANNOTATION_ROTATION_SINCE).cloned(),
            _ => None,
        };
        let mut annotations = BTreeMap::from([(
            ANNOTATION_ROTATION_SINCE.to_owned(),
            published.unwrap_or_else(|| self.now.to_string()),
        )]);
        let earlier = before.and_then(|secret| previous(secret, purpose));
        let previous = if renewed {
            held.and_then(|held| held.anchor)
        } else {
            earlier
        };
        if let Some(mark) = mark(purpose, previous) {
            annotations.insert(ANNOTATION_PREVIOUS_CA.to_owned(), mark);
        }
        let mut manifest = secret::secret(self.cluster, name, None, data);
        manifest.metadata.annotations = Some(annotations);
        Ok(manifest)
    }

    fn sought<'b>(
        &'b self,
        grant: &'b Grant,
        secret: &'b dyn Fn(&str) -> Option<Texts>,
        members: &'b [String],
    ) -> Sought<'b> {
        Sought {
            cluster: self.cluster,
            purpose: grant.purpose,
            origin: &grant.origin,
            members,
            secret,
            now: self.now,
        }
    }

    fn source(&self, grant: &Grant, member: Option<&str>) -> Result<Source, CertifyError> {
        if grant.origin == Origin::Own {
            return self.authority(grant.purpose).map(Source::Own);
        }
        let known = self
            .cluster
            .status
            .iter()
            .flat_map(|status| &status.members);
        let mut members: Vec<String> = known.map(|member| member.name.clone()).collect();
        if let Some(member) = member.filter(|name| !members.iter().any(|known| known == name)) {
            members.push(member.to_owned());
        }
        let secret = |name: &str| self.found.get(name).map(texts);
        offer(&self.sought(grant, &secret, &members))
            .map(|offer| Source::Other(Box::new(offer)))
            .map_err(|problem| CertifyError::NotYet(problem.message))
    }

    /// The CAs to trust, as PEM.
    fn bundle(&self, source: &Source, grant: &Grant) -> Result<String, CertifyError> {
        let mut bundle = match source {
            Source::Own(authority) => authority.bundle(),
            Source::Other(offer) => offer.authorities.concat(),
        };
        let [_, _, key] = transport::keys(grant.purpose);
        let held: Vec<String> = self
            .found
            .values()
            .filter_map(|secret| {
                let texts = texts(secret);
                texts.get(&key).or_else(|| texts.get("ca.crt")).cloned()
            })
            .flat_map(|text| split(&text))
            .collect();
        for wanted in &grant.keep {
            let known = held.iter().find(|pem| {
                let seen = certificates(pem).pop();
                seen.is_some_and(|ca| ca.fingerprint == *wanted)
            });
            match known {
                Some(pem) => bundle.push_str(pem),
                None => {
                    return Err(CertifyError::NotYet(format!(
                        "the CA {wanted} is still in use, and in no member's Secret"
                    )));
                }
            }
        }
        Ok(bundle)
    }

    fn authority(&self, purpose: Purpose) -> Result<Authority, CertifyError> {
        let name = authority_secret(&self.cluster.name_any(), purpose);
        let Some(secret) = self.found.get(&name) else {
            return Err(CertifyError::NotYet(format!(
                "there is no Secret {name} yet"
            )));
        };
        read_authority(secret)
            .map_err(|error| CertifyError::NotYet(format!("Secret {name}: {error}")))
    }

    fn issue(&self, authority: &Authority, wanted: &Leaf) -> Result<Pair, CertifyError> {
        issue(&authority.signer, wanted, self.now)
            .map_err(|error| failed(&wanted.common_name, error))
    }

    fn fresh(&self, purpose: Purpose) -> Result<Pair, CertifyError> {
        let life = self
            .settings(purpose)
            .and_then(|own| seconds(own.ca_duration.as_deref()?))
            .unwrap_or(AUTHORITY_SECONDS);
        // No two of a cluster are made in the same millisecond: a phase lies between.
        let tag = self.now.strftime("%y%m%d%H%M%S%3f").to_string();
        let name = crate::certificates::authority_name(&self.cluster.name_any(), purpose);
        new_authority(&name, &tag, life, self.now).map_err(|error| failed(&name, error))
    }

    fn settings(&self, purpose: Purpose) -> Option<&OwnAuthority> {
        let tls = self.cluster.spec.tls.as_ref()?;
        match purpose {
            Purpose::Client => tls.client.as_ref()?.operator.as_ref(),
            Purpose::Peer => tls.peer.as_ref()?.operator.as_ref(),
        }
    }

    fn leaf_seconds(&self, purpose: Purpose) -> i64 {
        self.settings(purpose)
            .and_then(|own| seconds(own.duration.as_deref()?))
            .unwrap_or(LEAF_SECONDS)
    }
}

impl Source {
    /// Asks the facts of it.
    fn issuer<T>(&self, ask: impl FnOnce(Issuer<'_>) -> T) -> T {
        match self {
            Source::Own(authority) => ask(Issuer::Own(&authority.seen())),
            Source::Other(offer) => {
                let seen: &OfferSeen = &offer.seen;
                ask(Issuer::Other(seen))
            }
        }
    }
}

/// Which CA vouched before, for the annotation.
fn mark(purpose: Purpose, ca: Option<String>) -> Option<String> {
    ca.map(|ca| format!("{}={ca}", purpose.as_str()))
}

/// What a person asked for last, so that a CA made now need not be replaced for it.
fn requested(cluster: &EtcdCluster) -> String {
    let annotations = cluster.annotations();
    annotations
        .get(ANNOTATION_ROTATE_CA)
        .cloned()
        .unwrap_or_default()
}

fn failed(what: &str, error: IssueError) -> CertifyError {
    CertifyError::Issue(format!("makes the certificate of {what}"), error)
}

//! What a call about certificates makes of the Secrets it has read: no client and no
//! clock, so that the simulation makes its calls the same way. Keys come to be here,
//! and go nowhere but into the Secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    api::{
        ANNOTATION_ROTATE_CA, ANNOTATION_ROTATION_SINCE, EtcdCluster, OwnAuthority, TlsMode,
        seconds,
    },
    certificates::{
        Authority, IssueError, Leaf, Pair, Phase, Purpose, authority_secret, clients_secret, issue,
        member_secret, new_authority,
    },
    observe::{leaf, needs, read_authority, texts},
    plan::{CertificateCall, wanting},
    render::{secret, transport},
};

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

/// Names of the Secrets a call reads. The first is the one it may write.
pub(crate) fn reads(cluster: &EtcdCluster, call: &CertificateCall) -> Vec<String> {
    let name = cluster.name_any();
    let authority = |purpose| authority_secret(&name, purpose);
    match call {
        CertificateCall::MakeAuthority { purpose } => {
            let members = cluster.status.iter().flat_map(|status| &status.members);
            [authority(*purpose)]
                .into_iter()
                .chain(members.map(|member| member_secret(&member.name)))
                .collect()
        }
        CertificateCall::RotateAuthority { purpose, .. } => vec![authority(*purpose)],
        CertificateCall::Member { member } => [member_secret(member)]
            .into_iter()
            .chain(own(cluster).into_iter().map(authority))
            .collect(),
        CertificateCall::Clients => vec![clients_secret(&name), authority(Purpose::Client)],
    }
}

/// The Secret as it should be written; `None`: it is as it should be.
pub(crate) fn outcome(
    cluster: &EtcdCluster,
    call: &CertificateCall,
    found: &Found,
    now: Timestamp,
) -> Result<Option<Secret>, CertifyError> {
    match call {
        CertificateCall::MakeAuthority { purpose } => {
            let name = authority_secret(&cluster.name_any(), *purpose);
            if found.contains_key(&name) {
                return authority(cluster, found, *purpose).map(|_| None);
            }
            // Members that run believe a CA whose Secret was lost: the new one is made
            // known to them before it signs.
            let old = believed(cluster, found, *purpose);
            let authority =
                Authority::new(fresh(cluster, *purpose, now)?, old, now, requested(cluster));
            Ok(Some(secret::authority(cluster, *purpose, &authority)))
        }
        CertificateCall::RotateAuthority {
            purpose,
            to,
            request,
        } => rotate(cluster, found, *purpose, *to, request, now),
        CertificateCall::Member { member } => certify_member(cluster, found, member, now).map(Some),
        CertificateCall::Clients => certify_clients(cluster, found, now).map(Some),
    }
}

/// Purposes whose certificates the operator's own CA issues.
fn own(cluster: &EtcdCluster) -> Vec<Purpose> {
    let mut own: Vec<Purpose> = needs(cluster)
        .into_iter()
        .filter(|(_, mode, _)| *mode == TlsMode::Operator)
        .map(|(purpose, _, _)| purpose)
        .collect();
    own.dedup();
    own
}

/// CAs that members' Secrets hold.
fn believed(cluster: &EtcdCluster, found: &Found, purpose: Purpose) -> Option<String> {
    let members = cluster.status.iter().flat_map(|status| &status.members);
    let key = format!("{}-ca.crt", purpose.as_str());
    members
        .filter_map(|member| found.get(&member_secret(&member.name)))
        .find_map(|secret| texts(secret).get(&key).cloned())
}

fn rotate(
    cluster: &EtcdCluster,
    found: &Found,
    purpose: Purpose,
    to: Phase,
    request: &str,
    now: Timestamp,
) -> Result<Option<Secret>, CertifyError> {
    let authority = authority(cluster, found, purpose)?;
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
        Phase::Trust => Some(fresh(cluster, purpose, now)?),
        Phase::Steady | Phase::Reissue | Phase::Drop => None,
    };
    let moved = authority.advance(fresh, now, request.to_owned());
    Ok(Some(secret::authority(cluster, purpose, &moved)))
}

fn certify_member(
    cluster: &EtcdCluster,
    found: &Found,
    member: &str,
    now: Timestamp,
) -> Result<Secret, CertifyError> {
    let name = member_secret(member);
    let before = found.get(&name).map(texts).unwrap_or_default();
    let mut data = BTreeMap::new();
    for purpose in own(cluster) {
        let authority = authority(cluster, found, purpose)?;
        let (_, keys) = transport::secret(member, purpose, TlsMode::Operator, None);
        let names = wanting::names(cluster, member, purpose);
        let wanted = Leaf {
            common_name: member.to_owned(),
            names,
            server: true,
            seconds: leaf_seconds(cluster, purpose),
        };
        let pair = keep_or_make(&before, &keys, &authority, &wanted, now)?;
        let [cert, key, ca] = keys;
        data.insert(cert, pair.cert);
        data.insert(key, pair.key);
        data.insert(ca, authority.bundle());
    }
    Ok(secret::secret(cluster, name, Some(member), data))
}

fn certify_clients(
    cluster: &EtcdCluster,
    found: &Found,
    now: Timestamp,
) -> Result<Secret, CertifyError> {
    let name = clients_secret(&cluster.name_any());
    let before = found.get(&name).map(texts).unwrap_or_default();
    let authority = authority(cluster, found, Purpose::Client)?;
    let keys = ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned);
    let wanted = Leaf {
        common_name: name.clone(),
        names: Vec::new(),
        server: false,
        seconds: leaf_seconds(cluster, Purpose::Client),
    };
    let pair = keep_or_make(&before, &keys, &authority, &wanted, now)?;
    let data = BTreeMap::from([
        ("tls.crt".to_owned(), pair.cert),
        ("tls.key".to_owned(), pair.key),
        ("ca.crt".to_owned(), authority.bundle()),
        ("endpoints".to_owned(), wanting::endpoints(cluster)),
    ]);
    let mut manifest = secret::secret(cluster, name, None, data);
    manifest.metadata.annotations = Some(BTreeMap::from([(
        ANNOTATION_ROTATION_SINCE.to_owned(),
        now.to_string(),
    )]));
    Ok(manifest)
}

/// The certificate that is there, if it will do.
fn keep_or_make(
    before: &BTreeMap<String, String>,
    keys: &[String; 3],
    authority: &Authority,
    wanted: &Leaf,
    now: Timestamp,
) -> Result<Pair, CertifyError> {
    let held = leaf(before, keys);
    if wanting::leaf(held.as_ref(), &authority.seen(), &wanted.names, now) {
        return issue(&authority.signer, wanted, now)
            .map_err(|error| failed(&wanted.common_name, error));
    }
    let text = |key: &String| before.get(key).cloned().unwrap_or_default();
    Ok(Pair {
        cert: text(&keys[0]),
        key: text(&keys[1]),
    })
}

fn authority(
    cluster: &EtcdCluster,
    found: &Found,
    purpose: Purpose,
) -> Result<Authority, CertifyError> {
    let name = authority_secret(&cluster.name_any(), purpose);
    let Some(secret) = found.get(&name) else {
        return Err(CertifyError::NotYet(format!(
            "there is no Secret {name} yet"
        )));
    };
    read_authority(secret).map_err(|error| CertifyError::NotYet(format!("Secret {name}: {error}")))
}

fn settings<'a>(cluster: &'a EtcdCluster, purpose: Purpose) -> Option<&'a OwnAuthority> {
    let tls = cluster.spec.tls.as_ref()?;
    match purpose {
        Purpose::Client => tls.client.as_ref()?.operator.as_ref(),
        Purpose::Peer => tls.peer.as_ref()?.operator.as_ref(),
    }
}

fn leaf_seconds(cluster: &EtcdCluster, purpose: Purpose) -> i64 {
    settings(cluster, purpose)
        .and_then(|own| seconds(own.duration.as_deref()?))
        .unwrap_or(LEAF_SECONDS)
}

/// What a person asked for last, so that a CA made now need not be replaced for it.
fn requested(cluster: &EtcdCluster) -> String {
    let annotations = cluster.annotations();
    annotations
        .get(ANNOTATION_ROTATE_CA)
        .cloned()
        .unwrap_or_default()
}

fn fresh(cluster: &EtcdCluster, purpose: Purpose, now: Timestamp) -> Result<Pair, CertifyError> {
    let life = settings(cluster, purpose)
        .and_then(|own| seconds(own.ca_duration.as_deref()?))
        .unwrap_or(AUTHORITY_SECONDS);
    // No two of a cluster are made in the same millisecond: a phase lies between.
    let tag = now.strftime("%Y%m%dT%H%M%S%3f").to_string();
    let name = format!("{} {}", cluster.name_any(), purpose.as_str());
    new_authority(&name, &tag, life, now).map_err(|error| failed(&name, error))
}

fn failed(what: &str, error: IssueError) -> CertifyError {
    CertifyError::Issue(format!("makes the certificate of {what}"), error)
}

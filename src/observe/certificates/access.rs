//! How listeners are dialled: with certificates made for it where the CA is ours, else
//! with what the user or cert-manager gives the operator.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::EtcdCluster,
    certificates::{Authority, Leaf, Origin, Pair, Purpose, anchor, authority_secret, issue},
    identity,
    observe::{Observed, dial::Identity},
    render::transport,
};

use super::{
    Sought, clients_offer,
    offer::{offer, operators_secret},
    origins,
    secrets::{Secrets, read_authority},
};

/// Life of the certificates the operator makes for itself; they are in memory only.
const OWN_SECONDS: i64 = 3600;

/// Ways to dial a cluster's listeners.
#[derive(Clone, Debug, Default)]
pub(in crate::observe) struct Access {
    /// To clients' ports as the operator: with the fingerprint of the CA that vouches
    /// for what it shows. The first that a member takes is used.
    pub(in crate::observe) clients: Vec<(String, Identity)>,
    /// What each member shows on its client port: it takes its own.
    members: BTreeMap<String, Pair>,
    /// Whom the operator believes, PEM.
    roots: BTreeMap<Purpose, String>,
    /// A certificate of each CA, to see who is taken.
    pub(in crate::observe) probes: Vec<ProbeCertificate>,
}

/// A certificate with which a listener can be greeted.
#[derive(Clone, Debug)]
pub(in crate::observe) struct ProbeCertificate {
    /// Whose listeners.
    pub(in crate::observe) purpose: Purpose,
    /// Fingerprint of the CA that vouches for it.
    pub(in crate::observe) authority: String,
    pair: Pair,
}

impl Access {
    /// To a member's client port with what that member itself shows. Made when it is
    /// asked for: hardly ever.
    pub(in crate::observe) fn as_member(&self, member: &str) -> Option<Identity> {
        let roots = self.roots.get(&Purpose::Client)?;
        Identity::new(self.members.get(member)?, roots, b"h2")
    }

    /// To a listener with the certificate of a probe. Made when it is asked for: while
    /// nothing moves nobody is greeted.
    pub(in crate::observe) fn as_probe(&self, probe: &ProbeCertificate) -> Option<Identity> {
        let roots = self.roots.get(&probe.purpose)?;
        Identity::new(&probe.pair, roots, b"http/1.1")
    }
}

/// What is shown, and by which CA.
struct Shown {
    pair: Pair,
    anchor: String,
}

pub(super) fn access(
    cluster: &EtcdCluster,
    observed: &Observed,
    secrets: &Secrets,
    now: Timestamp,
) -> Access {
    let mut access = Access::default();
    let members: Vec<String> = observed.members.keys().cloned().collect();
    for purpose in Purpose::ALL {
        // A listener is believed by whatever CA it may be of; whether it should be is
        // seen from what it shows.
        let mut roots = believed(observed, secrets, purpose);
        let (mut probes, mut operators) = (Vec::new(), Vec::new());
        for origin in origins(cluster, purpose).into_iter().flatten() {
            if origin == Origin::Own {
                let Some(authority) = own(cluster, secrets, purpose) else {
                    continue;
                };
                for (pair, ca) in issued(cluster, &authority, purpose, now) {
                    roots.push_str(&ca.cert);
                    let Some(anchor) = ca.seen().map(|seen| seen.fingerprint) else {
                        continue;
                    };
                    let shown = || Shown {
                        pair: pair.clone(),
                        anchor: anchor.clone(),
                    };
                    probes.push(shown());
                    operators.push(shown());
                }
                continue;
            }
            let sought = Sought {
                cluster,
                purpose,
                origin: &origin,
                members: &members,
                secret: &|name| secrets.texts(name).cloned(),
                now,
            };
            let Ok(offer) = offer(&sought) else { continue };
            let authorities = offer.authorities.concat();
            roots.push_str(&authorities);
            let by_anchor = |pair: Pair| {
                let anchor = anchor(&pair.cert, &authorities)?;
                Some(Shown { pair, anchor })
            };
            if purpose == Purpose::Client {
                let clients = clients_offer(&sought).ok().flatten();
                probes.extend(clients.and_then(by_anchor));
                let own = operators_secret(cluster, &origin);
                let own = own.and_then(|name| secrets.texts(&name)).map(|texts| {
                    let text = |key: &str| texts.get(key).cloned().unwrap_or_default();
                    Pair {
                        cert: text("tls.crt"),
                        key: text("tls.key"),
                    }
                });
                operators.extend(own.and_then(by_anchor));
            }
            probes.extend(by_anchor(offer.pair));
        }
        for Shown { pair, anchor } in probes {
            let mut known = access.probes.iter();
            if !known.any(|it| it.purpose == purpose && it.authority == anchor) {
                access.probes.push(ProbeCertificate {
                    purpose,
                    authority: anchor,
                    pair,
                });
            }
        }
        for Shown { pair, anchor } in operators {
            if let Some(identity) = Identity::new(&pair, &roots, b"h2") {
                access.clients.push((anchor, identity));
            }
        }
        if purpose == Purpose::Client {
            let [cert, key, _] = transport::keys(purpose);
            for member in &members {
                let texts = secrets.texts(&crate::certificates::member_secret(member));
                let text = |key: &str| texts.and_then(|texts| texts.get(key)).cloned();
                let (Some(cert), Some(key)) = (text(&cert), text(&key)) else {
                    continue;
                };
                access.members.insert(member.clone(), Pair { cert, key });
            }
        }
        access.roots.insert(purpose, roots);
    }
    access
}

fn own(cluster: &EtcdCluster, secrets: &Secrets, purpose: Purpose) -> Option<Authority> {
    let secret = secrets.secret(&authority_secret(&cluster.name_any(), purpose))?;
    read_authority(secret).ok()
}

/// A certificate of each CA there is, the one that signs first.
fn issued(
    cluster: &EtcdCluster,
    authority: &Authority,
    purpose: Purpose,
    now: Timestamp,
) -> Vec<(Pair, Pair)> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
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
    let known = known.into_iter().flatten();
    // One whose key was lost signs nothing.
    known
        .filter_map(|ca| Some((issue(ca, &own, now).ok()?, ca.clone())))
        .collect()
}

/// CAs in members' Secrets, as PEM; most often all have the same.
fn believed(observed: &Observed, secrets: &Secrets, purpose: Purpose) -> String {
    let [_, _, key] = transport::keys(purpose);
    let members = observed.members.keys();
    members
        .filter_map(|member| {
            let texts = secrets.texts(&crate::certificates::member_secret(member))?;
            texts.get(&key).map(String::as_str)
        })
        .collect::<BTreeSet<&str>>()
        .into_iter()
        .collect::<Vec<&str>>()
        .join("\n")
}

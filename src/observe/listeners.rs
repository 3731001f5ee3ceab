//! What members' listeners show, whom they take, and how they are dialled therefore.

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::{api::EtcdCluster, certificates::Purpose, identity};

use super::{
    Greeting, MemberObjects, Observed, PodSeen, Probe,
    certificates::Access,
    dial::{Identity, Secure},
};

fn host(cluster: &EtcdCluster, member: &str) -> String {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    identity::member_host(name, namespace, member)
}

/// The pod and its address, while it is there.
fn place(objects: &MemberObjects) -> Option<(&PodSeen, &String)> {
    let pod = objects.pod.as_ref().filter(|pod| !pod.deleting)?;
    Some((pod, pod.ip.as_ref()?))
}

/// Tells the probe how the members are dialled: as the operator, if they take that, and
/// else as the member itself, which takes its own.
pub(super) fn introduce(
    probe: &Probe,
    cluster: &EtcdCluster,
    observed: &Observed,
    access: &Access,
) {
    for (member, objects) in &observed.members {
        let Some((pod, ip)) = place(objects) else {
            continue;
        };
        let identity = identity(member, pod, observed, access)
            .filter(|_| pod.schemes.client_tls || !pod.schemes.client_plain);
        let secure = identity.map(|identity| Secure {
            host: host(cluster, member),
            identity,
        });
        probe.introduce(ip, secure);
    }
}

fn identity(member: &str, pod: &PodSeen, observed: &Observed, access: &Access) -> Option<Identity> {
    let purpose = Purpose::Client;
    let held = observed
        .certificates
        .members
        .get(&(member.to_owned(), purpose));
    let own = held.and_then(|held| held.anchor.as_ref());
    let taken = |ca: &String| pod.accepts.get(&(purpose, ca.clone())).copied();
    let known = access
        .clients
        .iter()
        .find(|(ca, _)| taken(ca) == Some(true) || (taken(ca).is_none() && own == Some(ca)));
    let known = known.map(|(_, identity)| identity.clone());
    known
        .or_else(|| access.as_member(member))
        .or_else(|| access.clients.first().map(|(_, identity)| identity.clone()))
}

/// Looks at what listeners show and whom they take, where that is of interest: what
/// clients are shown is seen whenever members are asked; what peers are shown, and whom
/// either takes, is looked at while there is more than one CA, or a member is yet to
/// show what its Secret holds.
pub(super) async fn greet(
    probe: &Probe,
    cluster: &EtcdCluster,
    observed: &mut Observed,
    access: &Access,
) {
    let held = &observed.certificates.members;
    let moving = |purpose: Purpose| {
        let held = held.iter().filter(|((_, found), _)| *found == purpose);
        let held = held.filter_map(|(_, held)| held.anchor.as_ref());
        let probes = access.probes.iter().filter(|it| it.purpose == purpose);
        let all: BTreeSet<&String> = held.chain(probes.map(|it| &it.authority)).collect();
        all.len() > 1
    };
    let moving = Purpose::ALL.map(moving);
    let mut calls = Vec::new();
    for (member, objects) in &observed.members {
        let Some((pod, ip)) = place(objects) else {
            continue;
        };
        for certificate in &access.probes {
            let (purpose, authority) = (&certificate.purpose, &certificate.authority);
            let (listens, port, moving) = match purpose {
                Purpose::Client => (pod.schemes.client_tls, identity::CLIENT_PORT, moving[0]),
                Purpose::Peer => (pod.schemes.peer_tls, identity::PEER_PORT, moving[1]),
            };
            if !listens {
                continue;
            }
            let shown = held.get(&(member.clone(), *purpose));
            let shown = shown.map(|held| &held.cert.fingerprint);
            let known = probe.last_greeting(&pod.uid, *purpose);
            let news = *purpose == Purpose::Peer && (known.is_none() || known.as_ref() != shown);
            let of = (member.clone(), *purpose, authority.clone());
            if moving || news {
                let Some(identity) = access.as_probe(certificate) else {
                    continue;
                };
                let secure = Secure {
                    host: host(cluster, member),
                    identity,
                };
                calls.push((of, Ok((ip.clone(), pod.uid.clone(), port, secure))));
            } else if let Some(known) = known {
                calls.push((of, Err(known)));
            }
        }
    }
    let answers = join_all(calls.into_iter().map(async |(of, call)| {
        let greeting = match call {
            Ok((ip, uid, port, secure)) => {
                let greeting = probe.greet(&ip, port, &secure).await;
                if let Some(served) = &greeting.served {
                    probe.note_greeting(&uid, of.1, served);
                }
                greeting
            }
            Err(known) => Greeting {
                served: Some(known),
                accepted: None,
            },
        };
        (of, greeting)
    }))
    .await;
    for ((member, purpose, authority), greeting) in answers {
        let objects = observed.members.get_mut(&member);
        let Some(pod) = objects.and_then(|objects| objects.pod.as_mut()) else {
            continue;
        };
        if let Some(served) = greeting.served {
            pod.served.insert(purpose, served);
        }
        if let Some(accepted) = greeting.accepted {
            pod.accepts.insert((purpose, authority), accepted);
        }
    }
}

/// Notes what clients were shown while members were asked.
pub(super) fn note(probe: &Probe, observed: &mut Observed) {
    for objects in observed.members.values_mut() {
        let Some(pod) = objects.pod.as_mut() else {
            continue;
        };
        if let Some(served) = pod.ip.as_ref().and_then(|ip| probe.served(ip)) {
            pod.served.insert(Purpose::Client, served);
        }
    }
}

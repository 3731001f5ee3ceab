//! Asks every member's pod at once.

use futures::future::join_all;
use tracing::debug;

use crate::{
    admission::Report,
    api::EtcdCluster,
    certificates::{Phase, Purpose},
    identity,
};

use super::{EtcdSeen, Observed, Probe, Source, certificates::Access, dial::Secure};

enum Answer {
    Admission(Report),
    Etcd(EtcdSeen),
    Nothing,
}

/// Fills in what the members say: reports of those that wait, facts of those that
/// run, and etcd's member list if a quorum answers.
///
/// A look by the caches takes the kubelet's word that a pod is ready, which it asked
/// of the same `/readyz` seconds ago; whether etcd answers and whom it follows is asked
/// here in any case. Before anything is done, all is asked.
pub(super) async fn ask(probe: &Probe, observed: &mut Observed, source: Source) {
    let addresses: Vec<(String, String, bool)> = observed
        .members
        .iter()
        .filter_map(|(name, objects)| {
            let pod = objects.pod.as_ref().filter(|pod| !pod.deleting)?;
            let ready = pod.ready && source == Source::Cache;
            Some((name.clone(), pod.ip.clone()?, ready))
        })
        .collect();
    let answers = join_all(
        addresses
            .iter()
            .map(|(name, ip, ready)| one(probe, name, ip, *ready)),
    )
    .await;
    let mut serving = Vec::new();
    for ((name, ip, _), answer) in addresses.into_iter().zip(answers) {
        let Some(pod) = observed
            .members
            .get_mut(&name)
            .and_then(|objects| objects.pod.as_mut())
        else {
            continue;
        };
        match answer {
            Answer::Admission(report) => pod.report = Some(report),
            Answer::Etcd(seen) => {
                if !seen.learner && seen.leader != 0 {
                    serving.push((seen.leader != seen.member_id, ip));
                }
                pod.etcd = Some(seen);
            }
            Answer::Nothing => {}
        }
    }
    serving.sort(); // the leader first: it needs no forwarding
    for (_, ip) in serving {
        match probe.membership(&ip).await {
            Ok(membership) => {
                observed.membership = Some(membership);
                return;
            }
            Err(error) => debug!(ip, %error, "no member list"),
        }
    }
}

/// What the pod of one member says.
async fn one(probe: &Probe, name: &str, ip: &str, ready: bool) -> Answer {
    if ready && let Ok(seen) = probe.status(ip, true).await {
        return Answer::Etcd(seen);
    }
    match probe.report(ip).await {
        Ok(Some(report)) => Answer::Admission(report),
        // No admission there: etcd's own listener answered, or nothing did.
        Ok(None) => match probe.status(ip, false).await {
            Ok(seen) => Answer::Etcd(seen),
            Err(error) => {
                debug!(member = name, %error, "etcd does not answer");
                Answer::Nothing
            }
        },
        Err(error) => {
            debug!(member = name, %error, "the pod does not answer");
            Answer::Nothing
        }
    }
}

/// Tells the probe how the members are dialled.
pub(super) fn introduce(
    probe: &Probe,
    cluster: &EtcdCluster,
    observed: &Observed,
    access: &Access,
) {
    for (member, objects) in &observed.members {
        let Some((pod, ip)) = objects
            .pod
            .as_ref()
            .and_then(|pod| Some((pod, pod.ip.as_ref()?)))
        else {
            continue;
        };
        let identity = access
            .client
            .clone()
            .filter(|_| pod.schemes.client_tls || !pod.schemes.client_plain);
        let secure = identity.map(|identity| Secure {
            host: host(cluster, member),
            identity,
        });
        probe.introduce(ip, secure);
    }
}

fn host(cluster: &EtcdCluster, member: &str) -> String {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    identity::member_host(name, namespace, member)
}

/// Looks at what listeners show and whom they take, where that is of interest: clients'
/// were seen when they were asked; peers', and whom either takes, while a CA is
/// replaced or a member is yet to show what its Secret holds.
pub(super) async fn greet(
    probe: &Probe,
    cluster: &EtcdCluster,
    observed: &mut Observed,
    access: &Access,
) {
    let moving = |purpose: Purpose| {
        let authority = observed.certificates.authorities.get(&purpose);
        authority.is_some_and(|authority| authority.phase != Phase::Steady)
    };
    let moving = Purpose::ALL.map(moving);
    let mut calls = Vec::new();
    for (member, objects) in &observed.members {
        let Some((pod, ip)) = objects
            .pod
            .as_ref()
            .filter(|pod| pod.report.is_none() && !pod.deleting)
            .and_then(|pod| Some((pod, pod.ip.as_ref()?)))
        else {
            continue;
        };
        for (purpose, authority, identity) in &access.probes {
            let (listens, port, moving) = match purpose {
                Purpose::Client => (pod.schemes.client_tls, identity::CLIENT_PORT, moving[0]),
                Purpose::Peer => (pod.schemes.peer_tls, identity::PEER_PORT, moving[1]),
            };
            let held = observed
                .certificates
                .members
                .get(&(member.clone(), *purpose));
            let known = probe.last_greeting(&pod.uid, *purpose);
            let news = *purpose == Purpose::Peer
                && (known.is_none() || known != held.map(|held| held.cert.fingerprint.clone()));
            if !listens || !(moving || news) {
                if let Some(known) = known.filter(|_| listens) {
                    calls.push((member.clone(), *purpose, authority.clone(), None, known));
                }
                continue;
            }
            let secure = Secure {
                host: host(cluster, member),
                identity: identity.clone(),
            };
            let call = (ip.clone(), pod.uid.clone(), port, secure);
            calls.push((
                member.clone(),
                *purpose,
                authority.clone(),
                Some(call),
                String::new(),
            ));
        }
    }
    let answers = join_all(calls.into_iter().map(
        async |(member, purpose, authority, call, known)| {
            let greeting = match call {
                Some((ip, uid, port, secure)) => {
                    let greeting = probe.greet(&ip, port, &secure).await;
                    if let Some(served) = &greeting.served {
                        probe.note_greeting(&uid, purpose, served);
                    }
                    greeting
                }
                None => super::Greeting {
                    served: Some(known),
                    accepted: None,
                },
            };
            (member, purpose, authority, greeting)
        },
    ))
    .await;
    for (member, objects) in &mut observed.members {
        let Some(pod) = objects.pod.as_mut() else {
            continue;
        };
        if let Some(served) = pod.ip.as_ref().and_then(|ip| probe.served(ip)) {
            pod.served.insert(Purpose::Client, served);
        }
        for (of, purpose, authority, greeting) in &answers {
            if of != member {
                continue;
            }
            if let Some(served) = &greeting.served {
                pod.served.insert(*purpose, served.clone());
            }
            if let Some(accepted) = greeting.accepted {
                pod.accepts.insert((*purpose, authority.clone()), accepted);
            }
        }
    }
}

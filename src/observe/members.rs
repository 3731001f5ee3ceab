//! Asks every member's pod at once.

use futures::future::join_all;
use tonic::transport::Channel;
use tracing::debug;

use crate::admission::Report;

use super::{EtcdSeen, Observed, Probe, Source};

enum Answer {
    Admission(Report),
    Etcd(EtcdSeen, Channel),
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
            Answer::Etcd(seen, channel) => {
                if !seen.learner && seen.leader != 0 {
                    serving.push((seen.leader != seen.member_id, ip, channel));
                }
                pod.etcd = Some(seen);
            }
            Answer::Nothing => {}
        }
    }
    // The leader first: it needs no forwarding.
    serving.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, ip, channel) in serving {
        match probe.membership(channel).await {
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
    if ready && let Ok((seen, channel)) = probe.status(ip, true).await {
        return Answer::Etcd(seen, channel);
    }
    match probe.report(ip).await {
        Ok(Some(report)) => Answer::Admission(report),
        // No admission there: etcd's own listener answered, or nothing did.
        Ok(None) => match probe.status(ip, false).await {
            Ok((seen, channel)) => Answer::Etcd(seen, channel),
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
